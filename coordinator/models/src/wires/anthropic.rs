//! Anthropic's `/v1/messages`.

use http::HeaderName;
use serde_json::{Value, json};

use super::{Call, Progress, Reader, Request, Spoken, Trouble, number, reply_id, text};
use crate::endpoint::join;
use crate::error::ModelError;
use crate::event::{Event, Stop};
use crate::schema;

pub(super) struct Anthropic;

const VERSION: &str = "2023-06-01";

impl Spoken for Anthropic {
    fn request(&self, call: &Call<'_>) -> Result<Request, ModelError> {
        let mut body = json!({
            "model": call.model.name,
            "messages": call.messages(),
            "max_tokens": call.max_output,
            "stream": true,
        });
        let system = call.system();
        if !system.is_empty() {
            body["system"] = system.into();
        }
        if let Some(temperature) = call.temperature() {
            body["temperature"] = temperature.into();
        }
        if let Some(wanted) = &call.prompt.schema {
            match call.quirks.weaker_schema {
                0 => {
                    let adapted = schema::anthropic(&wanted.json);
                    if adapted.strict {
                        body["output_config"] =
                            json!({"format": {"type": "json_schema", "schema": adapted.schema}});
                    } else {
                        force_tool(&mut body, wanted);
                    }
                }
                1 => force_tool(&mut body, wanted),
                _ => {}
            }
        }
        let headers = vec![(HeaderName::from_static("anthropic-version"), VERSION.to_owned())];
        Ok(Request { url: join(call.base, "v1", &["messages"]), headers, body })
    }

    fn key_header(&self) -> (HeaderName, &'static str) {
        (HeaderName::from_static("x-api-key"), "")
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::<MessagesReader>::default()
    }
}

/// Older models: the reply is what a tool would be called with, and the tool has to be called.
fn force_tool(body: &mut Value, wanted: &crate::Schema) {
    body["tools"] = json!([{"name": wanted.name, "description": "Give the answer.",
        "input_schema": schema::plain(&wanted.json)}]);
    body["tool_choice"] =
        json!({"type": "tool", "name": wanted.name, "disable_parallel_tool_use": true});
}

#[derive(Default)]
struct MessagesReader {
    progress: Progress,
    /// Tokens not counted in `input_tokens`.
    cache: u64,
    /// A tool was called: its input is the reply.
    tool: bool,
}

impl MessagesReader {
    fn take_usage(&mut self, usage: &Value) {
        let mine = &mut self.progress.usage;
        let read = number(usage, "/cache_read_input_tokens");
        let written = number(usage, "/cache_creation_input_tokens");
        if read.is_some() || written.is_some() {
            mine.cached = read.unwrap_or_default();
            let plain = mine.input - self.cache;
            self.cache = mine.cached + written.unwrap_or_default();
            mine.input = plain + self.cache;
        }
        if let Some(input) = number(usage, "/input_tokens") {
            mine.input = input.saturating_add(self.cache);
        }
        // Cumulative, not what came since.
        mine.output = number(usage, "/output_tokens").unwrap_or(mine.output);
        mine.reasoning =
            number(usage, "/output_tokens_details/thinking_tokens").unwrap_or(mine.reasoning);
    }

    fn take_block(&mut self, block: &Value, out: &mut Vec<Event>) {
        match text(block, "/type").unwrap_or_default() {
            "text" => {
                if let Some(content) = text(block, "/text") {
                    out.push(Event::Text(content.to_owned()));
                }
            }
            "thinking" => {
                if let Some(thought) = text(block, "/thinking") {
                    out.push(Event::Reasoning(thought.to_owned()));
                }
            }
            "tool_use" => {
                self.tool = true;
                // Empty at the start of a stream, whole in a reply that is not streamed.
                if let Some(input) = block.get("input").and_then(Value::as_object)
                    && !input.is_empty()
                {
                    out.push(Event::Text(block["input"].to_string()));
                }
            }
            _ => {}
        }
    }

    fn take_stop(&mut self, from: &Value) {
        let Some(reason) = text(from, "/stop_reason") else { return };
        self.progress.stop = Some(match reason {
            "end_turn" | "stop_sequence" => Stop::End,
            "tool_use" if self.tool => Stop::End,
            "max_tokens" | "model_context_window_exceeded" => Stop::Length,
            "refusal" => Stop::Refused,
            other => Stop::Other(crate::faults::one_line(other)),
        });
    }
}

impl Reader for MessagesReader {
    fn read(&mut self, data: &Value, out: &mut Vec<Event>) -> Result<(), Trouble> {
        match text(data, "/type").ok_or(Trouble::Broken("an event has no type"))? {
            "message_start" => {
                out.push(reply_id(data, "/message/id"));
                self.take_usage(&data["message"]["usage"]);
            }
            "content_block_start" => self.take_block(&data["content_block"], out),
            "content_block_delta" => {
                let delta = &data["delta"];
                match text(delta, "/type").unwrap_or_default() {
                    "text_delta" => {
                        out.extend(text(delta, "/text").map(|t| Event::Text(t.to_owned())));
                    }
                    "input_json_delta" => {
                        out.extend(text(delta, "/partial_json").map(|t| Event::Text(t.to_owned())));
                    }
                    "thinking_delta" => {
                        out.extend(
                            text(delta, "/thinking").map(|t| Event::Reasoning(t.to_owned())),
                        );
                    }
                    _ => {}
                }
            }
            "content_block_stop" => out.push(Event::ItemDone),
            "message_delta" => {
                self.take_stop(&data["delta"]);
                self.take_usage(&data["usage"]);
            }
            "message_stop" => {
                self.progress.stop.get_or_insert(Stop::End);
                self.progress.is_over = true;
            }
            "error" => return Err(Trouble::Said(data.clone())),
            // The whole of it at once, from servers that do not stream.
            "message" => {
                out.push(reply_id(data, "/id"));
                for block in data["content"].as_array().into_iter().flatten() {
                    self.take_block(block, out);
                }
                self.take_usage(&data["usage"]);
                self.take_stop(data);
                self.progress.is_over = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}
