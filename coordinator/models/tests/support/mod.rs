//! What the tests over HTTP share.
// Each test file uses some of it; what fails here fails its test.
#![allow(dead_code, clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;

use reeve_models::fakes::{FakeModel, FixedKeys, ManualClock, roles_of};
use reeve_models::{
    Answer, Ask, AskError, Credentials, Event, Message, Models, Options, Prompt, Schema, Speaker,
};
use reeve_sdk::api::{ModelRole, ProviderSettings, Wire};
use serde_json::json;

pub const WIRES: [Wire; 5] =
    [Wire::OpenaiResponses, Wire::OpenaiChat, Wire::Anthropic, Wire::Gemini, Wire::Ollama];

/// Models that ask one fake, and the clock they go by.
pub struct Bench {
    pub fake: FakeModel,
    pub models: Models,
    pub clock: ManualClock,
}

pub fn options(clock: &ManualClock) -> Options {
    Options { clock: Arc::new(clock.clone()), seed: Some(7), ..Options::default() }
}

impl Bench {
    pub async fn new(wire: Wire) -> Self {
        Self::with(wire, FixedKeys::key("sk-canary-5d1f"), |_| {}).await
    }

    pub async fn with(
        wire: Wire,
        keys: impl Credentials + 'static,
        change: impl FnOnce(&mut ProviderSettings),
    ) -> Self {
        let fake = FakeModel::start().await.expect("a port");
        let clock = ManualClock::default();
        let models = Models::new(options(&clock), Arc::new(keys)).expect("models");
        let mut provider = fake.provider("acme", wire);
        change(&mut provider);
        models.set(vec![provider], roles_of(&["acme/fake-model"]));
        Self { fake, models, clock }
    }

    pub async fn ask(&self, prompt: &Prompt) -> Result<Answer, AskError> {
        self.ask_with(prompt).await.0
    }

    pub async fn ask_with(&self, prompt: &Prompt) -> (Result<Answer, AskError>, Vec<Event>) {
        ask(&self.models, &Ask::new(ModelRole::Planner, prompt)).await
    }
}

pub async fn ask(models: &Models, wanted: &Ask<'_>) -> (Result<Answer, AskError>, Vec<Event>) {
    let mut events = Vec::new();
    let again = Ask { ..*wanted };
    let result = models.ask(again, &mut |event| events.push(event)).await;
    (result, events)
}

pub fn text_of(events: &[Event]) -> String {
    let from = events.iter().rposition(|e| matches!(e, Event::Restarted { .. })).unwrap_or(0);
    events[from..]
        .iter()
        .filter_map(|event| match event {
            Event::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

pub fn restarts(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Restarted { .. })).count()
}

/// A conversation with a system text and a schema with all that has to be adapted.
pub fn prompt() -> Prompt {
    Prompt {
        system: "You plan. Be brief.".to_owned(),
        messages: vec![
            Message { speaker: Speaker::User, text: "Why is the disk full?".to_owned() },
            Message { speaker: Speaker::Assistant, text: "{\"steps\": []}".to_owned() },
            Message { speaker: Speaker::User, text: "Steps, please.".to_owned() },
        ],
        schema: Some(Schema {
            name: "plan".to_owned(),
            json: json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "ok": {"type": "boolean"},
                    "note": {"type": "string", "minLength": 1, "default": "-"},
                    "steps": {"type": "array", "maxItems": 40, "items": {"$ref": "#/$defs/Step", "description": "a step"}},
                    "kind": {"oneOf": [{"const": "read"}, {"const": "change"}]},
                },
                "required": ["ok"],
                "additionalProperties": false,
                "$defs": {"Step": {"type": "object", "properties": {"run": {"type": "string"}}, "required": ["run"]}},
            }),
        }),
        max_output_tokens: Some(500),
        temperature: Some(0.1),
    }
}

pub fn code(result: &Result<Answer, AskError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) => error.code(),
    }
}

pub fn outcomes(result: &Result<Answer, AskError>) -> Vec<String> {
    let calls = match result {
        Ok(answer) => &answer.calls,
        Err(error) => error.calls(),
    };
    calls.iter().map(|call| call.outcome.clone()).collect()
}

/// Two providers, `one` and `two`, on different wires.
pub struct Two {
    pub first: FakeModel,
    pub second: FakeModel,
    pub models: Models,
    pub clock: ManualClock,
}

pub async fn two(list: &[&str]) -> Two {
    let (first, second) = (FakeModel::start().await.unwrap(), FakeModel::start().await.unwrap());
    let clock = ManualClock::default();
    let models = Models::new(options(&clock), Arc::new(FixedKeys::key("sk-canary-5d1f"))).unwrap();
    let providers =
        vec![first.provider("one", Wire::Anthropic), second.provider("two", Wire::OpenaiChat)];
    models.set(providers, roles_of(list));
    Two { first, second, models, clock }
}

impl Two {
    pub async fn ask(&self) -> Result<Answer, AskError> {
        let prompt = Prompt::text("", "Hello?");
        ask(&self.models, &Ask::new(ModelRole::Planner, &prompt)).await.0
    }
}
