//! As much of JSON Schema as our schemas use; another keyword is a panic, never passed over.

use chrono::DateTime;
use regex::Regex;
use serde_json::Value;

/// Where a value is not as the schema says.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(schema, schema, value, "", &mut faults);
    faults
}

fn check(root: &Value, schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    if let Value::Bool(any) = schema {
        if !any {
            faults.push(format!("{path}: nothing may stand here"));
        }
        return;
    }
    for (keyword, says) in schema.as_object().expect("a schema is an object") {
        let mut must = |holds: bool| {
            if !holds {
                faults.push(format!("{path}: {keyword} {says}, not {value}"));
            }
        };
        match keyword.as_str() {
            // Words, and what `object` looks at.
            "$schema"
            | "$id"
            | "$defs"
            | "title"
            | "description"
            | "default"
            | "properties"
            | "additionalProperties"
            | "required" => {}
            "type" => must(match says {
                Value::Array(types) => types.iter().any(|one| is(one, value)),
                one => is(one, value),
            }),
            "const" => must(value == says),
            "enum" => must(says.as_array().expect("a list").contains(value)),
            "minimum" => must(value.as_i64().is_none_or(|number| Some(number) >= says.as_i64())),
            "maximum" => must(value.as_i64().is_none_or(|number| Some(number) <= says.as_i64())),
            "format" => must(value.as_str().is_none_or(|text| has_format(text, says)) && fits(value, says)),
            "pattern" => {
                let pattern = Regex::new(says.as_str().expect("a pattern")).expect("a regular expression");
                must(value.as_str().is_none_or(|text| pattern.is_match(text)));
            }
            "$ref" => {
                let pointer = says.as_str().and_then(|it| it.strip_prefix('#')).expect("a reference");
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("{says} leads nowhere"));
                check(root, target, value, path, faults);
            }
            "oneOf" | "anyOf" => {
                let fitting = |one: &&Value| {
                    let mut faults = Vec::new();
                    check(root, one, value, path, &mut faults);
                    faults.is_empty()
                };
                let fitting = says.as_array().expect("a list").iter().filter(fitting).count();
                must(if keyword == "oneOf" { fitting == 1 } else { fitting > 0 });
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, says, item, &format!("{path}/{at}"), faults);
                }
            }
            other => panic!("the schema says {other}, which is not known here"),
        }
    }
    object(root, schema, value, path, faults);
}

fn object(root: &Value, schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let Value::Object(object) = value else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !object.contains_key(name.as_str().expect("a name")) {
            faults.push(format!("{path}: {name} is missing"));
        }
    }
    for (name, value) in object {
        let described = schema["properties"].get(name);
        if let Some(schema) = described.or_else(|| schema.get("additionalProperties")) {
            check(root, schema, value, &format!("{path}/{name}"), faults);
        }
    }
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("a type's name") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other}"),
    }
}

fn has_format(text: &str, format: &Value) -> bool {
    match format.as_str() {
        Some("date-time") => DateTime::parse_from_rfc3339(text).is_ok(),
        Some("uuid") => text.parse::<uuid::Uuid>().is_ok(),
        _ => true,
    }
}

fn fits(value: &Value, format: &Value) -> bool {
    match format.as_str().expect("a format") {
        "int64" => value.is_null() || value.as_i64().is_some(),
        "uint32" => value.is_null() || value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
        "date-time" | "uuid" => true,
        other => panic!("the format {other} is not known here"),
    }
}
