//! The schemas of answers, held to the strict subset and to what reads the answers.

use reeve_stages::{Ask, alternative, plan, summary, validate};
use serde_json::{Map, Value, json};

use super::{machine, nonce, sample};

fn asks() -> Vec<Ask> {
    let nonce = nonce();
    vec![
        plan::ask(&plan::Input::default(), &nonce),
        validate::ask(&validate::Input::default(), &nonce),
        alternative::ask(&alternative::Input::default(), &nonce),
        summary::ask(&summary::Input::default(), &nonce),
    ]
}

/// What is against the subset that strict modes share: OpenAI's, Anthropic's, Gemini's.
fn breaches(schema: &Value, place: &str, found: &mut Vec<String>) {
    const KNOWN: &[&str] =
        &["type", "properties", "required", "additionalProperties", "items", "enum", "description"];
    let Some(object) = schema.as_object() else {
        found.push(format!("{place}: no object"));
        return;
    };
    found.extend(
        object.keys().filter(|key| !KNOWN.contains(&key.as_str())).map(|k| format!("{place}: {k}")),
    );
    match &schema["type"] {
        Value::String(_) => {}
        Value::Array(types) if types.len() == 2 && types[1] == "null" => {}
        other => found.push(format!("{place}: type {other}")),
    }
    if schema["type"] == "object" {
        if schema["additionalProperties"] != json!(false) {
            found.push(format!("{place}: additionalProperties"));
        }
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if required.len() != properties.len()
            || required.iter().any(|r| !properties.contains_key(*r))
        {
            found.push(format!("{place}: not all are required"));
        }
        for (name, property) in &properties {
            breaches(property, &format!("{place}.{name}"), found);
        }
    }
    if object.contains_key("items") {
        breaches(&schema["items"], &format!("{place}[]"), found);
    }
}

/// A value that obeys a schema, with `null` where it may stand or not.
fn example(schema: &Value, nulls: bool) -> Value {
    if let Some(choices) = schema["enum"].as_array() {
        return choices[0].clone();
    }
    let kind = match &schema["type"] {
        Value::Array(_) if nulls => return Value::Null,
        Value::Array(types) => types[0].clone(),
        kind => kind.clone(),
    };
    match kind.as_str() {
        Some("object") => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_else(Map::new);
            properties.iter().map(|(name, of)| (name.clone(), example(of, nulls))).collect()
        }
        Some("array") => json!([example(&schema["items"], nulls)]),
        Some("integer") => json!(1),
        Some("boolean") => json!(true),
        _ => json!("/words"),
    }
}

#[test]
fn schemas_stay_in_the_strict_subset() {
    let mut found = Vec::new();
    for ask in asks() {
        assert_eq!(ask.schema["type"], "object", "{}", ask.schema_name);
        breaches(&ask.schema, &ask.schema_name, &mut found);
    }
    assert!(found.is_empty(), "{found:?}");
    let mut seen = Vec::new();
    breaches(
        &json!({"type": "object", "oneOf": [], "properties": {"a": {"$ref": "#"}}}),
        "x",
        &mut seen,
    );
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn nothing_in_a_schema_names_a_user_or_a_yes() {
    for ask in asks() {
        let text = ask.schema.to_string();
        for word in ["\"user\"", "\"approve", "\"yes\"", "\"sudo\"", "\"env\"", "\"mode\""] {
            assert!(!text.contains(word), "{word} in {}", ask.schema_name);
        }
    }
}

#[test]
fn answers_that_obey_the_schema_can_be_read() {
    let samples = vec![sample(1, "web-1", 0, b"/words\n", b"")];
    for nulls in [false, true] {
        for ask in asks() {
            let mut answer = example(&ask.schema, nulls);
            let read = |answer: &Value| -> Result<(), String> {
                let text = answer.to_string();
                match ask.schema_name.as_str() {
                    "plan" => {
                        let input = plan::Input {
                            machines: vec![machine("web-1", &[], "debian")],
                            rounds_left: 1,
                            ..plan::Input::default()
                        };
                        plan::read(&input, &text).map(drop).map_err(|error| error.to_string())
                    }
                    "verdict" => {
                        let input =
                            validate::Input { samples: samples.clone(), ..Default::default() };
                        validate::read(&input, &text, "m").map(drop).map_err(|error| error.0)
                    }
                    "alternative" => {
                        let input = alternative::Input { tries_left: 1, ..Default::default() };
                        alternative::read(&input, &text)
                            .map(drop)
                            .map_err(|error| error.to_string())
                    }
                    _ => {
                        let input =
                            summary::Input { samples: samples.clone(), ..Default::default() };
                        summary::read(&input, &text, "m").map(drop).map_err(|error| error.0)
                    }
                }
            };
            // What a schema cannot say: one of argv, shell and operation, real machines, no circle.
            match ask.schema_name.as_str() {
                "plan" => {
                    answer["steps"][0]["machines"] = json!(["web-1"]);
                    answer["steps"][0]["depends_on"] = json!([]);
                    answer["steps"][0]["argv"] = json!(["df"]);
                    answer["steps"][0]["shell"] = Value::Null;
                    answer["steps"][0]["operation"] = Value::Null;
                }
                "alternative" => {
                    answer["argv"] = json!(["df"]);
                    answer["shell"] = Value::Null;
                }
                _ => {}
            }
            assert_eq!(read(&answer), Ok(()), "{} {answer}", ask.schema_name);
            // Every property is one that is read: without it, or with another, it is refused.
            answer["another"] = json!(1);
            assert!(read(&answer).unwrap_err().contains("another"), "{}", ask.schema_name);
        }
    }
}
