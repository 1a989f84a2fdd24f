//! Between an aggregate's events and their rows.

use std::sync::Arc;

use cqrs_es::DomainEvent;
use jangbu_domain::Decide;
use jangbu_events::{Event, RawEvent, Recorded, Slot, StoreId};

use super::{CommandEnvelope, ExecuteError, LoadError, cache::Folded};
use crate::log::{Appended, Beside, NewCommand, NewEvent, rows::event_id};

/// An existing stream keeps its slot; a new one gets it from the command.
fn slot<A: Decide>(id: A::Id, command: &A::Command, folded: &Folded<A>) -> Slot {
    folded.slot.unwrap_or_else(|| Slot::of(A::partition_key(id, command)))
}

/// The command with the events that were decided.
pub fn new_command<A: Decide>(
    id: A::Id,
    command: &A::Command,
    folded: &Folded<A>,
    events: &[A::Event],
    envelope: &CommandEnvelope,
) -> Result<NewCommand, ExecuteError<A::Error>> {
    let rejected = |error: serde_json::Error| ExecuteError::Rejected(error.to_string());
    let events = events.iter().map(|event| {
        Ok(NewEvent {
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: serde_json::to_string(event).map_err(rejected)?,
            occurred_at: A::happened_at(event),
        })
    });
    let changes = events.len() > 0;
    Ok(NewCommand {
        command_id: envelope.command_id,
        store_id: StoreId::DEFAULT,
        aggregate_type: A::TYPE,
        aggregate_id: id.to_string(),
        slot: slot::<A>(id, command, folded),
        expected_sequence: folded.sequence,
        events: events.collect::<Result<_, ExecuteError<A::Error>>>()?,
        metadata: serde_json::to_string(&envelope.metadata).map_err(rejected)?,
        causation_id: envelope.causation_id,
        correlation_id: envelope.correlation_id,
        occurred_at: envelope.occurred_at,
        body_hash: envelope.body_hash,
        unique_keys: envelope.unique_keys.clone(),
        personal_keys: envelope.personal_keys.clone(),
        // With its events or not at all.
        beside: if changes {
            envelope.beside.clone()
        } else {
            Beside::default()
        },
    })
}

/// The events of a command as the log now has them.
pub fn recorded<A: Decide>(
    id: A::Id,
    before: i64,
    after: &Folded<A>,
    events: Vec<A::Event>,
    envelope: &CommandEnvelope,
    appended: Appended,
) -> Vec<Recorded<A::Event>> {
    let first = appended.position - i64::try_from(events.len()).expect("a command is small");
    (1_i64..)
        .zip(events)
        .enumerate()
        .map(|(index, (nth, payload))| Recorded {
            position: first + nth,
            slot: after.slot.expect("a stream with events has a slot"),
            store_id: StoreId::DEFAULT,
            event_id: event_id(envelope.command_id, index),
            aggregate_type: A::TYPE.to_owned(),
            aggregate_id: id.to_string(),
            sequence: before + nth,
            command_id: envelope.command_id,
            causation_id: envelope.causation_id,
            correlation_id: envelope.correlation_id,
            occurred_at: A::happened_at(&payload).unwrap_or(envelope.occurred_at),
            recorded_at: appended.recorded_at,
            metadata: envelope.metadata.clone(),
            payload,
        })
        .collect()
}

/// The events that a row means today.
pub fn decode<A: Decide>(raw: &RawEvent) -> Result<Vec<A::Event>, LoadError> {
    let stream = || format!("{}/{}", raw.aggregate_type, raw.aggregate_id);
    Event::decode(&raw.payload)
        .map_err(|source| LoadError::Undecodable {
            stream: stream(),
            source,
        })?
        .into_iter()
        .map(|event| {
            let event_type = event.name();
            A::Event::try_from(event).map_err(|_| LoadError::Foreign {
                stream: stream(),
                event_type,
            })
        })
        .collect()
}

/// Adds a row.
pub fn fold<A: Decide>(folded: &mut Folded<A>, raw: &RawEvent) -> Result<(), LoadError> {
    let events = decode::<A>(raw)?;
    fold_as(folded, raw, events);
    Ok(())
}

/// Adds a row as the events that it means today: however many they are, the stream is one event longer.
fn fold_as<A: Decide>(folded: &mut Folded<A>, raw: &RawEvent, events: Vec<A::Event>) {
    let state = Arc::make_mut(&mut folded.state);
    for event in events {
        state.apply(event);
    }
    folded.sequence = raw.sequence;
    folded.position = raw.position;
    folded.slot = Some(raw.slot);
}

#[cfg(test)]
mod tests {
    use jangbu_domain::{Product, ProductCommand, product::ProductStatus};
    use jangbu_events::{ProductEvent, samples};

    use super::*;
    use crate::feed::testing::event;

    #[test]
    fn a_row_that_means_two_events_makes_the_stream_one_event_longer() {
        let registered = samples::all().into_iter().find_map(|event| match event {
            Event::Product(event @ ProductEvent::Registered { .. }) => Some(event),
            _ => None,
        });
        let renamed = ProductEvent::Renamed {
            name: "드라이버".to_owned(),
        };
        let launched = vec![
            registered.expect("there is a sample"),
            renamed,
            ProductEvent::Published {},
        ];
        let mut folded = Folded::<Product>::default();
        let row = RawEvent {
            sequence: 1,
            ..event(7, 3, "{}")
        };
        fold_as(&mut folded, &row, launched);
        assert_eq!((folded.sequence, folded.position), (1, 7));
        // All of them were applied, and what is decided next goes behind the row.
        let revise = |name: &str| ProductCommand::Revise {
            name: Some(name.to_owned()),
            price: None,
            status: Some(ProductStatus::Published),
        };
        assert_eq!(folded.state.decide(&revise("드라이버")), Ok(vec![]));
        assert_eq!(folded.state.decide(&revise("퍼터")).map(|events| events.len()), Ok(1));
        let ahead = folded.ahead(&[ProductEvent::Hidden {}], row.slot);
        assert_eq!(ahead.sequence, 2);
    }
}
