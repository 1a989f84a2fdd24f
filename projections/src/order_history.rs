//! Order history: every order with what became of it, for its buyer and for the shop.

mod changes;
mod queries;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, str::FromStr};

use jangbu_events::{
    CartId, Event, Money, OrderId, OrderLine, OrderTotals, Orderer, Owner, PayMethod, PaymentId, Recipient, Recorded,
    Sealed, Timestamp,
};
use sqlx::PgConnection;

use crate::{Projection, korea::DayRange};

pub use queries::{admin_list, by_customer, by_guest, by_id, by_number};

/// One row per order.
pub struct OrderHistory;

impl Projection for OrderHistory {
    const NAME: &'static str = "order_history";
    const CODE_VERSION: i32 = 1;
    const SCHEMA: &'static str = include_str!("../tables/order_history.sql");
    const EVENT_TYPES: &'static [&'static str] = &[
        "order.placed",
        "order.awaiting_payment",
        "order.deadline_extended",
        "order.confirmed",
        "order.refunded",
        "order.cancelled",
        "order.refused",
        "order.expired",
        "order.imported",
    ];

    async fn apply(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        changes::Changes::of(batch)?.write(db, partition).await
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    /// Its stock is being held.
    Placed,
    /// Its stock is held.
    AwaitingPayment,
    /// It is paid.
    Confirmed,
    /// It is off, before or after it was paid.
    Cancelled,
    /// Something was sold out.
    Refused,
    /// Nobody paid in time.
    Expired,
    /// It comes from another system.
    Imported,
}

impl OrderStatus {
    const ALL: [Self; 7] = [
        Self::Placed,
        Self::AwaitingPayment,
        Self::Confirmed,
        Self::Cancelled,
        Self::Refused,
        Self::Expired,
        Self::Imported,
    ];

    /// As it is stored and shown: `placed`, `awaiting_payment`, `confirmed`, `cancelled`, `refused`,
    /// `expired`, `imported`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Imported => "imported",
        }
    }
}

/// A text that is no [`OrderStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of placed, awaiting_payment, confirmed, cancelled, refused, expired, imported")]
pub struct UnknownStatus;

impl FromStr for OrderStatus {
    type Err = UnknownStatus;
    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(UnknownStatus)
    }
}

/// Which orders the shop wants to see; `None` is any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrderFilter<'a> {
    /// Standing there now.
    pub status: Option<OrderStatus>,
    /// Placed on these days in Korea.
    pub days: Option<DayRange>,
    /// With exactly this number.
    pub order_number: Option<&'a str>,
    /// Imported, of exactly this buyer.
    pub external_customer: Option<&'a str>,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// Its id.
    pub order_id: OrderId,
    /// Where it comes from, which tells what else is known of it.
    pub origin: Origin,
    /// What was bought at which price; never empty for an order of this shop.
    pub lines: Vec<OrderLine>,
    /// Sums over the lines.
    pub totals: OrderTotals,
    /// Business time: of an imported order, when it was placed in its own system.
    pub placed_at: Timestamp,
    /// Where it stands.
    pub status: OrderStatus,
    /// The payment that it waits for or that paid for it.
    pub payment_id: Option<PaymentId>,
    /// Until when it waited or waits for its payment.
    pub expires_at: Option<Timestamp>,
    /// When it was confirmed.
    pub confirmed_at: Option<Timestamp>,
    /// When it was cancelled, refused or expired.
    pub ended_at: Option<Timestamp>,
    /// What has gone back in all.
    pub refunded: Money,
    /// Of the order's stream.
    pub sequence: i64,
}

impl OrderRow {
    /// What stands for the order in a list: its first line's name, and how many lines there are.
    pub fn summary(&self) -> (Option<&str>, usize) {
        (self.lines.first().map(|line| line.name.as_str()), self.lines.len())
    }
}

/// Where an order comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A cart of this shop.
    Shop(Box<ShopOrder>),
    /// Another system.
    Imported {
        /// Its name.
        source: String,
        /// The order's id there.
        source_id: String,
        /// The buyer's id there, if known.
        external_customer: Option<String>,
        /// Further columns, as they were.
        external_reference: BTreeMap<String, String>,
    },
}

/// What only orders of this shop have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShopOrder {
    /// `yymmdd-XXXXXXXX`.
    pub order_number: String,
    /// The cart it was made of.
    pub cart_id: CartId,
    /// Whose it is.
    pub owner: Owner,
    /// Who ordered, sealed.
    pub orderer: Sealed<Orderer>,
    /// Who receives the goods, sealed.
    pub recipient: Sealed<Recipient>,
    /// How the orderer wanted to pay.
    pub pay_method: PayMethod,
}
