//! MessagePack with named fields. Decoding never panics and never allocates more than its input.

use serde::de::DeserializeOwned;
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
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Acknowledge, Envelope, Heartbeat, Kind};

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
