//! Carries out commands: fold the stream, decide, append, and answer with the new state.
//!
//! Every aggregate has a mailbox here, so that commands of one process queue up instead of
//! conflicting; another process is met at the log, whose answer decides. A warm command that
//! appends costs no read. An answer that appends nothing (a refusal, a no-op, a failed
//! precondition) is given only after one read: another process may have made it untrue, or may have
//! carried out this very command before.

mod cache;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use cqrs_es::DomainEvent;
use jangbu_domain::Decide;
use jangbu_events::{DecodeError, Event, Metadata, RawEvent, Recorded, Slot, StoreId, Timestamp};
use tokio::time::Instant;
use uuid::Uuid;

use self::cache::{Cache, Cell, Folded};
use crate::log::{
    AppendError, CommandRow, Log, NewCommand, NewEvent, NewPersonalKey, Outcome, UniqueKey, reading, rows::event_id,
};

/// Tries of a client's command before it is told of the conflict.
pub const TRIES: u32 = 6;
/// How long a client's command may take in all.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Carries out commands. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    log: Log,
    cache: Arc<Cache>,
}

/// Everything about a command but what it says.
#[derive(Debug, Clone)]
pub struct CommandEnvelope {
    /// A repeat of it is answered with the first result.
    pub command_id: Uuid,
    /// SHA-256 of the request; the same id with another hash is refused.
    pub body_hash: Option<[u8; 32]>,
    /// The event or request that made it.
    pub causation_id: Option<Uuid>,
    /// The business transaction: for everything about an order, the order's uuid.
    pub correlation_id: Option<Uuid>,
    /// Who, from where.
    pub metadata: Metadata,
    /// Business time of the events.
    pub occurred_at: Timestamp,
    /// `If-Match`: the only sequence it may be decided on; there is no silent retry then.
    pub expected_sequence: Option<i64>,
    /// Claimed in the same append.
    pub unique_keys: Vec<UniqueKey>,
    /// Written in the same append.
    pub personal_keys: Vec<NewPersonalKey>,
    /// How long it may take in all.
    pub deadline: Duration,
    /// How often it is decided anew when another process was faster.
    pub tries: u32,
}

impl CommandEnvelope {
    /// A command with the usual limits and nothing beside it.
    pub const fn new(command_id: Uuid, metadata: Metadata, occurred_at: Timestamp) -> Self {
        Self {
            command_id,
            body_hash: None,
            causation_id: None,
            correlation_id: None,
            metadata,
            occurred_at,
            expected_sequence: None,
            unique_keys: Vec::new(),
            personal_keys: Vec::new(),
            deadline: DEADLINE,
            tries: TRIES,
        }
    }
}

/// A command that is in the log.
#[derive(Debug)]
pub struct Committed<A: Decide> {
    /// Right after the command.
    pub state: Arc<A>,
    /// Of the stream, right after the command.
    pub sequence: i64,
    /// Of the command's last event; a reader that has come so far sees it.
    pub position: i64,
    /// What it made; empty if it changed nothing.
    pub events: Vec<Recorded<A::Event>>,
    /// Whether it was in the log before this call.
    pub duplicate: bool,
}

/// An aggregate as of now.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    /// Folded from its events.
    pub state: Arc<A>,
    /// Its last sequence; 0 if there is no such stream.
    pub sequence: i64,
    /// Of its last event; 0 if there is no such stream.
    pub position: i64,
}

/// Why a stream could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database did not answer.
    #[error("the log cannot be read: {0}")]
    Unavailable(#[from] sqlx::Error),
    /// It holds an event that this version cannot read.
    #[error("{stream} cannot be folded")]
    Undecodable {
        /// `order/ord_…`.
        stream: String,
        /// Which event.
        #[source]
        source: DecodeError,
    },
    /// It holds an event of another aggregate type.
    #[error("{stream} holds a foreign event {event_type}")]
    Foreign {
        /// `order/ord_…`.
        stream: String,
        /// Which event.
        event_type: &'static str,
    },
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<E: std::error::Error + 'static> {
    /// The aggregate says no.
    #[error(transparent)]
    Refused(E),
    /// `If-Match` named another version.
    #[error("the aggregate is at version {current}")]
    Stale {
        /// Its last sequence.
        current: i64,
    },
    /// Others were faster each time.
    #[error("others changed the aggregate at the same time, it is at version {current}")]
    Conflict {
        /// Its last sequence.
        current: i64,
    },
    /// The command id was used for another request.
    #[error("this key was used for another request")]
    KeyReused,
    /// A unique value belongs to somebody else.
    #[error("the {scope} is taken")]
    KeyTaken {
        /// Which kind of value.
        scope: &'static str,
    },
    /// Nothing was recorded; try again later.
    #[error("the log is busy")]
    Busy,
    /// It may be recorded or not; try again with the same command id.
    #[error("it is not known whether the command was recorded")]
    OutcomeUnknown,
    /// The stream could not be folded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The database does not take these events.
    #[error("the log refused the events: {0}")]
    Rejected(String),
}

impl<E: std::error::Error> From<sqlx::Error> for ExecuteError<E> {
    fn from(error: sqlx::Error) -> Self {
        Self::Load(LoadError::Unavailable(error))
    }
}

impl<E: std::error::Error> From<AppendError> for ExecuteError<E> {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy => Self::Busy,
            AppendError::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

impl Executor {
    /// Over a log.
    pub fn new(log: Log) -> Self {
        Self {
            log,
            cache: Arc::new(Cache::new()),
        }
    }

    /// The log it appends to.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Carries out one command. Commands of one aggregate are carried out one after the other.
    pub async fn execute<A: Decide>(
        &self,
        id: A::Id,
        command: A::Command,
        envelope: CommandEnvelope,
    ) -> Result<Committed<A>, ExecuteError<A::Error>> {
        let started = Instant::now();
        let cell = self.cache.cell::<A>(id);
        let Ok(_turn) = tokio::time::timeout(envelope.deadline, cell.mailbox.lock()).await else {
            return Err(ExecuteError::Busy);
        };
        let mut folded = match cell.folded() {
            Some(folded) => folded,
            None => self.newer(id, Folded::default()).await?,
        };
        // Whether `folded` was read from the log after this call began.
        let mut confirmed = false;
        let mut tries = 0;
        loop {
            let stale = envelope
                .expected_sequence
                .is_some_and(|expected| expected != folded.sequence);
            let decision = if stale {
                Ok(Vec::new())
            } else {
                folded.state.decide(&command)
            };
            let appends = !stale && decision.as_ref().is_ok_and(|events| !events.is_empty());
            if !appends && !confirmed {
                let newer = self.newer(id, folded).await?;
                // After the events, so that this command's own cannot slip in between unseen.
                if let Some(row) = self
                    .log
                    .commands(&[envelope.command_id])
                    .await?
                    .remove(&envelope.command_id)
                {
                    return self.replay(id, &envelope, row, newer).await;
                }
                folded = newer;
                cell.keep(folded.clone());
                confirmed = true;
                continue;
            }
            if stale {
                return Err(ExecuteError::Stale {
                    current: folded.sequence,
                });
            }
            let events = decision.map_err(ExecuteError::Refused)?;
            let remaining = envelope.deadline.saturating_sub(started.elapsed());
            let new = new_command::<A>(id, &command, &folded, &events, &envelope)?;
            match self.log.append(new, remaining).await {
                Ok(Outcome::Appended(appended)) => {
                    let slot = slot::<A>(id, &command, &folded);
                    let recorded = recorded::<A>(id, slot, &folded, events, &envelope, appended);
                    if !recorded.is_empty() {
                        // With nobody else looking at it, the state is changed in place and not copied.
                        cell.forget();
                        folded = folded.with(&recorded, slot);
                    }
                    cell.keep(folded.clone());
                    return Ok(Committed {
                        state: folded.state,
                        sequence: appended.sequence,
                        position: appended.position,
                        events: recorded,
                        duplicate: false,
                    });
                }
                Ok(Outcome::Duplicate(row)) => {
                    let newer = self.newer(id, folded).await?;
                    cell.keep(newer.clone());
                    return self.replay(id, &envelope, row, newer).await;
                }
                Ok(Outcome::Conflict { current }) => {
                    tries += 1;
                    metrics::counter!("jangbu_command_conflicts", "aggregate" => A::TYPE).increment(1);
                    if tries >= envelope.tries || started.elapsed() >= envelope.deadline {
                        cell.forget();
                        return Err(ExecuteError::Conflict { current });
                    }
                    if tries > 1 {
                        let jitter = self.log.surroundings().below(1_000 << tries.min(5));
                        tokio::time::sleep(Duration::from_micros(jitter)).await;
                    }
                    folded = self.newer(id, folded).await?;
                    cell.keep(folded.clone());
                    // Whoever was faster may have been this very command, sent to another process.
                    confirmed = false;
                }
                Ok(Outcome::KeyTaken { scope }) => return Err(ExecuteError::KeyTaken { scope }),
                Ok(Outcome::Rejected { reason }) => return Err(ExecuteError::Rejected(reason)),
                Err(error) => {
                    cell.forget();
                    return Err(error.into());
                }
            }
        }
    }

    /// The answer of a command that was carried out before, if it was: for callers that would have to
    /// prepare the command anew first.
    pub async fn replayed<A: Decide>(
        &self,
        id: A::Id,
        envelope: &CommandEnvelope,
    ) -> Result<Option<Committed<A>>, ExecuteError<A::Error>> {
        let Some(row) = self
            .log
            .commands(&[envelope.command_id])
            .await?
            .remove(&envelope.command_id)
        else {
            return Ok(None);
        };
        let known = self.cache.cell::<A>(id).folded().unwrap_or_default();
        let latest = self.newer(id, known).await?;
        self.replay(id, envelope, row, latest).await.map(Some)
    }

    /// An aggregate as of now: what is known of it, and one read for what is newer.
    pub async fn load<A: Decide>(&self, id: A::Id) -> Result<Loaded<A>, LoadError> {
        let mut loaded = self.load_many::<A>(&[id]).await?;
        Ok(loaded.pop().expect("one id gives one aggregate"))
    }

    /// Several aggregates of one type as of now, in the order asked, in one read.
    pub async fn load_many<A: Decide>(&self, ids: &[A::Id]) -> Result<Vec<Loaded<A>>, LoadError> {
        let cells: Vec<Arc<Cell<A>>> = ids.iter().map(|id| self.cache.cell::<A>(*id)).collect();
        let mut folded: Vec<Folded<A>> = cells.iter().map(|cell| cell.folded().unwrap_or_default()).collect();
        // The same id may be asked for twice.
        let mut asked: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, id) in ids.iter().enumerate() {
            asked.entry(id.to_string()).or_default().push(index);
        }
        let known: Vec<(String, i64)> = asked
            .iter()
            .map(|(id, indexes)| {
                let known = indexes.iter().map(|index| folded[*index].sequence).min();
                (id.clone(), known.expect("every id is asked for somewhere"))
            })
            .collect();
        for raw in reading::streams(self.log.pool(), A::TYPE, &known).await? {
            for index in &asked[&raw.aggregate_id] {
                if raw.sequence > folded[*index].sequence {
                    fold(&mut folded[*index], &raw)?;
                }
            }
        }
        for (index, cell) in cells.iter().enumerate() {
            cell.keep(folded[index].clone());
        }
        Ok(folded
            .into_iter()
            .map(|folded| Loaded {
                state: folded.state,
                sequence: folded.sequence,
                position: folded.position,
            })
            .collect())
    }

    /// Folds what is newer than `folded`.
    async fn newer<A: Decide>(&self, id: A::Id, mut folded: Folded<A>) -> Result<Folded<A>, LoadError> {
        for raw in self.log.stream(A::TYPE, &id.to_string(), folded.sequence).await? {
            fold(&mut folded, &raw)?;
        }
        Ok(folded)
    }

    /// Answers a repeated command with the aggregate as it was right after the first.
    async fn replay<A: Decide>(
        &self,
        id: A::Id,
        envelope: &CommandEnvelope,
        row: CommandRow,
        latest: Folded<A>,
    ) -> Result<Committed<A>, ExecuteError<A::Error>> {
        // A hash that was forgotten, or never taken, tells nothing apart.
        let other_request = row.body_hash.is_some()
            && row.body_hash.as_deref() != envelope.body_hash.as_ref().map(<[u8; 32]>::as_slice);
        if other_request || row.aggregate_type != A::TYPE || row.aggregate_id != id.to_string() {
            return Err(ExecuteError::KeyReused);
        }
        let made = row.sequence - i64::from(row.events);
        let raw = if latest.sequence == row.sequence && row.events == 0 {
            Vec::new()
        } else {
            let from = if latest.sequence == row.sequence { made } else { 0 };
            reading::stream(self.log.pool(), A::TYPE, &row.aggregate_id, from, row.sequence).await?
        };
        let mut events = Vec::new();
        let mut folded = Folded::<A>::default();
        for raw in &raw {
            if raw.sequence > made {
                for event in decode::<A>(raw)? {
                    events.push(raw.clone().with(event));
                }
            }
            fold(&mut folded, raw)?;
        }
        let state = if latest.sequence == row.sequence {
            latest.state
        } else {
            folded.state
        };
        Ok(Committed {
            state,
            sequence: row.sequence,
            position: row.position,
            events,
            duplicate: true,
        })
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Executor")
    }
}

/// An existing stream keeps its slot; a new one gets it from the command.
fn slot<A: Decide>(id: A::Id, command: &A::Command, folded: &Folded<A>) -> Slot {
    folded.slot.unwrap_or_else(|| Slot::of(A::partition_key(id, command)))
}

fn new_command<A: Decide>(
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
    })
}

/// The events of a command as the log now has them.
fn recorded<A: Decide>(
    id: A::Id,
    slot: Slot,
    folded: &Folded<A>,
    events: Vec<A::Event>,
    envelope: &CommandEnvelope,
    appended: crate::log::Appended,
) -> Vec<Recorded<A::Event>> {
    let first = appended.position - i64::try_from(events.len()).expect("a command is small");
    (1_i64..)
        .zip(events)
        .enumerate()
        .map(|(index, (nth, payload))| Recorded {
            position: first + nth,
            slot,
            store_id: StoreId::DEFAULT,
            event_id: event_id(envelope.command_id, index),
            aggregate_type: A::TYPE.to_owned(),
            aggregate_id: id.to_string(),
            sequence: folded.sequence + nth,
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

fn decode<A: Decide>(raw: &RawEvent) -> Result<Vec<A::Event>, LoadError> {
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

fn fold<A: Decide>(folded: &mut Folded<A>, raw: &RawEvent) -> Result<(), LoadError> {
    let state = Arc::make_mut(&mut folded.state);
    for event in decode::<A>(raw)? {
        state.apply(event);
    }
    folded.sequence = raw.sequence;
    folded.position = raw.position;
    folded.slot = Some(raw.slot);
    Ok(())
}
