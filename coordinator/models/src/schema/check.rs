//! Whether a value is of a schema: the part of JSON Schema that Reeve's schemas use.

use serde_json::{Map, Value};

/// Deeper schemas and values are refused: both come from outside in part.
const DEEPEST: usize = 64;

pub(super) fn check(value: &Value, schema: &Value) -> Result<(), String> {
    Checker { root: schema }.check(value, schema, &mut String::new(), 0)
}

/// Takes out `null` where the schema lets the property be left out and knows no `null` there: strict
/// wires have no other way to leave one out.
pub(super) fn drop_nulls(value: &mut Value, schema: &Value) {
    drop_nulls_at(value, schema, schema, 0);
}

fn drop_nulls_at(value: &mut Value, schema: &Value, root: &Value, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    let schema = resolve(schema, root);
    match value {
        Value::Object(object) => {
            let required = names(schema.get("required"));
            let properties = schema.get("properties").and_then(Value::as_object);
            object.retain(|name, value| {
                let Some(property) = properties.and_then(|all| all.get(name)) else { return true };
                !value.is_null()
                    || required.contains(&name.as_str())
                    || Checker { root }
                        .check(&Value::Null, property, &mut String::new(), depth + 1)
                        .is_ok()
            });
            for (name, value) in object {
                if let Some(property) = properties.and_then(|all| all.get(name)) {
                    drop_nulls_at(value, property, root, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    drop_nulls_at(item, schema, root, depth + 1);
                }
            }
        }
        _ => {}
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        for schema in schema.get(several).and_then(Value::as_array).into_iter().flatten() {
            drop_nulls_at(value, schema, root, depth + 1);
        }
    }
}

pub(super) fn names(list: Option<&Value>) -> Vec<&str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Follows `$ref` into the same document.
pub(super) fn resolve<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    for _ in 0..DEEPEST {
        let Some(path) = schema.get("$ref").and_then(Value::as_str) else { return schema };
        match path.strip_prefix('#').and_then(|path| root.pointer(path)) {
            Some(found) => schema = found,
            None => return schema,
        }
    }
    schema
}

struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    fn check(
        &self,
        value: &Value,
        schema: &Value,
        at: &mut String,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEEPEST {
            return wrong(at, "nested too deep");
        }
        let schema = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Bool(false) => return wrong(at, "nothing is expected here"),
            other => resolve(other, self.root),
        };
        let Some(rules) = schema.as_object() else { return Ok(()) };
        self.check_kind(value, rules, at)?;
        for (word, is_exact) in [("anyOf", false), ("oneOf", true)] {
            let Some(ways) = rules.get(word).and_then(Value::as_array) else { continue };
            let mut fits = 0;
            let mut last = None;
            for way in ways {
                match self.check(value, way, at, depth + 1) {
                    Ok(()) => fits += 1,
                    Err(trouble) => last = Some(trouble),
                }
            }
            if fits == 0 {
                return match (ways.len(), last) {
                    (1 | 2, Some(trouble)) => Err(trouble),
                    _ => wrong(at, "none of the possible shapes fits"),
                };
            }
            if is_exact && fits > 1 {
                return wrong(at, "more than one of the possible shapes fits");
            }
        }
        for part in rules.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.check(value, part, at, depth + 1)?;
        }
        match value {
            Value::Object(object) => self.check_object(object, rules, at, depth),
            Value::Array(items) => self.check_array(items, rules, at, depth),
            Value::String(text) => {
                let length = text.chars().count() as f64;
                within(length, rules, "minLength", "maxLength", "characters", at)
            }
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                within(number, rules, "minimum", "maximum", "", at)
            }
            _ => Ok(()),
        }
    }

    fn check_kind(
        &self,
        value: &Value,
        rules: &Map<String, Value>,
        at: &str,
    ) -> Result<(), String> {
        let kinds = match rules.get("type") {
            Some(Value::String(kind)) => vec![kind.as_str()],
            Some(list @ Value::Array(_)) => names(Some(list)),
            _ => Vec::new(),
        };
        if !kinds.is_empty() && !kinds.iter().any(|kind| is_of(value, kind)) {
            let expected: Vec<&str> = kinds.iter().map(|kind| with_article(kind)).collect();
            return wrong(
                at,
                &format!("{} is expected, {} found", expected.join(" or "), kind_of(value)),
            );
        }
        if let Some(constant) = rules.get("const")
            && constant != value
        {
            return wrong(at, &format!("{constant} is expected"));
        }
        if let Some(allowed) = rules.get("enum").and_then(Value::as_array)
            && !allowed.contains(value)
        {
            let allowed: Vec<String> = allowed.iter().take(16).map(Value::to_string).collect();
            return wrong(at, &format!("one of {} is expected", allowed.join(", ")));
        }
        Ok(())
    }

    fn check_object(
        &self,
        object: &Map<String, Value>,
        rules: &Map<String, Value>,
        at: &mut String,
        depth: usize,
    ) -> Result<(), String> {
        for name in names(rules.get("required")) {
            if !object.contains_key(name) {
                return wrong(at, &format!("'{name}' is missing"));
            }
        }
        let properties = rules.get("properties").and_then(Value::as_object);
        let length = at.len();
        for (name, value) in object {
            let rule = properties.and_then(|all| all.get(name));
            let rule = match (rule, rules.get("additionalProperties")) {
                (Some(rule), _) | (None, Some(rule @ Value::Object(_))) => rule,
                (None, Some(Value::Bool(false))) => {
                    return wrong(at, &format!("'{}' is not known here", shorten(name)));
                }
                (None, _) => continue,
            };
            at.push('/');
            at.push_str(shorten(name));
            self.check(value, rule, at, depth + 1)?;
            at.truncate(length);
        }
        Ok(())
    }

    fn check_array(
        &self,
        items: &[Value],
        rules: &Map<String, Value>,
        at: &mut String,
        depth: usize,
    ) -> Result<(), String> {
        within(items.len() as f64, rules, "minItems", "maxItems", "items", at)?;
        let Some(rule) = rules.get("items") else { return Ok(()) };
        let length = at.len();
        for (index, item) in items.iter().enumerate() {
            at.push_str(&format!("/{index}"));
            self.check(item, rule, at, depth + 1)?;
            at.truncate(length);
        }
        Ok(())
    }
}

fn shorten(name: &str) -> &str {
    name.char_indices().nth(40).map_or(name, |(at, _)| &name[..at])
}

fn wrong(at: &str, what: &str) -> Result<(), String> {
    Err(format!("at {}: {what}", if at.is_empty() { "the root" } else { at }))
}

fn within(
    number: f64,
    rules: &Map<String, Value>,
    least: &str,
    most: &str,
    unit: &str,
    at: &str,
) -> Result<(), String> {
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    if let Some(least) = rules.get(least).and_then(Value::as_f64)
        && number < least
    {
        return wrong(at, &format!("{number}{unit}, at least {least} expected"));
    }
    if let Some(most) = rules.get(most).and_then(Value::as_f64)
        && number > most
    {
        return wrong(at, &format!("{number}{unit}, at most {most} expected"));
    }
    Ok(())
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => {
            value.is_i64()
                || value.is_u64()
                || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        _ => true,
    }
}

fn with_article(kind: &str) -> &str {
    match kind {
        "object" => "an object",
        "array" => "an array",
        "string" => "a string",
        "boolean" => "a boolean",
        "number" => "a number",
        "integer" => "an integer",
        other => other,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_rule_holds_and_names_its_place() {
        let schema = json!({
            "type": "object",
            "properties": {
                "steps": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"$ref": "#/$defs/step"}},
                "note": {"type": ["string", "null"], "maxLength": 4},
                "risk": {"type": "integer", "minimum": 0, "maximum": 9},
                "kind": {"enum": ["a", "b"]},
                "v": {"const": 1},
                "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "map": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["steps"],
            "additionalProperties": false,
            "$defs": {"step": {"type": "object", "properties": {"run": {"type": "string"}}, "required": ["run"]}},
        });
        let good = json!({"steps": [{"run": "df", "more": 1}], "note": null, "risk": 3.0, "kind": "a",
                          "v": 1, "either": null, "map": {"x": "y"}});
        assert_eq!(check(&good, &schema), Ok(()));
        for (name, bad, place) in [
            ("steps", json!([]), "at /steps: 0 items, at least 1 expected"),
            ("steps", json!([{}]), "at /steps/0: 'run' is missing"),
            ("steps", json!([{"run": 1}]), "at /steps/0/run: a string is expected, a number found"),
            ("note", json!("12345"), "at /note: 5 characters, at most 4 expected"),
            ("note", json!(1), "at /note: a string or null is expected, a number found"),
            ("risk", json!(10), "at /risk: 10, at most 9 expected"),
            ("risk", json!(1.5), "at /risk: an integer is expected, a number found"),
            ("kind", json!("c"), "at /kind: one of \"a\", \"b\" is expected"),
            ("v", json!(2), "at /v: 1 is expected"),
            ("either", json!(1), "at /either: null is expected, a number found"),
            ("map", json!({"x": 1}), "at /map/x: a string is expected, a number found"),
            ("other", json!(1), "at the root: 'other' is not known here"),
        ] {
            let mut value = good.clone();
            value[name] = bad;
            assert_eq!(check(&value, &schema), Err(place.to_owned()));
        }
        assert_eq!(check(&json!({}), &schema), Err("at the root: 'steps' is missing".to_owned()));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$ref": "#"});
        let _ = check(&json!({}), &schema);
        let nested = json!({"type": "object", "properties": {"a": {"$ref": "#"}}});
        let mut value = json!({});
        for _ in 0..100 {
            value = json!({"a": value});
        }
        assert!(check(&value, &nested).is_err_and(|error| error.ends_with("nested too deep")));
    }
}
