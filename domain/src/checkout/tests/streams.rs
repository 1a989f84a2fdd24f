//! Streams in memory, and the envelope of their events.

use std::collections::HashMap;

use cqrs_es::Aggregate;
use jangbu_events::{AggregateId, Event, Metadata, Recorded, Slot, StoreId, samples};
use uuid::Uuid;

use crate::{Decide, fixtures::product};

/// State and sequence of every stream of one kind.
pub struct Streams<A: Decide>(pub HashMap<A::Id, (A, i64)>);

impl<A: Decide> Streams<A> {
    pub fn get(&self, id: A::Id) -> A {
        self.0.get(&id).map(|(state, _)| state.clone()).unwrap_or_default()
    }
}

/// Any event in an envelope of the sample order.
pub fn recorded(payload: Event) -> Recorded<Event> {
    let (aggregate_type, aggregate_id) = match &payload {
        Event::Cart(_) => ("cart", samples::cart_id().to_string()),
        Event::Customer(_) => ("customer", samples::customer_id().to_string()),
        Event::Order(_) => ("order", samples::order_id().to_string()),
        Event::Payment(_) => ("payment", samples::payment_id().to_string()),
        Event::Product(_) => ("product", product("A").to_string()),
        Event::Stock(_) => ("stock_item", product("A").stock_item().to_string()),
    };
    Recorded {
        position: 1,
        slot: Slot::of(samples::cart_id().uuid()),
        store_id: StoreId::DEFAULT,
        event_id: Uuid::from_u128(1),
        aggregate_type: aggregate_type.to_owned(),
        aggregate_id,
        sequence: 1,
        command_id: Uuid::from_u128(2),
        causation_id: None,
        correlation_id: Some(samples::order_id().uuid()),
        occurred_at: samples::moment(),
        recorded_at: samples::moment(),
        metadata: Metadata::default(),
        payload,
    }
}

/// Decides and folds; gives the events in the envelope.
pub fn decide<A: Decide>(
    streams: &mut Streams<A>,
    id: A::Id,
    command: &A::Command,
    envelope: &Recorded<Event>,
) -> Result<Vec<Recorded<Event>>, String> {
    let (mut state, mut sequence) = streams.0.get(&id).cloned().unwrap_or_default();
    let decided = state.decide(command).map_err(|error| error.to_string())?;
    let mut events = Vec::new();
    for (n, event) in (0_u8..).zip(decided) {
        state.apply(event.clone());
        sequence += 1;
        events.push(Recorded {
            event_id: Uuid::new_v5(&envelope.command_id, &[n]),
            aggregate_type: <A as Aggregate>::TYPE.to_owned(),
            aggregate_id: id.to_string(),
            sequence,
            ..envelope.clone().with(event.into())
        });
    }
    if !events.is_empty() {
        streams.0.insert(id, (state, sequence));
    }
    Ok(events)
}
