//! `/v1/chat/completions`: OpenAI, and whatever calls itself compatible.

use serde_json::{Value, json};

use super::{Call, Progress, Reader, Request, Spoken, Trouble, number, reply_id, text};
use crate::endpoint::join;
use crate::error::ModelError;
use crate::event::{Event, Stop};
use crate::schema;

pub(super) struct OpenaiChat;

/// Hosts that know `max_completion_tokens`; most others know `max_tokens` only. A wrong guess costs
/// one refused request.
const NEWER: &[&str] = &["openai.com", "openai.azure.com", "groq.com", "cerebras.ai"];

fn is_at(call: &Call<'_>, hosts: &[&str]) -> bool {
    let host = call.base.host_str().unwrap_or_default();
    hosts.iter().any(|known| {
        host.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

impl Spoken for OpenaiChat {
    fn request(&self, call: &Call<'_>) -> Result<Request, ModelError> {
        let mut messages = Vec::new();
        let system = call.system();
        if !system.is_empty() {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.extend(call.messages());
        let mut body = json!({"model": call.model.name, "messages": messages, "stream": true});
        let newer = is_at(call, NEWER) || call.model.reasoning;
        let name = match newer != call.quirks.other_max_tokens_name {
            true => "max_completion_tokens",
            false => "max_tokens",
        };
        body[name] = call.max_output.into();
        if !call.quirks.no_stream_options {
            body["stream_options"] = json!({"include_usage": true});
        }
        if is_at(call, &["openai.com"]) {
            // Compatibles refuse a field they do not know, and keep nothing.
            body["store"] = json!(false);
        }
        if let Some(temperature) = call.temperature() {
            body["temperature"] = temperature.into();
        }
        if let Some(wanted) = &call.prompt.schema {
            match call.quirks.weaker_schema {
                0 => {
                    let adapted = schema::strict(&wanted.json);
                    body["response_format"] = json!({"type": "json_schema", "json_schema": {
                        "name": wanted.name, "strict": adapted.strict, "schema": adapted.schema}});
                }
                1 => body["response_format"] = json!({"type": "json_object"}),
                _ => {}
            }
        }
        let url = join(call.base, "v1", &["chat", "completions"]);
        Ok(Request { url, headers: Vec::new(), body })
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::<ChatReader>::default()
    }
}

#[derive(Default)]
struct ChatReader {
    progress: Progress,
    created: bool,
    refusal: bool,
}

impl Reader for ChatReader {
    fn read(&mut self, data: &Value, out: &mut Vec<Event>) -> Result<(), Trouble> {
        if data == "[DONE]" {
            // Some servers name no reason to end.
            self.progress.stop.get_or_insert(Stop::End);
            self.progress.is_over = true;
            return Ok(());
        }
        if data.get("error").is_some_and(|error| !error.is_null()) {
            return Err(Trouble::Said(data.clone()));
        }
        if !data.is_object() {
            return Err(Trouble::Broken("an event is no object"));
        }
        if !self.created {
            self.created = true;
            out.push(reply_id(data, "/id"));
        }
        if data.get("usage").is_some_and(Value::is_object) {
            let usage = &mut self.progress.usage;
            usage.input = number(data, "/usage/prompt_tokens").unwrap_or(usage.input);
            usage.output = number(data, "/usage/completion_tokens").unwrap_or(usage.output);
            usage.cached = number(data, "/usage/prompt_tokens_details/cached_tokens")
                .or_else(|| number(data, "/usage/prompt_cache_hit_tokens"))
                .unwrap_or(usage.cached);
            usage.reasoning = number(data, "/usage/completion_tokens_details/reasoning_tokens")
                .unwrap_or(usage.reasoning);
        }
        // The first choice only: one was asked for.
        let Some(choice) = data.pointer("/choices/0") else { return Ok(()) };
        // `message`: servers that do not stream whatever they are asked.
        for part in ["delta", "message"] {
            for word in ["reasoning_content", "reasoning"] {
                if let Some(thought) = text(choice, &format!("/{part}/{word}")) {
                    out.push(Event::Reasoning(thought.to_owned()));
                    break;
                }
            }
            match choice.pointer(&format!("/{part}/content")) {
                Some(Value::String(content)) if !content.is_empty() => {
                    out.push(Event::Text(content.clone()));
                }
                // Mistral's models that think answer in parts.
                Some(Value::Array(parts)) => {
                    for content in parts.iter().filter_map(|part| text(part, "/text")) {
                        out.push(Event::Text(content.to_owned()));
                    }
                }
                _ => {}
            }
            self.refusal |= text(choice, &format!("/{part}/refusal")).is_some();
        }
        if let Some(reason) = text(choice, "/finish_reason") {
            self.progress.stop = Some(match reason {
                _ if self.refusal => Stop::Refused,
                "stop" | "eos" | "end_turn" => Stop::End,
                "length" | "model_length" | "max_tokens" => Stop::Length,
                "content_filter" => Stop::Refused,
                // The provider broke in the middle, says OpenRouter.
                "error" => return Err(Trouble::Said(choice.clone())),
                other => Stop::Other(crate::faults::one_line(other)),
            });
            out.push(Event::ItemDone);
        }
        Ok(())
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}
