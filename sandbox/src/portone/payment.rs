//! A payment and its attempts. One payment id may see several attempts; only one of them is ever paid.
//!
//! Everything here is pure: time and randomness come in as a [`Moment`], and what the shop shall hear of comes out as
//! [`Happening`]s, which become webhooks.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use super::attempt::{Attempt, Failure, Happening, HappeningKind, Moment, Opening, Refusal, Status};
use super::cancel::Cancellation;
use super::method::{Account, PayMethod};
use crate::webhooks::WebhookRecord;

/// Attempts kept under one payment id; PortOne refuses further ones as well.
const ATTEMPTS_MAX: usize = 50;
/// Calls of the API remembered for each payment.
const CALLS_MAX: usize = 64;

/// The amounts the shop fixed before the window opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreRegistered {
    pub(crate) total: Option<i64>,
    pub(crate) tax_free: Option<i64>,
    pub(crate) currency: Option<String>,
}

/// A dispute raised against a paid payment.
#[derive(Debug, Clone)]
pub(crate) struct Dispute {
    pub(crate) reason: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) resolved_at: Option<DateTime<Utc>>,
}

/// A call of the API about one payment, as the simulator saw it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    /// `Idempotency-Key` exactly as it was sent, quotes and all.
    pub(crate) idempotency_key: Option<String>,
    /// HTTP status of the answer; absent when the connection was dropped.
    pub(crate) status: Option<u16>,
    pub(crate) replayed: bool,
    pub(crate) at: DateTime<Utc>,
}

/// All that the simulator knows of one payment id.
#[derive(Debug)]
pub(crate) struct Payment {
    pub(crate) id: String,
    pub(crate) store_id: String,
    /// Order of arrival, which breaks ties between equal times.
    pub(crate) sequence: u64,
    pub(crate) pre_registered: Option<PreRegistered>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) cancellations: Vec<Cancellation>,
    pub(crate) disputes: Vec<Dispute>,
    /// How many times a cancel reached the PG, which is what idempotency is about.
    pub(crate) cancel_effects: u32,
    pub(crate) calls: VecDeque<Call>,
    pub(crate) call_counts: BTreeMap<&'static str, u64>,
    pub(crate) webhooks: VecDeque<WebhookRecord>,
}

impl Payment {
    pub(crate) fn new(id: &str, store_id: &str, sequence: u64) -> Self {
        Self {
            id: id.to_owned(),
            store_id: store_id.to_owned(),
            sequence,
            pre_registered: None,
            attempts: Vec::new(),
            cancellations: Vec::new(),
            disputes: Vec::new(),
            cancel_effects: 0,
            calls: VecDeque::new(),
            call_counts: BTreeMap::new(),
            webhooks: VecDeque::new(),
        }
    }

    /// The attempt that stands for the payment: the one that took money, else the latest.
    pub(crate) fn current(&self) -> Option<&Attempt> {
        self.settled().or_else(|| self.attempts.last())
    }

    pub(crate) fn settled(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.status.is_settled())
    }

    pub(crate) fn settled_mut(&mut self) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| attempt.status.is_settled())
    }

    /// The attempt whose window is open.
    pub(crate) fn open_attempt(&self) -> Option<&Attempt> {
        self.attempts
            .last()
            .filter(|attempt| matches!(attempt.status, Status::Ready | Status::PayPending))
    }

    fn open_attempt_mut(&mut self) -> Result<&mut Attempt, Refusal> {
        self.refuse_settled()?;
        self.attempts
            .last_mut()
            .filter(|attempt| matches!(attempt.status, Status::Ready | Status::PayPending))
            .ok_or_else(|| Refusal::state("no payment window is open"))
    }

    fn waiting_attempt_mut(&mut self) -> Option<&mut Attempt> {
        self.attempts
            .iter_mut()
            .rev()
            .find(|attempt| attempt.status == Status::VirtualAccountIssued)
    }

    fn refuse_settled(&self) -> Result<(), Refusal> {
        match self.settled() {
            Some(attempt) if attempt.paid_at.is_some() => {
                Err(Refusal::new("PaymentAlreadyPaid", "the payment is already paid"))
            }
            Some(_) => Err(Refusal::state("the payment is closed")),
            None => Ok(()),
        }
    }

    pub(crate) fn note_call(&mut self, call: Call) {
        *self.call_counts.entry(call.operation).or_default() += 1;
        if self.calls.len() == CALLS_MAX {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }

    /// Opens the window: a new attempt. `enforce` compares with what was pre-registered.
    pub(crate) fn open(&mut self, opening: Opening, enforce: bool, moment: Moment<'_>) -> Result<Happening, Refusal> {
        self.refuse_settled()?;
        if enforce && let Some(fixed) = &self.pre_registered {
            let total_differs = fixed.total.is_some_and(|total| total != opening.total);
            let currency_differs = fixed
                .currency
                .as_ref()
                .is_some_and(|currency| *currency != opening.currency);
            if total_differs || currency_differs {
                let message = "the amount differs from the one that was registered beforehand";
                return Err(Refusal::new("AmountNotEqualToPredefined", message));
            }
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            return Err(Refusal::state("too many attempts under this payment id"));
        }
        let attempt = Attempt {
            transaction_id: moment.random.uuid(),
            opening,
            status: Status::Ready,
            discount: 0,
            requested_at: moment.now,
            updated_at: moment.now,
            status_changed_at: moment.now,
            paid_at: None,
            closed_at: None,
            failure: None,
            account: None,
            approval: moment.random.digits(8),
            pg_tx_id: None,
            payment_token: None,
        };
        let happening = attempt.happening(HappeningKind::Ready, moment.now);
        self.attempts.push(attempt);
        Ok(happening)
    }

    /// The open attempt is approved. `total` other than asked for is the shopper's or the PG's doing; `discount` is
    /// taken off what the shopper pays, not off the total.
    pub(crate) fn pay(&mut self, total: Option<i64>, discount: i64, moment: Moment<'_>) -> Result<Happening, Refusal> {
        let attempt = self.open_attempt_mut()?;
        if discount < 0 || discount > total.unwrap_or(attempt.opening.total) {
            return Err(Refusal::new(
                "RequestParseFailed",
                "discount must be from 0 to the total",
            ));
        }
        if let Some(total) = total {
            attempt.opening.charge(total);
        }
        attempt.discount = discount;
        attempt.paid_at = Some(moment.now);
        attempt.payment_token = None;
        attempt
            .pg_tx_id
            .get_or_insert_with(|| format!("simtx{}", attempt.approval));
        attempt.become_status(Status::Paid, moment.now);
        Ok(attempt.happening(HappeningKind::Paid, moment.now))
    }

    /// The approval is outstanding, as with foreign wallets.
    pub(crate) fn pend(&mut self, moment: Moment<'_>) -> Result<Happening, Refusal> {
        let attempt = self.open_attempt_mut()?;
        attempt.become_status(Status::PayPending, moment.now);
        Ok(attempt.happening(HappeningKind::PayPending, moment.now))
    }

    /// Manual approval: the shopper agreed, and nothing is charged until the shop confirms with this token.
    pub(crate) fn authorize(&mut self, moment: Moment<'_>) -> Result<String, Refusal> {
        let attempt = self.open_attempt_mut()?;
        let token = moment.random.token();
        attempt.payment_token = Some(token.clone());
        attempt.updated_at = moment.now;
        Ok(token)
    }

    /// The open attempt fails; the shopper may try again under the same id.
    pub(crate) fn fail(&mut self, failure: Failure, moment: Moment<'_>) -> Result<Happening, Refusal> {
        let attempt = self.open_attempt_mut()?;
        attempt.failure = Some(failure);
        attempt.payment_token = None;
        attempt.become_status(Status::Failed, moment.now);
        Ok(attempt.happening(HappeningKind::Failed, moment.now))
    }

    /// A virtual account is given out, to be paid before `expired_at`.
    pub(crate) fn issue(
        &mut self,
        bank: &str,
        expired_at: DateTime<Utc>,
        moment: Moment<'_>,
    ) -> Result<Happening, Refusal> {
        let attempt = self.open_attempt_mut()?;
        attempt.opening.method = PayMethod::VirtualAccount;
        attempt.account = Some(Account {
            bank: bank.to_owned(),
            number: format!("562{}", moment.random.digits(11)),
            remitter: attempt.opening.customer["name"].as_str().map(str::to_owned),
            issued_at: moment.now,
            expired_at,
        });
        attempt.pg_tx_id = Some(format!("simtx{}", attempt.approval));
        attempt.become_status(Status::VirtualAccountIssued, moment.now);
        Ok(attempt.happening(HappeningKind::VirtualAccountIssued, moment.now))
    }

    /// The account's date passes. Nothing else changes and nobody is told: PortOne documents no webhook for it.
    pub(crate) fn expire(&mut self, moment: Moment<'_>) -> Result<(), Refusal> {
        let attempt = self
            .waiting_attempt_mut()
            .ok_or_else(|| Refusal::state("no virtual account is waiting"))?;
        let account = attempt.account.as_mut().expect("an issued attempt has its account");
        account.expired_at = account.expired_at.min(moment.now - TimeDelta::seconds(1));
        attempt.updated_at = moment.now;
        Ok(())
    }

    /// Money arrives on the virtual account; also after it expired, since banks report late. Another amount than asked
    /// for becomes the payment's amount, so that the shop has to notice.
    pub(crate) fn deposit(
        &mut self,
        amount: Option<i64>,
        short_by: i64,
        moment: Moment<'_>,
    ) -> Result<Happening, Refusal> {
        self.refuse_settled()?;
        let attempt = self
            .waiting_attempt_mut()
            .ok_or_else(|| Refusal::state("no virtual account is waiting for a deposit"))?;
        let deposited = amount.unwrap_or(attempt.opening.total) - short_by;
        if deposited <= 0 {
            return Err(Refusal::new("RequestParseFailed", "a deposit must be at least 1"));
        }
        attempt.opening.charge(deposited);
        attempt.paid_at = Some(moment.now);
        attempt.become_status(Status::Paid, moment.now);
        Ok(attempt.happening(HappeningKind::Paid, moment.now))
    }

    /// Closes the waiting virtual account; false if none is waiting.
    pub(crate) fn close_account(&mut self, becomes: Status, moment: Moment<'_>) -> bool {
        if self.settled().is_some() {
            return false;
        }
        let Some(attempt) = self.waiting_attempt_mut() else {
            return false;
        };
        attempt.closed_at = Some(moment.now);
        if becomes == Status::Failed {
            attempt.failure = Some(Failure {
                reason: "가상계좌 말소".to_owned(),
                pg_code: "VIRTUAL_ACCOUNT_CLOSED".to_owned(),
                pg_message: "가상계좌가 말소되었습니다".to_owned(),
            });
        }
        attempt.become_status(becomes, moment.now);
        true
    }

    /// Opens a dispute about money that was paid.
    pub(crate) fn dispute(&mut self, reason: String, moment: Moment<'_>) -> Result<Happening, Refusal> {
        let attempt = self
            .attempts
            .iter_mut()
            .find(|attempt| attempt.status == Status::Paid)
            .ok_or_else(|| Refusal::state("only a paid payment can be disputed"))?;
        attempt.updated_at = moment.now;
        let happening = attempt.happening(HappeningKind::DisputeCreated, moment.now);
        self.disputes.push(Dispute {
            reason,
            created_at: moment.now,
            resolved_at: None,
        });
        Ok(happening)
    }

    /// Closes the oldest open dispute.
    pub(crate) fn resolve_dispute(&mut self, moment: Moment<'_>) -> Result<Happening, Refusal> {
        let transaction_id = self.settled().map(|attempt| attempt.transaction_id.clone());
        let dispute = self.disputes.iter_mut().find(|dispute| dispute.resolved_at.is_none());
        let (Some(transaction_id), Some(dispute)) = (transaction_id, dispute) else {
            return Err(Refusal::state("no dispute is open"));
        };
        dispute.resolved_at = Some(moment.now);
        let kind = HappeningKind::DisputeResolved;
        Ok(Happening {
            kind,
            transaction_id,
            cancellation_id: None,
            at: moment.now,
        })
    }
}
