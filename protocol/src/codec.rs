//! MessagePack with named fields. Decoding never panics and never allocates more than its input.

use serde::{Deserialize, Serialize};

/// Why bytes were not a message, or a message could not become bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not MessagePack of the expected shape.
    #[error("malformed message: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// There are bytes behind the value.
    #[error("bytes behind the end of a message")]
    Trailing,
    /// The value could not be encoded.
    #[error("message could not be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// Another kind of message was expected.
    #[error("expected a {expected} message, got {found}")]
    Kind {
        /// What the reader asked for.
        expected: String,
        /// What came.
        found: String,
    },
    /// The message has to name an operation and does not.
    #[error("{kind} message without an operation id")]
    NoOperation {
        /// The kind of the message.
        kind: String,
    },
}

/// The bytes of a value.
///
/// # Errors
/// When serde cannot represent the value.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    Ok(rmp_serde::to_vec_named(value)?)
}

/// Writes a value behind what is in `bytes`.
///
/// # Errors
/// When serde cannot represent the value. What was written of it stays.
pub fn encode_into<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    Ok(rmp_serde::encode::write_named(bytes, value)?)
}

/// The value in bytes, which must hold exactly one.
///
/// # Errors
/// When the bytes are malformed, of another shape, nested too deeply, or too many.
pub fn decode<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, CodecError> {
    // Deep nesting is how a small message overflows a stack; nothing of ours nests past 16.
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(32);
    let value = T::deserialize(&mut reader)?;
    // The reader does not say how far it got; only at the end is there no further marker to read.
    match serde::de::IgnoredAny::deserialize(&mut reader) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(error))
            if error.kind() == std::io::ErrorKind::UnexpectedEof =>
        {
            Ok(value)
        }
        _ => Err(CodecError::Trailing),
    }
}

/// What MessagePack has for no bytes at all.
const EMPTY_BYTES: [u8; 2] = [0xC4, 0];

/// What comes before the bytes that an encoded value ends with, of which it has none.
pub(crate) fn cut_empty_bytes(encoded: &[u8]) -> Result<&[u8], CodecError> {
    let cut = encoded.strip_suffix(&EMPTY_BYTES);
    cut.ok_or_else(|| rmp_serde::encode::Error::Syntax("it does not end with bytes".into()).into())
}

/// What MessagePack has before so many bytes.
pub(crate) fn bytes_marker(length: usize) -> Result<Vec<u8>, CodecError> {
    if let Ok(length) = u8::try_from(length) {
        return Ok(vec![0xC4, length]);
    }
    let (kind, length) = match (u16::try_from(length), u32::try_from(length)) {
        (Ok(length), _) => (0xC5, length.to_be_bytes().to_vec()),
        (_, Ok(length)) => (0xC6, length.to_be_bytes().to_vec()),
        _ => return Err(rmp_serde::encode::Error::Syntax("too many bytes".into()).into()),
    };
    Ok([vec![kind], length].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Acknowledge, Envelope, Heartbeat, Kind, Output};

    #[test]
    fn bytes_behind_the_end_are_refused() {
        let mut bytes = encode(&Acknowledge { durable: 5, result: false }).expect("encodes");
        assert!(decode::<Acknowledge>(&bytes).is_ok());
        bytes.push(0x01);
        assert!(matches!(decode::<Acknowledge>(&bytes), Err(CodecError::Trailing)));
        bytes.push(0xC1);
        assert!(matches!(decode::<Acknowledge>(&bytes), Err(CodecError::Trailing)));
    }

    #[test]
    fn message_that_ends_with_bytes_is_the_same_in_one_piece() {
        let id = crate::OperationId::new();
        for length in [0, 1, 150, 190, 255, 256, 60_000, 65_400, 65_500, 65_535, 65_536, 70_000] {
            let bytes: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
            let stream = crate::Stream::Stderr;
            let whole = Output { stream, offset: 7, all: 1 << 40, bytes, gap: None };
            let bare = Output { bytes: Vec::new(), ..whole.clone() };
            let made = Envelope::encode_ending_with(id, &bare, &whole.bytes).expect("encodes");
            let plain = encode(&Envelope::about(id, &whole).expect("encodes")).expect("encodes");
            assert!(made == plain, "{length} bytes");
            let envelope: Envelope = decode(&made).expect("decodes");
            assert_eq!(envelope.open_output().expect("decodes"), whole.as_ref());
        }
        let gap = crate::Gap { from: 0, to: 3, stdout: 3, stderr: 0 };
        let bare = Output {
            stream: crate::Stream::Stdout,
            offset: 0,
            all: 0,
            bytes: Vec::new(),
            gap: Some(gap),
        };
        assert!(Envelope::encode_ending_with(id, &bare, b"x").is_err(), "it ends with the gap");
        let made = Envelope::encode_ending_with(id, &bare, b"").expect("encodes");
        let envelope: Envelope = decode(&made).expect("decodes");
        assert_eq!(envelope.open::<Output>().expect("decodes"), bare);
    }

    #[test]
    fn unknown_fields_and_kinds_break_nothing() {
        #[derive(serde::Serialize)]
        struct Newer {
            kind: &'static str,
            #[serde(with = "serde_bytes")]
            body: Vec<u8>,
            colour: u8,
        }
        let newer = Newer { kind: "telepathy", body: vec![1, 2, 3], colour: 4 };
        let envelope: Envelope = decode(&encode(&newer).expect("encodes")).expect("decodes");
        assert_eq!(envelope.kind, Kind::Unknown("telepathy".to_owned()));
        assert!(matches!(envelope.open::<Heartbeat>(), Err(CodecError::Kind { .. })));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        let bytes = vec![0x91; 1_000_000];
        assert!(decode::<Envelope>(&bytes).is_err());
        assert!(decode::<serde::de::IgnoredAny>(&bytes).is_err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(envelope) = decode::<Envelope>(&bytes) {
                let _ = envelope.open::<crate::Output>();
            }
            let _ = decode::<crate::OperationResult>(&bytes);
            let _ = decode::<crate::Report>(&bytes);
            let _ = decode::<crate::Hello>(&bytes);
            let _ = decode::<crate::ops::ExecuteCommand>(&bytes);
        }
    }
}
