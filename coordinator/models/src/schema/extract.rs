//! JSON objects in a text that should be one and may be more.

use serde_json::Value;

/// Objects that are looked at. A text with more is not a reply.
const MOST: usize = 32;
/// Open braces that are tried. Each failed one costs a walk over the rest of the text.
const TRIES: usize = 64;

/// The objects in the text, the likely ones first: the whole text, then what is in it in order.
/// What a model thought aloud is passed over.
pub(super) fn candidates(text: &str) -> Vec<Value> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let text = match text.rfind("</think>") {
        Some(at) => text[at + "</think>".len()..].trim(),
        None => text,
    };
    if let Ok(whole @ Value::Object(_)) = serde_json::from_str(text) {
        return vec![whole];
    }
    let mut found = Vec::new();
    let mut rest = text;
    for _ in 0..TRIES {
        let Some(at) = rest.find('{') else { break };
        rest = &rest[at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                rest = &rest[values.byte_offset()..];
                found.push(value);
                if found.len() == MOST {
                    break;
                }
            }
            _ => rest = &rest[1..],
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn braces_without_end_are_given_up() {
        assert!(candidates(&"{".repeat(1 << 20)).is_empty());
        assert!(candidates(&"{\"a\":".repeat(1 << 16)).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = candidates(&text);
        }
    }
}
