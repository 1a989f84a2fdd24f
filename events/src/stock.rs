//! What happens to the stock of a product. Every event says what was left afterwards, so that no
//! reader repeats the arithmetic: `on_hand` is in the warehouse, `available` is `on_hand` less what
//! orders hold.

use cqrs_es::DomainEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{OrderId, Sku, Timestamp, event::current_version};

/// Stock comes in, is held for orders, and leaves with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum StockEvent {
    /// Goods arrived.
    #[serde(rename = "stock.received")]
    Received {
        /// Whose stock.
        sku: Sku,
        /// How many arrived.
        quantity: u32,
        /// In the warehouse now.
        on_hand: u32,
        /// Not held by any order now.
        available: u32,
    },
    /// A count found more or fewer than the books said.
    #[serde(rename = "stock.adjusted")]
    Adjusted {
        /// Whose stock.
        sku: Sku,
        /// Added, or taken away when negative.
        delta: i64,
        /// Why. No free text: what an operator types may name a person.
        reason: AdjustReason,
        /// In the warehouse now.
        on_hand: u32,
        /// Not held by any order now.
        available: u32,
    },
    /// An order holds some until it is paid for or given up.
    #[serde(rename = "stock.held")]
    Held {
        /// Whose stock.
        sku: Sku,
        /// For whom.
        order_id: OrderId,
        /// How many.
        quantity: u32,
        /// Not held by any order now.
        available: u32,
        /// A hold that still stands at this time is an alarm, never a silent release.
        backstop_at: Timestamp,
    },
    /// An order asked for more than was available and got nothing. A fact of its own: the answer to
    /// an order's one hold of this sku never changes afterwards, and lost demand is worth knowing.
    #[serde(rename = "stock.hold_refused")]
    HoldRefused {
        /// Whose stock.
        sku: Sku,
        /// Who asked.
        order_id: OrderId,
        /// For how many.
        requested: u32,
        /// How many there were.
        available: u32,
    },
    /// The hold of an order that will not be paid is gone.
    #[serde(rename = "stock.released")]
    Released {
        /// Whose stock.
        sku: Sku,
        /// Who held it.
        order_id: OrderId,
        /// How many.
        quantity: u32,
        /// Not held by any order now.
        available: u32,
        /// What became of the order.
        reason: ReleaseReason,
    },
    /// The goods of a paid order are sold.
    #[serde(rename = "stock.committed")]
    Committed {
        /// Whose stock.
        sku: Sku,
        /// Who bought.
        order_id: OrderId,
        /// How many.
        quantity: u32,
        /// In the warehouse now.
        on_hand: u32,
        /// Not held by any order now.
        available: u32,
    },
    /// The goods of a paid order that was cancelled before it was sent are for sale again.
    #[serde(rename = "stock.returned")]
    Returned {
        /// Whose stock.
        sku: Sku,
        /// Whose order it was.
        order_id: OrderId,
        /// How many.
        quantity: u32,
        /// In the warehouse now.
        on_hand: u32,
        /// Not held by any order now.
        available: u32,
    },
}

/// Why the books are put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdjustReason {
    /// A count (실사).
    Count,
    /// Broken or spoilt.
    Damaged,
    /// Gone.
    Lost,
    /// There again.
    Found,
    /// Sent back by a buyer.
    CustomerReturn,
    /// Anything else.
    Other,
}

/// Why a hold was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// Another line of the order was sold out.
    OrderRefused,
    /// Nobody paid in time.
    OrderExpired,
    /// The order was cancelled before it was paid.
    OrderCancelled,
}

impl DomainEvent for StockEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }
    fn event_version(&self) -> String {
        current_version(self.name()).to_owned()
    }
}

impl StockEvent {
    /// The stored name, as in the `event_type` column.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Received { .. } => "stock.received",
            Self::Adjusted { .. } => "stock.adjusted",
            Self::Held { .. } => "stock.held",
            Self::HoldRefused { .. } => "stock.hold_refused",
            Self::Released { .. } => "stock.released",
            Self::Committed { .. } => "stock.committed",
            Self::Returned { .. } => "stock.returned",
        }
    }
}
