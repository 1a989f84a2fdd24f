//! Relays, broker and workers in one seeded simulation: the real cores, relays that do not know yet that
//! another leads, a broker that loses, repeats, reorders and is purged, database rows that compare and
//! set, time that stands still for hours, and crashes between any two steps.

use std::{collections::VecDeque, time::Duration};

use jangbu_events::RawEvent;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

use super::core::{Core as Worker, Verdict};
use crate::{
    broker::Message,
    feed::{self, testing::log},
    relay::core::Core as Relay,
    simulation::each_seed,
};

const LOG: Uuid = Uuid::from_u128(1);
const PARTITIONS: i16 = 4;
const EVENTS: i64 = 300;

/// A partition's read tables with their checkpoint row.
#[derive(Default)]
struct Tables {
    position: i64,
    epoch: i64,
    applied: Vec<i64>,
}

impl Tables {
    fn claim(&mut self, epoch: i64) -> Option<i64> {
        (self.epoch <= epoch).then(|| {
            self.epoch = epoch;
            self.position
        })
    }

    fn advance(&mut self, epoch: i64, from: i64, through: i64, events: &[RawEvent]) -> bool {
        let ours = (self.epoch, self.position) == (epoch, from);
        if ours {
            self.position = through;
            self.applied.extend(events.iter().map(|event| event.position));
        }
        ours
    }
}

/// A relay that leads, or believes so.
struct Leader {
    core: Relay,
    epoch: i64,
    saved: i64,
    /// With the position that is confirmed with it.
    unconfirmed: Vec<(u64, Message)>,
}

struct World {
    random: StdRng,
    log: Vec<RawEvent>,
    /// How much of the log is committed yet.
    head: i64,
    now: Duration,
    /// The last one leads; the others have not noticed.
    relays: Vec<Leader>,
    /// The relay's row: its position and the epoch of who may move it.
    published: (i64, i64),
    queues: Vec<VecDeque<Message>>,
    tables: Vec<Tables>,
    /// Several at once for one partition, of which at most one has the newest epoch.
    workers: Vec<(i16, i64, Worker)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            log: log(&mut random, EVENTS),
            random,
            head: 0,
            now: Duration::ZERO,
            relays: Vec::new(),
            published: (0, 0),
            queues: (0..PARTITIONS).map(|_| VecDeque::new()).collect(),
            tables: (0..PARTITIONS).map(|_| Tables::default()).collect(),
            workers: Vec::new(),
        }
    }

    fn slice(&self, after: i64, through: i64) -> Vec<RawEvent> {
        self.log
            .iter()
            .filter(|event| after < event.position && event.position <= through)
            .cloned()
            .collect()
    }

    /// As `relay::claim`: whoever led before cannot move the row any more.
    fn start_relay(&mut self) {
        self.published.1 += 1;
        let (saved, epoch) = self.published;
        self.relays.push(Leader {
            core: Relay::new(LOG, PARTITIONS, saved),
            epoch,
            saved,
            unconfirmed: Vec::new(),
        });
    }

    /// One relay publishes a round, or learns of a confirm and saves how far it is.
    fn relay(&mut self) {
        if self.relays.is_empty() {
            return self.start_relay();
        }
        let one = self.random.random_range(0..self.relays.len());
        if self.random.random_bool(0.5) {
            return self.publish(one);
        }
        let leader = &mut self.relays[one];
        if !leader.unconfirmed.is_empty() {
            let which = self.random.random_range(0..leader.unconfirmed.len());
            let (id, message) = leader.unconfirmed.swap_remove(which);
            // Only now is it there for certain; before, it may have been lost with the broker.
            self.queues[usize::try_from(message.partition).unwrap()].push_back(message);
            leader.core.confirmed(id);
        }
        let confirmed = leader.core.confirmed_to();
        if self.random.random_bool(0.5) && confirmed > leader.saved {
            if self.published != (leader.saved, leader.epoch) {
                self.relays.swap_remove(one);
                return;
            }
            leader.saved = confirmed;
            self.published.0 = confirmed;
        }
    }

    fn publish(&mut self, one: usize) {
        let take = self.random.random_range(0..20);
        let read_to = self.relays[one].core.read_to();
        let events = self.slice(read_to, self.head.min(read_to + take));
        let leader = &mut self.relays[one];
        for (id, message) in leader.core.round(self.now, events).expect("this log has no holes") {
            let queue = &mut self.queues[usize::try_from(message.partition).unwrap()];
            // Twice, once, or only when it is confirmed.
            for _ in 0..self.random.random_range(0..3) {
                queue.push_back(message.clone());
            }
            leader.unconfirmed.push((id, message));
        }
    }

    fn disturb(&mut self) {
        let queue = self.random.random_range(0..self.queues.len());
        let queue = &mut self.queues[queue];
        match self.random.random_range(0..9) {
            0 => queue.clear(),
            1 => drop(queue.pop_front()),
            2 if queue.len() > 1 => {
                let (a, b) = (
                    self.random.random_range(0..queue.len()),
                    self.random.random_range(0..queue.len()),
                );
                queue.swap(a, b);
            }
            3 => self.relays.clear(),
            4 => self.start_relay(),
            5 => self.now += Duration::from_secs(self.random.random_range(0..20_000)),
            6..8 if !self.workers.is_empty() => {
                let one = self.random.random_range(0..self.workers.len());
                self.workers.swap_remove(one);
            }
            _ => {
                let partition = self.random.random_range(0..PARTITIONS);
                self.start_worker(partition);
            }
        }
    }

    fn start_worker(&mut self, partition: i16) {
        let tables = &mut self.tables[usize::try_from(partition).unwrap()];
        let epoch = tables.epoch + 1;
        let position = tables.claim(epoch).expect("a new epoch is the highest");
        self.workers
            .push((partition, epoch, Worker::new(LOG, partition, PARTITIONS, position)));
    }

    /// One worker does one thing: takes a message, looks at the log, or commits. False if it found
    /// out that it is not the one any more.
    fn work(&mut self, one: usize) -> bool {
        let (partition, epoch, _) = self.workers[one];
        let index = usize::try_from(partition).unwrap();
        match self.random.random_range(0..10) {
            0..5 => {
                let Some(message) = self.queues[index].pop_front() else {
                    return true;
                };
                // Anything but a commit leaves it in the queue, if the worker crashes now.
                if self.random.random_bool(0.1) {
                    self.queues[index].push_back(message.clone());
                }
                let reads = |event: &RawEvent| event.position % 3 != 0;
                if let Verdict::Gap { through } = self.workers[one].2.offer(self.now, message, reads) {
                    self.refill(one, through);
                }
                true
            }
            5 => {
                self.refill(one, self.head);
                true
            }
            _ => {
                let core = &mut self.workers[one].2;
                let Some(batch) = core.batch() else { return true };
                let moved = self.tables[index].advance(epoch, batch.from, batch.through, &batch.events);
                // Dead between the commit and its knowledge of it.
                let survived = self.random.random_bool(0.95);
                if moved && survived {
                    core.committed();
                }
                moved && survived
            }
        }
    }

    fn refill(&mut self, one: usize, through: i64) {
        let cursor = self.workers[one].2.cursor();
        let partition = self.workers[one].0;
        let mut events = self.slice(cursor, through);
        events.retain(|event| feed::partition(event, PARTITIONS) == partition);
        self.workers[one]
            .2
            .extend(self.now, through, events, |event| event.position % 3 != 0);
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.random.random_range(0..50));
        match self.random.random_range(0..20) {
            0..3 => self.head = (self.head + self.random.random_range(0..10)).min(EVENTS),
            3..10 => self.relay(),
            10 => self.disturb(),
            _ if !self.workers.is_empty() => {
                let one = self.random.random_range(0..self.workers.len());
                if !self.work(one) {
                    let (partition, ..) = self.workers.swap_remove(one);
                    self.start_worker(partition);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn every_event_is_applied_once_and_in_order_whatever_happens() {
    each_seed(1_000, |seed| {
        let mut world = World::new(seed);
        let mut steps = 0;
        while world.tables.iter().any(|tables| tables.position < EVENTS) {
            world.step();
            steps += 1;
            assert!(steps < 200_000, "no progress");
        }
        for (partition, tables) in (0..).zip(&world.tables) {
            let wanted = world
                .log
                .iter()
                .filter(|e| feed::partition(e, PARTITIONS) == partition && e.position % 3 != 0);
            let wanted: Vec<i64> = wanted.map(|event| event.position).collect();
            assert_eq!(tables.applied, wanted, "partition {partition}");
        }
    });
}
