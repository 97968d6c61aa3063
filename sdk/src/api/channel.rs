//! The messages of `GET /ws/operations/{id}`: one operation on one WebSocket. Binary messages;
//! integers big-endian.
//!
//! To the client, `[kind u8][offset u64][rest]`:
//!
//! | kind | offset | rest |
//! |---|---|---|
//! | 1, 2 | merged offset of the first byte | bytes of stdout, stderr |
//! | 3 | merged offset reached | the operation as JSON |
//! | 4 | stdin bytes that have arrived | 1 if nobody reads more, else 0 |
//! | 5 | merged offset where a gap begins | u64: where it ends |
//!
//! From the client: `[1][offset u64][bytes]` stdin, `[2][columns u16][rows u16]` size of the
//! terminal, `[3][offset u64]` end of stdin.

/// Bytes before the rest of a message.
pub const HEADER_BYTES: usize = 9;

/// Stdin in one message, bytes.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// Kind of a message with bytes of stdout.
pub const STDOUT: u8 = 1;
/// Kind of a message with bytes of stderr.
pub const STDERR: u8 = 2;
/// Kind of a message with the operation.
pub const STATE: u8 = 3;
/// Kind of a message that says how far stdin has got.
pub const RECEIVED: u8 = 4;
/// Kind of a message about bytes that are not kept.
pub const GAP: u8 = 5;

/// Kind of a message with stdin.
pub const INPUT: u8 = 1;
/// Kind of a message with the terminal's size.
pub const RESIZE: u8 = 2;
/// Kind of a message that ends stdin.
pub const CLOSE_INPUT: u8 = 3;

/// Why a channel is closed by the coordinator.
pub mod close {
    /// The operation has ended and everything was sent.
    pub const ENDED: u16 = 1000;
    /// Something else may go on with it: attach again.
    pub const AGAIN: u16 = 1012;
    /// The client said something that is no message.
    pub const MALFORMED: u16 = 4400;
    /// The client may not do this, or not any more.
    pub const DENIED: u16 = 4403;
    /// Nothing was heard from the client.
    pub const SILENT: u16 = 4408;
}

#[cfg(feature = "bytes")]
pub use message::ClientMessage;

#[cfg(feature = "bytes")]
mod message {
    use bytes::{Buf, Bytes};

    use super::{CLOSE_INPUT, INPUT, MAX_INPUT_BYTES, RESIZE};

    /// What a client says.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum ClientMessage {
        /// Stdin.
        Input {
            /// Of the first byte.
            offset: u64,
            /// At most [`MAX_INPUT_BYTES`].
            bytes: Bytes,
        },
        /// The terminal's size.
        Resize {
            /// Columns.
            columns: u16,
            /// Rows.
            rows: u16,
        },
        /// The end of stdin.
        CloseInput {
            /// Its length.
            offset: u64,
        },
    }

    impl ClientMessage {
        /// From a message; nothing when it is none.
        #[must_use]
        pub fn parse(mut bytes: Bytes) -> Option<Self> {
            match bytes.try_get_u8().ok()? {
                INPUT => {
                    let offset = bytes.try_get_u64().ok()?;
                    (bytes.len() <= MAX_INPUT_BYTES).then_some(Self::Input { offset, bytes })
                }
                RESIZE => {
                    let columns = bytes.try_get_u16().ok()?;
                    let rows = bytes.try_get_u16().ok()?;
                    let sane = columns > 0 && rows > 0 && bytes.is_empty();
                    sane.then_some(Self::Resize { columns, rows })
                }
                CLOSE_INPUT => {
                    let offset = bytes.try_get_u64().ok()?;
                    bytes.is_empty().then_some(Self::CloseInput { offset })
                }
                _ => None,
            }
        }

        /// As a message.
        #[must_use]
        pub fn to_bytes(&self) -> Bytes {
            use bytes::{BufMut, BytesMut};
            let mut out = BytesMut::new();
            match self {
                Self::Input { offset, bytes } => {
                    out.reserve(super::HEADER_BYTES + bytes.len());
                    out.put_u8(INPUT);
                    out.put_u64(*offset);
                    out.put_slice(bytes);
                }
                Self::Resize { columns, rows } => {
                    out.put_u8(RESIZE);
                    out.put_u16(*columns);
                    out.put_u16(*rows);
                }
                Self::CloseInput { offset } => {
                    out.put_u8(CLOSE_INPUT);
                    out.put_u64(*offset);
                }
            }
            out.freeze()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn messages_come_back_as_they_were() {
            for message in [
                ClientMessage::Input { offset: 7, bytes: Bytes::from_static(b"\0\xff") },
                ClientMessage::Resize { columns: 80, rows: 24 },
                ClientMessage::CloseInput { offset: u64::MAX },
            ] {
                assert_eq!(ClientMessage::parse(message.to_bytes()), Some(message));
            }
        }

        #[test]
        fn what_is_no_message_is_none() {
            let long = [&[INPUT; 9][..], &vec![0; MAX_INPUT_BYTES + 1]].concat();
            for bytes in
                [&b""[..], b"\0", b"\x01\0", b"\x02\0\x50\0\0", b"\x02\0\x50\0\x18\0", &long]
            {
                assert_eq!(ClientMessage::parse(Bytes::copy_from_slice(bytes)), None);
            }
        }
    }
}
