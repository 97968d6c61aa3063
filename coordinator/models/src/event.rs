//! What a model says, the same for every wire.

use reeve_sdk::api::RateLimitWindow;
use serde::{Deserialize, Serialize};

/// A piece of a reply, as it arrives.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The provider took the request.
    Created {
        /// Its own id of the reply, when it gives one: useful in a question to its support.
        id: Option<String>,
    },
    /// A piece of the reply.
    Text(String),
    /// A piece of what the model thinks before it replies. Never part of the reply.
    Reasoning(String),
    /// A part of the reply is complete.
    ItemDone,
    /// What the provider said about its limits.
    RateLimits(Vec<RateLimitWindow>),
    /// What came so far is void: the call broke and is made again, here or at another model. Drop
    /// partial text.
    Restarted {
        /// `provider/model` that is asked now.
        model: String,
        /// Why, in a line.
        reason: String,
    },
    /// The reply is complete.
    Completed(Completed),
}

/// How a reply ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// What it took.
    pub usage: TokenUsage,
    /// Why it ended.
    pub stop: Stop,
}

/// Tokens of one or more calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// Read, cached ones included, whatever the wire says.
    pub input: u64,
    /// Of these, read from the provider's cache.
    pub cached: u64,
    /// Written, reasoning included, whatever the wire says.
    pub output: u64,
    /// Of these, reasoning.
    pub reasoning: u64,
}

impl TokenUsage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cached: self.cached.saturating_add(other.cached),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

/// Why a reply ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model was done.
    End,
    /// It hit the limit of output tokens, or of its context.
    Length,
    /// The model or its provider refused to answer.
    Refused,
    /// Something else, as the provider calls it.
    Other(String),
}
