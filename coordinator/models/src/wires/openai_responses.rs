//! OpenAI's `/v1/responses`.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Call, Progress, Reader, Request, Spoken, Trouble, number, reply_id, text};
use crate::endpoint::join;
use crate::error::ModelError;
use crate::event::{Event, Stop};
use crate::schema;

pub(super) struct OpenaiResponses;

impl Spoken for OpenaiResponses {
    fn request(&self, call: &Call<'_>) -> Result<Request, ModelError> {
        let mut body = json!({
            "model": call.model.name,
            "input": call.messages(),
            "stream": true,
            // Nothing of machines is kept there.
            "store": false,
            "max_output_tokens": call.max_output,
        });
        let system = call.system();
        if !system.is_empty() {
            body["instructions"] = system.into();
        }
        if let Some(temperature) = call.temperature() {
            body["temperature"] = temperature.into();
        }
        if let Some(wanted) = &call.prompt.schema {
            match call.quirks.weaker_schema {
                0 => {
                    let adapted = schema::strict(&wanted.json);
                    body["text"] = json!({"format": {"type": "json_schema", "name": wanted.name,
                        "strict": adapted.strict, "schema": adapted.schema}});
                }
                1 => body["text"] = json!({"format": {"type": "json_object"}}),
                _ => {}
            }
        }
        let url = join(call.base, "v1", &["responses"]);
        Ok(Request { url, headers: Vec::new(), body })
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::<ResponsesReader>::default()
    }
}

#[derive(Default)]
struct ResponsesReader {
    progress: Progress,
    /// Items whose text came in pieces; by their index.
    streamed: HashSet<u64>,
    /// Items that are complete.
    done: HashSet<u64>,
    refusal: bool,
}

impl ResponsesReader {
    /// The text of an item, unless it came in pieces before.
    fn take_item(&mut self, index: u64, item: &Value, out: &mut Vec<Event>) {
        if !self.done.insert(index) {
            return;
        }
        if text(item, "/type") != Some("message") {
            return;
        }
        for part in item.get("content").and_then(Value::as_array).into_iter().flatten() {
            self.refusal |= text(part, "/type") == Some("refusal");
            if let Some(content) = text(part, "/text")
                && !self.streamed.contains(&index)
            {
                out.push(Event::Text(content.to_owned()));
            }
        }
    }

    fn end(&mut self, response: &Value, out: &mut Vec<Event>) {
        // May be left out; then the items were all there is.
        for (index, item) in
            (0..).zip(response.get("output").and_then(Value::as_array).into_iter().flatten())
        {
            self.take_item(index, item, out);
        }
        let usage = &mut self.progress.usage;
        usage.input = number(response, "/usage/input_tokens").unwrap_or_default();
        usage.cached =
            number(response, "/usage/input_tokens_details/cached_tokens").unwrap_or_default();
        usage.output = number(response, "/usage/output_tokens").unwrap_or_default();
        usage.reasoning =
            number(response, "/usage/output_tokens_details/reasoning_tokens").unwrap_or_default();
        let stop = match text(response, "/incomplete_details/reason") {
            _ if self.refusal => Stop::Refused,
            None => Stop::End,
            Some("max_output_tokens" | "max_tokens") => Stop::Length,
            Some("content_filter") => Stop::Refused,
            Some(other) => Stop::Other(crate::faults::one_line(other)),
        };
        self.progress.stop = Some(stop);
        self.progress.is_over = true;
    }
}

impl Reader for ResponsesReader {
    fn read(&mut self, data: &Value, out: &mut Vec<Event>) -> Result<(), Trouble> {
        // Some proxies add the marker of the other wire.
        if data == "[DONE]" {
            return Ok(());
        }
        if !data.is_object() {
            return Err(Trouble::Broken("an event is no object"));
        }
        let index = number(data, "/output_index").unwrap_or_default();
        match text(data, "/type").unwrap_or_default() {
            "response.created" => out.push(reply_id(data, "/response/id")),
            "response.output_text.delta" => {
                if let Some(delta) = text(data, "/delta") {
                    self.streamed.insert(index);
                    out.push(Event::Text(delta.to_owned()));
                }
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                if let Some(delta) = text(data, "/delta") {
                    out.push(Event::Reasoning(delta.to_owned()));
                }
            }
            "response.refusal.delta" | "response.refusal.done" => self.refusal = true,
            "response.output_item.done" => {
                if let Some(item) = data.get("item") {
                    self.take_item(index, item, out);
                }
                out.push(Event::ItemDone);
            }
            "response.completed" | "response.incomplete" | "response.done" => {
                self.end(&data["response"], out);
            }
            "response.failed" | "error" => return Err(Trouble::Said(data.clone())),
            "" => {
                if data.get("error").is_some_and(|error| !error.is_null()) {
                    return Err(Trouble::Said(data.clone()));
                }
                // The whole of it at once, from servers that do not stream.
                if text(data, "/object") == Some("response") {
                    out.push(reply_id(data, "/id"));
                    self.end(data, out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }
}
