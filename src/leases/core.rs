//! When to ask for which lease: a pure state machine, driven by [`super::Keeper`].

use std::{collections::BTreeMap, time::Duration};

/// What to ask the database now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// When it was asked. Terms are counted from here, so that ours always ends before the row's.
    pub at: Duration,
    /// Leases that we hold, with their epochs: prolong them.
    pub renew: Vec<(String, i64)>,
    /// Leases that we want: take those that are free.
    pub take: Vec<String>,
}

/// What the database said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Names that were prolonged. What was asked for and is missing here belongs to someone else.
    pub renewed: Vec<String>,
    /// Names that are ours now, with their new epochs.
    pub taken: Vec<(String, i64)>,
    /// Names that others hold, and for how long yet.
    pub held: Vec<(String, Duration)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Wanted {
        ask_at: Duration,
    },
    Held {
        epoch: i64,
        renew_at: Duration,
        until: Duration,
    },
}

/// The leases that one process wants or holds. Times are since some start, from a clock that only
/// goes forward.
#[derive(Debug)]
pub struct Core {
    ttl: Duration,
    leases: BTreeMap<String, State>,
}

impl Core {
    /// Wants all of `names`, at once.
    pub fn new(ttl: Duration, names: impl IntoIterator<Item = String>) -> Self {
        let wanted = |name| (name, State::Wanted { ask_at: Duration::ZERO });
        Self {
            ttl,
            leases: names.into_iter().map(wanted).collect(),
        }
    }

    /// Under which epoch a lease is held.
    pub fn epoch(&self, name: &str) -> Option<i64> {
        match self.leases.get(name) {
            Some(State::Held { epoch, .. }) => Some(*epoch),
            _ => None,
        }
    }

    /// All that are held, with their epochs.
    pub fn held(&self) -> Vec<(String, i64)> {
        self.leases
            .keys()
            .filter_map(|name| Some((name.clone(), self.epoch(name)?)))
            .collect()
    }

    /// When to look again.
    pub fn next_at(&self) -> Option<Duration> {
        let at = |state: &State| match state {
            State::Wanted { ask_at } => *ask_at,
            State::Held { renew_at, until, .. } => *renew_at.min(until),
        };
        self.leases.values().map(at).min()
    }

    /// Drops what has run out and says what to ask, if it is time for anything.
    pub fn ask(&mut self, now: Duration) -> Option<Ask> {
        let retry = self.ttl / 3;
        let mut ask = Ask {
            at: now,
            renew: Vec::new(),
            take: Vec::new(),
        };
        for (name, state) in &mut self.leases {
            match state {
                State::Held { until, .. } if *until <= now => *state = State::Wanted { ask_at: now },
                State::Held { epoch, renew_at, .. } if *renew_at <= now => {
                    // If no answer comes, there is time for two more tries.
                    *renew_at = now + retry;
                    ask.renew.push((name.clone(), *epoch));
                }
                _ => {}
            }
            if let State::Wanted { ask_at } = state
                && *ask_at <= now
            {
                *ask_at = now + retry;
                ask.take.push(name.clone());
            }
        }
        (!ask.renew.is_empty() || !ask.take.is_empty()).then_some(ask)
    }

    /// Takes in the answer to an [`Ask`].
    pub fn answered(&mut self, ask: &Ask, answer: &Answer) {
        let (until, renew_at) = (ask.at + self.ttl, ask.at + self.ttl / 3);
        for (name, epoch) in &ask.renew {
            let renewed = answer.renewed.contains(name);
            match self.leases.get_mut(name) {
                // The answer to an older question must not touch a newer holding.
                Some(State::Held { epoch: held, .. }) if held != epoch => {}
                Some(state @ State::Held { .. }) if renewed => {
                    *state = State::Held {
                        epoch: *epoch,
                        renew_at,
                        until,
                    };
                }
                Some(state @ State::Held { .. }) => *state = State::Wanted { ask_at: renew_at },
                _ => {}
            }
        }
        for (name, epoch) in &answer.taken {
            if let Some(state @ State::Wanted { .. }) = self.leases.get_mut(name) {
                *state = State::Held {
                    epoch: *epoch,
                    renew_at,
                    until,
                };
            }
        }
        for (name, left) in &answer.held {
            // Exactly when it runs out unless renewed, and now and then before: it may be released.
            if let Some(State::Wanted { ask_at }) = self.leases.get_mut(name) {
                *ask_at = (ask.at + *left + Duration::from_millis(5)).min(renew_at);
            }
        }
    }

    /// Holds it no longer, and wants it again at `again_at`.
    pub fn give_up(&mut self, name: &str, again_at: Duration) {
        if let Some(state) = self.leases.get_mut(name) {
            *state = State::Wanted { ask_at: again_at };
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    const TTL: Duration = Duration::from_secs(2);
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The table, as the statements in `leases.rs` treat it.
    #[derive(Default)]
    struct Row {
        holder: usize,
        epoch: i64,
        expires_at: Duration,
    }

    impl Row {
        fn answer(&mut self, holder: usize, now: Duration, ask: &Ask) -> Answer {
            let mut answer = Answer::default();
            for (name, epoch) in &ask.renew {
                if self.holder == holder && self.epoch == *epoch {
                    self.expires_at = now + TTL;
                    answer.renewed.push(name.clone());
                }
            }
            for name in &ask.take {
                if self.expires_at <= now || self.holder == holder {
                    *self = Self {
                        holder,
                        epoch: self.epoch + 1,
                        expires_at: now + TTL,
                    };
                    answer.taken.push((name.clone(), self.epoch));
                } else {
                    answer.held.push((name.clone(), self.expires_at.saturating_sub(now)));
                }
            }
            answer
        }
    }

    /// A question on its way to the database, or its answer on the way back.
    struct UnderWay {
        holder: usize,
        due: Duration,
        ask: Ask,
        answer: Option<Answer>,
    }

    #[test]
    fn never_two_holders_at_once_whatever_is_slow_or_lost() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut row = Row::default();
            let core = || Core::new(TTL, ["relay".to_owned()]);
            let mut nodes: Vec<(usize, Core)> = (1..=3).map(|holder| (holder, core())).collect();
            let mut holders_ever = 3;
            let mut under_way: Vec<UnderWay> = Vec::new();
            let (mut held, mut highest) = (0_u32, 0);
            for now in (0..60_000).step_by(10).map(ms) {
                for mut it in under_way.extract_if(.., |it| it.due <= now).collect::<Vec<_>>() {
                    let lost = random.random_bool(0.1);
                    let late = now > it.ask.at + TTL / 4;
                    let node = nodes.iter_mut().find(|(holder, _)| *holder == it.holder);
                    match (it.answer.take(), node) {
                        (None, _) if !lost => {
                            it.answer = Some(row.answer(it.holder, now, &it.ask));
                            it.due = now + ms(random.random_range(0..400));
                            under_way.push(it);
                        }
                        // The keeper waits for an answer so long, and asks nothing meanwhile.
                        (Some(answer), Some((_, core))) if !lost && !late => core.answered(&it.ask, &answer),
                        _ => {}
                    }
                }
                for (holder, node) in &mut nodes {
                    if let Some(ask) = node.ask(now) {
                        let slow = if random.random_bool(0.1) { 3_000 } else { 200 };
                        let due = now + ms(random.random_range(0..slow));
                        under_way.push(UnderWay {
                            holder: *holder,
                            due,
                            ask,
                            answer: None,
                        });
                    }
                    if random.random_bool(0.0005) {
                        holders_ever += 1;
                        (*holder, *node) = (holders_ever, core());
                    }
                }
                let holders: Vec<i64> = nodes.iter().filter_map(|(_, core)| core.epoch("relay")).collect();
                // A node whose term has passed says so when it next looks, which it does in every step here.
                assert!(holders.len() <= 1, "seed {seed} at {now:?}: {holders:?}");
                held += u32::from(!holders.is_empty());
                for epoch in holders {
                    assert!(epoch >= highest, "epochs never go back");
                    highest = epoch;
                }
            }
            assert!(
                held > 1_000,
                "seed {seed}: the lease was held only {held} of 6,000 times"
            );
        }
    }

    #[test]
    fn a_free_lease_is_taken_and_then_renewed_at_a_third_of_its_term() {
        let mut core = Core::new(TTL, ["a".to_owned()]);
        let ask = core.ask(ms(0)).expect("it is wanted at once");
        assert_eq!(ask.take, ["a"]);
        core.answered(
            &ask,
            &Answer {
                taken: vec![("a".into(), 7)],
                ..Answer::default()
            },
        );
        assert_eq!(core.epoch("a"), Some(7));
        assert_eq!(core.ask(ms(600)), None);
        assert_eq!(core.ask(ms(667)).expect("renewal is due").renew, [("a".to_owned(), 7)]);
    }

    #[test]
    fn without_an_answer_it_is_lost_when_the_term_ends() {
        let mut core = Core::new(TTL, ["a".to_owned()]);
        let ask = core.ask(ms(0)).expect("it is wanted at once");
        core.answered(
            &ask,
            &Answer {
                taken: vec![("a".into(), 1)],
                ..Answer::default()
            },
        );
        for now in [700, 1_400, 1_999] {
            core.ask(ms(now));
            assert_eq!(core.epoch("a"), Some(1), "at {now} ms");
        }
        core.ask(ms(2_000));
        assert_eq!(core.epoch("a"), None);
    }

    #[test]
    fn a_lease_of_another_is_asked_for_when_it_runs_out() {
        let mut core = Core::new(TTL, ["a".to_owned()]);
        let ask = core.ask(ms(0)).expect("it is wanted at once");
        core.answered(
            &ask,
            &Answer {
                held: vec![("a".into(), ms(100))],
                ..Answer::default()
            },
        );
        assert_eq!(core.next_at(), Some(ms(105)));
    }

    #[test]
    fn what_was_given_up_is_wanted_again_later() {
        let mut core = Core::new(TTL, ["a".to_owned()]);
        let ask = core.ask(ms(0)).expect("it is wanted at once");
        core.answered(
            &ask,
            &Answer {
                taken: vec![("a".into(), 1)],
                ..Answer::default()
            },
        );
        core.give_up("a", ms(5_000));
        assert_eq!(core.epoch("a"), None);
        assert_eq!(core.ask(ms(4_999)), None);
        assert_eq!(core.ask(ms(5_000)).expect("the pause is over").take, ["a"]);
    }
}
