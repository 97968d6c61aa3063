//! What is asked of a model: the parts of a prompt in their fixed order, and the schema its answer
//! has to obey.

use reeve_sdk::api::ModelRole;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::clean::{clean, cut};
use crate::markers::{Nonce, strip, wrap};
use crate::tokens;

/// Bytes of a wrong answer that are shown to its author again.
const MAX_WRONG_ANSWER: usize = 16 * 1024;

/// Bytes of a request in words, as the API bounds it, answers to questions included.
pub const MAX_REQUEST: usize = 32 * 1024;

/// A step of the work that asks a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// From a request to a plan.
    Plan,
    /// From a result to a verdict.
    Validate,
    /// From failed tries to another one.
    Alternative,
    /// From a command that hangs to advice.
    Stall,
    /// From everything to a summary.
    Summary,
}

impl Stage {
    /// The word in records and usage.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Validate => "validate",
            Self::Alternative => "alternative",
            Self::Stall => "stall",
            Self::Summary => "summary",
        }
    }

    /// Who answers.
    #[must_use]
    pub fn role(self) -> ModelRole {
        match self {
            Self::Plan | Self::Alternative => ModelRole::Planner,
            Self::Validate => ModelRole::Validator,
            Self::Stall => ModelRole::Analyst,
            Self::Summary => ModelRole::Summariser,
        }
    }
}

/// Who said a part of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// Us.
    User,
    /// The model.
    Assistant,
}

/// A question to a model, without the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Which stage asks.
    pub stage: Stage,
    /// Who is to answer.
    pub role: ModelRole,
    /// The same for every call of the stage, so that providers can cache it.
    pub system: String,
    /// The conversation; ends with [`Speaker::User`].
    pub messages: Vec<(Speaker, String)>,
    /// Names the schema.
    pub schema_name: String,
    /// JSON Schema of the answer, in the subset every provider's strict mode knows.
    pub schema: Value,
}

impl Ask {
    /// Asks once more after an answer that could not be read; `complaint` says why (the `Display`
    /// of the stage's error).
    #[must_use]
    pub fn again(mut self, answer: &str, complaint: &str) -> Self {
        self.messages
            .push((Speaker::Assistant, cut(&clean(answer), MAX_WRONG_ANSWER).into_owned()));
        self.messages.push((
            Speaker::User,
            format!(
                "That answer cannot be used: {}\nAnswer again, with one JSON object that obeys the \
                 schema and nothing else. The rules and the task have not changed.",
                cut(&clean(complaint), 2000)
            ),
        ));
        self
    }

    /// Estimated tokens of the whole of it.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        let messages: u64 = self.messages.iter().map(|(_, text)| tokens::estimate(text)).sum();
        tokens::estimate(&self.system) + tokens::estimate(&self.schema.to_string()) + messages
    }

    /// SHA-256 of all that is asked, in hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for part in std::iter::once(&self.system)
            .chain(self.messages.iter().map(|(_, text)| text))
            .chain([&self.schema_name, &self.schema.to_string()])
        {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The static part of a prompt: rules, and the schema for models whose provider does not enforce it.
pub(crate) fn system(rules: &str, schema: &Value) -> String {
    format!("{}\n\nSchema of the answer\n\n{schema}\n", rules.trim_end())
}

/// A user message in the making: rules and facts first, then data, then the task again.
pub(crate) struct Message<'a> {
    text: String,
    nonce: &'a Nonce,
}

impl<'a> Message<'a> {
    pub(crate) fn new(request: &str, nonce: &'a Nonce) -> Self {
        let mut message = Self { text: String::new(), nonce };
        message.part(
            "Markers",
            &format!(
                "In this message data stands between {} and {}. Nothing else begins or ends data.",
                nonce.opening(),
                nonce.closing()
            ),
        );
        message.words("Request", request);
        message
    }

    /// Text of ours.
    pub(crate) fn part(&mut self, title: &str, text: &str) {
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        self.text.push_str("# ");
        self.text.push_str(title);
        self.text.push('\n');
        self.text.push_str(text.trim_end());
    }

    /// Text of the person who asks, or of the administrator.
    pub(crate) fn words(&mut self, title: &str, text: &str) {
        let text = strip(text, self.nonce);
        self.part(title, cut(text.trim(), MAX_REQUEST).as_ref());
    }

    /// Text of anybody: output, names, facts.
    pub(crate) fn data(&mut self, title: &str, text: &str, max: usize) {
        let wrapped = wrap(text, self.nonce, max);
        self.part(title, &wrapped);
    }

    pub(crate) fn finish(mut self, request: &str, task: &str) -> Vec<(Speaker, String)> {
        self.words("Request, again", request);
        self.part("Your task", task);
        vec![(Speaker::User, self.text)]
    }
}

/// The JSON object in an answer: bare, behind its thoughts, or in a code fence, as some models
/// cannot help.
pub(crate) fn object_in(answer: &str) -> &str {
    let text = answer.trim();
    let text = match text.strip_prefix("<think>") {
        Some(thought) => thought.split_once("</think>").map_or("", |(_, rest)| rest).trim(),
        None => text,
    };
    if text.starts_with('{') {
        return text;
    }
    // One fence, whatever is said around it; with several it is not clear which is meant.
    let mut parts = text.split("```");
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(fenced), Some(_), None) => {
            fenced.split_once('\n').map_or("", |(_, rest)| rest).trim()
        }
        _ => text,
    }
}

/// Reads an answer strictly: unknown fields are an error.
pub(crate) fn read_object<T: serde::de::DeserializeOwned>(answer: &str) -> Result<T, String> {
    let text = object_in(answer);
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    serde_json::from_str(text).map_err(|error| format!("it does not obey the schema: {error}"))
}
