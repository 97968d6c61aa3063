//! What the fake is asked: read, and checked as strictly as the strictest provider does.

use http::HeaderMap;
use reeve_sdk::api::Wire;
use serde_json::Value;

use crate::Speaker;

/// One request the fake got.
#[derive(Clone, Debug)]
pub struct Asked {
    /// On which wire.
    pub wire: Wire,
    /// For which model.
    pub model: String,
    /// The system text.
    pub system: String,
    /// What was said.
    pub messages: Vec<(Speaker, String)>,
    /// The schema, as it was adapted; `None` when none was sent in a field of its own.
    pub schema: Option<Value>,
    /// The temperature.
    pub temperature: Option<f64>,
    /// The limit of tokens.
    pub max_output: Option<u64>,
    /// The key or token it was shown.
    pub key: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Value,
    /// What is wrong with it: what the wire does not allow. The fake answers 400 to such a request.
    pub faults: Vec<String>,
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The wire of a path, and the model where the path names it.
pub(super) fn wire_of(path: &str) -> Option<(Wire, Option<String>)> {
    if let Some(rest) = path.strip_prefix("/v1beta/models/") {
        let model = rest.strip_suffix(":streamGenerateContent")?;
        return Some((Wire::Gemini, Some(model.to_owned())));
    }
    let wire = match path {
        "/v1/responses" => Wire::OpenaiResponses,
        "/v1/chat/completions" => Wire::OpenaiChat,
        "/v1/messages" => Wire::Anthropic,
        "/api/chat" => Wire::Ollama,
        _ => return None,
    };
    Some((wire, None))
}

impl Asked {
    pub(super) fn read(
        wire: Wire,
        model: Option<String>,
        query: Option<&str>,
        headers: HeaderMap,
        body: Value,
    ) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let key = match wire {
            Wire::Anthropic => header("x-api-key").or(bearer),
            Wire::Gemini => header("x-goog-api-key").or(bearer),
            _ => bearer,
        };
        let (system, list) = match wire {
            Wire::OpenaiResponses => (text(&body, "/instructions"), "/input"),
            Wire::Anthropic => (text(&body, "/system"), "/messages"),
            Wire::Gemini => (text(&body, "/systemInstruction/parts/0/text"), "/contents"),
            _ => (String::new(), "/messages"),
        };
        let mut asked = Self {
            wire,
            model: model.unwrap_or_else(|| text(&body, "/model")),
            system,
            messages: Vec::new(),
            schema: schema_of(wire, &body).filter(|schema| schema.is_object()).cloned(),
            temperature: ["/temperature", "/generationConfig/temperature", "/options/temperature"]
                .iter()
                .find_map(|at| body.pointer(at)?.as_f64()),
            max_output: [
                "/max_output_tokens",
                "/max_completion_tokens",
                "/max_tokens",
                "/generationConfig/maxOutputTokens",
                "/options/num_predict",
            ]
            .iter()
            .find_map(|at| body.pointer(at)?.as_u64()),
            key: key.map(str::to_owned),
            faults: Vec::new(),
            headers: headers.clone(),
            body: body.clone(),
        };
        for message in body.pointer(list).and_then(Value::as_array).into_iter().flatten() {
            let content = match wire {
                Wire::Gemini => text(message, "/parts/0/text"),
                _ => text(message, "/content"),
            };
            match text(message, "/role").as_str() {
                "user" => asked.messages.push((Speaker::User, content)),
                "assistant" | "model" => asked.messages.push((Speaker::Assistant, content)),
                "system" if asked.system.is_empty() => asked.system = content,
                other => asked.faults.push(format!("a role '{other}'")),
            }
        }
        asked.check(query);
        asked
    }

    fn require(&mut self, holds: bool, rule: &str) {
        if !holds {
            self.faults.push(rule.to_owned());
        }
    }

    fn check(&mut self, query: Option<&str>) {
        let known: &[&str] = match self.wire {
            Wire::OpenaiResponses => &[
                "model",
                "input",
                "instructions",
                "stream",
                "store",
                "max_output_tokens",
                "temperature",
                "text",
            ],
            Wire::OpenaiChat | Wire::Builtin => &[
                "model",
                "messages",
                "stream",
                "stream_options",
                "store",
                "max_tokens",
                "max_completion_tokens",
                "temperature",
                "response_format",
            ],
            Wire::Anthropic => &[
                "model",
                "messages",
                "system",
                "stream",
                "max_tokens",
                "temperature",
                "output_config",
                "tools",
                "tool_choice",
            ],
            Wire::Gemini => &["contents", "systemInstruction", "generationConfig"],
            Wire::Ollama => &["model", "messages", "stream", "options", "format"],
        };
        let body = self.body.clone();
        for name in body.as_object().into_iter().flat_map(|body| body.keys()) {
            self.require(known.contains(&name.as_str()), &format!("unknown field '{name}'"));
        }
        let is_json = self.headers.get("content-type").is_some_and(|v| v == "application/json");
        self.require(is_json, "content-type is application/json");
        self.require(!self.headers.contains_key("accept-encoding"), "no accept-encoding");
        self.require(!self.model.is_empty(), "a model is named");
        let starts_and_ends_with_user = self.messages.first().is_some_and(|m| m.0 == Speaker::User)
            && self.messages.last().is_some_and(|m| m.0 == Speaker::User);
        self.require(starts_and_ends_with_user, "the user speaks first and last");
        self.require(self.max_output.is_some_and(|tokens| tokens > 0), "a limit of tokens");
        if self.wire != Wire::Gemini {
            self.require(body["stream"] == true, "stream is true");
        }
        match self.wire {
            Wire::OpenaiResponses => {
                self.require(body["store"] == false, "store is false");
                self.check_strict(body.pointer("/text/format"), "/schema");
            }
            Wire::OpenaiChat | Wire::Builtin => {
                let both =
                    body.get("max_tokens").is_some() && body.get("max_completion_tokens").is_some();
                self.require(!both, "one name for the limit of tokens");
                let format = body.get("response_format");
                self.check_strict(format.and_then(|f| f.get("json_schema")), "/schema");
            }
            Wire::Anthropic => {
                let version = self.headers.get("anthropic-version").cloned();
                self.require(version.is_some_and(|v| v == "2023-06-01"), "anthropic-version");
                let bounds = [
                    "minimum",
                    "maximum",
                    "minLength",
                    "maxLength",
                    "minItems",
                    "maxItems",
                    "pattern",
                ];
                if let Some(schema) = body.pointer("/output_config/format/schema") {
                    walk(schema, &mut |rules| {
                        if rules["type"] == "object" && rules["additionalProperties"] != false {
                            self.faults.push("an object that is open".to_owned());
                        }
                        if bounds.iter().any(|word| rules.get(word).is_some()) {
                            self.faults.push("a bound in a schema".to_owned());
                        }
                    });
                }
            }
            Wire::Gemini => self.require(query == Some("alt=sse"), "alt=sse and nothing else"),
            Wire::Ollama => {
                let context = body.pointer("/options/num_ctx").and_then(Value::as_u64);
                self.require(context.is_some_and(|tokens| tokens >= 2048), "options.num_ctx");
            }
        }
    }

    /// The rules of OpenAI's strict schemas.
    fn check_strict(&mut self, format: Option<&Value>, at: &str) {
        let Some(schema) = format.and_then(|format| format.pointer(at)) else { return };
        self.require(format.is_some_and(|f| f["name"].is_string()), "a schema has a name");
        if format.is_none_or(|format| format["strict"] != true) {
            return;
        }
        self.require(schema["type"] == "object", "the root of a schema is an object");
        walk(schema, &mut |rules| {
            for word in ["oneOf", "allOf", "not", "if", "default", "minLength", "$schema"] {
                if rules.get(word).is_some() {
                    self.faults.push(format!("'{word}' in a strict schema"));
                }
            }
            if rules.get("$ref").is_some() && rules.as_object().is_some_and(|rules| rules.len() > 1)
            {
                self.faults.push("something beside $ref".to_owned());
            }
            let Some(properties) = rules["properties"].as_object() else { return };
            let required = rules["required"].as_array().map_or(0, Vec::len);
            if required != properties.len() || rules["additionalProperties"] != false {
                self.faults.push("an object that is not closed and required".to_owned());
            }
        });
    }
}

/// Every schema within a schema.
fn walk(schema: &Value, look: &mut dyn FnMut(&Value)) {
    look(schema);
    for word in ["properties", "$defs"] {
        for inner in schema[word].as_object().into_iter().flat_map(|all| all.values()) {
            walk(inner, look);
        }
    }
    if schema["items"].is_object() {
        walk(&schema["items"], look);
    }
    for inner in schema["anyOf"].as_array().into_iter().flatten() {
        walk(inner, look);
    }
}

fn schema_of(wire: Wire, body: &Value) -> Option<&Value> {
    body.pointer(match wire {
        Wire::OpenaiResponses => "/text/format/schema",
        Wire::OpenaiChat | Wire::Builtin => "/response_format/json_schema/schema",
        Wire::Anthropic => "/output_config/format/schema",
        Wire::Gemini => "/generationConfig/responseJsonSchema",
        Wire::Ollama => "/format",
    })
    .or_else(|| body.pointer("/tools/0/input_schema"))
}
