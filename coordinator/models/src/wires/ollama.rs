//! Ollama's `/api/chat`.

use serde_json::{Value, json};

use super::{Call, Progress, Reader, Request, Spoken, Trouble, number, text};
use crate::body::Framing;
use crate::endpoint::join;
use crate::error::{ErrorCode, ModelError};
use crate::event::{Event, Stop};
use crate::schema;

pub(super) struct Ollama;

/// The smallest context that is asked for; Ollama's own default loses the beginning of a prompt.
const LEAST_CONTEXT: u64 = 8_192;
/// A token of text is hardly ever longer, in bytes.
const LONGEST_TOKEN: usize = 8;

/// The size of the context. A change makes Ollama load the model anew, so without a setting it
/// grows by powers of two.
fn context(call: &Call<'_>) -> u64 {
    call.model.context_tokens.unwrap_or_else(|| {
        let needed = call.prompt.most_tokens().saturating_add(call.max_output);
        needed.clamp(LEAST_CONTEXT, crate::options::CONTEXT_TOKENS).next_power_of_two()
    })
}

impl Spoken for Ollama {
    fn request(&self, call: &Call<'_>) -> Result<Request, ModelError> {
        let context = context(call);
        let bytes: usize = call.prompt.system.len()
            + call.prompt.messages.iter().map(|message| message.text.len()).sum::<usize>();
        if (bytes / LONGEST_TOKEN) as u64 > context {
            // It would cut the beginning off, silently.
            return Err(ModelError::new(
                ErrorCode::ContextTooLong,
                format!(
                    "the question does not fit the context of {}/{} ({context} tokens)",
                    call.provider.name, call.model.name
                ),
            ));
        }
        let mut messages = Vec::new();
        let system = call.system();
        if !system.is_empty() {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.extend(call.messages());
        let mut body = json!({
            "model": call.model.name,
            "messages": messages,
            "stream": true,
            "options": {"num_ctx": context, "num_predict": call.max_output},
        });
        if let Some(temperature) = call.temperature() {
            body["options"]["temperature"] = temperature.into();
        }
        if let Some(wanted) = &call.prompt.schema {
            match call.quirks.weaker_schema {
                0 => body["format"] = schema::plain(&wanted.json),
                1 => body["format"] = json!("json"),
                _ => {}
            }
        }
        let has_api = call.base.path().ends_with("/api");
        let path: &[&str] = if has_api { &["chat"] } else { &["api", "chat"] };
        Ok(Request { url: join(call.base, "", path), headers: Vec::new(), body })
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::<OllamaReader>::default()
    }
}

#[derive(Default)]
struct OllamaReader {
    progress: Progress,
    created: bool,
}

impl Reader for OllamaReader {
    fn read(&mut self, data: &Value, out: &mut Vec<Event>) -> Result<(), Trouble> {
        if data.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Trouble::Said(data.clone()));
        }
        if !data.is_object() {
            return Err(Trouble::Broken("a line is no object"));
        }
        if !self.created {
            self.created = true;
            out.push(Event::Created { id: None });
        }
        if let Some(thought) = text(data, "/message/thinking") {
            out.push(Event::Reasoning(thought.to_owned()));
        }
        if let Some(content) = text(data, "/message/content") {
            out.push(Event::Text(content.to_owned()));
        }
        if data.get("done").and_then(Value::as_bool) == Some(true) {
            let usage = &mut self.progress.usage;
            usage.input = number(data, "/prompt_eval_count").unwrap_or_default();
            usage.output = number(data, "/eval_count").unwrap_or_default();
            self.progress.stop = Some(match text(data, "/done_reason") {
                None | Some("stop") => Stop::End,
                Some("length") => Stop::Length,
                Some(other) => Stop::Other(crate::faults::one_line(other)),
            });
            self.progress.is_over = true;
            out.push(Event::ItemDone);
        }
        Ok(())
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}
