//! Errors in each wire's own words.

use reeve_sdk::api::Wire;
use serde_json::{Value, json};

use super::behaviour::{Delay, Trouble};

/// Status, headers, body.
pub(super) type Refusal = (u16, Vec<(String, String)>, Value);

struct Words {
    openai: &'static str,
    anthropic: &'static str,
    google: &'static str,
}

fn words(trouble: &Trouble) -> Words {
    let (openai, anthropic, google) = match trouble {
        Trouble::RateLimit(_) => ("rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"),
        Trouble::Overloaded => ("server_is_overloaded", "overloaded_error", "UNAVAILABLE"),
        Trouble::Server(_) => ("server_error", "api_error", "INTERNAL"),
        Trouble::Quota => ("insufficient_quota", "invalid_request_error", "RESOURCE_EXHAUSTED"),
        Trouble::ContextTooLong => {
            ("context_length_exceeded", "invalid_request_error", "INVALID_ARGUMENT")
        }
        Trouble::TooLarge => ("request_too_large", "request_too_large", "INVALID_ARGUMENT"),
        Trouble::BadKey => ("invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
        Trouble::Forbidden => ("forbidden", "permission_error", "PERMISSION_DENIED"),
        Trouble::NoModel => ("model_not_found", "not_found_error", "NOT_FOUND"),
        Trouble::BadRequest(_) => {
            ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT")
        }
    };
    Words { openai, anthropic, google }
}

fn status(wire: Wire, trouble: &Trouble) -> u16 {
    match (trouble, wire) {
        (Trouble::Overloaded, Wire::Anthropic) => 529,
        (Trouble::Overloaded, _) => 503,
        (Trouble::Quota, Wire::Anthropic) => 400,
        (Trouble::RateLimit(_) | Trouble::Quota, _) => 429,
        (Trouble::Server(status), _) => *status,
        (Trouble::ContextTooLong | Trouble::BadRequest(_), _) => 400,
        (Trouble::TooLarge, _) => 413,
        (Trouble::BadKey, _) => 401,
        (Trouble::Forbidden, _) => 403,
        (Trouble::NoModel, _) => 404,
    }
}

fn message(trouble: &Trouble, shown: &str) -> String {
    match trouble {
        Trouble::RateLimit(Delay::Words(delay)) => {
            format!("Rate limit reached for fake-model. Please try again in {delay}.")
        }
        Trouble::RateLimit(_) => "Rate limit reached for fake-model.".to_owned(),
        Trouble::Overloaded => "Overloaded".to_owned(),
        Trouble::Server(_) => "The server had an error while processing your request.".to_owned(),
        Trouble::Quota => {
            "Your credit balance is too low: you exceeded your current quota.".to_owned()
        }
        Trouble::ContextTooLong => {
            "prompt is too long: this model's maximum context length is 8192 tokens".to_owned()
        }
        Trouble::TooLarge => "Request exceeds the maximum size".to_owned(),
        // Repeats what it was shown: the rest of the program must not.
        Trouble::BadKey => format!("Incorrect API key provided: {shown}."),
        Trouble::Forbidden => "Your key may not use this model.".to_owned(),
        Trouble::NoModel => "The model does not exist.".to_owned(),
        Trouble::BadRequest(text) => text.clone(),
    }
}

/// The reply with an error. `shown`: the key of the request.
pub(super) fn refusal(wire: Wire, trouble: &Trouble, shown: &str) -> Refusal {
    let (status, words, message) = (status(wire, trouble), words(trouble), message(trouble, shown));
    let mut headers = Vec::new();
    if let Trouble::RateLimit(delay) = trouble {
        match delay {
            Delay::Seconds(seconds) if wire != Wire::Gemini => {
                headers.push(("retry-after".to_owned(), seconds.to_string()));
            }
            Delay::Millis(millis) => {
                headers.push(("retry-after-ms".to_owned(), millis.to_string()));
            }
            Delay::Date(date) => headers.push(("retry-after".to_owned(), date.clone())),
            _ => {}
        }
    }
    let body = match wire {
        Wire::Anthropic => {
            json!({"type": "error", "error": {"type": words.anthropic, "message": message}})
        }
        Wire::Gemini => google(trouble, status, words.google, &message),
        Wire::Ollama => json!({"error": message}),
        _ => {
            json!({"error": {"message": message, "type": words.openai, "param": null, "code": words.openai}})
        }
    };
    (status, headers, body)
}

fn google(trouble: &Trouble, status: u16, word: &str, message: &str) -> Value {
    let mut details = Vec::new();
    let quota = match trouble {
        Trouble::RateLimit(_) => Some("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
        Trouble::Quota => Some("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
        _ => None,
    };
    if let Some(quota) = quota {
        details.push(json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": quota}]}));
    }
    if let Trouble::RateLimit(Delay::Seconds(seconds)) = trouble {
        details.push(json!({"@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{seconds}s")}));
    }
    // Asked for a stream, it wraps its errors into a list.
    json!([{"error": {"code": status, "message": message, "status": word, "details": details}}])
}

/// An error in the middle of a stream.
pub(super) fn event(wire: Wire) -> String {
    match wire {
        Wire::Anthropic => "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n".to_owned(),
        Wire::OpenaiResponses => "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"id\":\"resp_1\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"The model failed\"}}}\n\n".to_owned(),
        Wire::Gemini => "data: {\"error\":{\"code\":503,\"message\":\"The model is overloaded\",\"status\":\"UNAVAILABLE\"}}\n\n".to_owned(),
        Wire::Ollama => "{\"error\":\"llama runner process has terminated\"}\n".to_owned(),
        _ => "data: {\"error\":{\"message\":\"upstream failed\",\"type\":\"server_error\",\"code\":\"server_error\"}}\n\n".to_owned(),
    }
}
