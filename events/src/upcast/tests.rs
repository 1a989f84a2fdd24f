use serde_json::json;

use super::*;
use crate::{Event, ProductEvent, event::CURRENT_VERSIONS};

/// `product.launched` is history: it was retitled once, and is two events today.
const LAUNCHED: &[Upcaster] = &[
    Upcaster {
        event_type: "product.launched",
        event_version: "1",
        into: &[("product.launched", "2")],
        apply: |old| vec![("product.launched", "2", json!({ "title": old["name"] }))],
    },
    Upcaster {
        event_type: "product.launched",
        event_version: "2",
        into: &[("product.renamed", "1"), ("product.published", "1")],
        apply: |old| {
            vec![
                (
                    "product.renamed",
                    "1",
                    json!({ "type": "product.renamed", "name": old["title"] }),
                ),
                ("product.published", "1", json!({ "type": "product.published" })),
            ]
        },
    },
];

/// One that is wrong in some way.
const fn upcaster(event_type: &'static str, event_version: &'static str, into: &'static [TypeVersion]) -> Upcaster {
    Upcaster {
        event_type,
        event_version,
        into,
        apply: |old| vec![("a.b", "1", old)],
    }
}

fn stored(event_type: &str, event_version: &str, payload: &Value) -> Stored {
    Stored {
        event_type: event_type.into(),
        event_version: event_version.into(),
        payload: payload.to_string(),
    }
}

#[test]
fn the_registry_has_no_faults() {
    assert_eq!(faults(UPCASTERS, CURRENT_VERSIONS), []);
    assert_eq!(faults(LAUNCHED, CURRENT_VERSIONS), []);
}

#[test]
fn an_old_event_may_mean_several_today() {
    let events = Event::decode_with(
        LAUNCHED,
        &stored("product.launched", "1", &json!({ "name": "드라이버" })),
    );
    let expected = [
        ProductEvent::Renamed {
            name: "드라이버".into(),
        },
        ProductEvent::Published {},
    ];
    assert_eq!(events.expect("it decodes"), expected.map(Event::from));
}

#[test]
fn an_unknown_event_is_an_error_and_never_skipped() {
    for (event_type, version) in [("product.teleported", "1"), ("product.renamed", "2"), ("nonsense", "1")] {
        let error = Event::decode(&stored(event_type, version, &json!({}))).expect_err("unknown");
        assert!(error.to_string().contains(event_type), "{error}");
    }
}

#[test]
fn upcasters_in_a_circle_are_found() {
    const CIRCLE: &[Upcaster] = &[upcaster("a.b", "1", &[("a.b", "1")])];
    assert!(matches!(
        upcast(CIRCLE, &stored("a.b", "1", &json!({}))),
        Err(UpcastError::Endless { .. })
    ));
    assert_eq!(faults(CIRCLE, &[]), [Fault::Circle("a.b", "1")]);
    let wide = [
        upcaster("a.b", "1", &[("c.d", "1")]),
        upcaster("c.d", "1", &[("a.b", "1")]),
    ];
    assert_eq!(
        faults(&wide, &[]),
        [Fault::Circle("a.b", "1"), Fault::Circle("c.d", "1")]
    );
}

#[test]
fn an_upcaster_keeps_its_word() {
    let vanishes = [Upcaster {
        apply: |_| Vec::new(),
        ..upcaster("a.b", "1", &[("a.b", "2")])
    }];
    let error = upcast(&vanishes, &stored("a.b", "1", &json!({}))).expect_err("nothing is left");
    assert!(matches!(error, UpcastError::Nothing { .. }), "{error}");
    let unannounced = [upcaster("a.b", "2", &[("a.c", "1")])];
    let error = upcast(&unannounced, &stored("a.b", "2", &json!({}))).expect_err("a surprise");
    assert_eq!(
        error.to_string(),
        "upcasting a.b version 2 gives a.b version 1, which is not announced"
    );
}

#[test]
fn every_gap_of_a_registry_is_named() {
    let gap = [upcaster("a.b", "1", &[("a.b", "3")])];
    assert_eq!(faults(&gap, &[("a.b", "3")]), [Fault::Unread("a.b", 2)]);
    // The oldest ones count as well, also of a type that is no more.
    assert_eq!(faults(&[], &[("a.b", "2")]), [Fault::Unread("a.b", 1)]);
    let retired = [upcaster("a.old", "2", &[("a.b", "1")])];
    assert_eq!(faults(&retired, &[("a.b", "1")]), [Fault::Unread("a.old", 1)]);
    let nowhere = [upcaster("a.b", "1", &[("a.b", "2"), ("a.c", "1")])];
    assert_eq!(
        faults(&nowhere, &[("a.b", "2")]),
        [Fault::Nowhere("a.b", "1", "a.c", "1")]
    );
    assert_eq!(
        faults(&[upcaster("a.b", "1", &[])], &[("a.b", "2")]),
        [Fault::Nothing("a.b", "1")]
    );
    let twice = [
        upcaster("a.b", "1", &[("a.b", "2")]),
        upcaster("a.b", "1", &[("a.b", "2")]),
    ];
    assert_eq!(faults(&twice, &[("a.b", "2")]), [Fault::ReadTwice("a.b", "1")]);
    let current = [upcaster("a.b", "1", &[("a.c", "1")])];
    assert_eq!(
        faults(&current, &[("a.b", "1"), ("a.c", "1")]),
        [Fault::Current("a.b", "1")]
    );
    for version in ["0", "01", "+1", "v1", "", "1.0"] {
        assert_eq!(faults(&[], &[("a.b", version)]), [Fault::NotCounted("a.b", version)]);
    }
}

#[test]
fn readers_by_type_find_what_had_another_name() {
    assert_eq!(
        stored_types(LAUNCHED, &["product.published", "cart.opened"]),
        ["product.published", "cart.opened", "product.launched"]
    );
    assert_eq!(stored_types(LAUNCHED, &["product.hidden"]), ["product.hidden"]);
    let renamed_twice = [
        upcaster("a.b", "1", &[("a.c", "1")]),
        upcaster("a.c", "1", &[("a.d", "1")]),
    ];
    assert_eq!(stored_types(&renamed_twice, &["a.d"]), ["a.d", "a.c", "a.b"]);
}
