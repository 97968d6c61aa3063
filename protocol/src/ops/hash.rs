//! Content named by its hash: BLAKE3, 64 hexadecimal digits.

use super::InvalidWork;

/// Whether a field that may name content does.
///
/// # Errors
/// When it is something else.
pub fn check_hash(field: &str, hash: Option<&str>) -> Result<(), InvalidWork> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match hash {
        Some(hash) if hash.len() != 64 || !hash.bytes().all(is_digit) => {
            Err(InvalidWork::Value(format!(
                "{field} has to be a BLAKE3 hash, 64 hexadecimal digits in lower case, as \
                 'b3sum' prints it"
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hashes_are_taken() {
        assert!(check_hash("if_match", None).is_ok());
        assert!(check_hash("if_match", Some(&"0f".repeat(32))).is_ok());
        for bad in ["", "00", &"0F".repeat(32), &"0g".repeat(32), &"0".repeat(65)] {
            assert!(check_hash("if_match", Some(bad)).is_err(), "{bad}");
        }
    }
}
