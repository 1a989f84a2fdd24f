//! The example of `docs/evolving-events.md`, which quotes this file: goods move between shelves.
//!
//! `shelf.moved` was released, got a reason in version 2, and was then parted into `shelf.taken` and
//! `shelf.put`. No shop has shelves; these events stand in no log.

use jangbu_events::{
    Sku,
    envelope::Stored,
    schema,
    upcast::{Fault, TypeVersion, Upcaster, faults, stored_types, upcast},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::validator;

/// As it is today.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
enum ShelfEvent {
    /// Goods left a shelf.
    #[serde(rename = "shelf.taken")]
    Taken {
        sku: Sku,
        shelf: String,
        quantity: u32,
        reason: MoveReason,
    },
    /// Goods came to a shelf.
    #[serde(rename = "shelf.put")]
    Put { sku: Sku, shelf: String, quantity: u32 },
}

/// Why goods are moved.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum MoveReason {
    /// Said before anybody asked.
    Unknown,
    /// Where buyers see them.
    Display,
}

const CURRENT: &[TypeVersion] = &[("shelf.taken", "1"), ("shelf.put", "1")];

const UPCASTERS: &[Upcaster] = &[
    Upcaster {
        event_type: "shelf.moved",
        event_version: "1",
        into: &[("shelf.moved", "2")],
        apply: |mut old| {
            old["reason"] = json!("unknown");
            vec![("shelf.moved", "2", old)]
        },
    },
    Upcaster {
        event_type: "shelf.moved",
        event_version: "2",
        into: &[("shelf.taken", "1"), ("shelf.put", "1")],
        apply: |old| {
            let taken = json!({
                "type": "shelf.taken",
                "sku": old["sku"],
                "shelf": old["from"],
                "quantity": old["quantity"],
                "reason": old["reason"],
            });
            let put = json!({
                "type": "shelf.put",
                "sku": old["sku"],
                "shelf": old["to"],
                "quantity": old["quantity"],
            });
            vec![("shelf.taken", "1", taken), ("shelf.put", "1", put)]
        },
    },
];

fn moved(version: &str, payload: &Value) -> Stored {
    Stored {
        event_type: "shelf.moved".to_owned(),
        event_version: version.to_owned(),
        payload: payload.to_string(),
    }
}

fn today(stored: &Stored) -> Vec<ShelfEvent> {
    let events = upcast(UPCASTERS, stored).expect("it is upcast");
    let current = |event: &Stored| {
        CURRENT
            .iter()
            .any(|it| *it == (&*event.event_type, &*event.event_version))
    };
    assert!(events.iter().all(current), "{events:?}");
    let decoded = events.iter().map(|event| serde_json::from_str(&event.payload));
    decoded.collect::<Result<_, _>>().expect("it decodes")
}

fn taken_and_put(reason: MoveReason) -> [ShelfEvent; 2] {
    let sku: Sku = "DRIVER-10.5".parse().expect("a sku");
    [
        ShelfEvent::Taken {
            sku: sku.clone(),
            shelf: "A-1".to_owned(),
            quantity: 3,
            reason,
        },
        ShelfEvent::Put {
            sku,
            shelf: "B-2".to_owned(),
            quantity: 3,
        },
    ]
}

#[test]
fn the_first_version_is_read_as_two_events() {
    let old = json!({ "type": "shelf.moved", "sku": "DRIVER-10.5", "from": "A-1", "to": "B-2", "quantity": 3 });
    assert_eq!(today(&moved("1", &old)), taken_and_put(MoveReason::Unknown));
}

#[test]
fn the_second_version_is_read_with_its_reason() {
    let old = json!({
        "type": "shelf.moved", "sku": "DRIVER-10.5", "from": "A-1", "to": "B-2", "quantity": 3, "reason": "display",
    });
    assert_eq!(today(&moved("2", &old)), taken_and_put(MoveReason::Display));
}

#[test]
fn the_chain_has_no_gap() {
    assert_eq!(faults(UPCASTERS, CURRENT), []);
    assert_eq!(faults(&UPCASTERS[1..], CURRENT), [Fault::Unread("shelf.moved", 1)]);
    assert_eq!(
        faults(&UPCASTERS[..1], CURRENT),
        [Fault::Nowhere("shelf.moved", "1", "shelf.moved", "2")]
    );
}

#[test]
fn whoever_wants_what_was_put_reads_what_was_moved() {
    assert_eq!(stored_types(UPCASTERS, &["shelf.put"]), ["shelf.put", "shelf.moved"]);
}

#[test]
fn upcast_events_are_as_todays_schemas_say() {
    let old = json!({ "type": "shelf.moved", "sku": "DRIVER-10.5", "from": "A-1", "to": "B-2", "quantity": 3 });
    for event in upcast(UPCASTERS, &moved("1", &old)).expect("it is upcast") {
        let schema = schema::of::<ShelfEvent>(&event.event_type, &event.event_version).expect("a schema");
        let payload = serde_json::from_str(&event.payload).expect("JSON");
        assert_eq!(validator::faults(&schema, &payload), Vec::<String>::new());
    }
}

/// What the guide shows is what runs here.
#[test]
fn the_guide_quotes_this_file() {
    let trimmed = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let code = trimmed(include_str!("example.rs"));
    let guide = include_str!("../../../docs/evolving-events.md");
    let blocks: Vec<&str> = guide
        .split("```rust\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a block ends"))
        .collect();
    assert!(blocks.len() >= 3, "the guide shows the event, the upcasters and a test");
    for block in blocks {
        assert!(code.contains(&*trimmed(block)), "not in example.rs:\n{block}");
    }
}
