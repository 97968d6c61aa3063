//! From what a provider says when it does not answer to an error of ours.

use http::{HeaderMap, StatusCode};
use reeve_sdk::api::{ProviderSettings, Time};
use serde_json::Value;

use crate::error::{Adjustment, ErrorCode, ModelError};
use crate::headers;

/// Characters of a provider's message that are passed on.
const MESSAGE_CHARACTERS: usize = 400;

/// What is in the body of an error, in any of the shapes seen.
#[derive(Debug, Default)]
struct Said {
    message: String,
    /// `type`, `code` and `status`, in lower case, each between spaces.
    words: String,
    /// The parameter at fault.
    parameter: String,
}

fn said(body: &Value) -> Said {
    // Gemini wraps its errors into a list when it was asked for a stream.
    let body = body.as_array().and_then(|list| list.first()).unwrap_or(body);
    let error = match body.get("error").or_else(|| body.pointer("/response/error")) {
        Some(error) if !error.is_null() => error,
        _ => body,
    };
    let mut said = Said::default();
    let message = match error {
        Value::String(text) => Some(text.clone()),
        _ => ["message", "detail", "error"].iter().find_map(|word| match error.get(word)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }),
    };
    said.message = message.unwrap_or_default();
    for word in ["type", "code", "status"] {
        if let Some(word) = error.get(word).and_then(Value::as_str) {
            said.words.push_str(&format!(" {} ", word.to_ascii_lowercase()));
        }
    }
    // OpenRouter keeps the status in `code`, as a number.
    if let Some(number) = error.get("code").and_then(Value::as_u64) {
        said.words.push_str(&format!(" http{number} "));
    }
    for detail in error.get("details").and_then(Value::as_array).into_iter().flatten() {
        if let Some(reason) = detail.get("reason").and_then(Value::as_str) {
            said.words.push_str(&format!(" {} ", reason.to_ascii_lowercase()));
        }
    }
    if let Some(parameter) = error.get("param").and_then(Value::as_str) {
        said.parameter = parameter.to_ascii_lowercase();
    }
    said
}

/// A provider's text, made fit for one line: control characters gone, not too long.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !word.is_empty() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    match line.char_indices().nth(MESSAGE_CHARACTERS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

const QUOTA_WORDS: &[&str] = &[
    " insufficient_quota ",
    " billing_hard_limit_reached ",
    " billing_error ",
    " billing_not_active ",
    " insufficient_balance ",
    " access_terminated ",
    " http402 ",
];
const QUOTA_TEXTS: &[&str] = &[
    "credit balance is too low",
    "exceeded your current quota",
    "specified api usage limits",
    "insufficient balance",
    "spend limit",
    "spending limit",
    "insufficient credits",
];
const CONTEXT_WORDS: &[&str] =
    &[" context_length_exceeded ", " exceed_context_size_error ", " request_too_large "];
const CONTEXT_TEXTS: &[&str] = &[
    "maximum context length",
    "context_length_exceeded",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "exceed context limit",
    "exceeds the available context",
    "context window",
    "too many tokens",
    "input is too long",
    "context size",
];
const KEY_WORDS: &[&str] = &[
    " invalid_api_key ",
    " authentication_error ",
    " permission_error ",
    " api_key_invalid ",
    " unauthenticated ",
    " permission_denied ",
    " http401 ",
    " http403 ",
];
const UNKNOWN_WORDS: &[&str] =
    &[" model_not_found ", " not_found_error ", " not_found ", " http404 "];
const BUSY_WORDS: &[&str] = &[
    " rate_limit_exceeded ",
    " rate_limit_error ",
    " resource_exhausted ",
    " overloaded_error ",
    " server_is_overloaded ",
    " slow_down ",
    " overloaded ",
    " too_many_requests ",
    " http429 ",
    " http529 ",
];
const FAILING_WORDS: &[&str] = &[
    " server_error ",
    " api_error ",
    " internal ",
    " unavailable ",
    " internal_server_error ",
    " timeout_error ",
    " deadline_exceeded ",
    " http500 ",
    " http502 ",
    " http503 ",
];
const REFUSED_WORDS: &[&str] =
    &[" content_filter ", " content_policy_violation ", " invalid_prompt "];

fn any(text: &str, of: &[&str]) -> bool {
    of.iter().any(|part| text.contains(part))
}

fn code_of(status: Option<u16>, said: &Said) -> ErrorCode {
    let message = said.message.to_ascii_lowercase();
    let words = said.words.as_str();
    let is_client_error = status.is_none_or(|status| (400..500).contains(&status));
    if status == Some(402)
        || any(words, QUOTA_WORDS)
        || (is_client_error && any(&message, QUOTA_TEXTS))
    {
        return ErrorCode::Quota;
    }
    if status == Some(413)
        || any(words, CONTEXT_WORDS)
        || (matches!(status, None | Some(400 | 422 | 500)) && any(&message, CONTEXT_TEXTS))
        || (message.contains("token count") && message.contains("exceeds"))
    {
        return ErrorCode::ContextTooLong;
    }
    match status {
        Some(401 | 403) => return ErrorCode::Key,
        Some(404) => return ErrorCode::Unknown,
        Some(429 | 529) => return ErrorCode::Busy,
        Some(408 | 425 | 500..) => return ErrorCode::Failing,
        Some(300..=399) => return ErrorCode::Settings,
        _ => {}
    }
    for (set, code) in [
        (KEY_WORDS, ErrorCode::Key),
        (UNKNOWN_WORDS, ErrorCode::Unknown),
        (BUSY_WORDS, ErrorCode::Busy),
        (REFUSED_WORDS, ErrorCode::Refused),
    ] {
        if any(words, set) {
            return code;
        }
    }
    if status.is_none() && any(words, FAILING_WORDS) {
        return ErrorCode::Failing;
    }
    if message.contains("api key not valid") {
        return ErrorCode::Key;
    }
    // An error in the middle of a stream that names nothing known is the provider's trouble.
    if status.is_none() { ErrorCode::Failing } else { ErrorCode::Request }
}

fn adjustment_of(said: &Said) -> Option<Adjustment> {
    let text = format!("{} {}", said.parameter, said.message.to_ascii_lowercase());
    let is_unknown_here = any(
        &text,
        &[
            "unsupported",
            "not supported",
            "unrecognized",
            "unknown",
            "extra",
            "unexpected",
            "not permitted",
            "not allowed",
            "does not support",
            "doesn't support",
            "instead",
            "invalid json payload",
            "no such",
            "deprecated",
            "cannot be",
            "may only be",
            "only the default",
            "not available",
            "unavailable",
            "not yet",
            "incompatible",
        ],
    );
    if (text.contains("max_tokens") || text.contains("max_completion_tokens")) && is_unknown_here {
        return Some(Adjustment::OtherMaxTokensName);
    }
    if text.contains("temperature") {
        return Some(Adjustment::NoTemperature);
    }
    if text.contains("stream_options") {
        return Some(Adjustment::NoStreamOptions);
    }
    let names_schema = any(
        &text,
        &[
            "response_format",
            "json_schema",
            "json schema",
            "output_config",
            "output_format",
            "responsejsonschema",
            "response_json_schema",
            "responsemimetype",
            "text.format",
            "output format",
            "structured output",
            "tool_choice",
            "grammar",
            "schema",
        ],
    );
    names_schema.then_some(Adjustment::WeakerSchema)
}

/// How to give the provider a key.
pub(crate) fn key_remedy(provider: &ProviderSettings) -> String {
    match (&provider.vault_entry, &provider.key_env) {
        (Some(entry), _) => format!("put a valid key into the vault: `reeve vault add {entry}`"),
        (None, Some(variable)) => {
            format!("set {variable} to a valid key in the coordinator's environment and restart it")
        }
        (None, None) => format!(
            "give it one: `reeve vault add {0}`, then `reeve models add {0}` with that vault entry",
            provider.name
        ),
    }
}

fn sentence(code: ErrorCode, provider: &ProviderSettings, model: &str, detail: &str) -> String {
    let name = &provider.name;
    match code {
        ErrorCode::Key => {
            format!("{name} refuses the key{detail}; {}", key_remedy(provider))
        }
        ErrorCode::Quota => format!(
            "{name}: credit or quota is used up{detail}; add some there, or put another model into the role"
        ),
        ErrorCode::ContextTooLong => {
            format!("the question does not fit the context of {name}/{model}{detail}")
        }
        ErrorCode::Unknown => format!(
            "{name} does not know '{model}', or base_url is wrong{detail}; see `reeve models list`"
        ),
        ErrorCode::Busy => format!("{name} is overloaded or limits its rate{detail}"),
        ErrorCode::Failing => format!("{name} has an error of its own{detail}"),
        ErrorCode::Refused => format!("{name}/{model} refuses to answer this{detail}"),
        ErrorCode::Settings => format!(
            "{name} redirects to another address, which is not followed because the key would go along{detail}; correct base_url with `reeve models add {name}`"
        ),
        _ => format!("{name} does not take the request{detail}"),
    }
}

/// A reply that is an error.
pub(crate) fn from_reply(
    provider: &ProviderSettings,
    model: &str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: Time,
) -> ModelError {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let mut said = said(&json);
    if json.is_null() && !body.trim_ascii_start().starts_with(b"<") {
        said.message = String::from_utf8_lossy(body).into_owned();
    }
    let mut error = build(provider, model, Some(status.as_u16()), &said);
    let (google_delay, is_daily) = json
        .as_array()
        .and_then(|list| list.first())
        .unwrap_or(&json)
        .get("error")
        .map_or((None, false), headers::google_details);
    if error.code == ErrorCode::Busy && is_daily {
        let line = one_line(&said.message);
        error.code = ErrorCode::Quota;
        error.again = false;
        error.message =
            sentence(ErrorCode::Quota, provider, model, &format!(" for today ({line})"));
    }
    error.retry_after = headers::retry_after(headers, now).or(google_delay).or_else(|| {
        (error.code == ErrorCode::Busy).then(|| headers::delay_in_words(&said.message))?
    });
    // OpenAI and Anthropic say it outright.
    if headers.get("x-should-retry").is_some_and(|value| value == "false") {
        error.again = false;
    }
    error
}

/// An error within a stream that began well.
pub(crate) fn in_stream(provider: &ProviderSettings, model: &str, event: &Value) -> ModelError {
    let said = said(event);
    let mut error = build(provider, model, None, &said);
    error.adjustment = None;
    if error.code == ErrorCode::Busy {
        error.retry_after = headers::delay_in_words(&said.message);
    }
    error
}

fn build(provider: &ProviderSettings, model: &str, status: Option<u16>, said: &Said) -> ModelError {
    let code = code_of(status, said);
    let line = one_line(&said.message);
    let detail = match (status, line.is_empty()) {
        (Some(status), true) => format!(" (HTTP {status})"),
        (Some(status), false) => format!(" (HTTP {status}: {line})"),
        (None, true) => String::new(),
        (None, false) => format!(" ({line})"),
    };
    let mut error = ModelError::new(code, sentence(code, provider, model, &detail));
    error.http_status = status;
    error.again = matches!(code, ErrorCode::Busy | ErrorCode::Failing);
    if code == ErrorCode::Request && matches!(status, Some(400 | 422)) {
        error.adjustment = adjustment_of(said);
    }
    error
}

#[cfg(test)]
mod tests;
