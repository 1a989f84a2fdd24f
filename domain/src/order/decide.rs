//! What follows from each command.

use jangbu_events::{
    CancelReason, ChannelType, LineShare, Money, OrderEvent, PaymentId, RejectReason, Shortage, Timestamp,
    order::ExtensionReason,
};

use super::{Details, ImportOrder, Order, OrderError, OrderStatus, PlaceOrder, Sale};

impl Order {
    pub(super) fn place(&self, order: &PlaceOrder) -> Result<Vec<OrderEvent>, OrderError> {
        match self.details() {
            None => Ok(vec![OrderEvent::Placed {
                order_number: order.order_number.clone(),
                cart_id: order.cart_id,
                attempt: order.attempt,
                owner: order.owner.clone(),
                lines: order.lines.clone(),
                totals: order.totals,
                orderer: order.orderer.clone(),
                recipient: order.recipient.clone(),
                consents: order.consents.clone(),
                pay_method: order.pay_method,
                expires_at: order.expires_at,
            }]),
            // The deadline may have moved since; all else of one checkout stays as it was.
            Some(placed) if placed.order_number == order.order_number && placed.lines == order.lines => Ok(Vec::new()),
            Some(_) => Err(OrderError::AlreadyPlaced),
        }
    }

    pub(super) fn import(&self, import: &ImportOrder) -> Result<Vec<OrderEvent>, OrderError> {
        match self {
            Self::NotPlaced => Ok(vec![OrderEvent::Imported {
                source: import.source.clone(),
                source_id: import.source_id.clone(),
                external_customer: import.external_customer.clone(),
                external_reference: import.external_reference.clone(),
                lines: import.lines.clone(),
                totals: import.totals,
            }]),
            Self::Imported(imported) if **imported == *import => Ok(Vec::new()),
            Self::Imported(_) => Err(OrderError::Imported),
            Self::Placed(_)
            | Self::AwaitingPayment(_)
            | Self::Confirmed(..)
            | Self::Cancelled { .. }
            | Self::Refused { .. }
            | Self::Expired(_) => Err(OrderError::AlreadyPlaced),
        }
    }

    pub(super) fn await_payment(&self, payment_id: PaymentId) -> Vec<OrderEvent> {
        let Self::Placed(details) = self else {
            // Already waiting; or somebody cancelled it while its stock was being held.
            return Vec::new();
        };
        vec![OrderEvent::AwaitingPayment {
            payment_id,
            due: details.totals.total,
            expires_at: details.expires_at,
        }]
    }

    pub(super) fn extend_deadline(&self, expires_at: Timestamp, reason: ExtensionReason) -> Vec<OrderEvent> {
        match self {
            Self::Placed(details) | Self::AwaitingPayment(details) if expires_at > details.expires_at => {
                vec![OrderEvent::DeadlineExtended { expires_at, reason }]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn confirm(
        &self,
        payment_id: PaymentId,
        paid: Money,
        paid_at: Timestamp,
        channel: ChannelType,
    ) -> Vec<OrderEvent> {
        let Some(details) = self.details() else {
            return Vec::new();
        };
        let told_before =
            details.rejected.contains(&payment_id) || self.sale().is_some_and(|sale| sale.payment_id == payment_id);
        if told_before {
            return Vec::new();
        }
        let reason = match self {
            // Not yet awaiting, but the payment is real and right: the sale stands.
            Self::Placed(_) | Self::AwaitingPayment(_) if paid == details.totals.total => {
                return vec![details.confirmed(payment_id, paid, paid_at, channel)];
            }
            Self::Placed(_) | Self::AwaitingPayment(_) => RejectReason::WrongAmount,
            Self::Cancelled { .. } => RejectReason::OrderCancelled,
            Self::Refused { .. } => RejectReason::OrderRefused,
            Self::Expired(_) => RejectReason::OrderExpired,
            Self::NotPlaced | Self::Imported(_) | Self::Confirmed(..) => RejectReason::AlreadyPaid,
        };
        vec![OrderEvent::PaymentRejected {
            payment_id,
            paid,
            reason,
        }]
    }

    pub(super) fn record_refund(
        &self,
        payment_id: PaymentId,
        cancellation_id: &str,
        amount: Money,
        cancelled_at: Timestamp,
    ) -> Result<Vec<OrderEvent>, OrderError> {
        // A second or late payment goes back as well, but its money was never this order's.
        let Some((details, sale)) = self.details().zip(self.sale()) else {
            return Ok(Vec::new());
        };
        let known = sale
            .refunds
            .iter()
            .any(|refund| refund.cancellation_id == cancellation_id);
        if sale.payment_id != payment_id || known || amount.amount <= 0 {
            return Ok(Vec::new());
        }
        let before = sale.remaining();
        if amount > before {
            return Err(OrderError::ExceedsPaid {
                amount,
                remaining: before,
            });
        }
        let remaining = Money::won(before.amount - amount.amount);
        let mut events = vec![OrderEvent::Refunded {
            payment_id,
            cancellation_id: cancellation_id.to_owned(),
            amount,
            refunded_total: Money::won(sale.paid.amount - remaining.amount),
            remaining,
            cancelled_at,
            shares: details.shares(sale, amount),
        }];
        if remaining == Money::ZERO {
            events.push(OrderEvent::Cancelled {
                reason: CancelReason::RefundedInFull,
                was_confirmed: true,
            });
        }
        Ok(events)
    }

    pub(super) fn cancel(&self, reason: CancelReason) -> Result<Vec<OrderEvent>, OrderError> {
        let cancelled = |was_confirmed| Ok(vec![OrderEvent::Cancelled { reason, was_confirmed }]);
        match self {
            Self::Placed(_) | Self::AwaitingPayment(_) => cancelled(false),
            // Only an order that cost nothing gets here: the last refund cancels by itself.
            Self::Confirmed(_, sale) if sale.remaining() == Money::ZERO => cancelled(true),
            Self::Confirmed(..) => Err(OrderError::RefundFirst),
            Self::Cancelled { .. } => Ok(Vec::new()),
            Self::Refused { .. } => Err(OrderError::Ended {
                status: OrderStatus::Refused,
            }),
            Self::Expired(_) => Err(OrderError::Ended {
                status: OrderStatus::Expired,
            }),
            Self::NotPlaced => Err(OrderError::NotPlaced),
            Self::Imported(_) => Err(OrderError::Imported),
        }
    }

    pub(super) fn refuse(&self, shortages: &[Shortage]) -> Result<Vec<OrderEvent>, OrderError> {
        match self {
            Self::Placed(_) => Ok(vec![OrderEvent::Refused {
                shortages: shortages.to_vec(),
            }]),
            Self::AwaitingPayment(_) | Self::Confirmed(..) => Err(OrderError::StockHeld),
            // Refused already; or cancelled or expired while its stock was being held.
            Self::Refused { .. } | Self::Cancelled { .. } | Self::Expired(_) => Ok(Vec::new()),
            Self::NotPlaced => Err(OrderError::NotPlaced),
            Self::Imported(_) => Err(OrderError::Imported),
        }
    }

    pub(super) fn expire(&self, now: Timestamp) -> Vec<OrderEvent> {
        match self {
            Self::Placed(details) | Self::AwaitingPayment(details) if now >= details.expires_at => {
                vec![OrderEvent::Expired {}]
            }
            _ => Vec::new(),
        }
    }
}

impl Details {
    fn confirmed(&self, payment_id: PaymentId, paid: Money, paid_at: Timestamp, channel: ChannelType) -> OrderEvent {
        OrderEvent::Confirmed {
            payment_id,
            paid,
            paid_at,
            channel,
            order_number: self.order_number.clone(),
            lines: self.lines.clone(),
            totals: self.totals,
        }
    }

    /// `amount` over the lines, by what is left of each: no share passes what is left, and the last
    /// refund takes exactly what is left.
    fn shares(&self, sale: &Sale, amount: Money) -> Vec<LineShare> {
        let rests: Vec<i64> = self.lines.iter().map(|line| sale.rest_of(line).amount).collect();
        self.lines
            .iter()
            .zip(amount.spread(&rests))
            .map(|(line, amount)| LineShare {
                line_id: line.line_id,
                sku: line.sku.clone(),
                category: line.category.clone(),
                amount,
            })
            .collect()
    }
}
