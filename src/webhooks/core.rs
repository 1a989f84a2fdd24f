//! When which event is sent to one endpoint: a pure state machine. Told what came of what it asked for,
//! it says what to do next; it reads no clock, draws no number and waits for nothing.
//!
//! Events of one aggregate form a lane. A lane has one event on the way at most, so an endpoint never
//! gets a later event of an aggregate before it took the earlier ones. When an event is not taken its
//! lane is *held*: one small record says from which event on, and everything later of that lane waits in
//! the log, where it already is. Other lanes go on. What has to be remembered is therefore one position,
//! up to which every event was taken or belongs to a held lane, and the held lanes.
//!
//! After a crash the machine begins anew from what was saved last: some events are sent again, in the
//! same order, and none is left out.

mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::TimeDelta;
use jangbu_events::Timestamp;

pub use self::words::{Action, Held, Lane, Outcome, Snapshot};

/// Events that are in memory at once: sent, on the way or next.
pub const WINDOW: usize = 256;
/// Requests to one endpoint at a time. Half of them at most are tries of what failed before, so that an
/// aggregate which lets requests time out does not slow the others down for long.
pub const IN_FLIGHT: usize = 8;
/// Lanes that may be failing before nothing new is sent: then it is the endpoint that is ill, and the log
/// keeps the rest.
pub const FAILING_MAX: usize = 100;
/// For how long a failing event is tried.
pub const PATIENCE: TimeDelta = TimeDelta::hours(72);
/// And how often at least: a clock that is set forward by a week must not park what failed once.
pub const ATTEMPTS_MIN: u32 = 12;
/// Before the second attempt; doubled for each further one.
const DELAY_FIRST: TimeDelta = TimeDelta::seconds(5);
const DELAY_MAX: TimeDelta = TimeDelta::hours(1);

/// A held lane and what is going on with it.
#[derive(Debug)]
struct HeldLane {
    held: Held,
    doing: Doing,
    /// The last position of the lane that was read while it was held; `None` if that is not known,
    /// as after a start.
    latest: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Waiting,
    Sending,
    /// Its next event is to be looked up.
    ToFind,
    Finding {
        through: i64,
    },
}

/// One endpoint's.
#[derive(Debug)]
pub struct Core {
    read_to: i64,
    reading: bool,
    /// Events that were read and are not taken, and those behind them that are (`true`).
    window: BTreeMap<i64, (Lane, bool)>,
    /// Of each lane that goes on, what is not taken yet; the first may be on the way.
    lanes: BTreeMap<Lane, VecDeque<i64>>,
    /// On the way, of lanes that go on and of held ones.
    flying: BTreeMap<i64, Lane>,
    held: BTreeMap<Lane, HeldLane>,
    changed: BTreeSet<Lane>,
    saved: i64,
    gone: bool,
}

impl Core {
    /// From what was saved last, or from a first cursor.
    pub fn restore(cursor: i64, held: impl IntoIterator<Item = (Lane, Held)>) -> Self {
        let held = held.into_iter().map(|(lane, held)| {
            let (doing, latest) = (Doing::Waiting, None);
            (lane, HeldLane { held, doing, latest })
        });
        Self {
            read_to: cursor,
            reading: false,
            window: BTreeMap::new(),
            lanes: BTreeMap::new(),
            flying: BTreeMap::new(),
            held: held.collect(),
            changed: BTreeSet::new(),
            saved: cursor,
            gone: false,
        }
    }

    /// What there is to do now. Whatever is asked for is under way until it is answered.
    pub fn actions(&mut self, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.gone {
            return actions;
        }
        self.find_next(&mut actions);
        self.send_held(now, &mut actions);
        if self.failing() >= FAILING_MAX {
            return actions;
        }
        self.send_new(&mut actions);
        if !self.reading && self.window.len() < WINDOW {
            self.reading = true;
            actions.push(Action::Read {
                after: self.read_to,
                limit: i64::try_from(WINDOW - self.window.len()).expect("the window is small"),
            });
        }
        actions
    }

    fn find_next(&mut self, actions: &mut Vec<Action>) {
        for (lane, held) in self.held.iter_mut().filter(|(_, held)| held.doing == Doing::ToFind) {
            held.doing = Doing::Finding { through: self.read_to };
            actions.push(Action::Find {
                lane: lane.clone(),
                after: held.held.position,
                through: self.read_to,
            });
        }
    }

    fn send_held(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let trying = self.held.values().filter(|held| held.doing == Doing::Sending).count();
        let free = (IN_FLIGHT / 2)
            .saturating_sub(trying)
            .min(IN_FLIGHT.saturating_sub(self.flying.len()));
        let mut due: Vec<(Timestamp, &Lane, &mut HeldLane)> = Vec::new();
        for (lane, held) in &mut self.held {
            if held.doing != Doing::Waiting || held.held.parked {
                continue;
            }
            // The clock was set back: nobody waits longer than the longest pause.
            held.held.next_at = held.held.next_at.min(now + DELAY_MAX);
            if held.held.next_at <= now {
                due.push((held.held.next_at, lane, held));
            }
        }
        // Those first that have waited longest, or a crowd of them would keep others from their turn.
        due.sort_by(|(a, one, _), (b, other, _)| (a, one).cmp(&(b, other)));
        for (_, lane, held) in due.into_iter().take(free) {
            held.doing = Doing::Sending;
            self.flying.insert(held.held.position, lane.clone());
            actions.push(Action::Send {
                position: held.held.position,
                lane: lane.clone(),
            });
        }
    }

    fn send_new(&mut self, actions: &mut Vec<Action>) {
        for (position, (lane, taken)) in &self.window {
            if self.flying.len() >= IN_FLIGHT {
                return;
            }
            let is_next = self.lanes.get(lane).and_then(VecDeque::front) == Some(position);
            if !*taken && is_next && !self.flying.contains_key(position) {
                self.flying.insert(*position, lane.clone());
                actions.push(Action::Send {
                    position: *position,
                    lane: lane.clone(),
                });
            }
        }
    }

    /// The log was read: these events are wanted, in position order, and everything up to `through` was
    /// looked at.
    pub fn fed(&mut self, events: impl IntoIterator<Item = (i64, Lane)>, through: i64) {
        self.reading = false;
        for (position, lane) in events {
            if position <= self.read_to {
                continue;
            }
            if let Some(held) = self.held.get_mut(&lane) {
                // It waits in the log, behind the one that failed. (Or before it, and was taken: what
                // fails is the first of its lane.)
                held.latest = held.latest.map(|latest| latest.max(position));
                continue;
            }
            self.lanes.entry(lane.clone()).or_default().push_back(position);
            self.window.insert(position, (lane, false));
        }
        self.read_to = self.read_to.max(through);
    }

    /// The log could not be read; it is asked for again.
    pub fn not_fed(&mut self) {
        self.reading = false;
    }

    /// What came of sending. `chance` is any number, for the length of the next pause.
    pub fn sent(&mut self, position: i64, outcome: Outcome, now: Timestamp, chance: u64) {
        let Some(lane) = self.flying.remove(&position) else {
            return;
        };
        match outcome {
            Outcome::Gone => {
                self.gone = true;
                if let Some(held) = self.held.get_mut(&lane) {
                    held.doing = Doing::Waiting;
                }
            }
            Outcome::Delivered => self.delivered(position, lane, now),
            Outcome::Failed { error, retry_after } => {
                self.failed(position, lane, now, error, pause(retry_after), chance);
            }
        }
    }

    fn delivered(&mut self, position: i64, lane: Lane, now: Timestamp) {
        if self.failing() >= FAILING_MAX {
            self.hurry(now);
        }
        let Some(held) = self.held.get_mut(&lane) else {
            self.take(position);
            let queue = self.lanes.get_mut(&lane);
            if queue.is_some_and(|queue| {
                queue.pop_front();
                queue.is_empty()
            }) {
                self.lanes.remove(&lane);
            }
            return;
        };
        if held.latest == Some(position) {
            self.held.remove(&lane);
        } else {
            held.held.attempts = 0;
            held.held.error.clear();
            held.doing = Doing::ToFind;
        }
        self.changed.insert(lane);
    }

    /// The endpoint seems well again: whoever waits for its turn need not wait for it to the end. One
    /// by one, as long as they are taken.
    fn hurry(&mut self, now: Timestamp) {
        let waiting = self
            .held
            .values_mut()
            .filter(|held| held.doing == Doing::Waiting && !held.held.parked);
        if let Some(next) = waiting
            .filter(|held| held.held.next_at > now)
            .min_by_key(|held| held.held.next_at)
        {
            next.held.next_at = now;
        }
    }

    fn failed(&mut self, position: i64, lane: Lane, now: Timestamp, error: String, pause: TimeDelta, chance: u64) {
        let held = self.held.entry(lane.clone()).or_insert_with(|| {
            // Everything later of this lane waits in the log from now on.
            let queue = self.lanes.remove(&lane).unwrap_or_default();
            for position in &queue {
                if let Some((_, taken)) = self.window.get_mut(position) {
                    *taken = true;
                }
            }
            HeldLane {
                held: Held {
                    position,
                    attempts: 0,
                    since: now,
                    next_at: now,
                    parked: false,
                    error: String::new(),
                },
                doing: Doing::Waiting,
                latest: queue.back().copied().or(Some(position)),
            }
        });
        let state = &mut held.held;
        if state.attempts == 0 {
            state.since = now;
        }
        // The clock was set back: patience begins now, not in the future.
        state.since = state.since.min(now);
        state.attempts += 1;
        state.next_at = now + delay(state.attempts, chance).max(pause);
        state.parked = now - state.since >= PATIENCE && state.attempts >= ATTEMPTS_MIN;
        state.error = error;
        held.doing = Doing::Waiting;
        self.changed.insert(lane);
        self.advance();
    }

    /// What a [`Action::Find`] found.
    pub fn found(&mut self, lane: &Lane, next: Option<i64>, now: Timestamp) {
        let Some(held) = self.held.get_mut(lane) else { return };
        let Doing::Finding { through } = held.doing else { return };
        match next {
            Some(position) => {
                held.held = Held {
                    position,
                    attempts: 0,
                    since: now,
                    next_at: now,
                    parked: false,
                    error: String::new(),
                };
                held.doing = Doing::Waiting;
            }
            // More was read meanwhile, and may have some of it.
            None if through < self.read_to => held.doing = Doing::ToFind,
            None => {
                self.held.remove(lane);
            }
        }
        self.changed.insert(lane.clone());
    }

    /// A look-up failed; it is asked for again.
    pub fn not_found_out(&mut self, lane: &Lane) {
        if let Some(held) = self.held.get_mut(lane)
            && matches!(held.doing, Doing::Finding { .. })
        {
            held.doing = Doing::ToFind;
        }
    }

    fn take(&mut self, position: i64) {
        if let Some((_, taken)) = self.window.get_mut(&position) {
            *taken = true;
        }
        self.advance();
    }

    /// What is taken and has nothing before it is done with.
    fn advance(&mut self) {
        while let Some(first) = self.window.first_entry()
            && first.get().1
        {
            first.remove();
        }
    }

    /// Every event up to here was taken, is of no interest, or belongs to a held lane.
    pub fn cursor(&self) -> i64 {
        self.window
            .first_key_value()
            .map_or(self.read_to, |(first, _)| first - 1)
    }

    /// The last position that was read.
    pub const fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Whether this event may still be asked for.
    pub fn wants(&self, position: i64) -> bool {
        self.window.get(&position).is_some_and(|(_, taken)| !taken)
    }

    /// When there is something to do without anything having come.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let waiting = self
            .held
            .values()
            .filter(|held| held.doing == Doing::Waiting && !held.held.parked);
        waiting.map(|held| held.held.next_at).min()
    }

    /// Requests that are on the way.
    pub fn flying(&self) -> usize {
        self.flying.len()
    }

    /// Lanes whose event was refused and is tried again.
    pub fn failing(&self) -> usize {
        let failing = |held: &&HeldLane| held.held.attempts > 0 && !held.held.parked;
        self.held.values().filter(failing).count()
    }

    /// Lanes that were given up.
    pub fn parked(&self) -> usize {
        self.held.values().filter(|held| held.held.parked).count()
    }

    /// Whether the receiver said that it wants nothing more.
    pub const fn is_gone(&self) -> bool {
        self.gone
    }

    /// What changed since the last that was saved, if anything did; it is not forgotten before
    /// [`Core::saved`].
    pub fn snapshot(&self) -> Option<Snapshot> {
        if self.changed.is_empty() && self.cursor() == self.saved {
            return None;
        }
        let state = |lane: &Lane| (lane.clone(), self.held.get(lane).map(|held| held.held.clone()));
        Some(Snapshot {
            cursor: self.cursor(),
            lanes: self.changed.iter().map(state).collect(),
        })
    }

    /// A snapshot was saved, and nothing has happened since it was taken.
    pub fn saved(&mut self, snapshot: &Snapshot) {
        self.saved = snapshot.cursor;
        self.changed.clear();
    }
}

fn pause(retry_after: Option<u32>) -> TimeDelta {
    TimeDelta::seconds(retry_after.unwrap_or(0).into()).min(DELAY_MAX)
}

/// Between half of the full pause and the whole, so that many who failed at once do not come back at once.
fn delay(attempts: u32, chance: u64) -> TimeDelta {
    let full = DELAY_FIRST.num_milliseconds() << attempts.saturating_sub(1).min(16);
    let full = full.min(DELAY_MAX.num_milliseconds());
    let half = full / 2;
    let jitter = i64::try_from(chance % u64::try_from(half + 1).expect("a pause is positive")).expect("below a pause");
    TimeDelta::milliseconds(half + jitter)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
