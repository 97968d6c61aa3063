//! Good replies, event by event, as each wire has them.

use reeve_sdk::api::Wire;
use serde_json::{Value, json};

/// Characters of a piece of text.
const PIECE: usize = 9;

/// Tokens the fake says it read, 40 of them from its cache, and wrote, 5 of them thoughts, where the
/// wire can say so.
pub(super) const INPUT: u64 = 100;
pub(super) const CACHED: u64 = 40;
pub(super) const OUTPUT: u64 = 20;
pub(super) const THOUGHT: u64 = 5;

/// How a reply ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Length,
    Refused,
}

fn sse(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn named(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(PIECE).map(|piece| piece.iter().collect()).collect()
}

/// The events of a reply: those with text, and those that end it.
pub(super) fn reply(
    wire: Wire,
    thought: &str,
    text: &str,
    end: End,
    is_tool: bool,
) -> (Vec<String>, Vec<String>) {
    match wire {
        Wire::OpenaiResponses => responses(thought, text, end),
        Wire::Anthropic => anthropic(thought, text, end, is_tool),
        Wire::Gemini => gemini(thought, text, end),
        Wire::Ollama => ollama(thought, text, end),
        Wire::OpenaiChat | Wire::Builtin => chat(thought, text, end),
    }
}

fn chat(thought: &str, text: &str, end: End) -> (Vec<String>, Vec<String>) {
    let chunk = |choices: Value, usage: Value| {
        sse(&json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
            "model": "fake-model", "choices": choices, "usage": usage}))
    };
    let delta = |delta: Value| {
        chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]), Value::Null)
    };
    let mut begin = vec![delta(json!({"role": "assistant", "content": ""}))];
    begin.extend(pieces(thought).iter().map(|t| delta(json!({"reasoning_content": t}))));
    begin.extend(pieces(text).iter().map(|t| delta(json!({"content": t}))));
    let reason = match end {
        End::Done => "stop",
        End::Length => "length",
        End::Refused => "content_filter",
    };
    let last = vec![
        chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}]), Value::Null),
        chunk(
            json!([]),
            json!({"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
                "prompt_tokens_details": {"cached_tokens": CACHED},
                "completion_tokens_details": {"reasoning_tokens": THOUGHT}}),
        ),
        "data: [DONE]\n\n".to_owned(),
    ];
    (begin, last)
}

fn responses(thought: &str, text: &str, end: End) -> (Vec<String>, Vec<String>) {
    let mut begin = vec![
        named(
            &json!({"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}}),
        ),
        named(&json!({"type": "response.in_progress", "response": {"id": "resp_1"}})),
    ];
    begin.extend(pieces(thought).iter().map(|t| {
        named(&json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": t}))
    }));
    begin.push(named(&json!({"type": "response.output_item.added", "output_index": 1,
        "item": {"type": "message", "role": "assistant", "content": []}})));
    let is_refused = end == End::Refused;
    if !is_refused {
        begin.extend(pieces(text).iter().map(|t| {
            named(&json!({"type": "response.output_text.delta", "output_index": 1, "delta": t}))
        }));
    }
    let content = match is_refused {
        true => json!([{"type": "refusal", "refusal": "I can't help with that."}]),
        false => json!([{"type": "output_text", "text": text, "annotations": []}]),
    };
    let (kind, details) = match end {
        End::Length => ("response.incomplete", json!({"reason": "max_output_tokens"})),
        _ => ("response.completed", Value::Null),
    };
    let last = vec![
        named(&json!({"type": "response.output_item.done", "output_index": 1,
            "item": {"type": "message", "role": "assistant", "content": content}})),
        // Without `output`, as it happens.
        named(&json!({"type": kind, "response": {"id": "resp_1", "incomplete_details": details,
            "usage": {"input_tokens": INPUT, "input_tokens_details": {"cached_tokens": CACHED},
                "output_tokens": OUTPUT, "output_tokens_details": {"reasoning_tokens": THOUGHT}}}})),
    ];
    (begin, last)
}

fn anthropic(thought: &str, text: &str, end: End, is_tool: bool) -> (Vec<String>, Vec<String>) {
    let mut begin = vec![
        named(&json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
            "role": "assistant", "content": [], "stop_reason": null,
            "usage": {"input_tokens": INPUT - CACHED - 10, "cache_creation_input_tokens": 10,
                "cache_read_input_tokens": CACHED, "output_tokens": 1}}})),
        named(&json!({"type": "ping"})),
    ];
    let mut index = 0;
    let mut block = |start: Value, deltas: Vec<Value>| {
        let mut events = vec![named(
            &json!({"type": "content_block_start", "index": index, "content_block": start}),
        )];
        events.extend(deltas.into_iter().map(|delta| {
            named(&json!({"type": "content_block_delta", "index": index, "delta": delta}))
        }));
        index += 1;
        events
    };
    if !thought.is_empty() {
        let thoughts = pieces(thought);
        let deltas = thoughts.iter().map(|t| json!({"type": "thinking_delta", "thinking": t}));
        begin.extend(block(json!({"type": "thinking", "thinking": ""}), deltas.collect()));
        begin.push(named(&json!({"type": "content_block_stop", "index": 0})));
    }
    let pieces = pieces(text);
    if is_tool {
        let deltas = pieces.iter().map(|t| json!({"type": "input_json_delta", "partial_json": t}));
        let start = json!({"type": "tool_use", "id": "toolu_1", "name": "answer", "input": {}});
        begin.extend(block(start, deltas.collect()));
    } else {
        let deltas = pieces.iter().map(|t| json!({"type": "text_delta", "text": t}));
        begin.extend(block(json!({"type": "text", "text": ""}), deltas.collect()));
    }
    let reason = match end {
        End::Done if is_tool => "tool_use",
        End::Done => "end_turn",
        End::Length => "max_tokens",
        End::Refused => "refusal",
    };
    let last = vec![
        named(&json!({"type": "content_block_stop", "index": 0})),
        named(
            &json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
            "usage": {"output_tokens": OUTPUT}}),
        ),
        named(&json!({"type": "message_stop"})),
    ];
    (begin, last)
}

fn gemini(thought: &str, text: &str, end: End) -> (Vec<String>, Vec<String>) {
    let chunk = |parts: Value, reason: Value, usage: Value| {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if !reason.is_null() {
            candidate["finishReason"] = reason;
        }
        sse(
            &json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "fake-model"}),
        )
    };
    let early = json!({"promptTokenCount": INPUT, "cachedContentTokenCount": CACHED});
    let mut begin = Vec::new();
    begin.extend(
        pieces(thought)
            .iter()
            .map(|t| chunk(json!([{"text": t, "thought": true}]), Value::Null, early.clone())),
    );
    begin.extend(
        pieces(text).iter().map(|t| chunk(json!([{"text": t}]), Value::Null, early.clone())),
    );
    if end == End::Refused {
        let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
            "usageMetadata": {"promptTokenCount": INPUT}});
        return (Vec::new(), vec![sse(&blocked)]);
    }
    let reason = if end == End::Length { "MAX_TOKENS" } else { "STOP" };
    let usage = json!({"promptTokenCount": INPUT, "cachedContentTokenCount": CACHED,
        "candidatesTokenCount": OUTPUT - THOUGHT, "thoughtsTokenCount": THOUGHT});
    (begin, vec![chunk(json!([{"text": ""}]), json!(reason), usage)])
}

fn ollama(thought: &str, text: &str, end: End) -> (Vec<String>, Vec<String>) {
    let line = |message: Value| {
        format!(
            "{}\n",
            json!({"model": "fake-model", "created_at": "2026-01-01T00:00:00Z",
            "message": message, "done": false})
        )
    };
    let mut begin = Vec::new();
    begin.extend(
        pieces(thought)
            .iter()
            .map(|t| line(json!({"role": "assistant", "content": "", "thinking": t}))),
    );
    begin.extend(pieces(text).iter().map(|t| line(json!({"role": "assistant", "content": t}))));
    let reason = if end == End::Length { "length" } else { "stop" };
    let last = json!({"model": "fake-model", "message": {"role": "assistant", "content": ""},
        "done": true, "done_reason": reason, "prompt_eval_count": INPUT, "eval_count": OUTPUT});
    (begin, vec![format!("{last}\n")])
}

/// The whole reply at once, as of a server that does not stream.
pub(super) fn whole(wire: Wire, text: &str) -> Value {
    match wire {
        Wire::OpenaiResponses => {
            json!({"object": "response", "id": "resp_1", "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}],
            "usage": {"input_tokens": INPUT, "output_tokens": OUTPUT}})
        }
        Wire::Anthropic => json!({"type": "message", "id": "msg_1", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": text}],
            "usage": {"input_tokens": INPUT, "output_tokens": OUTPUT}}),
        Wire::Gemini => {
            json!([{"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": INPUT, "candidatesTokenCount": OUTPUT}}])
        }
        Wire::Ollama => json!({"message": {"role": "assistant", "content": text}, "done": true,
            "done_reason": "stop", "prompt_eval_count": INPUT, "eval_count": OUTPUT}),
        Wire::OpenaiChat | Wire::Builtin => json!({"id": "chatcmpl-1", "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": INPUT, "completion_tokens": OUTPUT}}),
    }
}
