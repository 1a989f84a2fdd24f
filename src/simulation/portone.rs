//! PortOne, as far as money goes: payments, cancellations that take their time, idempotency keys that
//! are forgotten, and the comparison of what is left.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use jangbu_domain::{
    Observation, Observed,
    payment::{ObservedCancellation, PaidFacts},
};
use jangbu_events::{PaymentId, Timestamp, samples};

use crate::timers::core::{Seen, Standing};

/// How long a key is remembered (PROTOCOL A2).
const KEY_LIVES: TimeDelta = TimeDelta::hours(3);

/// Money that goes back, or does not.
#[derive(Debug, Clone)]
pub struct Cancellation {
    pub id: String,
    pub amount: i64,
    pub how: Standing,
    /// When it was asked for, or done.
    pub at: Timestamp,
    /// Asked for by the shop, and not in the console.
    ours: bool,
}

/// One payment.
#[derive(Debug, Clone)]
pub struct Paid {
    pub total: i64,
    pub at: Timestamp,
    pub cancellations: Vec<Cancellation>,
    /// What was answered under each key, and when it was asked first.
    keys: BTreeMap<String, (Timestamp, Answer)>,
    refusals_left: u32,
}

/// A request to give money back.
#[derive(Debug, Clone)]
pub struct Request {
    pub payment_id: PaymentId,
    /// The `Idempotency-Key`.
    pub key: String,
    pub amount: i64,
    /// What can be cancelled, in the asker's mind.
    pub expected: i64,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    TakenOn { id: String, how: Standing },
    Refused,
}

#[derive(Default)]
pub struct Portone {
    pub payments: BTreeMap<PaymentId, Paid>,
}

impl Paid {
    fn sum(&self, how: Standing) -> i64 {
        let these = self.cancellations.iter().filter(|one| one.how == how);
        these.map(|one| one.amount).sum()
    }

    /// What has not gone back.
    pub fn left(&self) -> i64 {
        self.total - self.sum(Standing::Succeeded)
    }

    fn add(&mut self, amount: i64, how: Standing, at: Timestamp, ours: bool) -> String {
        let id = format!("cancellation-{}", self.cancellations.len());
        // They follow each other at PortOne, so their times do.
        let after_last = self
            .cancellations
            .last()
            .map(|last| last.at + TimeDelta::milliseconds(1));
        self.cancellations.push(Cancellation {
            id: id.clone(),
            amount,
            how,
            at: after_last.map_or(at, |last| last.max(at)),
            ours,
        });
        let given = self.sum(Standing::Succeeded) + self.sum(Standing::UnderWay);
        assert!(given <= self.total, "{given} of {} would go back", self.total);
        id
    }

    pub fn seen(&self) -> Seen<'_> {
        Seen {
            cancellations: self.cancellations.iter().map(|one| (&*one.id, one.how)).collect(),
            cancellable: self.left(),
        }
    }
}

impl Portone {
    /// The buyer pays, once.
    pub fn pay(&mut self, payment_id: PaymentId, total: i64, now: Timestamp, refusals: u32) {
        self.payments.entry(payment_id).or_insert_with(|| Paid {
            total,
            at: now,
            cancellations: Vec::new(),
            keys: BTreeMap::new(),
            refusals_left: refusals,
        });
    }

    /// Somebody gives money back in PortOne's console.
    pub fn cancel_in_console(&mut self, payment_id: PaymentId, amount: i64, how: Standing, now: Timestamp) {
        let paid = self.payments.get_mut(&payment_id).expect("it was paid");
        let busy = paid.sum(Standing::UnderWay) > 0;
        let amount = amount.min(paid.left());
        if !busy && amount > 0 {
            paid.add(amount, how, now, false);
        }
    }

    /// `how` is what becomes of it if nothing speaks against it.
    pub fn cancel(&mut self, request: &Request, how: Standing, now: Timestamp) -> Answer {
        let paid = self.payments.get_mut(&request.payment_id).expect("it was paid");
        paid.keys.retain(|_, (at, _)| now - *at < KEY_LIVES);
        if let Some((_, answer)) = paid.keys.get(&request.key) {
            return answer.clone();
        }
        // The PG may take on both: then too much goes back.
        let mut under_way = paid.cancellations.iter().filter(|one| one.how == Standing::UnderWay);
        assert!(
            under_way.all(|one| !one.ours),
            "{} is asked for while another of the shop's own refunds is under way",
            request.key
        );
        let free = paid.left() - paid.sum(Standing::UnderWay);
        let answer = if request.expected != paid.left() || request.amount > free {
            Answer::Refused
        } else if paid.refusals_left > 0 {
            paid.refusals_left -= 1;
            Answer::Refused
        } else {
            let id = paid.add(request.amount, how, now, true);
            Answer::TakenOn { id, how }
        };
        paid.keys.insert(request.key.clone(), (now, answer.clone()));
        answer
    }

    /// What is under way comes to its end, a bad one if that may still be; false if nothing is.
    pub fn resolve(&mut self, payment_id: PaymentId, fails: bool, now: Timestamp) -> bool {
        let paid = self.payments.get_mut(&payment_id).expect("it was paid");
        let Some(one) = paid.cancellations.iter_mut().find(|one| one.how == Standing::UnderWay) else {
            return false;
        };
        let fails = fails && paid.refusals_left > 0;
        paid.refusals_left -= u32::from(fails);
        one.how = if fails { Standing::Failed } else { Standing::Succeeded };
        one.at = one.at.max(now);
        true
    }

    /// A payment as the shop re-reads it.
    pub fn observe(&self, payment_id: PaymentId) -> Option<Observation> {
        let paid = self.payments.get(&payment_id)?;
        Some(Observation {
            payment_id,
            transaction_id: format!("transaction of {payment_id}"),
            live_shop: true,
            currency: "KRW".to_owned(),
            total: paid.total,
            status: Observed::Paid,
            paid: Some(PaidFacts {
                paid_at: paid.at,
                tax_free: 0,
                vat: None,
                discount: 0,
                means: samples::means(),
            }),
            cancellations: paid
                .cancellations
                .iter()
                .filter(|one| one.how == Standing::Succeeded)
                .map(|one| ObservedCancellation {
                    cancelled_at: one.at,
                    id: one.id.clone(),
                    amount: one.amount,
                    tax_free: 0,
                    vat: 0,
                    trigger: None,
                })
                .collect(),
        })
    }
}
