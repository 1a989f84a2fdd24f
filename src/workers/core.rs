//! What a worker does with a message: a pure state machine over one partition of one build.

use std::time::Duration;

use jangbu_events::RawEvent;
use uuid::Uuid;

use crate::broker::Message;

/// How long a stretch without any event that the projection reads may wait before the checkpoint
/// moves over it: every move is a commit, and nobody sees this one but who waits for a position.
pub const QUIET: Duration = Duration::from_millis(25);
/// Events of one transaction, at most, if a single message has no more.
pub const BATCH_EVENTS_MAX: usize = 1_024;
/// Messages of one transaction; less than the prefetch, or it would starve.
pub const BATCH_MESSAGES_MAX: usize = 8;

/// What a message is to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Of another log, or counted in other partitions: acknowledge and forget.
    Foreign,
    /// Nothing new, or taken into the batch: acknowledge once the batch is committed.
    Taken,
    /// Something between is missing: read the log up to `through`, then acknowledge.
    Gap {
        /// Of the message.
        through: i64,
    },
}

/// What to write in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The checkpoint must be here …
    pub from: i64,
    /// … and is here afterwards.
    pub through: i64,
    /// What the projection reads of the events between, in order.
    pub events: Vec<RawEvent>,
}

/// The state of one worker. Times are since some start.
#[derive(Debug)]
pub struct Core {
    log: Uuid,
    partition: i16,
    partitions: i16,
    checkpoint: i64,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    batch: Batch,
    messages: usize,
    since: Duration,
}

impl Core {
    /// Begins with what the checkpoint row says.
    pub const fn new(log: Uuid, partition: i16, partitions: i16, checkpoint: i64) -> Self {
        Self {
            log,
            partition,
            partitions,
            checkpoint,
            pending: None,
        }
    }

    /// Everything up to here is committed or in the batch.
    pub fn cursor(&self) -> i64 {
        self.pending
            .as_ref()
            .map_or(self.checkpoint, |pending| pending.batch.through)
    }

    /// Everything up to here is committed.
    pub const fn checkpoint(&self) -> i64 {
        self.checkpoint
    }

    /// Takes a message. `reads` says whether the projection wants to see an event.
    pub fn offer(&mut self, now: Duration, message: Message, reads: impl Fn(&RawEvent) -> bool) -> Verdict {
        let ours = (message.log, message.partition, message.partitions) == (self.log, self.partition, self.partitions);
        if !ours {
            return Verdict::Foreign;
        }
        if message.prev > self.cursor() && message.through > self.cursor() {
            return Verdict::Gap {
                through: message.through,
            };
        }
        self.extend(now, message.through, message.events, reads);
        Verdict::Taken
    }

    /// Takes all events of this partition from the cursor (or before) up to `through`.
    pub fn extend(&mut self, now: Duration, through: i64, events: Vec<RawEvent>, reads: impl Fn(&RawEvent) -> bool) {
        let cursor = self.cursor();
        if through <= cursor {
            return;
        }
        let batch = Batch {
            from: self.checkpoint,
            through,
            events: Vec::new(),
        };
        let pending = self.pending.get_or_insert(Pending {
            batch,
            messages: 0,
            since: now,
        });
        pending.batch.through = through;
        pending.messages += 1;
        // After a change of leader the cuts between messages differ: the beginning may be known.
        pending.batch.events.extend(
            events
                .into_iter()
                .filter(|event| event.position > cursor && reads(event)),
        );
    }

    /// When the batch must be committed; `None` if there is none.
    pub fn due_at(&self) -> Option<Duration> {
        self.pending.as_ref().map(|pending| {
            let quiet = pending.batch.events.is_empty() && pending.messages < BATCH_MESSAGES_MAX;
            pending.since + if quiet { QUIET } else { Duration::ZERO }
        })
    }

    /// Whether the batch must be committed before more is taken.
    pub fn is_full(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| {
            pending.batch.events.len() >= BATCH_EVENTS_MAX || pending.messages >= BATCH_MESSAGES_MAX
        })
    }

    /// What to commit.
    pub fn batch(&self) -> Option<&Batch> {
        self.pending.as_ref().map(|pending| &pending.batch)
    }

    /// The batch is committed.
    pub fn committed(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.checkpoint = pending.batch.through;
        }
    }
}
