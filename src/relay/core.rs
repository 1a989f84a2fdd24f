//! What to publish, and how far the log is published for certain: a pure state machine.
//!
//! There is no input for a failed confirm. Whatever fails, the relay starts anew from its stored
//! checkpoint, as after a crash: then there is only one way to recover, and it is used often.

use std::{collections::BTreeMap, time::Duration};

use jangbu_events::RawEvent;
use uuid::Uuid;

use crate::{broker::Message, feed};

/// Between the starts of two rounds under load: each costs the broker and every worker a message.
pub const ROUND: Duration = Duration::from_millis(3);
/// A partition without events hears this often how far the log has come.
pub const HEARTBEAT: Duration = Duration::from_millis(250);
/// Events in one message.
pub const MESSAGE_EVENTS_MAX: usize = 256;
/// Bytes of a message's payloads, unless one event alone is larger.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Events read in one round.
pub const ROUND_EVENTS_MAX: i64 = 1_024;
/// Messages that may wait for their confirms.
const IN_FLIGHT_MAX: usize = 256;

/// The log that was read is not what a log can be: nothing may be published from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("after position {after} comes {found}: the log has a hole, or runs backwards")]
pub struct NotContiguous {
    /// The last position that was read.
    pub after: i64,
    /// The next one found.
    pub found: i64,
}

/// The state of one leader, from a checkpoint on. Times are since some start.
#[derive(Debug)]
pub struct Core {
    log: Uuid,
    partitions: Vec<Partition>,
    read_to: i64,
    /// Messages that are not confirmed, with the position of their first event, if any.
    in_flight: BTreeMap<u64, Option<i64>>,
    next_id: u64,
    round_at: Duration,
}

#[derive(Debug, Clone)]
struct Partition {
    through: i64,
    told_at: Option<Duration>,
}

impl Core {
    /// Goes on after `checkpoint`: up to there everything is at the broker.
    pub fn new(log: Uuid, partitions: i16, checkpoint: i64) -> Self {
        let count = usize::try_from(partitions).expect("there are 1 to 256 partitions");
        Self {
            log,
            partitions: vec![
                Partition {
                    through: checkpoint,
                    told_at: None
                };
                count
            ],
            read_to: checkpoint,
            in_flight: BTreeMap::new(),
            next_id: 0,
            round_at: Duration::ZERO,
        }
    }

    /// The last position that was read.
    pub const fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Up to here every event is confirmed, without a hole: the checkpoint may move here.
    pub fn confirmed_to(&self) -> i64 {
        let first_open = self.in_flight.values().flatten().min();
        first_open.map_or(self.read_to, |first| first - 1)
    }

    /// When the next round may start; `None` while too much is unconfirmed.
    pub fn round_at(&self) -> Option<Duration> {
        (self.in_flight.len() < IN_FLIGHT_MAX).then_some(self.round_at)
    }

    /// When some partition must hear how far the log has come, if no round comes before.
    pub fn heartbeat_at(&self) -> Option<Duration> {
        let behind = self
            .partitions
            .iter()
            .filter(|partition| partition.through < self.read_to);
        behind
            .map(|partition| partition.told_at.map_or(Duration::ZERO, |at| at + HEARTBEAT))
            .min()
    }

    /// A round: takes the events that follow [`Core::read_to`] (perhaps none) and gives the messages
    /// to publish, in this order, each with the id to confirm it by.
    pub fn round(&mut self, now: Duration, events: Vec<RawEvent>) -> Result<Vec<(u64, Message)>, NotContiguous> {
        let mut after = self.read_to;
        for event in &events {
            if event.position != after + 1 {
                return Err(NotContiguous {
                    after,
                    found: event.position,
                });
            }
            after = event.position;
        }
        self.read_to = after;
        self.round_at = now + ROUND;
        let mut by_partition: Vec<Vec<RawEvent>> = vec![Vec::new(); self.partitions.len()];
        let partitions = self.count();
        for event in events {
            let partition = usize::try_from(feed::partition(&event, partitions)).expect("partitions are not negative");
            by_partition[partition].push(event);
        }
        let mut messages = Vec::new();
        for (partition, events) in (0_i16..).zip(by_partition) {
            self.partition_messages(now, partition, events, &mut messages);
        }
        Ok(messages)
    }

    /// A message is at the broker for certain.
    pub fn confirmed(&mut self, id: u64) {
        self.in_flight.remove(&id);
    }

    fn count(&self) -> i16 {
        i16::try_from(self.partitions.len()).expect("there are 1 to 256 partitions")
    }

    fn partition_messages(
        &mut self,
        now: Duration,
        partition: i16,
        events: Vec<RawEvent>,
        messages: &mut Vec<(u64, Message)>,
    ) {
        let (log, partitions, read_to) = (self.log, self.count(), self.read_to);
        let state = &mut self.partitions[usize::try_from(partition).expect("partitions are not negative")];
        let silent = state.told_at.is_none_or(|at| at + HEARTBEAT <= now);
        if events.is_empty() && (state.through == read_to || !silent) {
            return;
        }
        state.told_at = Some(now);
        let mut stretches = cut(events).into_iter().peekable();
        loop {
            let events = stretches.next().unwrap_or_default();
            let last = stretches.peek().is_none();
            // What follows the last event is empty for this partition, so the last message covers it.
            let through = if last {
                read_to
            } else {
                events.last().map_or(read_to, |event| event.position)
            };
            self.in_flight
                .insert(self.next_id, events.first().map(|event| event.position));
            let message = Message {
                log,
                partition,
                partitions,
                prev: state.through,
                through,
                events,
            };
            messages.push((self.next_id, message));
            self.next_id += 1;
            state.through = through;
            if last {
                return;
            }
        }
    }
}

/// Stretches of at most so many events and bytes, but at least one event each.
fn cut(events: Vec<RawEvent>) -> Vec<Vec<RawEvent>> {
    let mut stretches: Vec<Vec<RawEvent>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let more = event.payload.payload.len();
        match stretches.last_mut() {
            Some(stretch) if stretch.len() < MESSAGE_EVENTS_MAX && bytes + more <= MESSAGE_BYTES_MAX => {
                bytes += more;
                stretch.push(event);
            }
            _ => {
                bytes = more;
                stretches.push(vec![event]);
            }
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

    use super::*;
    use crate::{
        feed::testing::{event, log},
        simulation::each_seed,
    };

    const LOG: Uuid = Uuid::from_u128(1);
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_partition_is_told_how_far_the_log_has_come() {
        let mut core = Core::new(LOG, 4, 10);
        let events = vec![event(11, 0, "{}"), event(12, 255, "{}")];
        let stretches = |messages: &[(u64, Message)]| {
            messages
                .iter()
                .map(|(_, m)| (m.partition, m.prev, m.through, m.events.len()))
                .collect::<Vec<_>>()
        };
        // After a pause, with the first event; then only when something happens there, or after a while.
        let first = core.round(ms(0), events).unwrap();
        assert_eq!(
            stretches(&first),
            [(0, 10, 12, 1), (1, 10, 12, 0), (2, 10, 12, 0), (3, 10, 12, 1)]
        );
        let second = core.round(ms(5), vec![event(13, 64, "{}")]).unwrap();
        assert_eq!(stretches(&second), [(1, 12, 13, 1)]);
        assert_eq!(core.heartbeat_at(), Some(ms(250)));
        let third = core.round(ms(250), vec![]).unwrap();
        assert_eq!(stretches(&third), [(0, 12, 13, 0), (2, 12, 13, 0), (3, 12, 13, 0)]);
        assert_eq!(core.heartbeat_at(), None);
        assert_eq!(core.round(ms(9_999), vec![]).unwrap(), []);
    }

    #[test]
    fn a_hole_in_the_log_is_never_published() {
        let mut core = Core::new(LOG, 4, 10);
        let hole = core.round(ms(0), vec![event(11, 0, "{}"), event(13, 0, "{}")]);
        assert_eq!(hole, Err(NotContiguous { after: 11, found: 13 }));
        assert_eq!(
            core.round(ms(0), vec![event(10, 0, "{}")]),
            Err(NotContiguous { after: 10, found: 10 })
        );
    }

    #[test]
    fn messages_are_bounded_but_take_at_least_one_event() {
        let small = "1".repeat(1_000);
        let huge = "1".repeat(MESSAGE_BYTES_MAX + 1);
        let events: Vec<_> = (1..=100)
            .map(|p| event(p, 0, if p == 50 { &huge } else { &small }))
            .collect();
        let messages = Core::new(LOG, 1, 0).round(ms(0), events).unwrap();
        let counts: Vec<_> = messages.iter().map(|(_, m)| m.events.len()).collect();
        assert_eq!(counts, [49, 1, 50]);
        let many = Core::new(LOG, 1, 0)
            .round(ms(0), (1..=600).map(|p| event(p, 0, "1")).collect())
            .unwrap();
        let counts: Vec<_> = many.iter().map(|(_, m)| m.events.len()).collect();
        assert_eq!(counts, [256, 256, 88]);
    }

    #[test]
    fn the_checkpoint_waits_for_the_first_unconfirmed_event() {
        let mut core = Core::new(LOG, 2, 0);
        let messages = core
            .round(ms(0), vec![event(1, 0, "{}"), event(2, 200, "{}"), event(3, 0, "{}")])
            .unwrap();
        assert_eq!(core.confirmed_to(), 0);
        core.confirmed(messages[0].0);
        assert_eq!(core.confirmed_to(), 1, "event 2 is not confirmed, although 3 is");
        core.confirmed(messages[1].0);
        assert_eq!(core.confirmed_to(), 3);
    }

    #[test]
    fn confirmed_means_published_whatever_the_order_and_the_crashes() {
        each_seed(1_000, |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let log = log(&mut random, 400);
            let partitions = *[1, 3, 4, 16].choose(&mut random).unwrap();
            let (mut checkpoint, mut now) = (0_i64, ms(0));
            let mut core = Core::new(LOG, partitions, checkpoint);
            let mut open: Vec<(u64, Message)> = Vec::new();
            // How often each event was confirmed, and where each partition stood in its messages.
            let mut confirmed = vec![0_u32; log.len() + 1];
            let mut steps = 0;
            while checkpoint < 400 {
                steps += 1;
                assert!(steps < 20_000, "no progress");
                now += ms(random.random_range(0..100));
                match random.random_range(0..10) {
                    0..5 => {
                        let after = usize::try_from(core.read_to()).unwrap();
                        let take = random.random_range(0..30).min(log.len() - after);
                        let published = core.round(now, log[after..after + take].to_vec()).unwrap();
                        for (_, message) in &published {
                            assert!(message.prev < message.through || message.events.is_empty());
                            let inside = |e: &RawEvent| message.prev < e.position && e.position <= message.through;
                            let mine = |e: &RawEvent| feed::partition(e, partitions) == message.partition;
                            let complete: Vec<_> = log.iter().filter(|e| inside(e) && mine(e)).cloned().collect();
                            assert_eq!(message.events, complete, "a message is complete");
                        }
                        open.extend(published);
                    }
                    5..9 if !open.is_empty() => {
                        let (id, message) = open.remove(random.random_range(0..open.len().min(8)));
                        core.confirmed(id);
                        message
                            .events
                            .iter()
                            .for_each(|e| confirmed[usize::try_from(e.position).unwrap()] += 1);
                    }
                    9 => {
                        assert!(core.confirmed_to() >= checkpoint, "the checkpoint never goes back");
                        checkpoint = core.confirmed_to();
                        let done = 1..=usize::try_from(checkpoint).unwrap();
                        assert!(confirmed[done].iter().all(|count| *count > 0), "a hole");
                        if random.random_bool(0.2) {
                            core = Core::new(LOG, partitions, checkpoint);
                            open.clear();
                        }
                    }
                    _ => {}
                }
            }
        });
    }
}
