//! Machines: who they are, what selects them, how they join and leave.

mod selector;

pub use selector::{InvalidSelector, MAX_SELECTOR_BYTES, Selector};

/// Whether a text can name a machine: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// Whether a text can be the key of a label: 1 to 64 of `a-z 0-9 . _ / -`.
#[must_use]
pub fn is_label_key(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'/' | b'-'))
}

/// Whether a text can be the value of a label: at most 128 printable characters, none of which
/// means something in a selector.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.len() <= 128
        && !text.starts_with(['=', '~'])
        && text.chars().all(|char| !char.is_control() && !matches!(char, ',' | '*'))
        && text.trim() == text
}
