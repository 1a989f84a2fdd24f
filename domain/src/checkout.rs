//! The checkout: leads a purchase from its cart to its sale, or undoes what was done.
//!
//! ```text
//! cart checked out -> place the order -> hold every line -> all held: await payment -> ask for it
//!                                                        -> some not: refuse -> release, reopen the cart
//! payment confirmed -> confirm the order -> commit every line
//!                                        -> rejected: give the money back
//! expired, cancelled -> release, reopen the cart     refunded in full -> return the goods
//! ```
//!
//! One state per order. Holds come before money: a refund costs a fee, a released hold nothing. The
//! same events may be told again and, between streams, in another order: what follows from an event
//! is always the same actions or, once they are reflected, none. Command ids derive from the event
//! that causes them, so doing them again changes nothing.

mod react;
#[cfg(test)]
mod tests;

use jangbu_events::{
    CartEvent, CartId, Event, Money, OrderEvent, OrderId, OrderLine, PayMethod, PaymentEvent, PaymentId, Recorded,
    ReleaseReason, Shortage, Sku, StockEvent, StockItemId, Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{CartCommand, OrderCommand, PaymentCommand, StockCommand, order_name};

/// How long after an order's deadline a hold that still stands is an alarm.
pub const BACKSTOP: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// How long after a virtual account's end a deposit may still be on its way to us (PROTOCOL A8).
pub const ACCOUNT_SLACK: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
/// How long at most stock is held for a virtual account, whatever its own end: that one is set in the
/// buyer's browser.
pub const ACCOUNT_LIFETIME_MAX: chrono::TimeDelta = chrono::TimeDelta::days(3);
/// How long a virtual account lasts whose end PortOne does not tell.
pub const ACCOUNT_LIFETIME: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// What the checkout remembers of one order; begins as nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    order: Option<Placed>,
}

/// An order whose stock is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Placed {
    /// The event that placed it: both outcomes of its holds derive from this, since inline and
    /// runner may learn the holds in different orders.
    event_id: Uuid,
    cart_id: CartId,
    order_name: String,
    /// The part of the total that carries no VAT.
    tax_free: Money,
    pay_method: PayMethod,
    lines: Vec<Line>,
    fate: Fate,
}

/// A line, and whether its stock is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    sku: Sku,
    stock: StockItemId,
    quantity: u32,
    hold: Hold,
}

/// The answer of the stock, which never changes once it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Hold {
    Asked,
    Held,
    Refused { available: u32 },
}

/// What becomes of what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    /// It stays held.
    Open,
    /// It is sold.
    Sold,
    /// It goes back, also what turns out to be held only now.
    GivenUp(ReleaseReason),
}

/// What the runner is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a command under the id `command_id(source, &step)`.
    Execute {
        /// What is done, unique among what follows from `source`.
        step: String,
        /// The event that the command id derives from.
        source: Uuid,
        /// To whom, and what.
        command: Box<AnyCommand>,
    },
    /// Wake up at a time; a timer that is set already is set anew.
    Schedule {
        /// Which.
        timer: Timer,
        /// When.
        due_at: Timestamp,
    },
    /// Ask PortOne to give money back, as the payment's open request says.
    Refund {
        /// Of which payment.
        payment_id: PaymentId,
        /// Which request; the `Idempotency-Key`.
        refund_id: String,
    },
}

/// What is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Timer {
    /// The order's payment is re-read, and the order expires unless it was paid or waits longer.
    OrderDeadline {
        /// Which order.
        order_id: OrderId,
        /// The payment it waits for.
        payment_id: PaymentId,
    },
    /// An account number that the buyer may still have is closed: what is paid into it now would have
    /// to go back, and a bank transfer needs an account to go back to.
    CloseAccount {
        /// Of which order.
        order_id: OrderId,
        /// Which payment.
        payment_id: PaymentId,
    },
    /// Whatever the order still holds is an alarm.
    HoldBackstop {
        /// Which order.
        order_id: OrderId,
    },
}

/// A command to any aggregate that a checkout touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyCommand {
    /// To a cart.
    Cart(CartId, CartCommand),
    /// To an order.
    Order(OrderId, OrderCommand),
    /// To a payment.
    Payment(PaymentId, PaymentCommand),
    /// To the stock of a product.
    Stock(StockItemId, StockCommand),
}

/// The id of the command that `step` of what follows from the event `source` sends: `UUIDv5`, the
/// same however often and by whomever it is sent.
pub fn command_id(source: Uuid, step: &str) -> Uuid {
    Uuid::new_v5(&source, step.as_bytes())
}

impl Checkout {
    /// The events that a checkout wants to see; others need not be told.
    pub const EVENT_TYPES: &[&str] = &[
        "cart.checked_out",
        "order.placed",
        "order.awaiting_payment",
        "order.deadline_extended",
        "order.confirmed",
        "order.payment_rejected",
        "order.cancelled",
        "order.refused",
        "order.expired",
        "payment.virtual_account_issued",
        "payment.confirmed",
        "payment.cancellation_requested",
        "payment.refund_account_given",
        "payment.cancelled",
        "stock.held",
        "stock.hold_refused",
    ];

    /// Whose checkout an event belongs to; `None` for events that belong to none.
    pub fn key(event: &Recorded<Event>) -> Option<OrderId> {
        match &event.payload {
            Event::Cart(CartEvent::CheckedOut { order_id, .. })
            | Event::Payment(
                PaymentEvent::Confirmed { order_id, .. }
                | PaymentEvent::Cancelled { order_id, .. }
                | PaymentEvent::VirtualAccountIssued { order_id, .. }
                | PaymentEvent::CancellationRequested { order_id, .. }
                | PaymentEvent::RefundAccountGiven { order_id, .. },
            )
            | Event::Stock(StockEvent::Held { order_id, .. } | StockEvent::HoldRefused { order_id, .. }) => {
                Some(*order_id)
            }
            Event::Order(order) if !matches!(order, OrderEvent::Imported { .. } | OrderEvent::Refunded { .. }) => {
                event.id().ok()
            }
            Event::Order(_)
            | Event::Cart(_)
            | Event::Customer(_)
            | Event::Payment(_)
            | Event::Stock(_)
            | Event::Product(_) => None,
        }
    }
}

impl Placed {
    fn new(event_id: Uuid, cart_id: CartId, pay_method: PayMethod, tax_free: Money, lines: &[OrderLine]) -> Self {
        Self {
            event_id,
            cart_id,
            order_name: order_name(lines),
            tax_free,
            pay_method,
            lines: lines
                .iter()
                .map(|line| Line {
                    sku: line.sku.clone(),
                    stock: line.product_id.stock_item(),
                    quantity: line.quantity,
                    hold: Hold::Asked,
                })
                .collect(),
            fate: Fate::Open,
        }
    }

    /// Every line that could not be held, once all are answered. In the order of the lines, so that
    /// the answer does not depend on which came last.
    fn shortages(&self) -> Option<Vec<Shortage>> {
        let mut shortages = Vec::new();
        for line in &self.lines {
            match line.hold {
                Hold::Asked => return None,
                Hold::Held => {}
                Hold::Refused { available } => shortages.push(Shortage {
                    sku: line.sku.clone(),
                    requested: line.quantity,
                    available,
                }),
            }
        }
        Some(shortages)
    }
}
