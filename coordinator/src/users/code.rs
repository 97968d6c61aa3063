//! One-time codes: short enough to type, long enough not to be guessed.

use sha2::{Digest, Sha256};

/// Without letters that look like others (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// 20 characters of 5 bits: 100 bits.
const LENGTH: usize = 20;

/// A new code, in groups of five.
pub(super) fn make() -> String {
    let mut random = [0_u8; LENGTH];
    rand::fill(&mut random);
    let mut code = String::with_capacity(LENGTH + LENGTH / 5);
    for (at, byte) in random.iter().enumerate() {
        if at > 0 && at % 5 == 0 {
            code.push('-');
        }
        code.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    code
}

/// What is stored of it. Case, dashes and spaces do not count, and `O`, `I`, `L` are what they look
/// like.
pub(super) fn hash(code: &str) -> [u8; 32] {
    let plain: String = code
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '-')
        .map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    Sha256::digest(plain.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_may_be_typed_sloppily() {
        let code = make();
        assert_eq!(code.len(), 23, "{code}");
        let sloppy = format!(" {} ", code.to_lowercase().replace('-', " ").replace('0', "o"));
        assert_eq!(hash(&code), hash(&sloppy));
        assert_ne!(hash(&code), hash(&make()));
    }
}
