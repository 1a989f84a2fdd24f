//! When to ask for which lease, and what to give back: a pure state machine, driven by
//! [`super::Keeper`].
//!
//! The leases of a shared group are spread over its members. Everyone reckons with the same
//! members, as the database lists them, so everyone comes to the same shares; they add up to the
//! number of leases. Whoever has more than its share gives back, whoever has less takes what is
//! free. Nothing moves while the members stay the same.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

/// Leases that are competed for together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Unique among groups; of members and metrics.
    pub name: String,
    /// Whether the members share the leases evenly. If not, the first takes all and keeps them.
    pub shared: bool,
    /// Their names in the table; the same for every member.
    pub leases: Vec<String>,
}

impl Group {
    /// One lease that the first comer keeps.
    pub fn one(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            leases: vec![name.clone()],
            name,
            shared: false,
        }
    }

    /// Leases that all who compete for them share evenly.
    pub fn shared(name: impl Into<String>, leases: impl IntoIterator<Item = String>) -> Self {
        Self {
            name: name.into(),
            shared: true,
            leases: leases.into_iter().collect(),
        }
    }
}

/// What to ask the database now: to prolong what is held, to note that we are there, and to say
/// what the others hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// When it was asked. Terms are counted from here, so that ours always ends before the row's.
    pub at: Duration,
    /// Leases that we hold, with their epochs.
    pub renew: Vec<(String, i64)>,
    /// Shared groups that we are members of.
    pub groups: Vec<String>,
    /// Leases that we do not hold.
    pub wanted: Vec<String>,
}

/// What the database said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Names that were prolonged. What was asked for and is missing here belongs to someone else.
    pub renewed: Vec<String>,
    /// Leases that others hold, and for how long yet.
    pub held: Vec<(String, Duration)>,
    /// Other members by group, and how long they count yet.
    pub members: Vec<(String, Uuid, Duration)>,
}

/// A lease that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Under which everything is done.
    pub epoch: i64,
    /// It is more than our share: to be given up as soon as what was begun is done.
    pub wanted_back: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Wanted { not_before: Duration },
    Held { holding: Holding, until: Duration },
}

impl State {
    const fn holding(&self) -> Option<Holding> {
        match self {
            Self::Held { holding, .. } => Some(*holding),
            Self::Wanted { .. } => None,
        }
    }
}

#[derive(Debug)]
struct Leases {
    group: String,
    shared: bool,
    states: BTreeMap<String, State>,
}

/// The leases that one process wants or holds. Times are since some start, from a clock that only
/// goes forward.
#[derive(Debug)]
pub struct Core {
    holder: Uuid,
    ttl: Duration,
    groups: Vec<Leases>,
    ask_at: Duration,
}

impl Core {
    /// Wants all of `groups`, at once. `holder` is another for every process start.
    pub fn new(holder: Uuid, ttl: Duration, groups: impl IntoIterator<Item = Group>) -> Self {
        Self {
            holder,
            ttl,
            groups: groups.into_iter().map(Leases::of).collect(),
            ask_at: Duration::ZERO,
        }
    }

    /// Wants these as well, at once.
    pub fn join(&mut self, group: Group, now: Duration) {
        self.groups.push(Leases::of(group));
        self.ask_again(now);
    }

    /// Wants none of a group any more. Gives what of it is held, to be released.
    pub fn leave(&mut self, group: &str) -> Vec<(String, i64)> {
        let (left, stays) = std::mem::take(&mut self.groups)
            .into_iter()
            .partition(|leases| leases.group == group);
        self.groups = stays;
        let held = |leases: Leases| {
            let held = leases.states.into_iter();
            held.filter_map(|(name, state)| Some((name, state.holding()?.epoch)))
        };
        Vec::into_iter(left).flat_map(held).collect()
    }

    /// Between two rounds. If an answer is lost, there is time for two more before the term ends.
    fn interval(&self) -> Duration {
        self.ttl * 4 / 15
    }

    /// Until the next look at what somebody is about to give back.
    fn hurry(&self) -> Duration {
        self.ttl / 15
    }

    /// When a term asked for at `at` ends for us: before the row says so, by more than clocks of
    /// two machines differ in speed.
    fn until(&self, at: Duration) -> Duration {
        at + self.ttl * 19 / 20
    }

    fn states(&self) -> impl Iterator<Item = (&String, &State)> {
        self.groups.iter().flat_map(|leases| &leases.states)
    }

    fn state_mut(&mut self, name: &str) -> Option<&mut State> {
        self.groups.iter_mut().find_map(|leases| leases.states.get_mut(name))
    }

    /// How a lease is held, if it is.
    pub fn holding(&self, name: &str) -> Option<Holding> {
        let mut states = self.groups.iter().filter_map(|leases| leases.states.get(name));
        states.next()?.holding()
    }

    /// All that are held, with their epochs.
    pub fn held(&self) -> Vec<(String, i64)> {
        self.states()
            .filter_map(|(name, state)| Some((name.clone(), state.holding()?.epoch)))
            .collect()
    }

    /// When the first term of a lease ends, if any is held.
    pub fn ends_at(&self) -> Option<Duration> {
        let until = |state: &State| match state {
            State::Wanted { .. } => None,
            State::Held { until, .. } => Some(*until),
        };
        self.states().filter_map(|(_, state)| until(state)).min()
    }

    /// When to look again.
    pub fn next_at(&self) -> Duration {
        self.ends_at().map_or(self.ask_at, |end| end.min(self.ask_at))
    }

    /// Drops what has run out and says what to ask, if it is time for anything.
    pub fn ask(&mut self, now: Duration) -> Option<Ask> {
        for state in self.groups.iter_mut().flat_map(|leases| leases.states.values_mut()) {
            if matches!(state, State::Held { until, .. } if *until <= now) {
                *state = State::Wanted { not_before: now };
            }
        }
        if self.ask_at > now {
            return None;
        }
        self.ask_at = now + self.interval();
        let wanted = self.states().filter(|(_, state)| state.holding().is_none());
        Some(Ask {
            at: now,
            renew: self.held(),
            groups: self
                .groups
                .iter()
                .filter(|leases| leases.shared)
                .map(|leases| leases.group.clone())
                .collect(),
            wanted: wanted.map(|(name, _)| name.clone()).collect(),
        })
    }

    /// Takes in what an [`Ask`] was answered with, and says which leases to take.
    pub fn seen(&mut self, ask: &Ask, seen: &Seen) -> Vec<String> {
        let until = self.until(ask.at);
        for (name, epoch) in &ask.renew {
            let renewed = seen.renewed.contains(name);
            match self.state_mut(name) {
                Some(State::Held { holding, until: end }) if holding.epoch == *epoch && renewed => *end = until,
                Some(state @ State::Held { .. }) if !renewed => *state = State::Wanted { not_before: ask.at },
                _ => {}
            }
        }
        let mut take = Vec::new();
        let mut short = false;
        for leases in &mut self.groups {
            let others = seen.members.iter().filter(|(group, ..)| *group == leases.group);
            let share = if leases.shared {
                Share::of(
                    &leases.group,
                    leases.states.len(),
                    self.holder,
                    others.map(|(_, member, _)| *member),
                )
            } else {
                Share::all(leases.states.len())
            };
            leases.give_back(share);
            let free = leases.free(share, ask.at, &seen.held);
            let room = share.size.saturating_sub(leases.held());
            short |= leases.shared && room > free.len();
            take.extend(free.into_iter().take(room));
        }
        if short {
            self.ask_again(ask.at + self.hurry());
        }
        // At the moment when something of another runs out, unless it is renewed until then.
        let held = seen.held.iter().map(|(_, left)| *left);
        let members = seen.members.iter().map(|(_, _, left)| *left);
        if let Some(left) = held.chain(members).min() {
            self.ask_again((ask.at + left + Duration::from_millis(5)).max(ask.at + self.hurry()));
        }
        take
    }

    /// Takes in which of the leases we were given, with their epochs.
    pub fn taken(&mut self, ask: &Ask, wanted: &[String], taken: &[(String, i64)]) {
        let until = self.until(ask.at);
        for (name, epoch) in taken {
            if let Some(state @ State::Wanted { .. }) = self.state_mut(name) {
                let holding = Holding {
                    epoch: *epoch,
                    wanted_back: false,
                };
                *state = State::Held { holding, until };
            }
        }
        if taken.len() < wanted.len() {
            self.ask_again(ask.at + self.hurry());
        }
    }

    fn ask_again(&mut self, at: Duration) {
        self.ask_at = self.ask_at.min(at);
    }

    /// Holds it no longer, and wants it again at `again_at` or later, if it is our share then.
    pub fn give_up(&mut self, name: &str, again_at: Duration) {
        if let Some(state) = self.state_mut(name) {
            *state = State::Wanted { not_before: again_at };
            self.ask_again(again_at);
        }
    }
}

impl Leases {
    fn of(group: Group) -> Self {
        let not_before = Duration::ZERO;
        Self {
            group: group.name,
            shared: group.shared,
            states: group
                .leases
                .into_iter()
                .map(|name| (name, State::Wanted { not_before }))
                .collect(),
        }
    }

    fn held(&self) -> usize {
        self.states.values().filter(|state| state.holding().is_some()).count()
    }

    /// Marks what is more than our share. What is marked stays so until it is given up: whoever
    /// works on it may be about to.
    fn give_back(&mut self, share: Share) {
        let kept = |state: &State| state.holding().is_some_and(|holding| !holding.wanted_back);
        let surplus = self
            .states
            .values()
            .filter(|state| kept(state))
            .count()
            .saturating_sub(share.size);
        let ours = share.order(&self.states).filter(|name| kept(&self.states[*name]));
        let mut ours: Vec<String> = ours.cloned().collect();
        // What others would choose first.
        for name in ours.split_off(ours.len() - surplus) {
            if let Some(State::Held { holding, .. }) = self.states.get_mut(&name) {
                holding.wanted_back = true;
            }
        }
    }

    /// What we may take, what suits us best first.
    fn free(&self, share: Share, now: Duration, held: &[(String, Duration)]) -> Vec<String> {
        share
            .order(&self.states)
            .filter(|name| matches!(self.states[*name], State::Wanted { not_before } if not_before <= now))
            .filter(|name| held.iter().all(|(held, _)| held != *name))
            .cloned()
            .collect()
    }
}

/// What one member may hold of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// How many leases.
    size: usize,
    /// The first of them, if all members chose in turn: so they seldom reach for the same one.
    first: usize,
}

impl Share {
    const fn all(count: usize) -> Self {
        Self { size: count, first: 0 }
    }

    /// Of `count` leases everyone gets the whole part, and the first few one more. Who is first
    /// differs from group to group, or one process would carry the surplus of all projections.
    fn of(group: &str, count: usize, me: Uuid, others: impl Iterator<Item = Uuid>) -> Self {
        let mut members: Vec<Uuid> = others.filter(|other| *other != me).collect();
        let before = members.iter().filter(|other| **other < me).count();
        members.push(me);
        let (each, more) = (count / members.len(), count % members.len());
        let turn = Uuid::new_v5(&Uuid::NAMESPACE_OID, group.as_bytes()).as_u128() % members.len() as u128;
        let turn = usize::try_from(turn).unwrap_or(0);
        let rank = (before + turn) % members.len();
        Self {
            size: each + usize::from(rank < more),
            first: rank * each + rank.min(more),
        }
    }

    fn order(self, states: &BTreeMap<String, State>) -> impl Iterator<Item = &String> {
        states.keys().cycle().skip(self.first).take(states.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_millis(1_500);
    const ME: Uuid = Uuid::from_u128(5);
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn one() -> Core {
        Core::new(ME, TTL, [Group::one("a")])
    }

    fn four() -> Core {
        Core::new(ME, TTL, [Group::shared("g", ["a", "b", "c", "d"].map(str::to_owned))])
    }

    /// Asks and is given everything that it wants to take, under epoch 1.
    fn round(core: &mut Core, at: Duration, seen: &Seen) -> Vec<String> {
        let ask = core.ask(at).expect("it is time to ask");
        let take = core.seen(&ask, seen);
        let taken: Vec<(String, i64)> = take.iter().map(|name| (name.clone(), 1)).collect();
        core.taken(&ask, &take, &taken);
        take
    }

    fn renewed(core: &Core) -> Seen {
        Seen {
            renewed: core.held().into_iter().map(|(name, _)| name).collect(),
            ..Seen::default()
        }
    }

    fn with_member(seen: Seen, member: u128) -> Seen {
        let member = ("g".to_owned(), Uuid::from_u128(member), TTL);
        Seen {
            members: [seen.members, vec![member]].concat(),
            ..seen
        }
    }

    #[test]
    fn a_free_lease_is_taken_and_then_renewed_well_within_its_term() {
        let mut core = one();
        assert_eq!(round(&mut core, ms(0), &Seen::default()), ["a"]);
        assert_eq!(core.holding("a").map(|holding| holding.epoch), Some(1));
        assert_eq!(core.ask(ms(399)), None);
        assert_eq!(core.ask(ms(400)).expect("renewal is due").renew, [("a".to_owned(), 1)]);
    }

    #[test]
    fn a_group_comes_and_goes_while_the_others_stay() {
        let mut core = one();
        round(&mut core, ms(0), &Seen::default());
        core.join(Group::shared("g", ["b", "c"].map(str::to_owned)), ms(100));
        assert_eq!(core.next_at(), ms(100), "at once");
        let seen = renewed(&core);
        assert_eq!(round(&mut core, ms(100), &seen), ["b", "c"]);
        assert_eq!(core.leave("g"), [("b".to_owned(), 1), ("c".to_owned(), 1)]);
        assert_eq!(core.leave("g"), []);
        assert_eq!(core.held(), [("a".to_owned(), 1)]);
        let ask = core.ask(ms(700)).expect("renewal is due");
        assert_eq!((ask.groups, ask.wanted), (vec![], vec![]));
    }

    #[test]
    fn without_an_answer_it_is_lost_before_the_row_runs_out() {
        let mut core = one();
        round(&mut core, ms(0), &Seen::default());
        for now in [400, 800, 1_200, 1_424] {
            core.ask(ms(now));
            assert!(core.holding("a").is_some(), "at {now} ms");
        }
        assert_eq!(core.next_at(), ms(1_425));
        core.ask(ms(1_425));
        assert_eq!(core.holding("a"), None);
    }

    #[test]
    fn what_was_not_renewed_is_lost_at_once() {
        let mut core = one();
        round(&mut core, ms(0), &Seen::default());
        let ask = core.ask(ms(400)).expect("renewal is due");
        let held = vec![("a".to_owned(), TTL)];
        let seen = Seen {
            held,
            ..Seen::default()
        };
        assert!(core.seen(&ask, &seen).is_empty());
        assert_eq!(core.holding("a"), None);
    }

    #[test]
    fn a_lease_of_another_is_asked_for_when_it_runs_out() {
        let mut core = one();
        let held = vec![("a".to_owned(), ms(200))];
        assert!(
            round(
                &mut core,
                ms(0),
                &Seen {
                    held,
                    ..Seen::default()
                }
            )
            .is_empty()
        );
        assert_eq!(core.next_at(), ms(205));
    }

    #[test]
    fn what_was_given_up_is_wanted_again_later() {
        let mut core = one();
        round(&mut core, ms(0), &Seen::default());
        core.give_up("a", ms(5_000));
        assert_eq!(core.holding("a"), None);
        assert!(round(&mut core, ms(400), &Seen::default()).is_empty());
        assert_eq!(round(&mut core, ms(5_000), &Seen::default()), ["a"]);
    }

    #[test]
    fn alone_it_takes_all_and_gives_half_back_when_another_comes() {
        let mut core = four();
        assert_eq!(round(&mut core, ms(0), &Seen::default()).len(), 4);
        let seen = with_member(renewed(&core), 9);
        assert!(round(&mut core, ms(400), &seen).is_empty());
        let back = |core: &Core| {
            let marked = |name: &&str| core.holding(name).is_some_and(|holding| holding.wanted_back);
            ["a", "b", "c", "d"].into_iter().filter(marked).collect::<Vec<_>>()
        };
        let marked = back(&core);
        assert_eq!(marked.len(), 2);
        // They are ours until whoever works on them has finished; no more are marked meanwhile.
        let seen = with_member(renewed(&core), 9);
        round(&mut core, ms(800), &seen);
        assert_eq!(back(&core), marked);
        for name in marked {
            core.give_up(name, ms(900));
        }
        // Free for a moment, they are not ours to take.
        let seen = with_member(renewed(&core), 9);
        assert!(round(&mut core, ms(900), &seen).is_empty());
        // The other is gone: all is ours again.
        let seen = renewed(&core);
        assert_eq!(round(&mut core, ms(1_300), &seen).len(), 2);
    }

    #[test]
    fn who_has_less_than_its_share_asks_again_soon() {
        let mut core = four();
        let held = ["a", "b", "c", "d"].map(|name| (name.to_owned(), TTL)).to_vec();
        let seen = with_member(
            Seen {
                held,
                ..Seen::default()
            },
            9,
        );
        assert!(round(&mut core, ms(0), &seen).is_empty());
        assert_eq!(core.next_at(), ms(100));
    }

    #[test]
    fn shares_add_up_and_differ_by_one_and_the_surplus_goes_round() {
        let mut surplus = [0; 3];
        for members in 1..=9_u128 {
            for count in 0..=17_usize {
                for group in ["catalog", "order_history", "sales", "stock_levels", "probe", "x"] {
                    let of = |me| Share::of(group, count, Uuid::from_u128(me), (0..members).map(Uuid::from_u128));
                    let sizes: Vec<usize> = (0..members).map(|me| of(me).size).collect();
                    assert_eq!(sizes.iter().sum::<usize>(), count);
                    let (least, most) = (sizes.iter().min(), sizes.iter().max());
                    assert!(
                        most.zip(least).is_some_and(|(most, least)| most - least <= 1),
                        "{sizes:?}"
                    );
                    if (members, count) == (3, 4) {
                        for (one, size) in sizes.iter().enumerate() {
                            surplus[one] += size - 1;
                        }
                    }
                    // In turn, each begins where the one before it ends.
                    let mut turns: Vec<(usize, usize)> = (0..members).map(|me| (of(me).first, of(me).size)).collect();
                    turns.sort_unstable();
                    let ends = turns.iter().scan(0, |end, (first, size)| {
                        let fits = *first == *end;
                        *end += size;
                        Some(fits)
                    });
                    assert!(ends.into_iter().all(|fits| fits), "{turns:?}");
                }
            }
        }
        assert!(surplus.iter().all(|times| *times < 6), "{surplus:?}");
    }
}
