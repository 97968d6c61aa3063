//! Secrets that people carry: `rv_<kind>_<id>_<secret>_<crc>`, and for join tokens
//! `rv_join_<id>_<secret>_<pin>_<crc>`. The prefix lets secret scanners find them, the checksum
//! tells a typo from a wrong secret before anything is sent.

use std::fmt;

use uuid::Uuid;

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

/// A SHA-256 over the SubjectPublicKeyInfo (RFC 5280) of the coordinator's certificate authority.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl std::str::FromStr for Pin {
    type Err = InvalidToken;
    /// Takes the hexadecimal digits, with or without `sha256:` before them.
    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let bytes = from_hex(digits).ok_or(InvalidToken::Pin)?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidToken::Pin)?))
    }
}

/// A secret in its parts. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What it opens: `join`, `key`, `cli`, …
    pub kind: String,
    /// Names the row that holds its hash.
    pub id: Uuid,
    /// What only its bearer has.
    pub secret: [u8; SECRET_BYTES],
    /// In join tokens: the only certificate authority this token may be shown to.
    pub pin: Option<Pin>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(rv_{}_{}_…)", self.kind, self.id.simple())
    }
}

/// What is wrong with a token's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidToken {
    #[error("this is not a Reeve token: it has to look like rv_<kind>_<id>_<secret>_<checksum>")]
    Shape,
    #[error("the token's checksum does not fit: it was not copied whole")]
    Checksum,
    #[error("a CA pin has 64 hexadecimal digits, with or without 'sha256:' before them")]
    Pin,
}

impl Token {
    /// The text to give to a person.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("rv_{}_{}_{}", self.kind, self.id.simple(), to_hex(&self.secret));
        if let Some(pin) = self.pin {
            text.push('_');
            text.push_str(&to_hex(&pin.0));
        }
        let checksum = crc32(text.as_bytes());
        format!("{text}_{checksum:08x}")
    }

    /// Reads the text back. White space around it is ignored.
    ///
    /// # Errors
    /// When it is no token, or was not copied whole.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        let (signed, checksum) = text.rsplit_once('_').ok_or(InvalidToken::Shape)?;
        let parts: Vec<&str> = signed.split('_').collect();
        let (kind, id, secret, pin) = match parts.as_slice() {
            ["rv", kind, id, secret] => (*kind, *id, *secret, None),
            ["rv", kind, id, secret, pin] => (*kind, *id, *secret, Some(*pin)),
            _ => return Err(InvalidToken::Shape),
        };
        if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(InvalidToken::Shape);
        }
        let expected = u32::from_str_radix(checksum, 16).map_err(|_| InvalidToken::Checksum)?;
        if checksum.len() != 8 || crc32(signed.as_bytes()) != expected {
            return Err(InvalidToken::Checksum);
        }
        let secret = from_hex(secret).ok_or(InvalidToken::Shape)?;
        Ok(Self {
            kind: kind.to_owned(),
            id: Uuid::try_parse(id).map_err(|_| InvalidToken::Shape)?,
            secret: secret.try_into().map_err(|_| InvalidToken::Shape)?,
            pin: pin.map(str::parse).transpose()?,
        })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

/// CRC-32 as in IEEE 802.3. A table would be faster; it runs once per typed token.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(pin: Option<Pin>) -> Token {
        Token { kind: "join".to_owned(), id: Uuid::from_u128(7), secret: [0xA5; 32], pin }
    }

    #[test]
    fn token_survives_the_way_through_text() {
        for pin in [None, Some(Pin([3; 32]))] {
            let text = token(pin).to_text();
            assert_eq!(Token::parse(&format!(" {text}\n")), Ok(token(pin)));
        }
    }

    #[test]
    fn any_single_changed_character_is_noticed() {
        let text = token(Some(Pin([3; 32]))).to_text();
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            let wrong = String::from_utf8(wrong).expect("ascii");
            assert!(Token::parse(&wrong).is_err(), "position {at} of {text}");
        }
    }

    #[test]
    fn checksum_is_the_standard_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        assert!(!format!("{:?}", token(None)).contains("a5a5"));
    }
}
