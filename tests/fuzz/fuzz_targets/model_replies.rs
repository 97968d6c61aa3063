//! Replies of models as they come over each wire, cut into any pieces: the same text, or a fault.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use reeve_fuzz::{choose, pieces};
use reeve_models::fuzzing::reply;
use reeve_models::{check_value, read_reply};
use reeve_sdk::api::Wire;

const WIRES: [Wire; 5] =
    [Wire::OpenaiResponses, Wire::OpenaiChat, Wire::Anthropic, Wire::Gemini, Wire::Ollama];

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = choose(data) else { return };
    let (cuts, body) = rest.split_at(rest.len().min(3));
    let wire = WIRES[usize::from(which) % WIRES.len()];
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let read = |pieces: Vec<&[u8]>| {
        let pieces = pieces.into_iter().map(Bytes::copy_from_slice).collect();
        runtime
            .block_on(reply(wire, pieces))
            .map_err(drop)
            .map(|(text, end)| (text, end.map(|end| format!("{end:?}"))))
    };
    let whole = read(vec![body]);
    assert_eq!(whole, read(pieces(body, cuts)), "cut, the reply says something else");
    if let Ok(text) = std::str::from_utf8(body) {
        schema(text);
    }
});

fn schema(text: &str) {
    let schema = serde_json::json!({
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}},
        "required": ["a"],
        "additionalProperties": false,
    });
    // Whatever is found in a text fits, and stays what it is when it is read again.
    if let Ok(found) = read_reply(text, &schema) {
        assert_eq!(check_value(&found, &schema), Ok(()));
        assert_eq!(read_reply(&found.to_string(), &schema), Ok(found));
    }
}
