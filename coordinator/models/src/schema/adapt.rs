//! A schema, made to what a wire takes. What a wire cannot express is left out: the reply is checked
//! against the original anyway.

use serde_json::{Map, Value, json};

use super::check::names;

/// A schema for a wire.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Adapted {
    pub(crate) schema: Value,
    /// Whether the provider can be asked to keep to it without fail.
    pub(crate) strict: bool,
}

/// Deeper ones are passed on as they are.
const DEEPEST: usize = 64;

/// Keywords of OpenAI's strict schemas.
const STRICT: &[&str] = &[
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "multipleOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
];
const STRICT_FORMATS: &[&str] =
    &["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"];
/// Keywords of Anthropic's `output_config.format`: no bounds on numbers, lengths, counts.
const ANTHROPIC: &[&str] = &[
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "description",
    "enum",
    "format",
    "items",
    "properties",
    "required",
    "title",
    "type",
];
/// Keywords of Gemini's `responseJsonSchema`.
const GEMINI: &[&str] = &[
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "properties",
    "required",
    "title",
    "type",
];

/// For OpenAI and compatibles: every property required, those that may be left out nullable,
/// nothing additional.
pub(crate) fn strict(schema: &Value) -> Adapted {
    let mut adapter =
        Adapter { keywords: STRICT, all_required: true, is_closed: true, open: false };
    let adapted = adapter.adapt(schema, 0);
    if adapter.open {
        // Free-form maps have no strict form.
        return Adapted { schema: plain(schema), strict: false };
    }
    Adapted { schema: adapted, strict: true }
}

/// For Anthropic: nothing additional; what may be left out may be.
pub(crate) fn anthropic(schema: &Value) -> Adapted {
    let mut adapter =
        Adapter { keywords: ANTHROPIC, all_required: false, is_closed: true, open: false };
    let adapted = adapter.adapt(schema, 0);
    Adapted { schema: adapted, strict: !adapter.open }
}

/// For Gemini.
pub(crate) fn gemini(schema: &Value) -> Value {
    Adapter { keywords: GEMINI, all_required: false, is_closed: false, open: false }
        .adapt(schema, 0)
}

/// For tools and Ollama, which take JSON Schema as it is.
pub(crate) fn plain(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("$schema");
    }
    schema
}

struct Adapter {
    keywords: &'static [&'static str],
    all_required: bool,
    is_closed: bool,
    /// Something in it cannot be closed.
    open: bool,
}

impl Adapter {
    fn adapt(&mut self, schema: &Value, depth: usize) -> Value {
        let Some(rules) = schema.as_object() else { return schema.clone() };
        if depth > DEEPEST {
            return schema.clone();
        }
        if let Some(reference) = rules.get("$ref") {
            // Beside a reference nothing else may stand; the root keeps its definitions.
            let mut alone = Map::from_iter([("$ref".to_owned(), reference.clone())]);
            if let Some(definitions) = rules.get("$defs") {
                alone.insert("$defs".to_owned(), self.adapt_each(definitions, depth));
            }
            return Value::Object(alone);
        }
        let mut rules = merge_all_of(rules.clone());
        if let Some(ways) = rules.remove("oneOf") {
            rules.entry("anyOf").or_insert(ways);
        }
        if !self.keywords.contains(&"const")
            && let Some(constant) = rules.remove("const")
        {
            rules.insert("enum".to_owned(), json!([constant]));
        }
        rules.retain(|word, value| {
            self.keywords.contains(&word.as_str())
                && (word != "format"
                    || value.as_str().is_some_and(|format| STRICT_FORMATS.contains(&format)))
        });
        for word in ["properties", "$defs"] {
            if let Some(each) = rules.get(word) {
                let adapted = self.adapt_each(each, depth);
                rules.insert(word.to_owned(), adapted);
            }
        }
        if let Some(items) = rules.get("items") {
            let adapted = self.adapt(items, depth + 1);
            rules.insert("items".to_owned(), adapted);
        }
        if let Some(ways) = rules.get("anyOf").and_then(Value::as_array) {
            let adapted = ways.clone().iter().map(|way| self.adapt(way, depth + 1)).collect();
            rules.insert("anyOf".to_owned(), adapted);
        }
        if self.is_closed && is_object(&rules) {
            self.close(&mut rules);
        }
        Value::Object(rules)
    }

    fn adapt_each(&mut self, each: &Value, depth: usize) -> Value {
        let Some(each) = each.as_object() else { return each.clone() };
        each.iter().map(|(name, schema)| (name.clone(), self.adapt(schema, depth + 1))).collect()
    }

    fn close(&mut self, rules: &mut Map<String, Value>) {
        let is_map = rules
            .get("additionalProperties")
            .is_some_and(|rest| rest.is_object() || rest == &Value::Bool(true));
        if is_map || !rules.contains_key("properties") {
            self.open = true;
        }
        rules.insert("additionalProperties".to_owned(), Value::Bool(false));
        if !self.all_required {
            return;
        }
        let required: Vec<String> =
            names(rules.get("required")).into_iter().map(str::to_owned).collect();
        let mut all = Vec::new();
        if let Some(properties) = rules.get_mut("properties").and_then(Value::as_object_mut) {
            for (name, schema) in properties.iter_mut() {
                if !required.contains(name) {
                    make_nullable(schema);
                }
                all.push(Value::String(name.clone()));
            }
        }
        rules.insert("required".to_owned(), Value::Array(all));
    }
}

fn is_object(rules: &Map<String, Value>) -> bool {
    match rules.get("type") {
        Some(Value::String(kind)) => kind == "object",
        Some(list) => names(Some(list)).contains(&"object"),
        None => rules.contains_key("properties"),
    }
}

/// `allOf` of objects, as one object.
fn merge_all_of(mut rules: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Array(parts)) = rules.remove("allOf") else { return rules };
    for part in parts {
        let Value::Object(part) = part else { continue };
        for (word, value) in part {
            match (rules.get_mut(&word), value) {
                (Some(Value::Object(mine)), Value::Object(theirs)) => mine.extend(theirs),
                (Some(Value::Array(mine)), Value::Array(theirs)) if word == "required" => {
                    mine.extend(theirs);
                }
                (Some(_), _) => {}
                (None, value) => {
                    rules.insert(word, value);
                }
            }
        }
    }
    rules
}

fn make_nullable(schema: &mut Value) {
    let null = || Value::String("null".to_owned());
    let Some(rules) = schema.as_object_mut() else { return };
    if let Some(ways) = rules.get_mut("anyOf").and_then(Value::as_array_mut) {
        if !ways.contains(&json!({"type": "null"})) {
            ways.push(json!({"type": "null"}));
        }
        return;
    }
    let is_plain = !["enum", "const", "$ref", "properties"].iter().any(|w| rules.contains_key(*w));
    match rules.get_mut("type") {
        Some(kind @ Value::String(_)) if is_plain => {
            if kind != "null" {
                *kind = Value::Array(vec![kind.clone(), null()]);
            }
        }
        Some(Value::Array(kinds)) if is_plain => {
            if !kinds.contains(&null()) {
                kinds.push(null());
            }
        }
        _ => {
            let inner = std::mem::take(schema);
            *schema = json!({"anyOf": [inner, {"type": "null"}]});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "steps": {"type": "array", "items": {"$ref": "#/$defs/Step", "description": "beside"}},
                "note": {"type": "string", "default": "", "minLength": 1},
                "kind": {"oneOf": [{"const": "a"}, {"type": "string", "enum": ["b"]}]},
                "level": {"type": "string", "enum": ["low", "high"]},
                "count": {"type": "integer", "format": "uint32", "minimum": 0},
            },
            "required": ["steps"],
            "$defs": {"Step": {"allOf": [
                {"type": "object", "properties": {"run": {"type": "string"}}, "required": ["run"]},
                {"properties": {"undo": {"type": "string"}}},
            ]}},
        })
    }

    #[test]
    fn strict_schema_requires_everything_and_lets_nothing_else_in() {
        let adapted = strict(&schema());
        assert!(adapted.strict);
        assert_eq!(
            adapted.schema,
            json!({
                "type": "object",
                "properties": {
                    "steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}},
                    "note": {"type": ["string", "null"]},
                    "kind": {"anyOf": [{"const": "a"}, {"type": "string", "enum": ["b"]}, {"type": "null"}]},
                    "level": {"anyOf": [{"type": "string", "enum": ["low", "high"]}, {"type": "null"}]},
                    "count": {"type": ["integer", "null"], "minimum": 0},
                },
                "required": ["count", "kind", "level", "note", "steps"],
                "additionalProperties": false,
                "$defs": {"Step": {
                    "type": "object",
                    "properties": {"run": {"type": "string"}, "undo": {"type": ["string", "null"]}},
                    "required": ["run", "undo"],
                    "additionalProperties": false,
                }},
            })
        );
    }

    #[test]
    fn free_form_map_is_not_asked_for_strictly() {
        let map = json!({"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "string"}}}});
        assert_eq!(strict(&map), Adapted { schema: map.clone(), strict: false });
    }

    #[test]
    fn anthropic_schema_has_no_bounds_and_keeps_what_may_be_left_out() {
        let adapted = anthropic(&schema());
        assert_eq!(adapted.schema["required"], json!(["steps"]));
        assert_eq!(adapted.schema["additionalProperties"], json!(false));
        assert_eq!(adapted.schema["properties"]["count"], json!({"type": "integer"}));
    }

    #[test]
    fn gemini_schema_has_no_constants() {
        let adapted = gemini(&schema());
        assert_eq!(adapted["properties"]["kind"]["anyOf"][0], json!({"enum": ["a"]}));
        assert!(adapted.get("$schema").is_none());
        assert_eq!(adapted["properties"]["count"], json!({"type": "integer", "minimum": 0}));
    }
}
