//! What agent and keeper say to each other: length-prefixed MessagePack over a Unix socket. An
//! upgraded agent meets old keepers, so: add, never change.

use reeve_protocol::{Accepted, CodecError, SignalName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Said in `hello`.
///
/// History:
/// - 1 (2026-11): first.
pub const VERSION: u32 = 1;

/// One message, bytes: a full piece of stdin and what is around it.
pub const MAX_MESSAGE_BYTES: usize = reeve_protocol::limits::MAX_DATA_BYTES + 4096;

/// Keeper → agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromKeeper {
    /// First message of every connection, once the command runs.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The keeper's process id.
        keeper: u32,
        /// First merged offset still in the spool.
        spool_from: u64,
        /// Merged offset behind the last byte in the spool.
        spool_to: u64,
        /// As the coordinator is to be told.
        accepted: Accepted,
        /// Where stdin stands.
        stdin: StdinState,
    },
    /// There is output up to here. Several steps may be told as one.
    Progress {
        /// Merged offset, exclusive.
        to: u64,
    },
    /// Where stdin stands now.
    Stdin(StdinState),
    /// `exit` is written and all output before it. The keeper ends.
    Exited,
    /// Something a newer keeper says.
    #[serde(other)]
    Unknown,
}

/// Where stdin stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinState {
    /// Bytes the keeper has taken.
    pub received: u64,
    /// More than these it will not take for now.
    pub until: u64,
    /// The command closed its stdin, or its end was delivered.
    pub closed: bool,
}

/// Agent → keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ToKeeper {
    /// Output below this merged offset is durable elsewhere.
    Release {
        /// Exclusive.
        upto: u64,
    },
    /// Bytes for stdin.
    Input {
        /// Offset of the first.
        offset: u64,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// End of stdin.
    CloseInput {
        /// Length of the whole stdin.
        offset: u64,
    },
    /// To the command's process group.
    Signal {
        /// Which.
        signal: SignalName,
    },
    /// New terminal size; without a terminal, nothing happens.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// End it.
    Cancel {
        /// For the record.
        reason: String,
    },
    /// Something a newer agent says.
    #[serde(other)]
    Unknown,
}

/// The bytes of a message, its length in front (little endian).
///
/// # Errors
/// When it cannot be encoded.
pub fn to_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let body = reeve_protocol::encode(message)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// What is wrong with what came over the socket.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No message of ours is that long.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// The message makes no sense.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Bytes as they come, messages as they are whole.
#[derive(Debug, Default)]
pub struct Incoming {
    buffer: Vec<u8>,
    taken: usize,
}

impl Incoming {
    /// More bytes came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When it is none; the connection is of no use any more.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        let rest = &self.buffer[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_MESSAGE_BYTES {
            return Err(WireError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = reeve_protocol::decode(body)?;
        self.taken += 4 + length;
        Ok(Some(message))
    }
}
