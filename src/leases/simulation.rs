//! Processes that share leases, in a seeded simulation: the real core, tables that behave as the
//! statements in `rows.rs`, a worker behind every lease, and processes that join, leave, crash or
//! stand still, answers that are late or lost, members that are purged, and a database clock that is set.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

use super::core::{Ask, Core, Group, Seen};
use crate::simulation::each_seed;

const TTL: Duration = Duration::from_millis(1_500);
const STEP: Duration = Duration::from_millis(25);
/// As the keeper waits for an answer.
const PATIENCE: Duration = Duration::from_millis(375);
/// Time enough for every wrong: the longest term that counts, of a dead process whose database's
/// clock was set back, then some rounds to share out anew.
const SETTLED_WITHIN: Duration = Duration::from_secs(4);

#[derive(Clone, Default)]
struct Row {
    holder: Uuid,
    epoch: i64,
    /// By the database's clock, in milliseconds.
    expires_at: i64,
}

/// What a lease protects: whoever begins raises the epoch, and nobody writes under an older one.
#[derive(Default)]
struct Fenced {
    epoch: i64,
    /// Who wrote under each epoch.
    writers: BTreeMap<i64, Uuid>,
}

#[derive(Default)]
struct Tables {
    leases: BTreeMap<String, Row>,
    members: BTreeMap<(String, Uuid), i64>,
    fenced: BTreeMap<String, Fenced>,
}

impl Tables {
    fn renew_and_look(&mut self, now: i64, holder: Uuid, ask: &Ask) -> Seen {
        let mut seen = Seen::default();
        for (name, epoch) in &ask.renew {
            let row = self.leases.entry(name.clone()).or_default();
            if (row.holder, row.epoch) == (holder, *epoch) {
                row.expires_at = now + ms_of(TTL);
                seen.renewed.push(name.clone());
            }
        }
        for group in &ask.groups {
            self.members.insert((group.clone(), holder), now + ms_of(TTL));
        }
        let left = |expires_at: i64| (now < expires_at && expires_at <= now + 2 * ms_of(TTL)).then(|| expires_at - now);
        for name in &ask.wanted {
            let Some(row) = self.leases.get(name).filter(|row| row.holder != holder) else {
                continue;
            };
            seen.held
                .extend(left(row.expires_at).map(|left| (name.clone(), duration(left))));
        }
        for ((group, member), expires_at) in &self.members {
            if ask.groups.contains(group) && *member != holder {
                seen.members
                    .extend(left(*expires_at).map(|left| (group.clone(), *member, duration(left))));
            }
        }
        seen
    }

    fn take(&mut self, now: i64, holder: Uuid, names: &[String]) -> Vec<(String, i64)> {
        let mut taken = Vec::new();
        for name in names {
            let row = self.leases.entry(name.clone()).or_default();
            let over = row.expires_at <= now || row.expires_at > now + 2 * ms_of(TTL);
            if over || row.holder == holder {
                *row = Row {
                    holder,
                    epoch: row.epoch + 1,
                    expires_at: now + ms_of(TTL),
                };
                taken.push((name.clone(), row.epoch));
            }
        }
        taken
    }

    fn release(&mut self, now: i64, holder: Uuid, name: &str, epoch: i64) {
        if let Some(row) = self.leases.get_mut(name)
            && (row.holder, row.epoch) == (holder, epoch)
        {
            row.holder = Uuid::nil();
            row.expires_at = now;
        }
    }

    /// A worker takes the partition over; false if a newer one has.
    fn claim(&mut self, name: &str, epoch: i64) -> bool {
        let fenced = self.fenced.entry(name.to_owned()).or_default();
        let ours = fenced.epoch <= epoch;
        fenced.epoch = fenced.epoch.max(epoch);
        ours
    }

    /// A worker writes; it is refused under an older epoch.
    fn write(&mut self, name: &str, epoch: i64, holder: Uuid) -> bool {
        let fenced = self.fenced.entry(name.to_owned()).or_default();
        let ours = fenced.epoch == epoch;
        if ours {
            let writer = *fenced.writers.entry(epoch).or_insert(holder);
            assert_eq!(writer, holder, "{name} was written by two under {epoch}");
            let last = fenced.writers.keys().next_back();
            assert_eq!(last, Some(&epoch), "{name} was written under an older epoch");
        }
        ours
    }
}

/// What is on its way between a process and the database.
enum Letter {
    Ask,
    Seen(Seen),
    Take(Vec<String>),
    Taken(Vec<String>, Vec<(String, i64)>),
}

struct Process {
    holder: Uuid,
    core: Core,
    /// The one question under way, when it arrives, and until when an answer is waited for.
    under_way: Option<(Ask, Duration, Duration, Letter)>,
    /// Workers that claimed their partition, under these epochs.
    workers: BTreeMap<String, i64>,
    stands_still_until: Duration,
}

struct World {
    random: StdRng,
    now: Duration,
    /// What the database's clock is ahead of time, in milliseconds.
    clock: i64,
    groups: Vec<Group>,
    tables: Tables,
    processes: Vec<Process>,
    /// While nothing goes wrong.
    calm: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let groups = (0..random.random_range(1..4)).map(|group| {
            let count = random.random_range(1..9);
            Group::shared(
                format!("projection-{group}"),
                (0..count).map(move |n| format!("projection-{group}.p{n:02}")),
            )
        });
        let groups = groups.collect();
        Self {
            random,
            now: Duration::ZERO,
            clock: 1_000_000,
            groups,
            tables: Tables::default(),
            processes: Vec::new(),
            calm: false,
        }
    }

    fn clock(&self) -> i64 {
        self.clock + ms_of(self.now)
    }

    fn join(&mut self) {
        let long_gone = self.clock() - 10 * ms_of(TTL);
        self.tables.members.retain(|_, expires_at| *expires_at >= long_gone);
        let holder = Uuid::from_u128(self.random.random());
        // A core counts from the start of its process; here all count from the start of the world.
        let core = Core::new(holder, TTL, self.groups.clone());
        self.processes.push(Process {
            holder,
            core,
            under_way: None,
            workers: BTreeMap::new(),
            stands_still_until: Duration::ZERO,
        });
    }

    fn leave(&mut self, one: usize) {
        let clock = self.clock();
        let process = self.processes.swap_remove(one);
        for (name, epoch) in process.core.held() {
            self.tables.release(clock, process.holder, &name, epoch);
        }
        self.tables.members.retain(|(_, member), _| *member != process.holder);
    }

    fn disturb(&mut self) {
        let one = self.random.random_range(0..self.processes.len().max(1));
        match self.random.random_range(0..80) {
            0..4 if self.processes.len() < 6 => self.join(),
            4..6 if self.processes.len() > 1 => self.leave(one),
            6..8 if self.processes.len() > 1 => drop(self.processes.swap_remove(one)),
            8..10 if !self.processes.is_empty() => {
                let pause = Duration::from_millis(self.random.random_range(100..4_000));
                self.processes[one].stands_still_until = self.now + pause;
            }
            10 => {
                let jumps = [-3_600_000, -1_000, 1_000, 3_600_000];
                self.clock += jumps[self.random.random_range(0..jumps.len())];
            }
            // Whoever is there writes itself in again.
            11 => self.tables.members.clear(),
            _ => {}
        }
    }

    fn delay(&mut self) -> Duration {
        let slowest = match (self.calm, self.random.random_bool(0.05)) {
            (true, _) => 1,
            (false, false) => 60,
            (false, true) => 900,
        };
        Duration::from_millis(self.random.random_range(0..slowest))
    }

    /// One process does what is due.
    fn turn(&mut self, one: usize) {
        let (clock, now) = (self.clock(), self.now);
        if self.processes[one].stands_still_until > now {
            return;
        }
        let process = &mut self.processes[one];
        if process.under_way.is_none()
            && let Some(ask) = process.core.ask(now)
        {
            let arrives = now + self.delay();
            self.processes[one].under_way = Some((ask, arrives, now + PATIENCE, Letter::Ask));
        }
        while let Some((ask, arrives, patience, letter)) = self.processes[one].under_way.take() {
            if arrives > now && patience > now {
                self.processes[one].under_way = Some((ask, arrives, patience, letter));
                break;
            }
            let lost = arrives > now || !self.calm && self.random.random_bool(0.05);
            if !lost {
                self.deliver(one, clock, ask, patience, letter);
            }
        }
        if self.calm || self.random.random_bool(0.4) {
            self.work(one);
        }
    }

    /// The database takes a question in and answers, or the process reads the answer.
    fn deliver(&mut self, one: usize, clock: i64, ask: Ask, patience: Duration, letter: Letter) {
        let process = &mut self.processes[one];
        // What the keeper gave up waiting for may still be done, but it never hears of it.
        let late = patience <= self.now;
        let next = match letter {
            Letter::Ask => Some(Letter::Seen(self.tables.renew_and_look(clock, process.holder, &ask))),
            Letter::Take(names) => {
                let taken = self.tables.take(clock, process.holder, &names);
                Some(Letter::Taken(names, taken))
            }
            Letter::Seen(_) | Letter::Taken(..) if late => None,
            Letter::Seen(seen) => {
                let take = process.core.seen(&ask, &seen);
                (!take.is_empty()).then_some(Letter::Take(take))
            }
            Letter::Taken(names, taken) => {
                process.core.taken(&ask, &names, &taken);
                None
            }
        };
        if let Some(next) = next {
            let arrives = self.now + self.delay();
            self.processes[one].under_way = Some((ask, arrives, patience, next));
        }
    }

    /// Workers claim what is held, write, and give back what is wanted back, in their own time.
    fn work(&mut self, one: usize) {
        let clock = self.clock();
        let process = &mut self.processes[one];
        for name in self.groups.iter().flat_map(|group| &group.leases) {
            let Some(holding) = process.core.holding(name) else {
                // A transaction that was under way may come to its end even now.
                if let Some(epoch) = process.workers.remove(name)
                    && self.random.random_bool(0.5)
                {
                    self.tables.write(name, epoch, process.holder);
                }
                continue;
            };
            let claimed = process.workers.get(name) == Some(&holding.epoch);
            let goes_on = if claimed {
                self.tables.write(name, holding.epoch, process.holder)
            } else {
                process.workers.insert(name.clone(), holding.epoch);
                self.tables.claim(name, holding.epoch)
            };
            if holding.wanted_back || !goes_on {
                process.workers.remove(name);
                process.core.give_up(name, self.now);
                self.tables.release(clock, process.holder, name, holding.epoch);
            }
        }
    }

    fn step(&mut self) {
        self.now += if self.calm { STEP * 2 } else { STEP };
        if !self.calm {
            self.disturb();
        }
        for one in 0..self.processes.len() {
            self.turn(one);
        }
    }

    /// Who holds what, if everything is held by someone and nobody works for nothing.
    fn holders(&self) -> BTreeMap<String, (Uuid, i64)> {
        let held = self.processes.iter().flat_map(|process| {
            let held = process.core.held().into_iter();
            held.map(|(name, epoch)| (name, (process.holder, epoch)))
        });
        held.collect()
    }

    fn is_shared_out(&self) -> bool {
        self.groups.iter().all(|group| {
            let counts: Vec<usize> = self
                .processes
                .iter()
                .map(|process| {
                    let held = |name: &&String| process.core.holding(name).is_some_and(|holding| !holding.wanted_back);
                    group.leases.iter().filter(held).count()
                })
                .collect();
            let spread = counts
                .iter()
                .max()
                .zip(counts.iter().min())
                .map(|(most, least)| most - least);
            counts.iter().sum::<usize>() == group.leases.len() && spread <= Some(1)
        })
    }

    /// Lets nothing go wrong any more: soon everything is shared out, and then nothing moves.
    fn calm_down(&mut self) {
        self.calm = true;
        for process in &mut self.processes {
            process.stands_still_until = self.now;
        }
        let since = self.now;
        let (mut holders, mut moved_at) = (self.holders(), since);
        let until = since + SETTLED_WITHIN + Duration::from_secs(2);
        while self.now < until {
            self.step();
            let now = self.holders();
            if now != holders {
                (holders, moved_at) = (now, self.now);
            }
        }
        let settled = moved_at.saturating_sub(since);
        assert!(self.is_shared_out(), "not shared out: {holders:?}");
        assert!(settled < SETTLED_WITHIN, "something moves while the members stay");
    }
}

fn ms_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap()
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap())
}

#[test]
fn shares_even_out_and_nobody_writes_under_the_epoch_of_another() {
    each_seed(2_000, |seed| {
        let mut world = World::new(seed);
        world.join();
        for _ in 0..300 {
            world.step();
        }
        world.calm_down();
    });
}

#[test]
fn one_who_joins_has_its_share_in_a_second_and_one_who_leaves_is_replaced_as_soon() {
    let second = Duration::from_secs(1);
    each_seed(500, |seed| {
        let mut world = World::new(seed);
        world.calm = true;
        for members in 1..=4 {
            world.join();
            let since = world.now;
            while world.now == since || !world.is_shared_out() {
                world.step();
                assert!(world.now < since + second, "{members} members");
            }
        }
        while world.processes.len() > 1 {
            world.leave(0);
            let since = world.now;
            while !world.is_shared_out() {
                world.step();
                assert!(world.now < since + second, "{} members are left", world.processes.len());
            }
        }
    });
}
