//! What a model is asked.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One question to a model: everything it reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prompt {
    /// Standing instructions. What never changes comes first, so that providers can cache it.
    pub system: String,
    /// What was said so far, oldest first. The last one is the user's.
    pub messages: Vec<Message>,
    /// The reply has to be JSON of this shape; `None`: free text.
    pub schema: Option<Schema>,
    /// At most so many tokens of reply; the model's own limit when left out.
    pub max_output_tokens: Option<u64>,
    /// Sent to models that take one only.
    pub temperature: Option<f64>,
}

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// By whom.
    pub speaker: Speaker,
    /// What.
    pub text: String,
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// The shape of a reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Schema {
    /// Letters, digits, `_` and `-`, at most 64: some wires carry it.
    pub name: String,
    /// JSON Schema. Its root is an object. It is adapted to what each wire takes, and the reply is
    /// checked against this one.
    pub json: Value,
}

/// Tokens that a wire adds around each message, and around the whole, seen generously.
const TOKENS_PER_MESSAGE: u64 = 16;

impl Prompt {
    /// A question without a shape.
    #[must_use]
    pub fn text(system: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            system: system.into(),
            messages: vec![Message { speaker: Speaker::User, text: user.into() }],
            schema: None,
            max_output_tokens: None,
            temperature: None,
        }
    }

    /// SHA-256 of all of it, in hexadecimal: names the prompt in records.
    #[must_use]
    pub fn sha256(&self) -> String {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        digest.iter().fold(String::with_capacity(64), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Tokens this is at most, without a tokeniser: two ASCII characters, or one byte of anything
    /// else, for a token. Real text needs about half of that; the estimate guards a budget.
    #[must_use]
    pub fn most_tokens(&self) -> u64 {
        let schema = self.schema.as_ref().map(|schema| schema.json.to_string()).unwrap_or_default();
        let texts = self.messages.iter().map(|message| message.text.as_str());
        let all = texts.chain([self.system.as_str(), schema.as_str()]);
        let text: u64 = all.map(most_tokens_of).sum();
        text + TOKENS_PER_MESSAGE * (self.messages.len() as u64 + 2)
    }
}

fn most_tokens_of(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    ascii.div_ceil(2) + (text.len() as u64 - ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_prompt_has_the_same_hash_and_another_another() {
        let one = Prompt::text("be brief", "why");
        assert_eq!(one.sha256(), one.clone().sha256());
        assert_eq!(one.sha256().len(), 64);
        assert_ne!(one.sha256(), Prompt::text("be brief", "how").sha256());
        let hotter = Prompt { temperature: Some(0.7), ..one.clone() };
        assert_ne!(one.sha256(), hotter.sha256());
    }

    #[test]
    fn estimate_of_tokens_is_above_what_texts_have() {
        // Random hexadecimal digits are the worst of ASCII: about 1.9 characters for a token.
        let hex = Prompt::text("", "9f86d081884c7d659a2feaa0c55ad015");
        assert!(hex.most_tokens() >= 17);
        let chinese = Prompt::text("", "磁盘满了");
        assert!(chinese.most_tokens() >= 12);
    }
}
