//! Whole purchases in memory: the real aggregates, the real process manager, and a runner that does
//! what the shell does.

mod histories;
mod paths;
mod shop;
mod streams;

use jangbu_events::{AggregateId, OrderId, PaymentId};
use uuid::Uuid;

use super::{Checkout, Timer, command_id};
use crate::fixtures::order_id;

#[test]
fn command_ids_never_change() {
    // Pinned: old logs hold them, and a step done before a release must be found done after it.
    let id = command_id(Uuid::from_u128(7), "hold:A");
    assert_eq!(id.to_string(), "590f1bde-b37f-5882-a668-3183ad60eb9a");
    assert_ne!(id, command_id(Uuid::from_u128(7), "hold:B"));
    assert_ne!(id, command_id(Uuid::from_u128(8), "hold:A"));
}

#[test]
fn timers_read_back_from_their_json() {
    let order_id = OrderId::from_uuid(Uuid::from_u128(1));
    let payment_id = PaymentId::of(order_id, 1);
    for (timer, kind) in [
        (Timer::OrderDeadline { order_id, payment_id }, "order_deadline"),
        (Timer::HoldBackstop { order_id }, "hold_backstop"),
    ] {
        let json = serde_json::to_value(timer).unwrap();
        assert_eq!(json["kind"], kind);
        assert_eq!(serde_json::from_value::<Timer>(json).unwrap(), timer);
    }
}

#[test]
fn it_wants_to_see_only_events_that_exist() {
    for wanted in Checkout::EVENT_TYPES {
        let known = jangbu_events::event::CURRENT_VERSIONS
            .iter()
            .any(|(name, _)| name == wanted);
        assert!(known, "{wanted}");
    }
}

#[test]
fn every_event_it_wants_to_see_belongs_to_an_order() {
    for event in jangbu_events::samples::all() {
        let wanted = Checkout::EVENT_TYPES.contains(&event.name());
        let recorded = streams::recorded(event);
        assert_eq!(
            Checkout::key(&recorded).filter(|_| wanted),
            wanted.then(order_id),
            "{}",
            recorded.payload.name()
        );
    }
}
