//! The golden corpus: one file for every (type, version) of an event that was ever released.
//!
//! A file is never edited or removed. An event that changes gets a new version, a new file and an
//! upcaster that still reads the old one. `JANGBU_WRITE_GOLDEN=1` writes files that are missing.

use std::{collections::BTreeSet, fs, path::PathBuf};

use jangbu_events::{Event, envelope::Stored, event::CURRENT_VERSIONS, samples};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn json(event: &Event) -> Value {
    let value = match event {
        Event::Cart(event) => serde_json::to_value(event),
        Event::Order(event) => serde_json::to_value(event),
        Event::Payment(event) => serde_json::to_value(event),
        Event::Product(event) => serde_json::to_value(event),
        Event::Stock(event) => serde_json::to_value(event),
    };
    value.expect("an event serialises")
}

#[test]
fn there_is_a_sample_of_every_event() {
    let names: Vec<&str> = samples::all().iter().map(Event::name).collect();
    let known: Vec<&str> = CURRENT_VERSIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known);
}

#[test]
fn the_json_of_every_event_is_pinned() {
    for (event, (event_type, version)) in samples::all().iter().zip(CURRENT_VERSIONS) {
        let file = folder().join(format!("{event_type}.v{version}.json"));
        if !file.exists() && std::env::var_os("JANGBU_WRITE_GOLDEN").is_some() {
            let text = serde_json::to_string_pretty(&json(event)).expect("JSON prints");
            fs::write(&file, text + "\n").expect("the golden file can be written");
        }
        let golden = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let golden: Value = serde_json::from_str(&golden).expect("a golden file is JSON");
        assert_eq!(
            json(event),
            golden,
            "{event_type} changed: give it a new version and an upcaster"
        );
        assert_eq!(golden["type"], *event_type);
    }
}

#[test]
fn everything_ever_released_still_decodes() {
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(folder()).expect("the corpus is there") {
        let path = entry.expect("a directory entry").path();
        let stem = path
            .file_stem()
            .and_then(|s| s.to_str())
            .expect("a file name")
            .to_owned();
        let (event_type, version) = stem.rsplit_once(".v").expect("<type>.v<version>.json");
        let payload = fs::read_to_string(&path).expect("a golden file reads");
        let stored = Stored {
            event_type: event_type.into(),
            event_version: version.into(),
            payload,
        };
        let events = Event::decode(&stored).unwrap_or_else(|error| panic!("{stem}: {error}"));
        assert!(!events.is_empty(), "{stem} means nothing today");
        seen.insert(stem);
    }
    assert!(seen.len() >= CURRENT_VERSIONS.len());
}
