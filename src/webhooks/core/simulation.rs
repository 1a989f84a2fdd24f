//! The core against a receiver that fails, a clock that jumps and a process that dies between any two
//! steps. Whatever happens: an aggregate's events are taken in their order, and in the end all of them.

use std::collections::{BTreeMap, BTreeSet};

use jangbu_events::samples;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

const LANES: usize = 12;
const EVENTS: usize = 400;
const SEEDS: u64 = 150;

fn lane(number: usize) -> Lane {
    Lane {
        aggregate_type: "order".into(),
        aggregate_id: format!("ord_{number}"),
    }
}

struct World {
    random: StdRng,
    now: Timestamp,
    /// Whether the clock may be set.
    jumps: bool,
    /// The lane of each event; the first has position 1.
    log: Vec<Lane>,
    core: Core,
    saved: (i64, BTreeMap<Lane, Held>),
    sending: Vec<(i64, Lane)>,
    reading: Option<(i64, i64)>,
    finding: Vec<(Lane, i64, i64)>,
    /// What the receiver took.
    taken: BTreeSet<i64>,
    /// What it never takes, until it is mended.
    poison: BTreeSet<i64>,
    /// Nothing is taken until then.
    ill_until: Timestamp,
    first_failed: BTreeMap<i64, Timestamp>,
    deaths: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let poison = (0..random.random_range(0..4))
            .map(|_| random.random_range(1..200))
            .collect();
        Self {
            now: samples::moment(),
            jumps: seed % 2 == 1,
            log: Vec::new(),
            core: Core::restore(0, []),
            saved: (0, BTreeMap::new()),
            sending: Vec::new(),
            reading: None,
            finding: Vec::new(),
            taken: BTreeSet::new(),
            poison,
            ill_until: samples::moment(),
            first_failed: BTreeMap::new(),
            deaths: 0,
            random,
        }
    }

    fn head(&self) -> i64 {
        i64::try_from(self.log.len()).expect("a short log")
    }

    fn lane_of(&self, position: i64) -> &Lane {
        &self.log[usize::try_from(position - 1).expect("positions are positive")]
    }

    fn act(&mut self) {
        for action in self.core.actions(self.now) {
            match action {
                Action::Read { after, limit } => {
                    assert_eq!(self.reading.replace((after, limit)), None, "one at a time");
                }
                Action::Send { position, lane } => {
                    assert_eq!(self.lane_of(position), &lane);
                    assert!(
                        self.sending.iter().all(|(_, other)| *other != lane),
                        "two of one lane at once"
                    );
                    self.sending.push((position, lane));
                    assert!(self.sending.len() <= IN_FLIGHT);
                }
                Action::Find { lane, after, through } => self.finding.push((lane, after, through)),
            }
        }
    }

    /// The receiver gets an event, and takes it or not.
    fn receive(&mut self, position: i64) -> bool {
        if self.poison.contains(&position) || self.now < self.ill_until {
            return false;
        }
        let earlier = (1..position).filter(|earlier| self.lane_of(*earlier) == self.lane_of(position));
        let missing: Vec<i64> = earlier.filter(|earlier| !self.taken.contains(earlier)).collect();
        assert!(missing.is_empty(), "{position} came before {missing:?}");
        self.taken.insert(position);
        true
    }

    fn answer_one(&mut self) {
        if self.sending.is_empty() {
            return;
        }
        let chosen = self.random.random_range(0..self.sending.len());
        let (position, lane) = self.sending.swap_remove(chosen);
        let is_taken = self.receive(position);
        // Taken, and the word of it is lost.
        let outcome = if is_taken && self.random.random_bool(0.95) {
            Outcome::Delivered
        } else {
            Outcome::Failed {
                error: "status 500".into(),
                retry_after: self.random.random_bool(0.1).then_some(60),
            }
        };
        if outcome == Outcome::Delivered {
            self.first_failed.remove(&position);
        } else {
            self.first_failed.entry(position).or_insert(self.now);
        }
        let chance = self.random.random();
        self.core.sent(position, outcome, self.now, chance);
        if let Some(held) = self.core.held.get(&lane)
            && held.held.parked
        {
            assert!(held.held.attempts >= ATTEMPTS_MIN);
            let patience = self.now - self.first_failed[&position];
            assert!(self.jumps || patience >= PATIENCE, "given up after {patience}");
        }
    }

    fn read(&mut self) {
        let Some((after, limit)) = self.reading.take() else {
            return;
        };
        if self.random.random_bool(0.1) {
            return self.core.not_fed();
        }
        let through = self.head().min(after + limit.min(self.random.random_range(1..20)));
        let events: Vec<(i64, Lane)> = (after + 1..=through).map(|p| (p, self.lane_of(p).clone())).collect();
        self.core.fed(events, through);
    }

    fn find(&mut self) {
        let Some((lane, after, through)) = self.finding.pop() else {
            return;
        };
        if self.random.random_bool(0.1) {
            return self.core.not_found_out(&lane);
        }
        let next = (after + 1..=through).find(|position| *self.lane_of(*position) == lane);
        self.core.found(&lane, next, self.now);
    }

    fn save(&mut self) {
        let Some(snapshot) = self.core.snapshot() else { return };
        assert!(snapshot.cursor >= self.saved.0 && snapshot.cursor <= self.head());
        self.saved.0 = snapshot.cursor;
        for (lane, held) in &snapshot.lanes {
            match held {
                Some(held) => self.saved.1.insert(lane.clone(), held.clone()),
                None => self.saved.1.remove(lane),
            };
        }
        // The process may die before it knows.
        if self.random.random_bool(0.05) {
            return self.die();
        }
        self.core.saved(&snapshot);
    }

    fn die(&mut self) {
        self.deaths += 1;
        for (position, _) in std::mem::take(&mut self.sending) {
            if self.random.random_bool(0.5) {
                self.receive(position);
            }
        }
        self.reading = None;
        self.finding.clear();
        self.restore();
    }

    fn restore(&mut self) {
        self.core = Core::restore(self.saved.0, self.saved.1.clone());
    }

    fn step(&mut self) {
        self.act();
        match self.random.random_range(0..100) {
            0..20 if self.log.len() < EVENTS => {
                for _ in 0..self.random.random_range(1..6) {
                    let of = self.random.random_range(0..LANES);
                    self.log.push(lane(of));
                }
            }
            20..55 => self.answer_one(),
            55..65 => self.read(),
            65..75 => self.find(),
            75..85 => self.save(),
            85..86 => self.die(),
            86..88 => self.ill_until = self.now + TimeDelta::minutes(self.random.random_range(1..600)),
            88 if self.jumps => {
                self.now += TimeDelta::hours(self.random.random_range(-200..200));
                self.ill_until = self.ill_until.min(self.now + TimeDelta::hours(10));
            }
            _ => self.now += TimeDelta::seconds(self.random.random_range(0..400)),
        }
    }

    /// Lets everything come to an end: nothing new, no illness but the poison, time passing.
    fn settle(&mut self) {
        self.ill_until = self.now;
        for _ in 0..40_000 {
            self.act();
            self.answer_one();
            self.read();
            self.find();
            self.save();
            if self.sending.is_empty() && self.finding.is_empty() && self.core.cursor() == self.head() {
                self.act();
                match self.core.wake_at() {
                    None if self.sending.is_empty() && self.finding.is_empty() => return,
                    Some(at) => self.now = self.now.max(at),
                    None => {}
                }
            }
        }
        panic!("it does not come to an end: {:?}", self.core);
    }
}

#[test]
fn whatever_fails_order_is_kept_and_nothing_is_lost() {
    let (mut deaths, mut parked) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        while world.log.len() < EVENTS {
            world.step();
        }
        world.settle();
        // Whoever has poison waits before it, and nobody else waits at all.
        let poisoned: BTreeSet<Lane> = world.poison.iter().map(|at| world.lane_of(*at).clone()).collect();
        let parked_lanes: BTreeSet<&Lane> = world.core.held.keys().collect();
        if world.jumps {
            // A clock that is set forward in an outage parks what would have been tried longer.
            assert!(poisoned.iter().all(|lane| parked_lanes.contains(lane)), "seed {seed}");
        } else {
            assert_eq!(parked_lanes, poisoned.iter().collect(), "seed {seed}");
        }
        assert_eq!(world.core.parked(), parked_lanes.len(), "seed {seed}");
        for position in 1..=world.head() {
            let held = world.core.held.get(world.lane_of(position));
            let expected = held.is_none_or(|held| position < held.held.position);
            let is_taken = world.taken.contains(&position);
            // What was taken and not known to be is among what is held.
            assert!(is_taken || !expected, "{position}, seed {seed}");
            assert!(!is_taken || !world.poison.contains(&position));
        }
        parked += world.core.parked();

        // The receiver is mended, and somebody asks for what was parked.
        world.poison.clear();
        world.save();
        let now = world.now;
        for held in world.saved.1.values_mut() {
            (held.parked, held.attempts, held.since, held.next_at) = (false, 0, now, now);
        }
        world.restore();
        world.reading = None;
        world.settle();
        assert_eq!(world.taken.len(), world.log.len(), "seed {seed}");
        assert!(world.core.held.is_empty(), "seed {seed}");
        deaths += world.deaths;
    }
    assert!(deaths > 200 && parked > 50, "{deaths} deaths, {parked} parked");
}
