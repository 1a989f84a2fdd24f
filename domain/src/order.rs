//! An order: it waits for its stock, then for its payment, and ends confirmed, cancelled, refused or
//! expired. Whether a payment or a deadline came first is decided here and nowhere else.
//!
//! Most commands come from [`crate::checkout`], which may be late: what an ended order is asked to
//! do makes no event unless it would be wrong to ignore it, as money always is.

mod decide;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cqrs_es::{Aggregate, event_sink::EventSink};
use jangbu_events::{
    AggregateId, CancelReason, CartId, ChannelType, Consents, Money, OrderEvent, OrderId, OrderLine, OrderTotals,
    Orderer, Owner, PayMethod, PaymentId, Recipient, Sealed, Shortage, Timestamp, order::ExtensionReason,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::state::{Details, Order, OrderStatus, Refund, Sale};
use crate::Decide;

/// What can be asked of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderCommand {
    /// Let it exist.
    Place(Box<PlaceOrder>),
    /// Every line is held: wait for a payment of the whole total.
    AwaitPayment {
        /// Which payment.
        payment_id: PaymentId,
    },
    /// Wait longer; an earlier deadline than the present one makes no event.
    ExtendDeadline {
        /// Until when.
        expires_at: Timestamp,
        /// Why.
        reason: ExtensionReason,
    },
    /// Money is there. What the order cannot take is rejected by an event, not by an error: the
    /// money exists and must go back.
    Confirm {
        /// Which payment.
        payment_id: PaymentId,
        /// How much.
        paid: Money,
        /// When, by PortOne's clock.
        paid_at: Timestamp,
        /// Real money or play money.
        channel: ChannelType,
    },
    /// Money went back to the buyer. Money of a payment that did not pay for this order is none of
    /// its business and makes no event.
    RecordRefund {
        /// Of which payment.
        payment_id: PaymentId,
        /// PortOne's id of this cancellation.
        cancellation_id: String,
        /// How much.
        amount: Money,
        /// When, by PortOne's clock.
        cancelled_at: Timestamp,
    },
    /// Call it off. What is paid for must be refunded first.
    Cancel {
        /// Why.
        reason: CancelReason,
    },
    /// Some of it is sold out.
    Refuse {
        /// Every line that could not be held.
        shortages: Vec<Shortage>,
    },
    /// Give it up if its deadline has passed; else there is no event.
    Expire {
        /// The present time.
        now: Timestamp,
    },
    /// Take over a past order of another system.
    Import(Box<ImportOrder>),
}

/// Everything about a new order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceOrder {
    /// `yymmdd-XXXXXXXX`, unique in the store.
    pub order_number: String,
    /// The cart it is made of.
    pub cart_id: CartId,
    /// Counts the orders of this cart from 1.
    pub attempt: u32,
    /// Whose it is.
    pub owner: Owner,
    /// What is bought at which price.
    pub lines: Vec<OrderLine>,
    /// Sums over the lines.
    pub totals: OrderTotals,
    /// Who orders.
    pub orderer: Sealed<Orderer>,
    /// Who receives the goods.
    pub recipient: Sealed<Recipient>,
    /// What the orderer agreed to.
    pub consents: Consents,
    /// How the orderer wants to pay.
    pub pay_method: PayMethod,
    /// Until when it waits for its payment.
    pub expires_at: Timestamp,
}

/// A past order of another system: counted, never acted upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportOrder {
    /// The system it comes from.
    pub source: String,
    /// Its id there.
    pub source_id: String,
    /// The buyer's id there, if known.
    pub external_customer: Option<String>,
    /// Further columns of the source, kept as they were.
    pub external_reference: BTreeMap<String, String>,
    /// What was bought.
    pub lines: Vec<OrderLine>,
    /// Sums over the lines.
    pub totals: OrderTotals,
}

/// Why an order refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such order.
    #[error("the order does not exist")]
    NotPlaced,
    /// It exists, and is another than this one.
    #[error("the order exists already")]
    AlreadyPlaced,
    /// It is paid for: the money goes back first, and the order is off when all of it has.
    #[error("the order is paid for; refund it first")]
    RefundFirst,
    /// It came to nothing already.
    #[error("the order has {status} already")]
    Ended {
        /// How: expired or refused.
        status: OrderStatus,
    },
    /// All of its stock is held: it can be cancelled, but is not sold out.
    #[error("all of the order's stock is held")]
    StockHeld,
    /// More would have gone back than came.
    #[error("{amount} cannot go back: only {remaining} is left")]
    ExceedsPaid {
        /// What went back this time.
        amount: Money,
        /// What had not gone back.
        remaining: Money,
    },
    /// It is a past order of another system, which nothing can be done to.
    #[error("the order was imported and cannot be changed")]
    Imported,
}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Error = OrderError;
    type Services = ();

    async fn handle(&mut self, command: OrderCommand, (): &(), sink: &EventSink<Self>) -> Result<(), OrderError> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: OrderEvent) {
        self.fold(event);
    }
}

impl Decide for Order {
    type Id = OrderId;

    fn happened_at(event: &OrderEvent) -> Option<Timestamp> {
        event.happened_at()
    }

    fn decide(&self, command: &OrderCommand) -> Result<Vec<OrderEvent>, OrderError> {
        match (self, command) {
            (_, OrderCommand::Import(import)) => self.import(import),
            (Self::Imported(_), _) => Err(OrderError::Imported),
            (_, OrderCommand::Place(order)) => self.place(order),
            (Self::NotPlaced, _) => Err(OrderError::NotPlaced),
            (_, OrderCommand::AwaitPayment { payment_id }) => Ok(self.await_payment(*payment_id)),
            (_, OrderCommand::ExtendDeadline { expires_at, reason }) => Ok(self.extend_deadline(*expires_at, *reason)),
            (
                _,
                OrderCommand::Confirm {
                    payment_id,
                    paid,
                    paid_at,
                    channel,
                },
            ) => Ok(self.confirm(*payment_id, *paid, *paid_at, *channel)),
            (
                _,
                OrderCommand::RecordRefund {
                    payment_id,
                    cancellation_id,
                    amount,
                    cancelled_at,
                },
            ) => self.record_refund(*payment_id, cancellation_id, *amount, *cancelled_at),
            (_, OrderCommand::Cancel { reason }) => self.cancel(*reason),
            (_, OrderCommand::Refuse { shortages }) => self.refuse(shortages),
            (_, OrderCommand::Expire { now }) => Ok(self.expire(*now)),
        }
    }

    /// An order shares the slot of the cart it is made of; an imported one has its own.
    fn partition_key(id: OrderId, command: &OrderCommand) -> Uuid {
        match command {
            OrderCommand::Place(order) => order.cart_id.uuid(),
            OrderCommand::Import(_)
            | OrderCommand::AwaitPayment { .. }
            | OrderCommand::ExtendDeadline { .. }
            | OrderCommand::Confirm { .. }
            | OrderCommand::RecordRefund { .. }
            | OrderCommand::Cancel { .. }
            | OrderCommand::Refuse { .. }
            | OrderCommand::Expire { .. } => id.uuid(),
        }
    }
}
