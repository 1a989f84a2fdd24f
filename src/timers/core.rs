//! What is to be done about a timer that is due: decisions without any I/O.
//!
//! `work.rs` finds out how things stand, asks here what that means, and does it. Two of these
//! decisions take several steps (the deadline of an order, a refund): between any two of them the
//! process may die or be overtaken, so each is made anew from what is known then.

use chrono::TimeDelta;
use jangbu_domain::{Order, order::OrderStatus};
use jangbu_events::Timestamp;

/// How long whoever took a timer has for it before another may take it.
pub const TAKEN_FOR: TimeDelta = TimeDelta::seconds(120);
/// How often an order's deadline is put off because PortOne does not say how its payment stands.
const DEADLINE_TRIES: i32 = 30;
/// How often it is put off for the runner to extend it to a virtual account's own end.
const EXTENSION_TRIES: i32 = 6;
/// How often an account number is tried to be closed.
const CLOSE_TRIES: i32 = 30;
/// When a refund that the shop owes is wished for again after PortOne refused it, by how often it
/// has been; card companies have nights of maintenance.
const REFUND_AGAIN: [TimeDelta; 3] = [TimeDelta::hours(1), TimeDelta::hours(6), TimeDelta::hours(24)];
/// How long PortOne remembers an `Idempotency-Key`, with a margin (PROTOCOL A2: 3 hours).
const KEY_LIVES: TimeDelta = TimeDelta::minutes(170);
/// Until another look where nothing else says when.
const MINUTE: TimeDelta = TimeDelta::minutes(1);
/// Until another look at a refund that somebody else has under way, or that is overdue.
const PATIENCE: TimeDelta = TimeDelta::minutes(10);
/// What a refund's timer says while nobody has told where the money may go.
pub const WAITS_FOR_ACCOUNT: &str = "it needs an account to go to";

/// Whether an order's time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// The order waits for no payment any more.
    Over,
    /// It has until then.
    Until(Timestamp),
    /// It is.
    Up,
}

impl Deadline {
    /// Of an order, by this clock.
    pub fn of(order: &Order, now: Timestamp) -> Self {
        if !matches!(order.status(), Some(OrderStatus::Placed | OrderStatus::AwaitingPayment)) {
            return Self::Over;
        }
        match order.details() {
            Some(details) if now < details.expires_at => Self::Until(details.expires_at),
            _ => Self::Up,
        }
    }
}

/// What PortOne says of the payment of an order whose time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Nothing that would keep the order.
    Nothing,
    /// The buyer has paid, and the payment side is not done with it.
    Pending,
    /// The buyer was given an account number, until then if that was told.
    Account(Option<Timestamp>),
    /// It does not answer.
    Silence,
}

/// What to do about an order whose time is up, once PortOne was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Look again later.
    Later {
        /// After this.
        after: TimeDelta,
        /// Why.
        why: &'static str,
    },
    /// Expire it.
    Expire,
}

/// Whether an order whose time is up expires at the n-th attempt.
pub fn expiry(word: Word, now: Timestamp, attempts: i32) -> Expiry {
    let later = |after, why| Expiry::Later { after, why };
    match word {
        Word::Pending if attempts < DEADLINE_TRIES => later(MINUTE, "the payment is pending"),
        Word::Silence if attempts < DEADLINE_TRIES => later(MINUTE, "PortOne does not answer"),
        // The runner is about to extend the deadline to the account's own.
        Word::Account(end) if attempts < EXTENSION_TRIES && end.is_none_or(|end| now < end) => {
            later(TimeDelta::seconds(10), "a virtual account was issued")
        }
        _ => Expiry::Expire,
    }
}

/// What a refund's timer remembers from one attempt to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory<'a> {
    /// PortOne's id of the cancellation, once it has begun.
    pub begun: Option<&'a str>,
    /// When PortOne was first asked.
    pub asked_at: Option<Timestamp>,
}

/// How a cancellation stands at PortOne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The money is back.
    Succeeded,
    /// It is not, and will not be by this one.
    Failed,
    /// Neither yet.
    UnderWay,
}

/// A payment at PortOne, as a refund of it must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its cancellations, whoever asked for them.
    pub cancellations: Vec<(&'a str, Standing)>,
    /// What could still be cancelled.
    pub cancellable: i64,
}

/// What to do about a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refund {
    /// Look again later.
    Later {
        /// After this.
        after: TimeDelta,
        /// Why.
        why: &'static str,
    },
    /// PortOne has begun it, under this id; look again later.
    Begun {
        /// PortOne's id of the cancellation.
        cancellation_id: String,
        /// After this.
        after: TimeDelta,
    },
    /// Write down that PortOne is asked, if the timer is still ours, and then ask.
    AskFirst,
    /// Ask PortOne again, under the same key.
    Ask,
    /// It came to nothing; record that.
    Failed {
        /// Why, as an operator sees it.
        code: &'static str,
    },
}

/// How long to wait after the n-th attempt.
pub fn pause(attempts: i32) -> TimeDelta {
    TimeDelta::seconds(i64::from(attempts.clamp(1, 60)) * 10)
}

impl Memory<'_> {
    /// Whether the refund has been asked for so long ago that PortOne may have forgotten the key.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.asked_at.is_some_and(|asked_at| now - asked_at > KEY_LIVES)
    }

    /// What to do about a refund that is open, at the n-th attempt. `seen` is the payment as just
    /// re-read, `expected` what could be cancelled when the refund was wished for, and `has_account`
    /// whether the money has a way back.
    pub fn next(&self, seen: &Seen<'_>, expected: i64, has_account: bool, now: Timestamp, attempts: i32) -> Refund {
        if let Some(id) = self.begun {
            let begun = seen.cancellations.iter().find(|(other, _)| *other == id);
            return match begun {
                Some((_, Standing::Failed)) => Refund::Failed { code: "FAILED" },
                _ => under_way(id, attempts),
            };
        }
        if !has_account {
            // Whoever gives one wakes it.
            let after = TimeDelta::days(1);
            return Refund::Later {
                after,
                why: WAITS_FOR_ACCOUNT,
            };
        }
        let later = |why| Refund::Later { after: PATIENCE, why };
        let pending = seen.cancellations.iter().any(|(_, how)| *how == Standing::UnderWay);
        match self.asked_at {
            // Somebody else's, in PortOne's console: it is not counted yet, and two would give too much back.
            None if pending => later("another refund is under way"),
            None => Refund::AskFirst,
            Some(_) if !self.is_overdue(now) => Refund::Ask,
            // The key may be forgotten: look before asking.
            Some(_) if pending => later("the refund is overdue"),
            Some(_) if seen.cancellable == expected => Refund::Ask,
            // Money went back, and all that did is counted: this request can only be refused now.
            Some(_) => Refund::Failed { code: "OVERTAKEN" },
        }
    }
}

/// The bank takes its time over it.
fn under_way(cancellation_id: &str, attempts: i32) -> Refund {
    Refund::Begun {
        cancellation_id: cancellation_id.to_owned(),
        after: pause(attempts).max(MINUTE),
    }
}

/// What to do once PortOne has answered that it took the refund on.
pub fn taken_on(cancellation_id: &str, how: Standing, attempts: i32) -> Option<Refund> {
    match how {
        // The payment itself says what went back, in the words every other reader sees.
        Standing::Succeeded => None,
        Standing::Failed => Some(Refund::Failed { code: "FAILED" }),
        Standing::UnderWay => Some(under_way(cancellation_id, attempts)),
    }
}

/// When a refund that PortOne has refused for the n-th time is wished for again, if it is.
pub fn wished_again(is_owed: bool, refused: usize) -> Option<TimeDelta> {
    REFUND_AGAIN.get(refused.saturating_sub(1)).copied().filter(|_| is_owed)
}

/// When to try again to close an account number, if at all.
pub const fn close_again(attempts: i32) -> Option<TimeDelta> {
    if attempts < CLOSE_TRIES { Some(MINUTE) } else { None }
}

#[cfg(test)]
mod tests {
    use jangbu_events::samples;

    use super::*;

    const FIRST: Memory<'_> = Memory {
        begun: None,
        asked_at: None,
    };

    fn seen(cancellations: &[(&'static str, Standing)], cancellable: i64) -> Seen<'static> {
        Seen {
            cancellations: cancellations.to_vec(),
            cancellable,
        }
    }

    #[test]
    fn an_order_expires_only_when_portone_has_nothing_to_say_or_never_does() {
        let now = samples::moment();
        assert_eq!(expiry(Word::Nothing, now, 1), Expiry::Expire);
        for word in [Word::Pending, Word::Silence] {
            assert!(matches!(expiry(word, now, 29), Expiry::Later { .. }), "{word:?}");
            assert_eq!(expiry(word, now, 30), Expiry::Expire, "{word:?}");
        }
        let account = |ends: i64| Word::Account(Some(now + TimeDelta::seconds(ends)));
        assert!(matches!(expiry(account(1), now, 5), Expiry::Later { .. }));
        assert!(matches!(expiry(Word::Account(None), now, 5), Expiry::Later { .. }));
        assert_eq!(expiry(account(0), now, 1), Expiry::Expire);
        assert_eq!(expiry(account(1), now, 6), Expiry::Expire);
    }

    #[test]
    fn a_refund_is_written_down_before_it_is_asked_for() {
        let now = samples::moment();
        assert_eq!(FIRST.next(&seen(&[], 10), 10, true, now, 1), Refund::AskFirst);
        // Even where the amounts differ: PortOne compares, and says so.
        assert_eq!(FIRST.next(&seen(&[], 7), 10, true, now, 1), Refund::AskFirst);
        let foreign = seen(&[("console", Standing::UnderWay)], 10);
        assert!(matches!(FIRST.next(&foreign, 10, true, now, 1), Refund::Later { .. }));
        assert!(
            matches!(FIRST.next(&seen(&[], 10), 10, false, now, 1), Refund::Later { after, .. } if after == TimeDelta::days(1))
        );
    }

    #[test]
    fn once_the_key_may_be_forgotten_it_looks_first() {
        let now = samples::moment();
        let asked = |minutes| Memory {
            asked_at: Some(now - TimeDelta::minutes(minutes)),
            ..FIRST
        };
        let pending = seen(&[("ours?", Standing::UnderWay)], 10);
        assert_eq!(asked(170).next(&pending, 10, true, now, 1), Refund::Ask);
        assert!(matches!(
            asked(171).next(&pending, 10, true, now, 1),
            Refund::Later { .. }
        ));
        assert_eq!(asked(171).next(&seen(&[], 10), 10, true, now, 1), Refund::Ask);
        assert_eq!(
            asked(171).next(&seen(&[("x", Standing::Succeeded)], 3), 10, true, now, 1),
            Refund::Failed { code: "OVERTAKEN" }
        );
        // A clock that was set back does not make it younger than it is for long, and asks at worst.
        assert_eq!(asked(-60).next(&seen(&[], 10), 10, true, now, 1), Refund::Ask);
    }

    #[test]
    fn what_has_begun_is_waited_for_until_it_fails() {
        let now = samples::moment();
        let begun = Memory {
            begun: Some("c1"),
            asked_at: Some(now - TimeDelta::days(2)),
        };
        let at = |how| seen(&[("c0", Standing::Failed), ("c1", how)], 10);
        assert_eq!(
            begun.next(&at(Standing::Failed), 10, true, now, 1),
            Refund::Failed { code: "FAILED" }
        );
        for seen in [at(Standing::UnderWay), seen(&[], 10)] {
            let cancellation_id = "c1".to_owned();
            let after = TimeDelta::seconds(120);
            assert_eq!(
                begun.next(&seen, 10, true, now, 12),
                Refund::Begun { cancellation_id, after }
            );
        }
    }

    #[test]
    fn what_the_shop_owes_is_wished_for_again_three_times() {
        let hours: Vec<_> = (1..=4)
            .map(|refused| wished_again(true, refused).map(|wait| wait.num_hours()))
            .collect();
        assert_eq!(hours, [Some(1), Some(6), Some(24), None]);
        assert_eq!(wished_again(false, 1), None);
    }

    #[test]
    fn pauses_grow_to_ten_minutes() {
        let seconds: Vec<i64> = [0, 1, 7, 60, 1_000].iter().map(|n| pause(*n).num_seconds()).collect();
        assert_eq!(seconds, [10, 10, 70, 600, 600]);
    }
}
