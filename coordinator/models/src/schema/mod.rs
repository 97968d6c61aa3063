//! JSON Schema: made to what each wire takes, and the reply checked against what was asked.
//!
//! The check is ours for every wire: some servers ignore the schema, and some keep to their own
//! idea of it.

mod adapt;
mod check;
mod extract;

use serde_json::Value;

pub(crate) use adapt::{anthropic, gemini, plain, strict};

/// The reply as JSON of the schema.
///
/// # Errors
/// One line that says what is wrong, fit to be shown to the model that made it.
pub fn read_reply(text: &str, schema: &Value) -> Result<Value, String> {
    let mut first_trouble = None;
    for mut found in extract::candidates(text) {
        check::drop_nulls(&mut found, schema);
        match check::check(&found, schema) {
            Ok(()) => return Ok(found),
            Err(trouble) => {
                first_trouble.get_or_insert(trouble);
            }
        }
    }
    Err(first_trouble.unwrap_or_else(|| "the reply holds no JSON object".to_owned()))
}

/// Checks a value against the part of JSON Schema that Reeve's schemas use.
///
/// # Errors
/// One line: where, what was expected, what was found.
pub fn check_value(value: &Value, schema: &Value) -> Result<(), String> {
    check::check(value, schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "properties": {"ok": {"type": "boolean"}, "why": {"type": "string"}},
               "required": ["ok"], "additionalProperties": false})
    }

    #[test]
    fn json_in_a_code_fence_with_chatter_around_it_is_read() {
        let text = "Sure! Here it is:\n```json\n{\"ok\": true}\n```\nAnything else {you} need?";
        assert_eq!(read_reply(text, &schema()), Ok(json!({"ok": true})));
    }

    #[test]
    fn thoughts_before_the_reply_are_passed_over() {
        let text = "<think>maybe {\"ok\": false}?</think>{\"ok\": true}";
        assert_eq!(read_reply(text, &schema()), Ok(json!({"ok": true})));
    }

    #[test]
    fn the_object_that_fits_is_taken_and_not_the_first() {
        let text = "given {\"example\": 1} I say {\"ok\": true}";
        assert_eq!(read_reply(text, &schema()), Ok(json!({"ok": true})));
    }

    #[test]
    fn null_for_what_may_be_left_out_is_as_left_out() {
        let text = "{\"ok\": true, \"why\": null}";
        assert_eq!(read_reply(text, &schema()), Ok(json!({"ok": true})));
    }

    #[test]
    fn the_error_names_the_place() {
        assert_eq!(
            read_reply("{\"ok\": \"yes\"}", &schema()),
            Err("at /ok: a boolean is expected, a string found".to_owned())
        );
        assert_eq!(
            read_reply("I can't.", &schema()),
            Err("the reply holds no JSON object".to_owned())
        );
        let cut = read_reply("{\"ok\": tr", &schema()).unwrap_err();
        assert!(cut.contains("no JSON object"), "{cut}");
    }
}
