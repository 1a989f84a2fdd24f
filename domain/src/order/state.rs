//! Where an order stands, and how events move it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jangbu_events::{
    CancelReason, CartId, Consents, LineId, LineShare, Money, OrderEvent, OrderLine, OrderTotals, Orderer, Owner,
    PayMethod, PaymentId, Recipient, Sealed, Shortage, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::ImportOrder;

/// Where an order stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// There is no such order.
    #[default]
    NotPlaced,
    /// Its stock is being held.
    Placed(Box<Details>),
    /// All its stock is held; it waits for the payment [`Details::payment_id`] of the total.
    AwaitingPayment(Box<Details>),
    /// It is paid for.
    Confirmed(Box<Details>, Sale),
    /// It is off.
    Cancelled {
        /// The order.
        details: Box<Details>,
        /// Why.
        reason: CancelReason,
        /// The sale that went back in full, if it had been paid for.
        sale: Option<Sale>,
    },
    /// Something was sold out.
    Refused {
        /// The order.
        details: Box<Details>,
        /// Every line that could not be held.
        shortages: Vec<Shortage>,
    },
    /// Nobody paid in time.
    Expired(Box<Details>),
    /// A past order of another system.
    Imported(Box<ImportOrder>),
}

/// What an order is, however it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
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
    /// Until when it waits for its payment, or waited.
    pub expires_at: Timestamp,
    /// The payment it waits or waited for; `None` before its stock was held.
    pub payment_id: Option<PaymentId>,
    /// Payments that it could not take.
    pub rejected: BTreeSet<PaymentId>,
}

/// What was paid for an order, and what of it went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    /// The payment that paid for it.
    pub payment_id: PaymentId,
    /// What was paid.
    pub paid: Money,
    /// When, by PortOne's clock.
    pub paid_at: Timestamp,
    /// What went back, in the order in which it was learnt.
    pub refunds: Vec<Refund>,
    /// What has not gone back, by line. Sums to [`Sale::remaining`].
    pub rest: BTreeMap<LineId, Money>,
}

/// Money that went back to the buyer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// PortOne's id of the cancellation.
    pub cancellation_id: String,
    /// How much.
    pub amount: Money,
    /// When, by PortOne's clock.
    pub cancelled_at: Timestamp,
}

/// Where an order stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Its stock is being held.
    Placed,
    /// It waits for its payment.
    AwaitingPayment,
    /// It is paid for.
    Confirmed,
    /// It is off.
    Cancelled,
    /// Something was sold out.
    Refused,
    /// Nobody paid in time.
    Expired,
    /// A past order of another system.
    Imported,
}

impl OrderStatus {
    /// As in JSON: `awaiting_payment`.
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

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Order {
    /// In one word; `None` where there is no order.
    pub const fn status(&self) -> Option<OrderStatus> {
        Some(match self {
            Self::NotPlaced => return None,
            Self::Placed(_) => OrderStatus::Placed,
            Self::AwaitingPayment(_) => OrderStatus::AwaitingPayment,
            Self::Confirmed(..) => OrderStatus::Confirmed,
            Self::Cancelled { .. } => OrderStatus::Cancelled,
            Self::Refused { .. } => OrderStatus::Refused,
            Self::Expired(_) => OrderStatus::Expired,
            Self::Imported(_) => OrderStatus::Imported,
        })
    }

    /// What the order is; `None` where there is none, or an imported one.
    pub const fn details(&self) -> Option<&Details> {
        match self {
            Self::NotPlaced | Self::Imported(_) => None,
            Self::Placed(details)
            | Self::AwaitingPayment(details)
            | Self::Confirmed(details, _)
            | Self::Cancelled { details, .. }
            | Self::Refused { details, .. }
            | Self::Expired(details) => Some(details),
        }
    }

    /// What was paid for it, if it ever was.
    pub const fn sale(&self) -> Option<&Sale> {
        match self {
            Self::Confirmed(_, sale) => Some(sale),
            Self::Cancelled { sale, .. } => sale.as_ref(),
            Self::NotPlaced
            | Self::Placed(_)
            | Self::AwaitingPayment(_)
            | Self::Refused { .. }
            | Self::Expired(_)
            | Self::Imported(_) => None,
        }
    }

    fn details_mut(&mut self) -> Option<&mut Details> {
        match self {
            Self::NotPlaced | Self::Imported(_) => None,
            Self::Placed(details)
            | Self::AwaitingPayment(details)
            | Self::Confirmed(details, _)
            | Self::Cancelled { details, .. }
            | Self::Refused { details, .. }
            | Self::Expired(details) => Some(details),
        }
    }

    /// Takes the details and the sale out, for a new standing to be made of them.
    fn take(&mut self) -> Option<(Box<Details>, Option<Sale>)> {
        match std::mem::take(self) {
            Self::NotPlaced | Self::Imported(_) => None,
            Self::Placed(details)
            | Self::AwaitingPayment(details)
            | Self::Refused { details, .. }
            | Self::Expired(details) => Some((details, None)),
            Self::Confirmed(details, sale) => Some((details, Some(sale))),
            Self::Cancelled { details, sale, .. } => Some((details, sale)),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each event")]
    pub(super) fn fold(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed {
                order_number,
                cart_id,
                attempt,
                owner,
                lines,
                totals,
                orderer,
                recipient,
                consents,
                pay_method,
                expires_at,
            } => {
                *self = Self::Placed(Box::new(Details {
                    order_number,
                    cart_id,
                    attempt,
                    owner,
                    lines,
                    totals,
                    orderer,
                    recipient,
                    consents,
                    pay_method,
                    expires_at,
                    payment_id: None,
                    rejected: BTreeSet::new(),
                }));
            }
            OrderEvent::AwaitingPayment {
                payment_id, expires_at, ..
            } => {
                if let Some((mut details, _)) = self.take() {
                    details.payment_id = Some(payment_id);
                    details.expires_at = expires_at;
                    *self = Self::AwaitingPayment(details);
                }
            }
            OrderEvent::DeadlineExtended { expires_at, .. } => {
                if let Some(details) = self.details_mut() {
                    details.expires_at = expires_at;
                }
            }
            OrderEvent::Confirmed {
                payment_id,
                paid,
                paid_at,
                ..
            } => {
                if let Some((details, _)) = self.take() {
                    let sale = Sale::new(payment_id, paid, paid_at, &details.lines);
                    *self = Self::Confirmed(details, sale);
                }
            }
            OrderEvent::PaymentRejected { payment_id, .. } => {
                if let Some(details) = self.details_mut() {
                    details.rejected.insert(payment_id);
                }
            }
            OrderEvent::Refunded {
                cancellation_id,
                amount,
                cancelled_at,
                shares,
                ..
            } => {
                if let Self::Confirmed(_, sale) = self {
                    sale.give_back(&shares);
                    sale.refunds.push(Refund {
                        cancellation_id,
                        amount,
                        cancelled_at,
                    });
                }
            }
            OrderEvent::Cancelled { reason, .. } => {
                if let Some((details, sale)) = self.take() {
                    *self = Self::Cancelled { details, reason, sale };
                }
            }
            OrderEvent::Refused { shortages } => {
                if let Some((details, _)) = self.take() {
                    *self = Self::Refused { details, shortages };
                }
            }
            OrderEvent::Expired {} => {
                if let Some((details, _)) = self.take() {
                    *self = Self::Expired(details);
                }
            }
            OrderEvent::Imported {
                source,
                source_id,
                external_customer,
                external_reference,
                lines,
                totals,
            } => {
                *self = Self::Imported(Box::new(ImportOrder {
                    source,
                    source_id,
                    external_customer,
                    external_reference,
                    lines,
                    totals,
                }));
            }
        }
    }
}

impl Sale {
    /// What was paid is spread over the lines once, and refunds are taken from that same spread
    /// (KOREA M4). Without delivery each line simply starts at its own total.
    fn new(payment_id: PaymentId, paid: Money, paid_at: Timestamp, lines: &[OrderLine]) -> Self {
        let weights: Vec<i64> = lines.iter().map(|line| line.total.amount).collect();
        let rest = lines
            .iter()
            .map(|line| line.line_id)
            .zip(paid.spread(&weights))
            .collect();
        Self {
            payment_id,
            paid,
            paid_at,
            refunds: Vec::new(),
            rest,
        }
    }

    /// What has gone back.
    pub fn refunded(&self) -> Money {
        Money::won(self.refunds.iter().map(|refund| refund.amount.amount).sum())
    }

    /// What has not gone back.
    pub fn remaining(&self) -> Money {
        Money::won(self.paid.amount - self.refunded().amount)
    }

    /// What of a line has not gone back.
    pub(super) fn rest_of(&self, line: &OrderLine) -> Money {
        self.rest.get(&line.line_id).copied().unwrap_or(Money::ZERO)
    }

    fn give_back(&mut self, shares: &[LineShare]) {
        for share in shares {
            if let Some(rest) = self.rest.get_mut(&share.line_id) {
                *rest = Money::won(rest.amount - share.amount.amount);
            }
        }
    }
}
