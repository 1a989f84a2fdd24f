//! JSON Schema (draft 2020-12) of the events, made from the types themselves: what a payload looks
//! like as this version of the program writes it.
//!
//! The schemas of all versions that were ever released stand in `events/schemas/`; the tests compare.

use std::collections::BTreeSet;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{CartEvent, CustomerEvent, OrderEvent, PaymentEvent, ProductEvent, StockEvent, event::CURRENT_VERSIONS};

/// The schema of a type's payload in its current version; `None` for a type that is not known.
pub fn current(event_type: &str) -> Option<Value> {
    let (_, version) = CURRENT_VERSIONS.iter().find(|(known, _)| *known == event_type)?;
    match event_type.split_once('.')?.0 {
        "cart" => of::<CartEvent>(event_type, version),
        "customer" => of::<CustomerEvent>(event_type, version),
        "order" => of::<OrderEvent>(event_type, version),
        "payment" => of::<PaymentEvent>(event_type, version),
        "product" => of::<ProductEvent>(event_type, version),
        "stock" => of::<StockEvent>(event_type, version),
        _ => None,
    }
}

/// The schema of one variant of an enum that is tagged inside with `type`; `None` if it has no such.
pub fn of<E: JsonSchema>(event_type: &str, event_version: &str) -> Option<Value> {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut whole = generator.into_root_schema_for::<E>().to_value();
    let definitions = whole["$defs"].take();
    let variants = whole["oneOf"].take();
    let mut variant = variants
        .as_array()?
        .iter()
        .find(|variant| variant["properties"]["type"]["const"] == event_type)?
        .as_object()?
        .clone();
    let needed = reachable(&variant, &definitions);
    let mut schema = Map::from_iter([
        (
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        ),
        (
            "$id".to_owned(),
            json!(format!("urn:jangbu:event:{event_type}:{event_version}")),
        ),
        ("title".to_owned(), json!(event_type)),
    ]);
    schema.append(&mut variant);
    if !needed.is_empty() {
        schema.insert("$defs".to_owned(), Value::Object(needed));
    }
    Some(Value::Object(schema))
}

/// The definitions that a schema refers to, directly or through others.
fn reachable(schema: &Map<String, Value>, definitions: &Value) -> Map<String, Value> {
    let mut names = BTreeSet::new();
    let mut todo: Vec<&Value> = schema.values().collect();
    while let Some(value) = todo.pop() {
        match value {
            Value::Object(object) => {
                if let Some(name) = object.get("$ref").and_then(Value::as_str).and_then(definition)
                    && names.insert(name)
                {
                    todo.push(&definitions[name]);
                }
                todo.extend(object.values());
            }
            Value::Array(items) => todo.extend(items),
            _ => {}
        }
    }
    names
        .into_iter()
        .map(|name| (name.to_owned(), definitions[name].clone()))
        .collect()
}

fn definition(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/$defs/")
}
