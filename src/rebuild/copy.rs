//! The bulk copy: from the log into a projection's tables, every event once and in order.
//!
//! One task reads the log window by window and deals rows out to the partitions; in each partition one
//! task decodes and another writes. A batch and its checkpoint are one transaction, so a copy that
//! was killed goes on where it was.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jangbu_events::{Event, RawEvent, Recorded};
use jangbu_projections::{
    Registered,
    builds::{self, AdvanceError, Advanced, Build, bulk::Stretch},
};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};

use crate::{
    clock::Surroundings,
    feed,
    log::copy::{Row, Wanted, copy_out},
};

/// Positions that one COPY spans: no snapshot, and no cleaning of the database that waits for it, is
/// older than it takes to read so many.
const WINDOW: i64 = 100_000;
/// Rows and bytes that go to a decoder at once.
const CHUNK_ROWS: usize = 1_024;
const CHUNK_BYTES: usize = 512 * 1_024;
/// Events of one transaction, at most, and bytes of all partitions' batches together, about.
const BATCH_EVENTS: usize = 8_192;
const BATCH_BYTES: usize = 64 * 1_024 * 1_024;
/// What is decoded waits so long for more, at most.
const KEPT: Duration = Duration::from_millis(500);
/// Chunks and batches that wait for the next task of a partition.
const QUEUE: usize = 2;
/// Transactions at once: more only wait for each other.
const WRITERS: usize = 4;

/// What is to be told, and where to.
#[derive(Clone)]
pub struct Job {
    /// Whose tables.
    pub projection: &'static Registered,
    /// Where they are.
    pub schema: String,
    /// Into how many ranges of slots rows are cut, 1 to 256.
    pub partitions: i16,
    /// How far each of these partitions was told before; zeros for empty tables.
    pub from: Vec<i64>,
    /// The last position to tell to each of these partitions.
    pub up_to: Vec<i64>,
    /// Whose checkpoints move with it; `None` for tables that are no build.
    pub build: Option<Build>,
    /// What is left out.
    pub without: Without,
    /// Events to read in a second, at most.
    pub events_per_second_max: Option<u32>,
}

impl Job {
    fn end(&self) -> i64 {
        self.up_to.iter().copied().max().unwrap_or(0)
    }
}

/// Aggregates of which nothing is told from a position on: those that are parked where one compares.
#[derive(Clone, Default)]
pub struct Without(Arc<HashMap<String, i64>>);

impl Without {
    /// By their ids, with the first position that is left out.
    pub fn new(aggregates: impl IntoIterator<Item = (String, i64)>) -> Self {
        Self(Arc::new(aggregates.into_iter().collect()))
    }

    fn has(&self, event: &RawEvent) -> bool {
        !self.0.is_empty()
            && self
                .0
                .get(&event.aggregate_id)
                .is_some_and(|from| *from <= event.position)
    }
}

/// What a copy has done so far.
#[derive(Debug, Default)]
pub struct Done {
    /// Read up to here.
    position: AtomicI64,
    /// Decoded and applied.
    events: AtomicU64,
}

impl Done {
    /// How far the log has been read.
    pub fn position(&self) -> i64 {
        self.position.load(Ordering::Relaxed)
    }

    /// How many events have been applied.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// Why a copy stopped. What was applied stays.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// An event cannot be read. Nothing is set aside while tables are made.
    #[error("{}", .0.reason())]
    Event(AdvanceError),
    /// The tables do not take an event. Nothing is set aside while tables are made.
    #[error("the event at position {position} ({event_type} of {aggregate_id}) cannot be applied: {reason}")]
    Poison {
        /// Where it stands in the log.
        position: i64,
        /// `order.placed`.
        event_type: &'static str,
        /// `ord_…`.
        aggregate_id: String,
        /// What the database objects to, by names alone.
        reason: String,
    },
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// Another process moved a checkpoint.
    #[error("another process tells this build as well")]
    Overtaken,
    /// A task of it ended badly.
    #[error("the copy broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

impl From<AdvanceError> for CopyError {
    /// Without a source: who prints the whole chain would print a decoder's words, which quote values.
    fn from(error: AdvanceError) -> Self {
        Self::Event(error)
    }
}

/// To the writer of one partition.
struct Batch {
    events: Vec<Recorded<Event>>,
    bytes: usize,
    /// Everything up to here has been sent.
    through: i64,
}

/// To the decoder of one partition.
struct Chunk {
    rows: Vec<Row>,
    bytes: usize,
    through: i64,
}

/// Tells a job's projection everything behind `from` and up to `up_to`; gives how many events it was.
/// `db` must have at least two connections free.
pub async fn copy(db: &PgPool, job: Job, surroundings: &Surroundings, done: &Arc<Done>) -> Result<u64, CopyError> {
    let before = done.events();
    let writers = Arc::new(Semaphore::new(
        WRITERS
            .min(usize::from(
                u16::try_from(db.options().get_max_connections().saturating_sub(1)).unwrap_or(u16::MAX),
            ))
            .max(1),
    ));
    let mut tasks: JoinSet<Result<(), CopyError>> = JoinSet::new();
    let mut decoders = Vec::new();
    let bytes_max = BATCH_BYTES / usize::from(job.partitions.unsigned_abs()).max(1);
    for (partition, from) in (0..job.partitions).zip(&job.from) {
        let (to_decoder, rows) = mpsc::channel(QUEUE);
        let (to_writer, events) = mpsc::channel(QUEUE);
        decoders.push(to_decoder);
        tasks.spawn(decode(job.projection, *from, job.without.clone(), rows, to_writer));
        let writer = Writer {
            db: db.clone(),
            job: job.clone(),
            partition,
            told_to: *from,
            bytes_max,
            turns: writers.clone(),
            surroundings: surroundings.clone(),
            done: done.clone(),
        };
        tasks.spawn(writer.run(events));
    }
    let read = read(db, &job, decoders, done).await;
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(CopyError::from).and_then(|ended| ended);
        // The first failure is the cause: it made the other tasks end.
        if outcome.is_ok() && ended.is_err() {
            outcome = ended;
        }
    }
    outcome?;
    read?;
    Ok(done.events() - before)
}

/// Reads the log and deals it out. Ends early, without an error of its own, when a task is gone.
async fn read(db: &PgPool, job: &Job, decoders: Vec<mpsc::Sender<Chunk>>, done: &Done) -> Result<(), CopyError> {
    // A connection of its own: a COPY that is broken off makes it useless.
    let mut connection = PgConnection::connect_with(&db.connect_options()).await?;
    let wanted = Wanted::types(job.projection.event_types);
    let mut dealer = Dealer::new(job, decoders);
    let end = job.end();
    let mut after = job.from.iter().copied().min().unwrap_or(end);
    done.position.store(after, Ordering::Relaxed);
    let mut pace = Pace::new(job.events_per_second_max);
    while after < end {
        let through = end.min(after + pace.window(WINDOW));
        let dealt = &mut dealer;
        copy_out(&mut connection, after, through, &wanted, async |row| {
            dealt.deal(row).await
        })
        .await?;
        if !dealer.told_to(through).await {
            // The connection may be in the middle of a COPY.
            return Ok(());
        }
        pace.told(through - after).await;
        after = through;
        done.position.store(after, Ordering::Relaxed);
    }
    connection.close().await?;
    Ok(())
}

/// Sends each row to the decoder of its partition, many at once.
struct Dealer {
    partitions: i16,
    from: Vec<i64>,
    up_to: Vec<i64>,
    decoders: Vec<mpsc::Sender<Chunk>>,
    chunks: Vec<Chunk>,
    /// A task is gone, and what came for it since: nobody may be told that everything was dealt out.
    is_broken: bool,
}

impl Dealer {
    fn new(job: &Job, decoders: Vec<mpsc::Sender<Chunk>>) -> Self {
        let empty = |through: &i64| Chunk {
            rows: Vec::new(),
            bytes: 0,
            through: *through,
        };
        Self {
            partitions: job.partitions,
            from: job.from.clone(),
            up_to: job.up_to.clone(),
            decoders,
            chunks: job.from.iter().map(empty).collect(),
            is_broken: false,
        }
    }

    /// False if nobody takes it any more.
    async fn deal(&mut self, row: Row) -> bool {
        // As `Slot::partition` counts; a slot that is none shows when the row is decoded.
        let partition = i32::from(row.slot().max(0)) * i32::from(self.partitions) / 256;
        let partition = usize::try_from(partition).unwrap_or(0).min(self.chunks.len() - 1);
        if row.position() <= self.from[partition] || row.position() > self.up_to[partition] {
            return true;
        }
        let chunk = &mut self.chunks[partition];
        chunk.bytes += row.size();
        chunk.through = row.position();
        chunk.rows.push(row);
        if chunk.rows.len() >= CHUNK_ROWS || chunk.bytes >= CHUNK_BYTES {
            return self.send(partition).await;
        }
        true
    }

    /// All partitions have got everything up to here. False, and none of them is told so, if rows of the window were
    /// left where a task was gone.
    async fn told_to(&mut self, through: i64) -> bool {
        if self.is_broken {
            return false;
        }
        for partition in 0..self.chunks.len() {
            let through = through.min(self.up_to[partition]);
            if through > self.from[partition] {
                self.chunks[partition].through = through;
                if !self.send(partition).await {
                    return false;
                }
            }
        }
        true
    }

    async fn send(&mut self, partition: usize) -> bool {
        let chunk = &mut self.chunks[partition];
        let full = Chunk {
            rows: std::mem::take(&mut chunk.rows),
            bytes: std::mem::take(&mut chunk.bytes),
            through: chunk.through,
        };
        self.is_broken |= self.decoders[partition].send(full).await.is_err();
        !self.is_broken
    }
}

async fn decode(
    projection: &'static Registered,
    from: i64,
    without: Without,
    mut rows: mpsc::Receiver<Chunk>,
    to_writer: mpsc::Sender<Batch>,
) -> Result<(), CopyError> {
    let mut before = from;
    while let Some(chunk) = rows.recv().await {
        let mut events = Vec::with_capacity(chunk.rows.len());
        for row in &chunk.rows {
            let event = row.event()?;
            debug_assert!(event.position > before, "the log is read in order");
            before = event.position;
            if without.has(&event) {
                continue;
            }
            events.extend(builds::bulk::decode(projection, event)?);
        }
        let batch = Batch {
            events,
            bytes: chunk.bytes,
            through: chunk.through,
        };
        if to_writer.send(batch).await.is_err() {
            // The writer says why.
            return Ok(());
        }
        // Decoding is work without a pause.
        tokio::task::yield_now().await;
    }
    Ok(())
}

struct Writer {
    db: PgPool,
    job: Job,
    partition: i16,
    told_to: i64,
    bytes_max: usize,
    turns: Arc<Semaphore>,
    surroundings: Surroundings,
    done: Arc<Done>,
}

impl Writer {
    async fn run(mut self, mut batches: mpsc::Receiver<Batch>) -> Result<(), CopyError> {
        let mut pending: Option<Batch> = None;
        let mut due = Instant::now();
        loop {
            let more = async { batches.recv().await };
            let next = if pending.is_some() {
                tokio::select! {
                    next = more => next,
                    // Slow as it is, what was told is not to be told again by the next one.
                    () = feed::until(due) => {
                        if let Some(begun) = pending.take() {
                            self.write(begun).await?;
                        }
                        continue;
                    }
                }
            } else {
                more.await
            };
            let Some(mut batch) = next else { break };
            if let Some(pending) = &mut pending {
                pending.events.append(&mut batch.events);
                pending.bytes += batch.bytes;
                pending.through = batch.through;
            } else {
                due = Instant::now() + KEPT;
                pending = Some(batch);
            }
            if pending
                .as_ref()
                .is_some_and(|pending| pending.events.len() >= BATCH_EVENTS || pending.bytes >= self.bytes_max)
                && let Some(full) = pending.take()
            {
                self.write(full).await?;
            }
        }
        match pending {
            Some(last) => self.write(last).await,
            None => Ok(()),
        }
    }

    async fn write(&mut self, batch: Batch) -> Result<(), CopyError> {
        if batch.through <= self.told_to {
            return Ok(());
        }
        // Never closed.
        let turns = self.turns.clone();
        let _turn = turns.acquire().await;
        // In one transaction, or in halves of halves until an event at fault stands alone.
        let mut todo = vec![(0..batch.events.len(), batch.through)];
        while let Some((range, through)) = todo.pop() {
            let events = &batch.events[range.clone()];
            match self.tell(events, through).await {
                Ok(()) => {}
                Err(CopyError::Event(error)) if error.blames_event() => {
                    let Some(middle) = middle(events) else {
                        return Err(poison(events, &error));
                    };
                    let cut = range.start + middle;
                    todo.push((cut..range.end, through));
                    todo.push((range.start..cut, batch.events[cut - 1].position));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn tell(&mut self, events: &[Recorded<Event>], through: i64) -> Result<(), CopyError> {
        let stretch = Stretch {
            partition: self.partition,
            from: self.told_to,
            through,
            events,
        };
        let (job, now) = (&self.job, self.surroundings.now());
        let told = builds::bulk::tell(&self.db, job.projection, &job.schema, job.build.as_ref(), stretch, now).await;
        match told.map_err(AdvanceError::Database)? {
            Advanced::Moved => {}
            Advanced::Stale => return Err(CopyError::Overtaken),
        }
        self.told_to = through;
        self.done.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Where to cut a batch in two; `None` if it is one event, or what one event became.
fn middle(batch: &[Recorded<Event>]) -> Option<usize> {
    let middle = batch.len() / 2;
    let cut = |at: &usize| *at > 0 && batch[at - 1].position != batch[*at].position;
    (middle..batch.len()).find(cut).or_else(|| (1..middle).rev().find(cut))
}

fn poison(events: &[Recorded<Event>], error: &AdvanceError) -> CopyError {
    // Without events there was nothing that the database could object to.
    events.first().map_or(CopyError::Overtaken, |event| CopyError::Poison {
        position: event.position,
        event_type: event.payload.name(),
        aggregate_id: event.aggregate_id.clone(),
        reason: error.reason(),
    })
}

/// Keeps to a rate.
struct Pace {
    per_second: Option<u32>,
    started: Instant,
    told: i64,
}

impl Pace {
    fn new(per_second: Option<u32>) -> Self {
        Self {
            per_second,
            started: Instant::now(),
            told: 0,
        }
    }

    /// Small windows under a low rate, so that the load is even.
    fn window(&self, most: i64) -> i64 {
        self.per_second
            .map_or(most, |rate| most.min(i64::from(rate) / 10).max(1))
    }

    /// Waits until so many more may have been read.
    async fn told(&mut self, events: i64) {
        self.told += events;
        if let Some(rate) = self.per_second {
            feed::until(self.started + due(self.told, rate)).await;
        }
    }
}

/// When so many events may have been read, since the start.
fn due(told: i64, per_second: u32) -> Duration {
    let us = u64::try_from(told).unwrap_or(0).saturating_mul(1_000_000) / u64::from(per_second.max(1));
    Duration::from_micros(us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_left_is_not_told_of_rows_that_were_never_dealt() {
        let job = Job {
            projection: &jangbu_projections::built_in()[0],
            schema: "nowhere".to_owned(),
            partitions: 2,
            from: vec![0; 2],
            up_to: vec![100; 2],
            build: None,
            without: Without::default(),
            events_per_second_max: None,
        };
        let (alive, mut taken) = mpsc::channel(QUEUE);
        let (dead, gone) = mpsc::channel(QUEUE);
        drop(gone);
        let mut dealer = Dealer::new(&job, vec![alive, dead]);
        assert!(!dealer.send(1).await, "a row for a task that is gone");
        assert!(!dealer.told_to(100).await);
        assert!(
            taken.try_recv().is_err(),
            "the other would move its checkpoint over rows that nobody dealt"
        );
    }

    #[test]
    fn a_rate_is_kept() {
        assert_eq!(due(1_000, 500), Duration::from_secs(2));
        assert_eq!(due(0, 500), Duration::ZERO);
        assert_eq!(Pace::new(Some(500)).window(WINDOW), 50);
        assert_eq!(Pace::new(Some(1)).window(WINDOW), 1);
        assert_eq!(Pace::new(None).window(WINDOW), WINDOW);
    }

    #[test]
    fn rows_are_dealt_out_as_slots_are_counted() {
        for partitions in 1..=256_i16 {
            for slot in 0..=255_i16 {
                let slots = feed::slots(
                    i16::try_from(i32::from(slot) * i32::from(partitions) / 256).unwrap(),
                    partitions,
                );
                assert!(slots.contains(&slot), "{slot} of {partitions}");
            }
        }
    }
}
