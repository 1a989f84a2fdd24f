//! Carries out commands: fold the stream, decide, append, and answer with the new state.
//!
//! Every aggregate has a mailbox here, so that commands of one process queue up instead of
//! conflicting; another process is met at the log, whose answer decides. A warm command that
//! appends costs no read. An answer that appends nothing (a refusal, a no-op, a failed
//! precondition) is given only after one read: another process may have made it untrue, or may have
//! carried out this very command before.

mod cache;
mod error;
mod snapshots;
mod stream;

use std::{collections::HashMap, fmt, iter::zip, sync::Arc, time::Duration};

use jangbu_domain::Decide;
use jangbu_events::{Metadata, Recorded, Timestamp};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

pub use self::error::{ExecuteError, LoadError};
use self::{
    cache::{Ahead, Cache, Cell, Folded},
    snapshots::Through,
    stream::{decode, fold, new_command, recorded},
};
use crate::log::{Answer, Beside, CommandRow, Log, NewPersonalKey, Outcome, UniqueKey, reading};

/// Tries of a client's command before it is told of the conflict.
pub const TRIES: u32 = 6;
/// Events of one stream that are read at once.
const FOLDED_AT_ONCE: i64 = 1_000;
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
    /// Changed in the same append.
    pub beside: Beside,
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
            beside: Beside {
                released_keys: Vec::new(),
                password: None,
                ended_sessions: None,
            },
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

/// What came of a command's turn.
enum Decided<A: Decide> {
    /// It was carried out before.
    Replayed(Committed<A>),
    /// It is on its way to the log.
    Sent(Sent<A>),
}

/// A command on its way to the log.
struct Sent<A: Decide> {
    answer: Answer,
    /// The stream's sequence that it was decided on.
    before: i64,
    /// The aggregate as it leaves it.
    after: Folded<A>,
    /// What it makes.
    events: Vec<A::Event>,
}

/// Waits until nothing of an aggregate is on its way.
async fn settle<A, E: std::error::Error + 'static>(
    ahead: &mut Ahead<A>,
    deadline: Instant,
) -> Result<(), ExecuteError<E>> {
    timeout_at(deadline, ahead.settle())
        .await
        .map_err(|_| ExecuteError::Busy)
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

    /// Carries out one command. Commands of one aggregate are decided one after the other, each on
    /// what those before it leave, and share commits.
    pub async fn execute<A: Decide>(
        &self,
        id: A::Id,
        command: A::Command,
        envelope: CommandEnvelope,
    ) -> Result<Committed<A>, ExecuteError<A::Error>> {
        let deadline = Instant::now() + envelope.deadline;
        let cell = self.cache.cell::<A>(id);
        let mut tries = 0;
        loop {
            let sent = match self.decide(id, &command, &envelope, &cell, deadline).await? {
                Decided::Replayed(committed) => return Ok(committed),
                Decided::Sent(sent) => sent,
            };
            match sent.answer.within(deadline - Instant::now()).await? {
                Outcome::Appended(appended) => {
                    let recorded = recorded::<A>(id, sent.before, &sent.after, sent.events, &envelope, appended);
                    let mut folded = sent.after;
                    if !recorded.is_empty() {
                        folded.position = appended.position;
                        if snapshots::is_due(sent.before, folded.sequence) {
                            snapshots::keep(self.log.pool(), id, &folded);
                        }
                        cell.keep(folded.clone());
                    }
                    return Ok(Committed {
                        state: folded.state,
                        sequence: appended.sequence,
                        position: appended.position,
                        events: recorded,
                        duplicate: false,
                    });
                }
                Outcome::Duplicate(row) => {
                    let newer = self.newest(id, &cell).await?;
                    return self.replay(id, &envelope, row, newer).await;
                }
                Outcome::Conflict { current } => {
                    tries += 1;
                    metrics::counter!("jangbu_command_conflicts", "aggregate" => A::TYPE).increment(1);
                    if tries >= envelope.tries || Instant::now() >= deadline {
                        return Err(ExecuteError::Conflict { current });
                    }
                    if tries > 1 {
                        let jitter = self.log.surroundings().below(1_000 << tries.min(5));
                        tokio::time::sleep(Duration::from_micros(jitter)).await;
                    }
                }
                // What it was decided on was not appended, and so it was not sent either.
                Outcome::Unfounded if Instant::now() < deadline => {}
                Outcome::Unfounded => return Err(ExecuteError::Busy),
                Outcome::KeyTaken { scope } => return Err(ExecuteError::KeyTaken { scope }),
                Outcome::Rejected { reason } => return Err(ExecuteError::Rejected(reason)),
            }
        }
    }

    /// Decides when it is this command's turn, and sends what was decided. What is on its way may be
    /// decided on, but no answer rests on it alone.
    async fn decide<A: Decide>(
        &self,
        id: A::Id,
        command: &A::Command,
        envelope: &CommandEnvelope,
        cell: &Cell<A>,
        deadline: Instant,
    ) -> Result<Decided<A>, ExecuteError<A::Error>> {
        let Ok(mut ahead) = timeout_at(deadline, cell.mailbox.lock()).await else {
            return Err(ExecuteError::Busy);
        };
        let mut folded = if ahead.is_broken() {
            settle(&mut ahead, deadline).await?;
            self.newest(id, cell).await?
        } else {
            match (ahead.folded(), cell.folded()) {
                // Nothing is on its way, and somebody has read on since.
                (Some(left), Some(known)) if ahead.is_settled() && known.sequence > left.sequence => known,
                (Some(left), _) => left.clone(),
                (None, Some(known)) => known,
                (None, None) => self.newest(id, cell).await?,
            }
        };
        // Whether `folded` was read from the log after this call began.
        let mut confirmed = false;
        loop {
            let stale = envelope
                .expected_sequence
                .is_some_and(|expected| expected != folded.sequence);
            let decision = if stale {
                Ok(Vec::new())
            } else {
                folded.state.decide(command)
            };
            let appends = !stale && decision.as_ref().is_ok_and(|events| !events.is_empty());
            if !appends && !confirmed {
                settle(&mut ahead, deadline).await?;
                folded = self.newest(id, cell).await?;
                // After the events, so that this command's own cannot slip in between unseen.
                let row = self.log.commands(&[envelope.command_id]).await?;
                if let Some(row) = row.into_values().next() {
                    return self.replay(id, envelope, row, folded).await.map(Decided::Replayed);
                }
                confirmed = true;
                continue;
            }
            if stale {
                return Err(ExecuteError::Stale {
                    current: folded.sequence,
                });
            }
            let events = decision.map_err(ExecuteError::Refused)?;
            let new = new_command::<A>(id, command, &folded, &events, envelope)?;
            let after = folded.ahead(&events, new.slot);
            let place = self.log.place(deadline - Instant::now()).await?;
            // Nothing waits from here to the end: a caller that goes away leaves nothing half done.
            let answer = place.append(new, ahead.link());
            ahead.go_on(after.clone());
            return Ok(Decided::Sent(Sent {
                answer,
                before: folded.sequence,
                after,
                events,
            }));
        }
    }

    /// Folds what is newer than what is known, and remembers it.
    async fn newest<A: Decide>(&self, id: A::Id, cell: &Cell<A>) -> Result<Folded<A>, LoadError> {
        let folded = self.newer(id, cell.folded().unwrap_or_default()).await?;
        cell.keep(folded.clone());
        Ok(folded)
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

    /// An aggregate as it was right after a position of the log.
    pub async fn load_as_of<A: Decide>(&self, id: A::Id, position: i64) -> Result<Loaded<A>, LoadError> {
        // What is known already is a start, unless it is of later.
        let known = self.cache.cell::<A>(id).folded();
        let mut folded = if let Some(known) = known.filter(|known| known.position <= position) {
            known
        } else {
            let sequence = i64::MAX;
            self.snapshot(id, Through { sequence, position }).await?
        };
        self.follow(id, &mut folded, position).await?;
        Ok(Loaded {
            state: folded.state,
            sequence: folded.sequence,
            position: folded.position,
        })
    }

    /// Several aggregates of one type as of now, in the order asked, in one read.
    pub async fn load_many<A: Decide>(&self, ids: &[A::Id]) -> Result<Vec<Loaded<A>>, LoadError> {
        let cells: Vec<Arc<Cell<A>>> = ids.iter().map(|id| self.cache.cell::<A>(*id)).collect();
        let mut folded: Vec<Folded<A>> = cells.iter().map(|cell| cell.folded().unwrap_or_default()).collect();
        let unknown: Vec<String> = zip(ids, &folded)
            .filter(|(_, folded)| folded.sequence == 0)
            .map(|(id, _)| id.to_string())
            .collect();
        let kept = snapshots::latest::<A>(self.log.pool(), &unknown, Through::NOW).await?;
        for (id, folded) in zip(ids, &mut folded).filter(|(_, folded)| folded.sequence == 0) {
            if let Some(kept) = kept.get(&id.to_string()) {
                *folded = kept.clone();
            }
        }
        let known_before: Vec<i64> = folded.iter().map(|folded| folded.sequence).collect();
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
            if folded[index].sequence - known_before[index] >= snapshots::EVERY {
                snapshots::keep(self.log.pool(), ids[index], &folded[index]);
            }
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
        if folded.sequence == 0 {
            folded = self.snapshot(id, Through::NOW).await?;
        }
        let known_before = folded.sequence;
        self.follow(id, &mut folded, i64::MAX).await?;
        if folded.sequence - known_before >= snapshots::EVERY {
            snapshots::keep(self.log.pool(), id, &folded);
        }
        Ok(folded)
    }

    /// Folds what is newer, up to a position of the log, however long the stream is a piece at a time.
    async fn follow<A: Decide>(&self, id: A::Id, folded: &mut Folded<A>, position: i64) -> Result<(), LoadError> {
        let (db, stream) = (self.log.pool(), id.to_string());
        loop {
            let through = folded.sequence.saturating_add(FOLDED_AT_ONCE);
            let rows = reading::stream(db, A::TYPE, &stream, folded.sequence, through).await?;
            for raw in rows.iter().take_while(|raw| raw.position <= position) {
                fold(folded, raw)?;
            }
            if folded.sequence < through {
                return Ok(());
            }
        }
    }

    /// As far as a snapshot goes; nothing where there is none.
    async fn snapshot<A: Decide>(&self, id: A::Id, through: Through) -> sqlx::Result<Folded<A>> {
        let kept = snapshots::latest::<A>(self.log.pool(), &[id.to_string()], through).await?;
        Ok(kept.into_values().next().unwrap_or_default())
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
        let is_latest = latest.sequence == row.sequence;
        let mut folded = if is_latest {
            latest
        } else {
            let (sequence, position) = (made, i64::MAX);
            let kept = self.snapshot(id, Through { sequence, position }).await;
            kept.map_err(LoadError::from)?
        };
        let after = if is_latest { made } else { folded.sequence };
        let raw = if after == row.sequence {
            Vec::new()
        } else {
            reading::stream(self.log.pool(), A::TYPE, &row.aggregate_id, after, row.sequence).await?
        };
        let mut events = Vec::new();
        for raw in &raw {
            if raw.sequence > made {
                for event in decode::<A>(raw)? {
                    events.push(raw.clone().with(event));
                }
            }
            if !is_latest {
                fold(&mut folded, raw)?;
            }
        }
        Ok(Committed {
            state: folded.state,
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
