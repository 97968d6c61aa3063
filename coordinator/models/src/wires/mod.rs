//! The wires: one file each, behind [`Spoken`].

mod anthropic;
mod gemini;
mod ollama;
mod openai_chat;
mod openai_responses;

use http::HeaderName;
use reeve_sdk::api::{ModelSettings, ProviderSettings, Wire};
use serde_json::Value;
use url::Url;

use crate::body::Framing;
use crate::error::{Adjustment, ModelError};
use crate::event::{Completed, Event, Stop, TokenUsage};
use crate::{Prompt, Speaker};

/// What a model turned out not to take. Learned from refusals, kept while the settings are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quirks {
    other_max_tokens_name: bool,
    no_temperature: bool,
    no_stream_options: bool,
    /// 0: the best way the wire has; 1: the next; 2: words alone.
    weaker_schema: u8,
}

impl Quirks {
    /// With the adjustment; `None` when it was made already.
    pub(crate) fn with(mut self, adjustment: Adjustment) -> Option<Self> {
        let field = match adjustment {
            Adjustment::OtherMaxTokensName => &mut self.other_max_tokens_name,
            Adjustment::NoTemperature => &mut self.no_temperature,
            Adjustment::NoStreamOptions => &mut self.no_stream_options,
            Adjustment::WeakerSchema if self.weaker_schema < 2 => {
                self.weaker_schema += 1;
                return Some(self);
            }
            Adjustment::WeakerSchema => return None,
        };
        (!std::mem::replace(field, true)).then_some(self)
    }
}

/// One call, as a wire needs it.
pub(crate) struct Call<'a> {
    pub(crate) prompt: &'a Prompt,
    pub(crate) provider: &'a ProviderSettings,
    pub(crate) model: &'a ModelSettings,
    pub(crate) base: &'a Url,
    pub(crate) quirks: Quirks,
    /// Tokens it may write.
    pub(crate) max_output: u64,
}

impl Call<'_> {
    fn temperature(&self) -> Option<f64> {
        self.prompt.temperature.filter(|_| !self.model.reasoning && !self.quirks.no_temperature)
    }

    /// The system text; with the schema in words where the wire does not carry it.
    fn system(&self) -> String {
        let system = &self.prompt.system;
        match &self.prompt.schema {
            Some(schema) if self.quirks.weaker_schema > 0 => {
                let separator = if system.is_empty() { "" } else { "\n\n" };
                format!(
                    "{system}{separator}Answer with one JSON object and nothing else. It has to fit this JSON Schema:\n{}",
                    schema.json
                )
            }
            _ => system.clone(),
        }
    }

    /// Messages as most wires have them.
    fn messages(&self) -> Vec<Value> {
        let all = self.prompt.messages.iter();
        all.map(|message| {
            let role = match message.speaker {
                Speaker::User => "user",
                Speaker::Assistant => "assistant",
            };
            serde_json::json!({"role": role, "content": message.text})
        })
        .collect()
    }
}

/// What is sent.
pub(crate) struct Request {
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Value,
}

/// One HTTP interface of models.
pub(crate) trait Spoken: Sync {
    /// The request for a call.
    fn request(&self, call: &Call<'_>) -> Result<Request, ModelError>;

    /// The header that carries an API key, and what stands before the key in it.
    fn key_header(&self) -> (HeaderName, &'static str) {
        (http::header::AUTHORIZATION, "Bearer ")
    }

    /// How its events are told apart.
    fn framing(&self) -> Framing {
        Framing::Events
    }

    /// Reads one reply.
    fn reader(&self) -> Box<dyn Reader>;
}

/// How far a reply is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) usage: TokenUsage,
    /// The model said why it ended; only usage may follow.
    pub(crate) stop: Option<Stop>,
    /// The last event the wire has is here: read no further.
    pub(crate) is_over: bool,
}

impl Progress {
    /// The end, unless it is missing.
    pub(crate) fn completed(&self) -> Option<Completed> {
        Some(Completed { usage: self.usage, stop: self.stop.clone()? })
    }
}

/// What a reader makes of an event that is an error of the provider's.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The event holds an error.
    Said(Value),
    /// The event is none of this wire.
    Broken(&'static str),
}

/// Turns the events of one reply into [`Event`]s. Events it does not know are passed over.
pub(crate) trait Reader: Send {
    /// One event. `data` is what was parsed of it; `[DONE]` comes as that string.
    fn read(&mut self, data: &Value, out: &mut Vec<Event>) -> Result<(), Trouble>;

    /// How far it is.
    fn progress(&self) -> &Progress;
}

/// The wire of a provider; none for `builtin`.
pub(crate) fn spoken(wire: Wire) -> Option<&'static dyn Spoken> {
    Some(match wire {
        Wire::OpenaiResponses => &openai_responses::OpenaiResponses,
        Wire::OpenaiChat => &openai_chat::OpenaiChat,
        Wire::Anthropic => &anthropic::Anthropic,
        Wire::Gemini => &gemini::Gemini,
        Wire::Ollama => &ollama::Ollama,
        Wire::Builtin => return None,
    })
}

/// A text that is there and not empty.
fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

fn reply_id(value: &Value, pointer: &str) -> Event {
    Event::Created { id: text(value, pointer).map(crate::faults::one_line) }
}
