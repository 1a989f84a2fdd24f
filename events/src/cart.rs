//! What happens to a cart.

use cqrs_es::DomainEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Consents, LineId, Money, OrderId, OrderLine, OrderTotals, Orderer, Owner, PayMethod, ProductId, Recipient, Sealed,
    Sku, Timestamp, event::current_version,
};

/// A cart is filled, checked out into one order at a time, and reopened when that order came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
#[expect(clippy::large_enum_variant, reason = "a batch holds few carts that are checked out")]
pub enum CartEvent {
    /// Somebody took a cart.
    #[serde(rename = "cart.opened")]
    Opened {
        /// Whose it is.
        owner: Owner,
    },
    /// A sku that was not in the cart.
    #[serde(rename = "cart.line_added")]
    LineAdded {
        /// Of the new line.
        line_id: LineId,
        /// What.
        product_id: ProductId,
        /// What, in the shop's words.
        sku: Sku,
        /// Its name at that time.
        name: String,
        /// Its price at that time; checkout prices anew.
        unit_price: Money,
        /// How many.
        quantity: u32,
    },
    /// A line has another quantity: added again, or set by the shopper.
    #[serde(rename = "cart.line_quantity_changed")]
    LineQuantityChanged {
        /// Which line.
        line_id: LineId,
        /// Its sku.
        sku: Sku,
        /// How many there were.
        previous_quantity: u32,
        /// How many there are.
        quantity: u32,
    },
    /// A line is gone.
    #[serde(rename = "cart.line_removed")]
    LineRemoved {
        /// Which line.
        line_id: LineId,
        /// Its sku.
        sku: Sku,
        /// How many there were.
        quantity: u32,
    },
    /// All lines are gone.
    #[serde(rename = "cart.cleared")]
    Cleared {},
    /// The cart became an order: everything the order needs, priced and sealed.
    #[serde(rename = "cart.checked_out")]
    CheckedOut {
        /// `UUIDv5` of (cart, attempt).
        order_id: OrderId,
        /// `yymmdd-XXXXXXXX`.
        order_number: String,
        /// Counts the checkouts of this cart from 1.
        attempt: u32,
        /// Whose order it is.
        owner: Owner,
        /// What was bought at which price.
        lines: Vec<OrderLine>,
        /// Sums over the lines.
        totals: OrderTotals,
        /// Who orders.
        orderer: Sealed<Orderer>,
        /// Who receives the goods.
        recipient: Sealed<Recipient>,
        /// What the orderer agreed to.
        consents: Consents,
        /// How the orderer wants to pay.
        pay_method: PayMethod,
        /// Until when the order waits for its payment.
        expires_at: Timestamp,
    },
    /// The order came to nothing; the lines are in the cart again.
    #[serde(rename = "cart.reopened")]
    Reopened {
        /// The order that came to nothing.
        order_id: OrderId,
        /// Why.
        reason: ReopenReason,
    },
}

/// Why an order came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReopenReason {
    /// Something was sold out.
    OrderRefused,
    /// Nobody paid in time.
    OrderExpired,
    /// Cancelled before it was paid.
    OrderCancelled,
}

impl DomainEvent for CartEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }
    fn event_version(&self) -> String {
        current_version(self.name()).to_owned()
    }
}

impl CartEvent {
    /// The stored name, as in the `event_type` column.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "cart.opened",
            Self::LineAdded { .. } => "cart.line_added",
            Self::LineQuantityChanged { .. } => "cart.line_quantity_changed",
            Self::LineRemoved { .. } => "cart.line_removed",
            Self::Cleared {} => "cart.cleared",
            Self::CheckedOut { .. } => "cart.checked_out",
            Self::Reopened { .. } => "cart.reopened",
        }
    }
}
