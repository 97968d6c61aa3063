//! Google's `generateContent`, streamed.

use http::HeaderName;
use serde_json::{Value, json};

use super::{Call, Progress, Reader, Request, Spoken, Trouble, number, reply_id, text};
use crate::Speaker;
use crate::endpoint::join;
use crate::error::ModelError;
use crate::event::{Event, Stop};
use crate::schema;

pub(super) struct Gemini;

impl Spoken for Gemini {
    fn request(&self, call: &Call<'_>) -> Result<Request, ModelError> {
        let contents: Vec<Value> = call
            .prompt
            .messages
            .iter()
            .map(|message| {
                let role = match message.speaker {
                    Speaker::User => "user",
                    Speaker::Assistant => "model",
                };
                json!({"role": role, "parts": [{"text": message.text}]})
            })
            .collect();
        let mut config = json!({"maxOutputTokens": call.max_output});
        if let Some(temperature) = call.temperature() {
            config["temperature"] = temperature.into();
        }
        if let Some(wanted) = &call.prompt.schema {
            if call.quirks.weaker_schema < 2 {
                config["responseMimeType"] = json!("application/json");
            }
            if call.quirks.weaker_schema == 0 {
                config["responseJsonSchema"] = schema::gemini(&wanted.json);
            }
        }
        let mut body = json!({"contents": contents, "generationConfig": config});
        let system = call.system();
        if !system.is_empty() {
            body["systemInstruction"] = json!({"parts": [{"text": system}]});
        }
        let name = call.model.name.strip_prefix("models/").unwrap_or(&call.model.name);
        let mut url =
            join(call.base, "v1beta", &["models", &format!("{name}:streamGenerateContent")]);
        url.set_query(Some("alt=sse"));
        Ok(Request { url, headers: Vec::new(), body })
    }

    fn key_header(&self) -> (HeaderName, &'static str) {
        (HeaderName::from_static("x-goog-api-key"), "")
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::<GeminiReader>::default()
    }
}

#[derive(Default)]
struct GeminiReader {
    progress: Progress,
    created: bool,
}

fn stop_of(reason: &str) -> Stop {
    match reason {
        "STOP" => Stop::End,
        "MAX_TOKENS" => Stop::Length,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE"
        | "IMAGE_SAFETY" => Stop::Refused,
        other => Stop::Other(crate::faults::one_line(other)),
    }
}

impl Reader for GeminiReader {
    fn read(&mut self, data: &Value, out: &mut Vec<Event>) -> Result<(), Trouble> {
        if let Some(list) = data.as_array() {
            // Without `alt=sse`, as some proxies pass it on, the events are one list.
            return list.iter().try_for_each(|data| self.read(data, out));
        }
        if data.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Trouble::Said(data.clone()));
        }
        if !data.is_object() {
            return Err(Trouble::Broken("an event is no object"));
        }
        if !self.created {
            self.created = true;
            out.push(reply_id(data, "/responseId"));
        }
        if data.get("usageMetadata").is_some_and(Value::is_object) {
            let usage = &mut self.progress.usage;
            let count = |word: &str| number(data, &format!("/usageMetadata/{word}"));
            usage.input = count("promptTokenCount").unwrap_or(usage.input);
            usage.cached = count("cachedContentTokenCount").unwrap_or(usage.cached);
            usage.reasoning = count("thoughtsTokenCount").unwrap_or(usage.reasoning);
            if let Some(candidates) = count("candidatesTokenCount") {
                usage.output = candidates.saturating_add(usage.reasoning);
            } else {
                usage.output = usage.output.max(usage.reasoning);
            }
        }
        if text(data, "/promptFeedback/blockReason").is_some() {
            self.progress.stop = Some(Stop::Refused);
        }
        let parts = data.pointer("/candidates/0/content/parts").and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            let Some(content) = text(part, "/text") else { continue };
            let is_thought = part.get("thought").and_then(Value::as_bool) == Some(true);
            out.push(if is_thought {
                Event::Reasoning(content.to_owned())
            } else {
                Event::Text(content.to_owned())
            });
        }
        if let Some(reason) = text(data, "/candidates/0/finishReason")
            && reason != "FINISH_REASON_UNSPECIFIED"
        {
            self.progress.stop = Some(stop_of(reason));
            out.push(Event::ItemDone);
        }
        Ok(())
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}
