use super::*;
use serde_json::json;

fn provider() -> ProviderSettings {
    serde_json::from_value(json!({"name": "acme", "wire": "openai_chat"})).unwrap()
}

fn read(status: u16, body: Value) -> ModelError {
    from_reply(
        &provider(),
        "m",
        StatusCode::from_u16(status).unwrap(),
        &HeaderMap::new(),
        body.to_string().as_bytes(),
        Time::from_micros(0),
    )
}

#[test]
fn errors_of_all_providers_get_the_right_code() {
    use ErrorCode::*;
    for (status, body, code, again) in [
        (
            401,
            json!({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}),
            Key,
            false,
        ),
        (
            403,
            json!({"type": "error", "error": {"type": "permission_error", "message": "no"}}),
            Key,
            false,
        ),
        (
            400,
            json!({"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT",
            "details": [{"reason": "API_KEY_INVALID"}]}}),
            Key,
            false,
        ),
        (
            429,
            json!({"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your current quota"}}),
            Quota,
            false,
        ),
        (402, json!({"error": {"message": "Insufficient Balance"}}), Quota, false),
        (
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access"}}),
            Quota,
            false,
        ),
        (
            429,
            json!({"error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "Rate limit reached"}}),
            Busy,
            true,
        ),
        (
            529,
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            Busy,
            true,
        ),
        (500, json!({"error": {"message": "The server had an error"}}), Failing, true),
        (
            503,
            json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}}),
            Failing,
            true,
        ),
        (408, json!({}), Failing, true),
        (
            400,
            json!({"error": {"code": "context_length_exceeded", "message": "too long"}}),
            ContextTooLong,
            false,
        ),
        (
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
            ContextTooLong,
            false,
        ),
        (
            400,
            json!({"error": {"code": 400, "message": "The input token count (1200000) exceeds the maximum number of tokens allowed", "status": "INVALID_ARGUMENT"}}),
            ContextTooLong,
            false,
        ),
        (
            400,
            json!({"object": "error", "message": "This model's maximum context length is 8192 tokens. However, you requested", "type": "BadRequestError", "code": 400}),
            ContextTooLong,
            false,
        ),
        (
            413,
            json!({"type": "error", "error": {"type": "request_too_large", "message": "too large"}}),
            ContextTooLong,
            false,
        ),
        (404, json!({"error": "model 'm' not found"}), Unknown, false),
        (
            404,
            json!({"error": {"code": "model_not_found", "message": "no such model"}}),
            Unknown,
            false,
        ),
        (400, json!({"error": {"message": "bad"}}), Request, false),
        (422, json!({"detail": [{"msg": "Extra inputs"}]}), Request, false),
        (307, json!({}), Settings, false),
    ] {
        let error = read(status, body.clone());
        assert_eq!((error.code, error.again), (code, again), "{status} {body}");
        assert_eq!(error.http_status, Some(status));
        assert!(error.message.contains("acme"), "{}", error.message);
    }
}

#[test]
fn a_refused_parameter_is_named() {
    let named = |message: &str| read(400, json!({"error": {"message": message}})).adjustment;
    assert_eq!(
        named(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        ),
        Some(Adjustment::OtherMaxTokensName)
    );
    assert_eq!(named("max_tokens is too large: 9000 (at most 4096)"), None);
    assert_eq!(
        named("Unsupported value: 'temperature' does not support 0.1"),
        Some(Adjustment::NoTemperature)
    );
    assert_eq!(
        named("stream_options: Extra inputs are not permitted"),
        Some(Adjustment::NoStreamOptions)
    );
    assert_eq!(
        named("response_format value as json_schema is unavailable"),
        Some(Adjustment::WeakerSchema)
    );
    assert_eq!(
        named("output_config: Extra inputs are not permitted"),
        Some(Adjustment::WeakerSchema)
    );
    assert_eq!(named("messages: at least one is required"), None);
}

#[test]
fn a_providers_text_is_one_short_line() {
    let error = read(
        400,
        json!({"error": {"message": format!("a\n\u{1b}[31mb\u{7}{}", "x".repeat(9000))}}),
    );
    assert!(!error.message.contains(['\n', '\u{1b}', '\u{7}']));
    assert!(error.message.chars().count() < 600);
}

#[test]
fn a_page_of_a_proxy_is_not_passed_on() {
    let error = from_reply(
        &provider(),
        "m",
        StatusCode::BAD_GATEWAY,
        &HeaderMap::new(),
        b"<html><body>Bad gateway</body></html>",
        Time::from_micros(0),
    );
    assert_eq!(error.message, "acme has an error of its own (HTTP 502)");
}
