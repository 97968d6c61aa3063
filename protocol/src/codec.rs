//! MessagePack with named fields. Decoding never panics and never allocates more than its input.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes were not a message, or a message could not become bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not MessagePack of the expected shape.
    #[error("malformed message: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// There are bytes behind the value.
    #[error("{0} bytes behind the end of a message")]
    Trailing(usize),
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

/// The value in bytes, which must hold exactly one.
///
/// # Errors
/// When the bytes are malformed, of another shape, nested too deeply, or too many.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    // Deep nesting is how a small message overflows a stack; nothing of ours nests past 16.
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(32);
    let value = T::deserialize(&mut reader)?;
    let rest = reader.get_ref().len();
    if rest > 0 {
        return Err(CodecError::Trailing(rest));
    }
    Ok(value)
}
