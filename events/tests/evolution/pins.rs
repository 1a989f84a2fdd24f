//! `events/released.sha256`: what was released and may never change.
//!
//! One line for every file of the golden corpus and every schema. A golden file is pinned byte for
//! byte, a schema without its words (titles and descriptions): these may be mended.
//! `JANGBU_WRITE_GOLDEN=1` writes what is missing and changes nothing that is pinned.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use jangbu_events::{Event, event::CURRENT_VERSIONS, samples, schema, upcast::UPCASTERS};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

const PINS: &str = "released.sha256";
const HEAD: &str = "\
# What was released: lines are added, never changed and never removed (docs/evolving-events.md).
# Golden files byte for byte, schemas without their titles and descriptions.
";

/// The files as they are, by their path in `events/`, and the hashes that are pinned.
pub struct Released {
    pub files: BTreeMap<String, String>,
    pub pins: BTreeMap<String, String>,
}

/// Read once, after what is missing was written if that was asked for.
pub fn released() -> &'static Released {
    static RELEASED: OnceLock<Released> = OnceLock::new();
    RELEASED.get_or_init(|| {
        let mut released = read();
        if std::env::var_os("JANGBU_WRITE_GOLDEN").is_some() {
            write_missing(&mut released);
            released = read();
        }
        released
    })
}

/// Every (type, version) that this program can read: what is current, and what upcasters read.
pub fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
    let old = UPCASTERS.iter().map(|u| (u.event_type, u.event_version));
    CURRENT_VERSIONS.iter().copied().chain(old)
}

pub fn golden_file(event_type: &str, version: &str) -> String {
    format!("tests/golden/{event_type}.v{version}.json")
}

pub fn schema_file(event_type: &str, version: &str) -> String {
    format!("schemas/{event_type}.v{version}.json")
}

pub fn json(event: &Event) -> Value {
    let value = match event {
        Event::Cart(event) => serde_json::to_value(event),
        Event::Customer(event) => serde_json::to_value(event),
        Event::Order(event) => serde_json::to_value(event),
        Event::Payment(event) => serde_json::to_value(event),
        Event::Product(event) => serde_json::to_value(event),
        Event::Stock(event) => serde_json::to_value(event),
    };
    value.expect("an event serialises")
}

/// What of a file is pinned.
pub fn hash(name: &str, text: &str) -> String {
    let pinned = if name.starts_with("schemas/") {
        let schema: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        sorted(&wordless(&schema)).to_string()
    } else {
        text.to_owned()
    };
    let digest = Sha256::digest(pinned.as_bytes());
    format!("{digest:x}")
}

/// A schema without what it says to people.
pub fn wordless(schema: &Value) -> Value {
    let Value::Object(schema) = schema else {
        return schema.clone();
    };
    let kept = schema
        .iter()
        .filter(|(keyword, _)| !["title", "description"].contains(&keyword.as_str()))
        .map(|(keyword, value)| {
            let value = match (keyword.as_str(), value) {
                // Keys are names here, and a field may be called `title`.
                ("properties" | "$defs", Value::Object(named)) => Value::Object(
                    named
                        .iter()
                        .map(|(name, schema)| (name.clone(), wordless(schema)))
                        .collect(),
                ),
                ("oneOf" | "anyOf" | "allOf", Value::Array(schemas)) => schemas.iter().map(wordless).collect(),
                ("items" | "additionalProperties", schema) => wordless(schema),
                (_, other) => other.clone(),
            };
            (keyword.clone(), value)
        });
    Value::Object(kept.collect())
}

/// With keys in order, whatever order `serde_json` was built to keep.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let sorted: BTreeMap<&String, Value> = object.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(
                sorted
                    .into_iter()
                    .map(|(key, value)| (key.clone(), value))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read() -> Released {
    let mut files = BTreeMap::new();
    for folder in ["tests/golden", "schemas"] {
        let Ok(entries) = fs::read_dir(home().join(folder)) else {
            continue;
        };
        for entry in entries {
            let path: PathBuf = entry.expect("a directory entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a file name");
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            files.insert(format!("{folder}/{name}"), text);
        }
    }
    let text = fs::read_to_string(home().join(PINS)).unwrap_or_default();
    let pins = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (hash, name) = line.split_once("  ").expect("a hash, two spaces and a file");
            (name.to_owned(), hash.to_owned())
        })
        .collect();
    Released { files, pins }
}

fn write_missing(released: &mut Released) {
    let mut put = |name: String, value: &Value| {
        let text = serde_json::to_string_pretty(value).expect("JSON prints") + "\n";
        let pinned = released.pins.get(&name);
        if pinned.is_none() && released.files.contains_key(&name) && !name.starts_with("schemas/") {
            return;
        }
        if pinned.is_none_or(|pinned| *pinned == hash(&name, &text)) {
            fs::write(home().join(&name), &text).unwrap_or_else(|error| panic!("{name}: {error}"));
            released.files.insert(name, text);
        }
    };
    fs::create_dir_all(home().join("schemas")).expect("a folder can be made");
    for (event, (event_type, version)) in samples::all().iter().zip(CURRENT_VERSIONS) {
        put(golden_file(event_type, version), &json(event));
        let schema = schema::current(event_type).expect("every event has a schema");
        put(schema_file(event_type, version), &schema);
    }
    for (name, text) in &released.files {
        if !released.pins.contains_key(name) {
            released.pins.insert(name.clone(), hash(name, text));
        }
    }
    let lines: Vec<String> = released
        .pins
        .iter()
        .map(|(name, hash)| format!("{hash}  {name}\n"))
        .collect();
    fs::write(home().join(PINS), format!("{HEAD}{}", lines.concat())).expect("the pins can be written");
}

#[test]
fn what_was_released_is_as_it_was() {
    let released = released();
    for (name, pinned) in &released.pins {
        let Some(text) = released.files.get(name) else {
            panic!("{name} was released and is gone");
        };
        assert_eq!(
            hash(name, text),
            *pinned,
            "{name} was released and is another: give the event a new version instead"
        );
    }
}

#[test]
fn whatever_can_be_read_is_pinned() {
    let released = released();
    for (event_type, version) in known() {
        for name in [golden_file(event_type, version), schema_file(event_type, version)] {
            assert!(
                released.pins.contains_key(&name),
                "{name} is not pinned: JANGBU_WRITE_GOLDEN=1 cargo test -p jangbu-events"
            );
        }
    }
    for name in released.files.keys() {
        assert!(released.pins.contains_key(name), "{name} is not pinned");
    }
}

#[test]
fn words_are_not_pinned_and_names_are() {
    let schema = |text: &str| hash("schemas/a.b.v1.json", text);
    let first = schema(r#"{"title": "a", "properties": {"title": {"type": "string", "description": "b"}}}"#);
    let reworded = schema(r#"{"properties": {"title": {"type": "string", "description": "c"}}, "description": "d"}"#);
    assert_eq!(first, reworded);
    for other in [
        r#"{"properties": {"description": {"type": "string"}}}"#,
        r#"{"properties": {"title": {"type": ["string", "null"]}}}"#,
        r#"{"properties": {"title": {"type": "string"}}, "required": ["title"]}"#,
    ] {
        assert_ne!(first, schema(other), "{other}");
    }
    assert_ne!(
        hash("tests/golden/a.b.v1.json", "{}"),
        hash("tests/golden/a.b.v1.json", "{ }")
    );
}
