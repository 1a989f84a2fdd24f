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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::testing::event;

    const LOG: Uuid = Uuid::from_u128(1);
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn message(prev: i64, through: i64, positions: &[i64]) -> Message {
        let events = positions.iter().map(|p| event(*p, 0, "{}")).collect();
        Message {
            log: LOG,
            partition: 0,
            partitions: 4,
            prev,
            through,
            events,
        }
    }

    fn positions(core: &Core) -> Vec<i64> {
        core.batch()
            .into_iter()
            .flat_map(|batch| &batch.events)
            .map(|event| event.position)
            .collect()
    }

    #[test]
    fn what_is_known_already_is_left_out() {
        let mut core = Core::new(LOG, 0, 4, 10);
        assert_eq!(core.offer(ms(0), message(0, 10, &[9, 10]), |_| true), Verdict::Taken);
        assert_eq!(core.batch(), None);
        assert_eq!(
            core.offer(ms(0), message(5, 14, &[6, 10, 11, 13]), |_| true),
            Verdict::Taken
        );
        assert_eq!(core.offer(ms(1), message(12, 16, &[13, 16]), |_| true), Verdict::Taken);
        assert_eq!(positions(&core), [11, 13, 16]);
        assert_eq!(core.batch().map(|batch| (batch.from, batch.through)), Some((10, 16)));
        core.committed();
        assert_eq!((core.checkpoint(), core.batch()), (16, None));
    }

    #[test]
    fn a_gap_is_seen_even_if_the_message_is_empty() {
        let mut core = Core::new(LOG, 0, 4, 10);
        assert_eq!(
            core.offer(ms(0), message(11, 12, &[]), |_| true),
            Verdict::Gap { through: 12 }
        );
        core.extend(ms(0), 12, vec![event(11, 0, "{}")], |_| true);
        assert_eq!(positions(&core), [11]);
        assert_eq!(
            core.offer(ms(0), message(11, 12, &[]), |_| true),
            Verdict::Taken,
            "filled, it is known"
        );
    }

    #[test]
    fn what_another_log_or_another_count_of_partitions_says_means_nothing() {
        let mut core = Core::new(LOG, 0, 4, 10);
        let others = [
            Message {
                log: Uuid::from_u128(2),
                ..message(10, 11, &[11])
            },
            Message {
                partition: 1,
                ..message(10, 11, &[11])
            },
            Message {
                partitions: 8,
                ..message(10, 11, &[11])
            },
        ];
        for other in others {
            assert_eq!(core.offer(ms(0), other, |_| true), Verdict::Foreign);
        }
        assert_eq!((core.cursor(), core.batch()), (10, None));
    }

    #[test]
    fn quiet_stretches_wait_a_little_and_events_do_not() {
        let mut core = Core::new(LOG, 0, 4, 10);
        core.offer(ms(100), message(10, 12, &[11]), |_| false);
        assert_eq!((core.due_at(), positions(&core)), (Some(ms(100) + QUIET), vec![]));
        core.offer(ms(110), message(12, 13, &[13]), |_| true);
        assert_eq!(core.due_at(), Some(ms(100)));
    }

    #[test]
    fn quiet_stretches_do_not_pile_up_unacknowledged() {
        let mut core = Core::new(LOG, 0, 4, 0);
        for through in (1..).take(BATCH_MESSAGES_MAX) {
            assert!(!core.is_full());
            core.offer(ms(0), message(through - 1, through, &[]), |_| true);
        }
        assert!(core.is_full());
        assert_eq!(core.due_at(), Some(ms(0)));
    }
}
