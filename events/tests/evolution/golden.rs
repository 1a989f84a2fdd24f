//! The golden corpus: one file for every (type, version) of an event that was ever released.
//!
//! A file is never edited or removed. An event that changes gets a new version, a new file and an
//! upcaster that still reads the old one.

use jangbu_events::{Event, envelope::Stored, event::CURRENT_VERSIONS, samples};
use serde_json::Value;

use crate::pins::{golden_file, json, known, released};

#[test]
fn there_is_a_sample_of_every_event() {
    let names: Vec<&str> = samples::all().iter().map(Event::name).collect();
    let known: Vec<&str> = CURRENT_VERSIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known);
}

#[test]
fn events_are_written_in_their_current_version() {
    use cqrs_es::DomainEvent;

    for (event, (event_type, version)) in samples::all().iter().zip(CURRENT_VERSIONS) {
        let written = match event {
            Event::Cart(event) => (event.event_type(), event.event_version()),
            Event::Customer(event) => (event.event_type(), event.event_version()),
            Event::Order(event) => (event.event_type(), event.event_version()),
            Event::Payment(event) => (event.event_type(), event.event_version()),
            Event::Product(event) => (event.event_type(), event.event_version()),
            Event::Stock(event) => (event.event_type(), event.event_version()),
        };
        assert_eq!(written, ((*event_type).to_owned(), (*version).to_owned()));
    }
}

#[test]
fn the_json_of_every_event_is_pinned() {
    for (event, (event_type, version)) in samples::all().iter().zip(CURRENT_VERSIONS) {
        let name = golden_file(event_type, version);
        let Some(golden) = released().files.get(&name) else {
            panic!("{name} is missing: JANGBU_WRITE_GOLDEN=1 cargo test -p jangbu-events");
        };
        let golden: Value = serde_json::from_str(golden).expect("a golden file is JSON");
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
    for (name, payload) in &released().files {
        let Some(name) = name.strip_prefix("tests/golden/") else {
            continue;
        };
        let stem = name.strip_suffix(".json").expect("a JSON file");
        let (event_type, event_version) = stem.rsplit_once(".v").expect("<type>.v<version>.json");
        assert!(
            known().any(|known| known == (event_type, event_version)),
            "{stem} was released and nothing reads it"
        );
        let stored = Stored {
            event_type: event_type.into(),
            event_version: event_version.into(),
            payload: payload.clone(),
        };
        let events = Event::decode(&stored).unwrap_or_else(|error| panic!("{stem}: {error}"));
        assert!(!events.is_empty(), "{stem} means nothing today");
    }
}
