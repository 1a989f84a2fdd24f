//! The log as an event store of cqrs-es: for its `CqrsFramework`, its tests, and to hold ours against
//! postgres-es. The hot path is [`crate::executor`], since a commit here carries neither a command id
//! nor a position.
//!
//! Streams are read whole through postgres-es's own repository: whatever else reads its table reads
//! ours. Its snapshot and aggregate stores must never be used (cqrs-es 0.5 applies every event of a
//! commit twice there).

use std::{collections::HashMap, error::Error};

use cqrs_es::{
    AggregateContext, AggregateError, DomainEvent, EventEnvelope, EventStore,
    persist::{PersistedEventRepository, SerializedEvent},
};
use jangbu_domain::Decide;
use jangbu_events::{Event, Slot, StoreId, envelope::Stored};
use postgres_es::PostgresEventRepository;
use uuid::Uuid;

use crate::{
    executor::DEADLINE,
    log::{Log, NewCommand, NewEvent, Outcome},
};

/// The streams of one aggregate type.
pub struct LogStore<A: Decide> {
    log: Log,
    repository: PostgresEventRepository,
    partition_key: fn(A::Id, &[A::Event]) -> Uuid,
}

/// An aggregate, folded, and where its stream stands.
pub struct Context<A: Decide> {
    id: A::Id,
    aggregate: A,
    sequence: i64,
}

/// What went wrong below cqrs-es.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StoreError(String);

impl<A: Decide> LogStore<A> {
    /// Over a log. A commit does not know its command, so `partition_key` says from the first events
    /// of a new stream what [`Decide::partition_key`] would have said from the command.
    pub fn new(log: Log, partition_key: fn(A::Id, &[A::Event]) -> Uuid) -> Self {
        Self {
            repository: PostgresEventRepository::new(log.pool().clone()),
            log,
            partition_key,
        }
    }

    /// A stream keeps the slot of its first event.
    async fn slot(&self, context: &Context<A>, events: &[A::Event]) -> Result<Slot, AggregateError<A::Error>> {
        let last = self
            .log
            .stream(A::TYPE, &context.id.to_string(), context.sequence - 1)
            .await
            .map_err(|error| AggregateError::DatabaseConnectionError(error.into()))?;
        Ok(last.first().map_or_else(
            || Slot::of((self.partition_key)(context.id, events)),
            |event| event.slot,
        ))
    }
}

impl<A: Decide> AggregateContext<A> for Context<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.aggregate
    }
}

impl<A: Decide> EventStore<A> for LogStore<A> {
    type AC = Context<A>;

    async fn load_events(&self, aggregate_id: &str) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        let stored = self.repository.get_events::<A>(aggregate_id).await?;
        let mut envelopes = Vec::with_capacity(stored.len());
        for event in stored {
            envelopes.extend(decode::<A>(event).map_err(AggregateError::DeserializationError)?);
        }
        Ok(envelopes)
    }

    async fn load_aggregate(&self, aggregate_id: &str) -> Result<Context<A>, AggregateError<A::Error>> {
        let mut context = Context {
            id: aggregate_id
                .parse()
                .map_err(|error| AggregateError::UnexpectedError(Box::new(error)))?,
            aggregate: A::default(),
            sequence: 0,
        };
        for envelope in self.load_events(aggregate_id).await? {
            context.sequence = i64::try_from(envelope.sequence).expect("a sequence was read from a bigint");
            context.aggregate.apply(envelope.payload);
        }
        Ok(context)
    }

    async fn commit(
        &self,
        events: Vec<A::Event>,
        context: Context<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let metadata = with_origin(metadata);
        let new_events = events.iter().map(|event| {
            Ok(NewEvent {
                event_type: event.event_type(),
                event_version: event.event_version(),
                payload: serde_json::to_string(event)?,
                occurred_at: A::happened_at(event),
            })
        });
        let surroundings = self.log.surroundings();
        let command = NewCommand {
            command_id: surroundings.ids.uuid(),
            store_id: StoreId::DEFAULT,
            aggregate_type: A::TYPE,
            aggregate_id: context.id.to_string(),
            slot: self.slot(&context, &events).await?,
            expected_sequence: context.sequence,
            events: new_events.collect::<Result<_, serde_json::Error>>()?,
            metadata: serde_json::to_string(&metadata)?,
            causation_id: None,
            correlation_id: None,
            occurred_at: surroundings.now(),
            body_hash: None,
            unique_keys: Vec::new(),
            personal_keys: Vec::new(),
            beside: crate::log::Beside::default(),
        };
        match self.log.append(command, DEADLINE).await {
            Ok(Outcome::Appended(_) | Outcome::Duplicate(_)) => {}
            Ok(Outcome::Conflict { .. } | Outcome::Unfounded) => return Err(AggregateError::AggregateConflict),
            Ok(Outcome::Rejected { reason }) => {
                return Err(AggregateError::UnexpectedError(Box::new(StoreError(reason))));
            }
            Ok(Outcome::KeyTaken { scope }) => unreachable!("no {scope} was claimed"),
            Err(error) => return Err(AggregateError::DatabaseConnectionError(Box::new(error))),
        }
        let first = usize::try_from(context.sequence).expect("a sequence is not negative") + 1;
        Ok(events
            .into_iter()
            .zip(first..)
            .map(|(payload, sequence)| EventEnvelope {
                aggregate_id: context.id.to_string(),
                sequence,
                payload,
                metadata: metadata.clone(),
            })
            .collect())
    }
}

/// What every event of the log must say of itself, where the caller does not.
fn with_origin(mut metadata: HashMap<String, String>) -> HashMap<String, String> {
    for (key, value) in [("actor_kind", "system"), ("channel", "cqrs-es")] {
        metadata.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    metadata
}

/// Through our own upcasters, which may make several events of one.
fn decode<A: Decide>(event: SerializedEvent) -> Result<Vec<EventEnvelope<A>>, Box<dyn Error + Send + Sync>> {
    let stored = Stored {
        event_type: event.event_type,
        event_version: event.event_version,
        payload: event.payload.to_string(),
    };
    let metadata: HashMap<String, String> = serde_json::from_value(event.metadata)?;
    Event::decode(&stored)?
        .into_iter()
        .map(|decoded| {
            let name = decoded.name();
            Ok(EventEnvelope {
                aggregate_id: event.aggregate_id.clone(),
                sequence: event.sequence,
                payload: A::Event::try_from(decoded)
                    .map_err(|_| StoreError(format!("{name} is not an event of {}", A::TYPE)))?,
                metadata: metadata.clone(),
            })
        })
        .collect()
}
