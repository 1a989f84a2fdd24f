//! The JSON Schemas of all released versions, for whoever reads our events in another language.

use jangbu_events::{event::CURRENT_VERSIONS, schema};
use serde_json::{Value, json};

use crate::{
    pins::{golden_file, known, released, schema_file, wordless},
    validator::faults,
};

fn parsed(name: &str) -> Value {
    let text = released()
        .files
        .get(name)
        .unwrap_or_else(|| panic!("{name} is missing"));
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn schemas_are_those_of_the_types() {
    for (event_type, version) in CURRENT_VERSIONS {
        let name = schema_file(event_type, version);
        let (committed, generated) = (parsed(&name), schema::current(event_type).expect("a schema"));
        assert_eq!(
            wordless(&committed),
            wordless(&generated),
            "{event_type} changed: give it a new version and an upcaster (docs/evolving-events.md)"
        );
        assert_eq!(
            committed, generated,
            "the words of {name} are old: JANGBU_WRITE_GOLDEN=1 cargo test -p jangbu-events"
        );
    }
    assert_eq!(schema::current("order.teleported"), None);
    assert_eq!(schema::current("nonsense"), None);
}

#[test]
fn every_golden_file_is_as_its_schema_says() {
    for (event_type, version) in known() {
        let (schema, golden) = (
            parsed(&schema_file(event_type, version)),
            parsed(&golden_file(event_type, version)),
        );
        assert_eq!(faults(&schema, &golden), Vec::<String>::new(), "{event_type} {version}");
        assert_eq!(schema["$id"], format!("urn:jangbu:event:{event_type}:{version}"));
    }
}

/// Otherwise the test above would prove nothing.
#[test]
fn a_schema_refuses_what_is_not_the_event() {
    for (event_type, version) in known() {
        let (schema, golden) = (
            parsed(&schema_file(event_type, version)),
            parsed(&golden_file(event_type, version)),
        );
        let fields = golden.as_object().expect("a payload is an object");
        for field in fields.keys() {
            let mut without = golden.clone();
            without.as_object_mut().expect("an object").remove(field);
            assert_ne!(
                faults(&schema, &without),
                Vec::<String>::new(),
                "{event_type} without {field}"
            );
            for wrong in [json!([[]]), json!({ "amount": 1.5 }), json!(-1.5)] {
                let mut another = golden.clone();
                another[field] = wrong.clone();
                assert_ne!(
                    faults(&schema, &another),
                    Vec::<String>::new(),
                    "{event_type} with {wrong} as {field}"
                );
            }
        }
    }
}
