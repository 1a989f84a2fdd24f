//! The stock of one product. Orders hold what they want until they are paid for or given up; what
//! is held never exceeds what is there, whatever the history.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cqrs_es::{Aggregate, event_sink::EventSink};
use jangbu_events::{AdjustReason, AggregateId, OrderId, ReleaseReason, Sku, StockEvent, StockItemId, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Decide;

/// What is there, and who holds how much of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockItem {
    /// Whose stock; `None` until the first event.
    pub sku: Option<Sku>,
    /// In the warehouse, held or not.
    pub on_hand: u32,
    /// What orders hold, each at most once.
    pub holds: BTreeMap<OrderId, Held>,
    /// Sum over `holds`, kept so that a decision does not depend on how many there are.
    held: u32,
}

/// What one order holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// How many.
    pub quantity: u32,
    /// A hold that still stands at this time is an alarm, never a silent release.
    pub backstop_at: Timestamp,
}

/// What can be asked of the stock of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StockCommand {
    /// Goods arrived.
    Receive {
        /// Whose stock.
        sku: Sku,
        /// How many; none makes no event.
        quantity: u32,
    },
    /// A count found more or fewer than the books say.
    Adjust {
        /// Whose stock.
        sku: Sku,
        /// To add, or to take away when negative; none makes no event.
        delta: i64,
        /// Why.
        reason: AdjustReason,
    },
    /// An order wants some. Too few is an answer, not an error: [`StockEvent::HoldRefused`].
    Hold {
        /// Whose stock.
        sku: Sku,
        /// For whom.
        order_id: OrderId,
        /// How many, at least 1.
        quantity: u32,
        /// When a hold that still stands is an alarm.
        backstop_at: Timestamp,
    },
    /// An order will not be paid; without a hold there is nothing to do.
    Release {
        /// Who held.
        order_id: OrderId,
        /// What became of the order.
        reason: ReleaseReason,
    },
    /// An order is paid: what it holds leaves.
    Commit {
        /// Who holds.
        order_id: OrderId,
    },
    /// Committed goods of a cancelled order are for sale again. Twice is twice: the command id
    /// keeps it from happening again.
    Return {
        /// Whose order it was.
        order_id: OrderId,
        /// How many.
        quantity: u32,
    },
}

/// Why the stock refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StockError {
    /// The order holds nothing that could be sold to it.
    #[error("the order holds none of this stock")]
    NoHold,
    /// The order holds already, and not this many.
    #[error("the order holds {held} already")]
    HoldsAlready {
        /// How many it holds.
        held: u32,
    },
    /// Fewer than nothing, or fewer than orders hold, would be left.
    #[error("of {on_hand} on hand, {held} are held")]
    BelowHeld {
        /// In the warehouse now.
        on_hand: u32,
        /// Held by orders now.
        held: u32,
    },
    /// More than [`StockItem::ON_HAND_MAX`] would be there.
    #[error("more than {} of one product cannot be kept", StockItem::ON_HAND_MAX)]
    TooMany,
    /// There never was any stock of it.
    #[error("the product never had any stock")]
    NeverStocked,
}

impl StockItem {
    /// The most of one product that can be on hand.
    pub const ON_HAND_MAX: u32 = 1_000_000_000;

    /// How many orders hold in all.
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// How many no order holds.
    pub const fn available(&self) -> u32 {
        self.on_hand - self.held
    }

    /// What is on hand after `delta`, if that may be.
    fn on_hand_after(&self, delta: i64) -> Result<u32, StockError> {
        // Saturating is exact here: either end of i64 is far outside what is allowed.
        let after = i64::from(self.on_hand).saturating_add(delta);
        if after < i64::from(self.held) {
            return Err(StockError::BelowHeld {
                on_hand: self.on_hand,
                held: self.held,
            });
        }
        u32::try_from(after)
            .ok()
            .filter(|after| *after <= Self::ON_HAND_MAX)
            .ok_or(StockError::TooMany)
    }

    fn hold(
        &self,
        sku: &Sku,
        order_id: OrderId,
        quantity: u32,
        backstop_at: Timestamp,
    ) -> Result<Vec<StockEvent>, StockError> {
        if let Some(held) = self.holds.get(&order_id) {
            if held.quantity == quantity {
                return Ok(Vec::new());
            }
            return Err(StockError::HoldsAlready { held: held.quantity });
        }
        let sku = sku.clone();
        Ok(vec![match self.available().checked_sub(quantity) {
            Some(available) => StockEvent::Held {
                sku,
                order_id,
                quantity,
                available,
                backstop_at,
            },
            None => StockEvent::HoldRefused {
                sku,
                order_id,
                requested: quantity,
                available: self.available(),
            },
        }])
    }

    fn drop_hold(&mut self, order_id: OrderId) {
        if let Some(hold) = self.holds.remove(&order_id) {
            self.held -= hold.quantity;
        }
    }
}

impl Aggregate for StockItem {
    const TYPE: &'static str = "stock_item";
    type Command = StockCommand;
    type Event = StockEvent;
    type Error = StockError;
    type Services = ();

    async fn handle(&mut self, command: StockCommand, (): &(), sink: &EventSink<Self>) -> Result<(), StockError> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: StockEvent) {
        match event {
            StockEvent::Received { sku, on_hand, .. } | StockEvent::Adjusted { sku, on_hand, .. } => {
                self.sku = Some(sku);
                self.on_hand = on_hand;
            }
            StockEvent::Held {
                sku,
                order_id,
                quantity,
                backstop_at,
                ..
            } => {
                self.sku = Some(sku);
                self.holds.insert(order_id, Held { quantity, backstop_at });
                self.held += quantity;
            }
            StockEvent::HoldRefused { sku, .. } => self.sku = Some(sku),
            StockEvent::Released { order_id, .. } => self.drop_hold(order_id),
            StockEvent::Committed { order_id, on_hand, .. } => {
                self.drop_hold(order_id);
                self.on_hand = on_hand;
            }
            StockEvent::Returned { on_hand, .. } => self.on_hand = on_hand,
        }
    }
}

impl Decide for StockItem {
    type Id = StockItemId;

    const SNAPSHOT_VERSION: Option<i32> = Some(1);

    fn decide(&self, command: &StockCommand) -> Result<Vec<StockEvent>, StockError> {
        match command {
            StockCommand::Receive { quantity: 0, .. } | StockCommand::Adjust { delta: 0, .. } => Ok(Vec::new()),
            StockCommand::Receive { sku, quantity } => {
                let on_hand = self.on_hand_after(i64::from(*quantity))?;
                Ok(vec![StockEvent::Received {
                    sku: sku.clone(),
                    quantity: *quantity,
                    on_hand,
                    available: on_hand - self.held,
                }])
            }
            StockCommand::Adjust { sku, delta, reason } => {
                let on_hand = self.on_hand_after(*delta)?;
                Ok(vec![StockEvent::Adjusted {
                    sku: sku.clone(),
                    delta: *delta,
                    reason: *reason,
                    on_hand,
                    available: on_hand - self.held,
                }])
            }
            StockCommand::Hold {
                sku,
                order_id,
                quantity,
                backstop_at,
            } => self.hold(sku, *order_id, *quantity, *backstop_at),
            StockCommand::Release { order_id, reason } => {
                let (Some(hold), Some(sku)) = (self.holds.get(order_id), &self.sku) else {
                    return Ok(Vec::new());
                };
                Ok(vec![StockEvent::Released {
                    sku: sku.clone(),
                    order_id: *order_id,
                    quantity: hold.quantity,
                    available: self.available() + hold.quantity,
                    reason: *reason,
                }])
            }
            StockCommand::Commit { order_id } => {
                let (Some(hold), Some(sku)) = (self.holds.get(order_id), &self.sku) else {
                    return Err(StockError::NoHold);
                };
                Ok(vec![StockEvent::Committed {
                    sku: sku.clone(),
                    order_id: *order_id,
                    quantity: hold.quantity,
                    on_hand: self.on_hand - hold.quantity,
                    available: self.available(),
                }])
            }
            StockCommand::Return { order_id, quantity } => {
                let sku = self.sku.clone().ok_or(StockError::NeverStocked)?;
                let on_hand = self.on_hand_after(i64::from(*quantity))?;
                Ok(vec![StockEvent::Returned {
                    sku,
                    order_id: *order_id,
                    quantity: *quantity,
                    on_hand,
                    available: on_hand - self.held,
                }])
            }
        }
    }

    fn partition_key(id: StockItemId, _: &StockCommand) -> Uuid {
        id.uuid()
    }
}
