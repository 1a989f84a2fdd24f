//! A payment, as PortOne says it is. The shop never believes a webhook or a browser: whoever holds a
//! payment re-read from PortOne sends [`PaymentCommand::Observe`], and what follows depends on that
//! reading and on what was known before, never on how it was learnt. Once PortOne's state is final,
//! any number of readings in any order leaves the same money events, byte for byte: nothing in
//! them comes from the observer, and knowledge only grows.

mod observe;
mod state;
#[cfg(test)]
mod tests;

use cqrs_es::{Aggregate, event_sink::EventSink};
use jangbu_events::{
    AggregateId, CartId, Money, OrderId, PayMethod, PaymentEvent, PaymentId, PaymentMeans, RefundReason, Sealed,
    Timestamp,
    personal::{AccountNumber, RefundAccount},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::state::{OpenRefund, Payment, PaymentStatus, Received, Request, Returned, VirtualAccount};
use crate::Decide;

/// What can be asked of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentCommand {
    /// Ask the buyer for money.
    Request {
        /// For which order.
        order_id: OrderId,
        /// The cart of that order, whose slot the payment shares.
        cart_id: CartId,
        /// To the won.
        due: Money,
        /// The part of it that carries no VAT.
        tax_free: Money,
        /// How the buyer wants to pay.
        pay_method: PayMethod,
        /// What the payment window shows: [`crate::order_name()`].
        order_name: String,
    },
    /// This is what PortOne says.
    Observe(Box<Observation>),
    /// Give money back. Nothing left, or a request under way for all that is left, makes no event.
    RequestRefund {
        /// Whose money goes back: its refunds are named after it.
        payment_id: PaymentId,
        /// Which of its refunds this is.
        refund: Refunding,
        /// How much, in the smallest unit of the payment's currency; `None` is all that is left.
        amount: Option<i64>,
        /// Why.
        reason: RefundReason,
        /// Where to, for money that came by bank transfer and whose account is not known yet.
        account: Option<Sealed<RefundAccount>>,
    },
    /// The buyer says where money that came by bank transfer goes back to. A refund that waited for it
    /// goes on, and one that PortOne refused is wished for again.
    GiveRefundAccount {
        /// Whose money goes back.
        payment_id: PaymentId,
        /// Where to.
        account: Sealed<RefundAccount>,
    },
    /// PortOne refused to give money back.
    RecordRefundFailure {
        /// Which request; one that is not under way makes no event.
        refund_id: String,
        /// PortOne's error type, or `FAILED`.
        code: String,
        /// The PG's code, if told.
        pg_code: Option<String>,
    },
}

/// Which refund of a payment is wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refunding {
    /// The one refund of money that the order could not take; wished for again it makes no event.
    Rejection,
    /// Another one, by whoever runs the shop, or after PortOne refused one. Its id is drawn when it
    /// is decided, so that of two at once the second is told that the first is under way.
    Next,
}

/// A payment as re-read from PortOne (PROTOCOL A5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Which payment.
    pub payment_id: PaymentId,
    /// PortOne's id of the attempt.
    pub transaction_id: String,
    /// Whether this shop takes real money alone.
    pub live_shop: bool,
    /// ISO 4217 code in PortOne's words.
    pub currency: String,
    /// What was asked for, `amount.total`, in the smallest unit of `currency`.
    pub total: i64,
    /// How the attempt stands.
    pub status: Observed,
    /// Present once money came (PAID, or cancelled after it was paid), whatever became of it.
    pub paid: Option<PaidFacts>,
    /// Cancellations that succeeded, in any order; those under way or failed do not count.
    pub cancellations: Vec<ObservedCancellation>,
}

/// How an attempt to pay stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Nothing to tell: ready, pending, a status of the future, or cancelled before it was paid.
    Pending,
    /// The buyer was given an account number.
    VirtualAccountIssued {
        /// PortOne's name of the bank, if told.
        bank: Option<String>,
        /// Where to pay.
        account: Sealed<AccountNumber>,
        /// Until when.
        expires_at: Option<Timestamp>,
    },
    /// The attempt failed.
    Failed {
        /// When, by PortOne's clock.
        failed_at: Timestamp,
        /// The PG's code, if told.
        pg_code: Option<String>,
    },
    /// Money came; see [`Observation::paid`].
    Paid,
}

/// Money that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidFacts {
    /// When, by PortOne's clock.
    pub paid_at: Timestamp,
    /// The part that carries no VAT.
    pub tax_free: i64,
    /// The VAT inside, if told.
    pub vat: Option<i64>,
    /// What the payment side took off.
    pub discount: i64,
    /// How it came.
    pub means: PaymentMeans,
}

/// Money that went back, whoever asked for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObservedCancellation {
    /// When, by PortOne's clock.
    pub cancelled_at: Timestamp,
    /// PortOne's id of it.
    pub id: String,
    /// How much, in the smallest unit of the payment's currency.
    pub amount: i64,
    /// The part of it that carries no VAT.
    pub tax_free: i64,
    /// The VAT inside it.
    pub vat: i64,
    /// Who began it, in PortOne's words, if told.
    pub trigger: Option<String>,
}

/// Why a payment refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// Nobody has asked for this payment.
    #[error("the payment was never asked for")]
    NotRequested,
    /// It was asked for, and otherwise than now.
    #[error("the payment was asked for already")]
    AlreadyRequested,
    /// No money has come that could go back.
    #[error("the payment is not paid")]
    NotPaid,
    /// More than nothing goes back, or nothing does.
    #[error("a refund of {amount} is none")]
    NotPositive {
        /// How much was wanted.
        amount: i64,
    },
    /// More than is left cannot go back.
    #[error("only {left} can go back")]
    ExceedsRefundable {
        /// What has not gone back, in the smallest unit of the payment's currency.
        left: i64,
    },
    /// One refund at a time: PortOne compares what is left before each (PROTOCOL A7).
    #[error("another refund is under way")]
    RefundInProgress,
    /// The money came by bank transfer: it cannot go back without an account (PROTOCOL A7).
    #[error("the refund needs an account to go to")]
    RefundAccountRequired,
    /// The money goes back the way it came.
    #[error("the refund needs no account")]
    RefundAccountNotNeeded,
}

/// The id of the n-th refund that the shop asks for, and its `Idempotency-Key` at PortOne. `n`
/// counts a payment's own requests from 1 ([`Payment::next_refund_id`]); 0 is set apart for the
/// one that [`crate::checkout`] asks for when an order cannot take the payment.
pub fn refund_id(payment: PaymentId, n: u32) -> String {
    let id = Uuid::new_v5(&payment.uuid(), format!("refund:{n}").as_bytes());
    format!("refund-{}", id.simple())
}

impl Aggregate for Payment {
    const TYPE: &'static str = "payment";
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Error = PaymentError;
    type Services = ();

    async fn handle(&mut self, command: PaymentCommand, (): &(), sink: &EventSink<Self>) -> Result<(), PaymentError> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: PaymentEvent) {
        self.fold(event);
    }
}

impl Decide for Payment {
    type Id = PaymentId;

    fn happened_at(event: &PaymentEvent) -> Option<Timestamp> {
        event.happened_at()
    }

    fn decide(&self, command: &PaymentCommand) -> Result<Vec<PaymentEvent>, PaymentError> {
        match command {
            PaymentCommand::Request {
                order_id,
                cart_id: _,
                due,
                tax_free,
                pay_method,
                order_name,
            } => self.ask(&Request {
                order_id: *order_id,
                due: *due,
                tax_free: *tax_free,
                pay_method: *pay_method,
                order_name: order_name.clone(),
            }),
            PaymentCommand::Observe(observation) => self.observe(observation),
            PaymentCommand::RequestRefund {
                payment_id,
                refund,
                amount,
                reason,
                account,
            } => self.request_refund(*payment_id, *refund, *amount, *reason, account.as_ref()),
            PaymentCommand::GiveRefundAccount { payment_id, account } => self.give_refund_account(*payment_id, account),
            PaymentCommand::RecordRefundFailure {
                refund_id,
                code,
                pg_code,
            } => Ok(self.record_refund_failure(refund_id, code, pg_code.as_ref())),
        }
    }

    /// A payment shares the slot of the cart that its order is made of.
    fn partition_key(id: PaymentId, command: &PaymentCommand) -> Uuid {
        match command {
            PaymentCommand::Request { cart_id, .. } => cart_id.uuid(),
            PaymentCommand::Observe(_)
            | PaymentCommand::RequestRefund { .. }
            | PaymentCommand::GiveRefundAccount { .. }
            | PaymentCommand::RecordRefundFailure { .. } => id.uuid(),
        }
    }
}

impl Payment {
    fn ask(&self, request: &Request) -> Result<Vec<PaymentEvent>, PaymentError> {
        match self.request() {
            None => Ok(vec![PaymentEvent::Requested {
                order_id: request.order_id,
                due: request.due,
                tax_free: request.tax_free,
                pay_method: request.pay_method,
                order_name: request.order_name.clone(),
            }]),
            Some(asked) if asked == request => Ok(Vec::new()),
            Some(_) => Err(PaymentError::AlreadyRequested),
        }
    }

    fn request_refund(
        &self,
        payment_id: PaymentId,
        refund: Refunding,
        amount: Option<i64>,
        reason: RefundReason,
        account: Option<&Sealed<RefundAccount>>,
    ) -> Result<Vec<PaymentEvent>, PaymentError> {
        let request = self.request().ok_or(PaymentError::NotRequested)?;
        let (received, returned) = self.money().ok_or(PaymentError::NotPaid)?;
        let left = self.refundable();
        let refund_id = match refund {
            Refunding::Rejection => refund_id(payment_id, 0),
            Refunding::Next => self.next_refund_id(payment_id),
        };
        if left <= 0 || returned.requested.contains(&refund_id) {
            return Ok(Vec::new());
        }
        let amount = amount.unwrap_or(left);
        if amount <= 0 {
            return Err(PaymentError::NotPositive { amount });
        }
        if amount > left {
            return Err(PaymentError::ExceedsRefundable { left });
        }
        if let Some(open) = &returned.open {
            // All that is left is on its way already: a rejection has nothing to add.
            return match refund {
                Refunding::Rejection if open.outstanding >= left => Ok(Vec::new()),
                Refunding::Rejection | Refunding::Next => Err(PaymentError::RefundInProgress),
            };
        }
        let account = account.filter(|_| received.came_by_transfer());
        // What the shop owes is recorded even so, and waits for an account.
        if !reason.is_owed() && account.is_none() && self.lacks_refund_account() {
            return Err(PaymentError::RefundAccountRequired);
        }
        let given = account.map(|account| PaymentEvent::RefundAccountGiven {
            order_id: request.order_id,
            account: account.clone(),
            waiting_refund_id: None,
        });
        let requested = PaymentEvent::CancellationRequested {
            order_id: request.order_id,
            refund_id,
            amount,
            tax_free: received.tax_free_share(amount, left, &returned.cancellations),
            currency: received.currency.clone(),
            cancellable: left,
            reason,
        };
        Ok(given.into_iter().chain([requested]).collect())
    }

    fn give_refund_account(
        &self,
        payment_id: PaymentId,
        account: &Sealed<RefundAccount>,
    ) -> Result<Vec<PaymentEvent>, PaymentError> {
        let request = self.request().ok_or(PaymentError::NotRequested)?;
        let (received, returned) = self.money().ok_or(PaymentError::NotPaid)?;
        if !received.came_by_transfer() || self.refundable() <= 0 {
            return Err(PaymentError::RefundAccountNotNeeded);
        }
        match (&returned.open, &returned.failed) {
            // The refund under way was asked for with the account known then, and is repeated word for word.
            (Some(_), _) if returned.account.is_some() => return Err(PaymentError::RefundInProgress),
            (None, None) => return Err(PaymentError::RefundAccountNotNeeded),
            (None, Some(failed)) if failed.reason.is_owed() => {
                return self.request_refund(payment_id, Refunding::Next, None, failed.reason, Some(account));
            }
            // What a person had asked for only a person asks for again: it may have been given at the bank.
            (Some(_), _) | (None, Some(_)) => {}
        }
        Ok(vec![PaymentEvent::RefundAccountGiven {
            order_id: request.order_id,
            account: account.clone(),
            waiting_refund_id: returned.open.as_ref().map(|open| open.refund_id.clone()),
        }])
    }

    fn record_refund_failure(&self, refund_id: &str, code: &str, pg_code: Option<&String>) -> Vec<PaymentEvent> {
        let open = self.money().and_then(|(_, returned)| returned.open.as_ref());
        let Some(request) = self
            .request()
            .filter(|_| open.is_some_and(|open| open.refund_id == refund_id))
        else {
            return Vec::new();
        };
        vec![PaymentEvent::CancellationFailed {
            order_id: request.order_id,
            refund_id: refund_id.to_owned(),
            code: code.to_owned(),
            pg_code: pg_code.cloned(),
        }]
    }
}
