//! How many tokens a text may be, at most about.
//!
//! Tokenisers differ by model and none is linked here, so this is a bound, not a count: a token for
//! each 3.5 bytes of ASCII (English and code have about 4) and one for each other character (their
//! worst common case). Better to send a little less than to be refused for too much.

/// Tokens of a text, estimated on the high side.
#[must_use]
pub fn estimate(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    // Each other character has one byte that begins it.
    let others = text.bytes().filter(|byte| *byte >= 0xc0).count() as u64;
    (ascii * 2).div_ceil(7) + others
}

/// Bytes of plain text that so many tokens hold.
#[must_use]
pub fn bytes_in(tokens: u64) -> u64 {
    tokens.saturating_mul(7) / 2
}

/// What a model's window holds, and how it is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Window(
    /// Tokens the model can read at once.
    pub u64,
);

impl Window {
    /// Most that outputs of commands may take, tokens: 15 % of the window and never over 25,000.
    #[must_use]
    pub fn outputs(self) -> u64 {
        (self.0 / 100 * 15).min(25_000)
    }

    /// Bytes of plain text in so many percent of it, and never over `most`.
    pub(crate) fn share(self, percent: u64, most: usize) -> usize {
        usize::try_from(bytes_in(self.0.saturating_mul(percent) / 100))
            .map_or(most, |b| b.min(most))
    }

    /// Where the oldest outputs begin to go, tokens: 80 % of the window.
    #[must_use]
    pub fn compaction(self) -> u64 {
        self.0 / 100 * 80
    }
}

impl Default for Window {
    /// The smallest window that models in use have.
    fn default() -> Self {
        Self(32_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_on_the_high_side_and_windows_are_shared_as_documented() {
        assert_eq!(estimate(""), 0);
        assert_eq!(estimate("seven b"), 2);
        assert_eq!(estimate("日本"), 2);
        assert!(bytes_in(estimate(&"x".repeat(700))) >= 700);
        assert_eq!(Window(32_000).outputs(), 4_800);
        assert_eq!(Window(1_000_000).outputs(), 25_000);
        assert_eq!(Window(100_000).compaction(), 80_000);
    }
}
