//! How a file flows into the log: one thread reads it in chunks, several chunks are worked on at a
//! time with all their commands in flight, and their results are counted in file order.

use std::{
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cqrs_es::DomainEvent;
use futures_util::{StreamExt, stream};
use jangbu_events::{Metadata, Slot, StoreId, Timestamp};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use uuid::Uuid;

use super::{ImportError, Progress, Report, rejects::Reject, rejects::Rejects, report::Phase};
use crate::log::{NewCommand, NewEvent};

/// Chunks that are worked on at a time. With [`CHUNK_ITEMS`] this keeps the appender's batches full
/// and stays below its queue.
const CHUNKS_IN_FLIGHT: usize = 8;
/// Baskets or products in a chunk.
pub const CHUNK_ITEMS: usize = 256;
/// Rows after which a chunk is full whatever it holds.
pub const CHUNK_ROWS: usize = 8_192;
/// How long an append may take: a database that restarts meanwhile is waited for.
pub const APPEND_DEADLINE: Duration = Duration::from_secs(60);

/// Baskets or products that are worked on together.
pub struct Chunk<T> {
    /// In file order.
    pub items: Vec<T>,
    /// Rows they were made of.
    pub rows: u64,
    /// How far the file was read, in bytes.
    pub through: u64,
}

/// What became of a chunk.
#[derive(Default)]
pub struct Done {
    /// Newly in the log.
    pub imported: u64,
    /// Were there already, and the same.
    pub unchanged: u64,
    /// Were there already, and were brought up to date.
    pub revised: u64,
    /// Were there already, with other attributes, which stay.
    pub attributes_kept: u64,
    /// Baskets or products that were not imported.
    pub rejected: u64,
    /// Their rows.
    pub rejects: Vec<Reject>,
    /// Won of what is newly in the log; for orders.
    pub total_krw: i128,
}

/// Fills chunks on the reading thread.
pub struct Filler<T> {
    sender: mpsc::Sender<Chunk<T>>,
    stop: CancellationToken,
    items: Vec<T>,
    rows: usize,
}

/// Nobody wants more: the import was stopped, or failed.
pub struct Stopped;

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With the file.
    OfFile,
    /// Before that: nobody wants more.
    Stopped,
}

impl<T> Filler<T> {
    /// Adds an item made of `rows` rows; `through` is how far the file was read.
    pub fn push(&mut self, item: T, rows: usize, through: u64) -> Result<(), Stopped> {
        self.items.push(item);
        self.rows += rows;
        if self.items.len() >= CHUNK_ITEMS || self.rows >= CHUNK_ROWS {
            self.flush(through)?;
        }
        Ok(())
    }

    /// Hands over what is left at the end of the file.
    pub fn end(&mut self, through: u64) -> End {
        match self.flush(through) {
            Ok(()) => End::OfFile,
            Err(Stopped) => End::Stopped,
        }
    }

    fn flush(&mut self, through: u64) -> Result<(), Stopped> {
        if self.stop.is_cancelled() {
            return Err(Stopped);
        }
        let chunk = Chunk {
            items: std::mem::take(&mut self.items),
            rows: std::mem::take(&mut self.rows) as u64,
            through,
        };
        if chunk.items.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(chunk).map_err(|_| Stopped)
    }
}

/// Reads with `read` on a thread of its own, works on the chunks with `work`, and counts.
pub async fn run<T, R, W, F>(
    read: R,
    work: W,
    mut rejects: Rejects,
    mut report: Report,
    stop: &CancellationToken,
    (progress, bytes): (&dyn Progress, u64),
) -> Result<Report, ImportError>
where
    T: Send + 'static,
    R: FnOnce(&mut Filler<T>) -> Result<End, ImportError> + Send + 'static,
    W: Fn(Chunk<T>) -> F,
    F: Future<Output = Result<Done, ImportError>> + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let mut filler = Filler {
        sender,
        stop: stop.clone(),
        items: Vec::new(),
        rows: 0,
    };
    progress.start(Phase::Importing(report.kind), bytes);
    let reading = tokio::task::spawn_blocking(move || read(&mut filler));
    let left_out = AtomicBool::new(false);
    let chunks = stream::poll_fn(|context| {
        receiver.poll_recv(context).map(|chunk| {
            let wanted = !stop.is_cancelled();
            if chunk.is_some() && !wanted {
                left_out.store(true, Ordering::Relaxed);
            }
            chunk.filter(|_| wanted)
        })
    });
    let mut results = chunks
        .map(|chunk: Chunk<T>| {
            let about = (chunk.rows, chunk.items.len() as u64, chunk.through);
            let working = AbortOnDropHandle::new(tokio::spawn(work(chunk)));
            async move { (about, working.await) }
        })
        .buffered(CHUNKS_IN_FLIGHT);
    let mut outcome = Ok(());
    while let Some(((rows, items, through), done)) = results.next().await {
        let done = match done.expect("work on a chunk does not panic and is not aborted") {
            Ok(done) => done,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        outcome = done.rejects.iter().try_for_each(|reject| rejects.write(reject));
        if outcome.is_err() {
            break;
        }
        report.count(rows, items, &done);
        progress.advance(through, report.read);
    }
    drop(results);
    // The reading thread may be waiting for room.
    drop(receiver);
    progress.finish();
    let read = reading.await.expect("reading does not panic");
    report.rejects_file = rejects.finish()?;
    outcome?;
    report.stopped = read? == End::Stopped || left_out.into_inner();
    Ok(report)
}

/// Reads the file ahead on a thread of its own, telling how far it is.
pub async fn scan<T: Send + 'static>(
    scan: impl FnOnce(&mut dyn FnMut(u64) -> bool) -> Result<T, ImportError> + Send + 'static,
    stop: &CancellationToken,
    (progress, bytes): (&dyn Progress, u64),
) -> Result<T, ImportError> {
    let (tell, mut told) = tokio::sync::watch::channel(0);
    let stop = stop.clone();
    progress.start(Phase::Reading, bytes);
    let scanning = tokio::task::spawn_blocking(move || {
        scan(&mut |offset| {
            tell.send_replace(offset);
            !stop.is_cancelled()
        })
    });
    while told.changed().await.is_ok() {
        progress.advance(*told.borrow_and_update(), 0);
    }
    progress.finish();
    scanning.await.expect("reading does not panic")
}

/// A command that begins a stream.
pub fn beginning<E: DomainEvent + Serialize>(
    aggregate_type: &'static str,
    aggregate_id: String,
    slot: Slot,
    events: &[E],
    envelope: &Envelope<'_>,
) -> NewCommand {
    let events = events
        .iter()
        .map(|event| NewEvent {
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: serde_json::to_string(event).expect("an event is JSON"),
            occurred_at: None,
        })
        .collect();
    NewCommand {
        command_id: envelope.command_id,
        store_id: StoreId::DEFAULT,
        aggregate_type,
        aggregate_id,
        slot,
        expected_sequence: 0,
        events,
        metadata: envelope.metadata.to_owned(),
        causation_id: None,
        correlation_id: envelope.correlation_id,
        occurred_at: envelope.occurred_at,
        body_hash: envelope.body_hash,
        unique_keys: Vec::new(),
        personal_keys: Vec::new(),
        beside: crate::log::Beside::default(),
    }
}

/// Everything about such a command but its events.
pub struct Envelope<'a> {
    /// Derived, so that a second run finds the first.
    pub command_id: Uuid,
    /// For an order, its uuid.
    pub correlation_id: Option<Uuid>,
    /// Business time.
    pub occurred_at: Timestamp,
    /// Of what the file says.
    pub body_hash: Option<[u8; 32]>,
    /// JSON.
    pub metadata: &'a str,
}

/// Who imports: nobody in person, from a named source.
pub fn metadata(source: &str) -> Metadata {
    Metadata {
        actor_kind: "system".to_owned(),
        actor_id: Some(source.to_owned()),
        channel: "import".to_owned(),
        ..Metadata::default()
    }
}

/// How large the file is.
pub async fn size(path: &Path) -> Result<u64, ImportError> {
    let metadata = tokio::fs::metadata(path).await;
    Ok(metadata
        .map_err(|source| ImportError::Open {
            path: path.to_owned(),
            source,
        })?
        .len())
}

/// What all work on one import shares.
pub struct Shared<C> {
    /// Carries out and loads.
    pub executor: crate::executor::Executor,
    /// The moment the import began: nothing later is past.
    pub now: Timestamp,
    /// Who imports, as JSON.
    pub metadata: String,
    /// What else there is.
    pub also: C,
}

impl<C> Shared<C> {
    /// As of now.
    pub fn new(executor: &crate::executor::Executor, source: &str, also: C) -> Arc<Self> {
        Arc::new(Self {
            executor: executor.clone(),
            now: executor.log().surroundings().now(),
            metadata: serde_json::to_string(&metadata(source)).expect("metadata is JSON"),
            also,
        })
    }
}
