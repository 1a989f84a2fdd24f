//! A cart: what a shopper means to buy. It becomes one order at a time, and is a cart again when
//! that order came to nothing.

mod contents;
#[cfg(test)]
mod tests;

use cqrs_es::{Aggregate, event_sink::EventSink};
use jangbu_events::{
    AggregateId, CartEvent, CartId, Consents, LineId, Money, OrderId, OrderLine, OrderTotals, Orderer, Owner,
    PayMethod, ProductId, Recipient, ReopenReason, Sealed, Sku, Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::contents::{CartLine, Contents};
use crate::{Decide, pricing};

/// Where a cart stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cart {
    /// Nobody has taken it.
    #[default]
    NotOpened,
    /// It can be filled and checked out.
    Open(Contents),
    /// It became an order, and cannot be changed unless that order comes to nothing.
    CheckedOut {
        /// As they were at checkout.
        contents: Contents,
        /// What it became.
        order_id: OrderId,
    },
}

/// What can be asked of a cart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CartCommand {
    /// Take an empty cart.
    Open {
        /// Whose it is.
        owner: Owner,
    },
    /// Put goods in, all or none; what is in it already, or is named twice, becomes more.
    AddLines {
        /// What.
        lines: Vec<NewLine>,
    },
    /// Set how many of a line, 1 to [`Cart::QUANTITY_MAX`].
    ChangeQuantity {
        /// Of which line.
        sku: Sku,
        /// How many.
        quantity: u32,
    },
    /// Take a line out; one that is not there makes no event.
    RemoveLine {
        /// Which.
        sku: Sku,
    },
    /// Take everything out.
    Clear,
    /// Make an order of it.
    CheckOut(Box<CheckOut>),
    /// Be a cart again, because the order came to nothing. Another order than the present one
    /// makes no event.
    Reopen {
        /// Which order.
        order_id: OrderId,
        /// What became of it.
        reason: ReopenReason,
    },
}

/// Goods to put into a cart, as the shop offers them at that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    /// `LineId::of(cart, sku)`.
    pub line_id: LineId,
    /// What.
    pub product_id: ProductId,
    /// What, in the shop's words.
    pub sku: Sku,
    /// Its name now.
    pub name: String,
    /// Its price now; checkout prices anew.
    pub unit_price: Money,
    /// How many.
    pub quantity: u32,
}

/// Everything the order needs, priced and sealed by the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckOut {
    /// The cart itself.
    pub cart_id: CartId,
    /// `yymmdd-XXXXXXXX`.
    pub order_number: String,
    /// One more than the checkouts so far: see [`Contents::attempts`].
    pub attempt: u32,
    /// The cart's lines at today's prices.
    pub lines: Vec<OrderLine>,
    /// `pricing::totals` of `lines`.
    pub totals: OrderTotals,
    /// Who orders.
    pub orderer: Sealed<Orderer>,
    /// Who receives the goods.
    pub recipient: Sealed<Recipient>,
    /// What the orderer agreed to.
    pub consents: Consents,
    /// How the orderer wants to pay.
    pub pay_method: PayMethod,
    /// Until when the order waits for its payment.
    pub expires_at: Timestamp,
}

/// Why a cart refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CartError {
    /// Nobody has taken this cart.
    #[error("the cart is not open")]
    NotOpened,
    /// Somebody else has taken this cart.
    #[error("the cart is taken already")]
    AlreadyOpened,
    /// Too few or too many of one sku.
    #[error("{quantity} of {sku}: a line has 1 to {max}")]
    QuantityOutOfRange {
        /// Of which sku.
        sku: Sku,
        /// How many there would be.
        quantity: u32,
        /// The most there may be.
        max: u32,
    },
    /// Too many different skus.
    #[error("a cart has at most {max} lines")]
    TooManyLines {
        /// The most there may be.
        max: usize,
    },
    /// No such line.
    #[error("{sku} is not in the cart")]
    UnknownLine {
        /// Which.
        sku: Sku,
    },
    /// There is nothing to order.
    #[error("the cart is empty")]
    Empty,
    /// The cart is not what the checkout took it for.
    #[error("the cart has changed")]
    Changed,
    /// The totals are not those of the lines.
    #[error("the totals are not those of the lines")]
    WrongTotals,
    /// Without it no personal data may be taken (KOREA G1).
    #[error("the consent to the use of personal data is missing")]
    ConsentMissing,
    /// It is an order now.
    #[error("the cart became {order_id}")]
    CheckedOut {
        /// Which.
        order_id: OrderId,
    },
}

impl Cart {
    /// The most of one sku in a cart.
    pub const QUANTITY_MAX: u32 = 99;
    /// The most different skus in a cart.
    pub const LINES_MAX: usize = 500;

    /// What is, or was at checkout, in it.
    pub const fn contents(&self) -> Option<&Contents> {
        match self {
            Self::NotOpened => None,
            Self::Open(contents) | Self::CheckedOut { contents, .. } => Some(contents),
        }
    }

    fn contents_mut(&mut self) -> Option<&mut Contents> {
        match self {
            Self::NotOpened => None,
            Self::Open(contents) | Self::CheckedOut { contents, .. } => Some(contents),
        }
    }

    fn open(&self) -> Result<&Contents, CartError> {
        match self {
            Self::NotOpened => Err(CartError::NotOpened),
            Self::Open(contents) => Ok(contents),
            Self::CheckedOut { order_id, .. } => Err(CartError::CheckedOut { order_id: *order_id }),
        }
    }
}

impl Aggregate for Cart {
    const TYPE: &'static str = "cart";
    type Command = CartCommand;
    type Event = CartEvent;
    type Error = CartError;
    type Services = ();

    async fn handle(&mut self, command: CartCommand, (): &(), sink: &EventSink<Self>) -> Result<(), CartError> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: CartEvent) {
        match event {
            CartEvent::Opened { owner } => *self = Self::Open(Contents::new(owner)),
            CartEvent::LineAdded {
                line_id,
                product_id,
                sku,
                name,
                unit_price,
                quantity,
            } => {
                if let Some(contents) = self.contents_mut() {
                    let line = CartLine {
                        line_id,
                        product_id,
                        sku: sku.clone(),
                        name,
                        unit_price,
                        quantity,
                    };
                    contents.lines.insert(sku, line);
                }
            }
            CartEvent::LineQuantityChanged { sku, quantity, .. } => {
                if let Some(line) = self.contents_mut().and_then(|contents| contents.lines.get_mut(&sku)) {
                    line.quantity = quantity;
                }
            }
            CartEvent::LineRemoved { sku, .. } => {
                if let Some(contents) = self.contents_mut() {
                    contents.lines.remove(&sku);
                }
            }
            CartEvent::Cleared {} => {
                if let Some(contents) = self.contents_mut() {
                    contents.lines.clear();
                }
            }
            CartEvent::CheckedOut { order_id, attempt, .. } => {
                if let Some(mut contents) = self.contents().cloned() {
                    contents.attempts = attempt;
                    *self = Self::CheckedOut { contents, order_id };
                }
            }
            CartEvent::Reopened { .. } => {
                if let Some(contents) = self.contents().cloned() {
                    *self = Self::Open(contents);
                }
            }
        }
    }
}

impl Decide for Cart {
    type Id = CartId;

    fn decide(&self, command: &CartCommand) -> Result<Vec<CartEvent>, CartError> {
        match command {
            CartCommand::Open { owner } => match self.contents() {
                None => Ok(vec![CartEvent::Opened { owner: owner.clone() }]),
                Some(contents) if contents.owner == *owner => Ok(Vec::new()),
                Some(_) => Err(CartError::AlreadyOpened),
            },
            CartCommand::AddLines { lines } => self.open()?.add(lines),
            CartCommand::ChangeQuantity { sku, quantity } => self.open()?.change_quantity(sku, *quantity),
            CartCommand::RemoveLine { sku } => Ok(self.open()?.remove(sku)),
            CartCommand::Clear => Ok(self.open()?.clear()),
            CartCommand::CheckOut(check_out) => check_out.decide(self.open()?).map(|event| vec![event]),
            CartCommand::Reopen { order_id, reason } => match self {
                Self::NotOpened => Err(CartError::NotOpened),
                Self::CheckedOut { order_id: current, .. } if current == order_id => Ok(vec![CartEvent::Reopened {
                    order_id: *order_id,
                    reason: *reason,
                }]),
                Self::Open(_) | Self::CheckedOut { .. } => Ok(Vec::new()),
            },
        }
    }

    fn partition_key(id: CartId, _: &CartCommand) -> Uuid {
        id.uuid()
    }
}

impl CheckOut {
    fn decide(&self, contents: &Contents) -> Result<CartEvent, CartError> {
        if contents.lines.is_empty() {
            return Err(CartError::Empty);
        }
        if self.attempt != contents.attempts + 1 || !contents.matches(&self.lines) {
            return Err(CartError::Changed);
        }
        if !self.consents.privacy {
            return Err(CartError::ConsentMissing);
        }
        if pricing::totals(&self.lines).as_ref() != Ok(&self.totals) {
            return Err(CartError::WrongTotals);
        }
        Ok(CartEvent::CheckedOut {
            order_id: OrderId::of(self.cart_id, self.attempt),
            order_number: self.order_number.clone(),
            attempt: self.attempt,
            owner: contents.owner.clone(),
            lines: self.lines.clone(),
            totals: self.totals,
            orderer: self.orderer.clone(),
            recipient: self.recipient.clone(),
            consents: self.consents.clone(),
            pay_method: self.pay_method,
            expires_at: self.expires_at,
        })
    }
}
