//! What follows from a reading of PortOne.

use jangbu_events::{ChannelType, Currency, Money, PaymentEvent, RefundReason, RefuseReason};

use super::{Observation, Observed, PaidFacts, Payment, PaymentError, Request, refund_id, state::sum};

impl Payment {
    /// The order of events in one decision is: the money came, it went back in parts, it shall go
    /// back.
    pub(super) fn observe(&self, seen: &Observation) -> Result<Vec<PaymentEvent>, PaymentError> {
        let request = self.request().ok_or(PaymentError::NotRequested)?;
        match (self.money(), &seen.paid) {
            // Never backwards: once money came, an older reading without it says nothing new, but
            // one with cancellations may.
            (Some(_), _) => Ok(self.cancelled(request, seen)),
            (None, Some(paid)) => Ok(self.received(request, seen, paid)),
            (None, None) => Ok(self.on_the_way(request, seen)),
        }
    }

    fn received(&self, request: &Request, seen: &Observation, paid: &PaidFacts) -> Vec<PaymentEvent> {
        let reason = refusal(request, seen, paid);
        let mut events = vec![match reason {
            None => PaymentEvent::Confirmed {
                order_id: request.order_id,
                transaction_id: seen.transaction_id.clone(),
                paid: Money::won(seen.total),
                tax_free: Money::won(paid.tax_free),
                vat: paid.vat.map(Money::won),
                discount: Money::won(paid.discount),
                paid_at: paid.paid_at,
                means: paid.means.clone(),
            },
            Some(reason) => PaymentEvent::Refused {
                order_id: request.order_id,
                transaction_id: seen.transaction_id.clone(),
                reason,
                due: request.due,
                paid_amount: seen.total,
                paid_currency: seen.currency.clone(),
                tax_free: paid.tax_free,
                paid_at: paid.paid_at,
                means: paid.means.clone(),
            },
        }];
        events.extend(self.cancelled(request, seen));
        let left = seen.total.saturating_sub(sum(&seen.cancellations));
        if let Some(reason) = reason.filter(|_| left > 0) {
            events.push(PaymentEvent::CancellationRequested {
                order_id: request.order_id,
                refund_id: refund_id(seen.payment_id, 1),
                amount: left,
                tax_free: paid.tax_free - seen.cancellations.iter().map(|c| c.tax_free).sum::<i64>(),
                currency: seen.currency.clone(),
                cancellable: left,
                reason: refund_reason(reason),
            });
        }
        events
    }

    /// One event for each cancellation not known yet, with running totals. Cancellations of one
    /// payment follow each other at PortOne, so their times give the order in which they happened,
    /// whenever each was learnt.
    fn cancelled(&self, request: &Request, seen: &Observation) -> Vec<PaymentEvent> {
        let (amount, known) = self.money().map_or((seen.total, &[][..]), |(received, returned)| {
            (received.amount, returned.cancellations.as_slice())
        });
        let mut new: Vec<_> = seen
            .cancellations
            .iter()
            .filter(|new| known.iter().all(|old| old.id != new.id))
            .collect();
        new.sort();
        new.dedup_by(|a, b| a.id == b.id);
        let mut cancelled_total: i64 = sum(known);
        new.into_iter()
            .map(|cancellation| {
                cancelled_total = cancelled_total.saturating_add(cancellation.amount);
                PaymentEvent::Cancelled {
                    order_id: request.order_id,
                    cancellation_id: cancellation.id.clone(),
                    amount: cancellation.amount,
                    tax_free: cancellation.tax_free,
                    vat: cancellation.vat,
                    currency: seen.currency.clone(),
                    cancelled_total,
                    remaining: amount.saturating_sub(cancelled_total),
                    cancelled_at: cancellation.cancelled_at,
                    trigger: cancellation.trigger.clone(),
                }
            })
            .collect()
    }

    /// Before any money came.
    fn on_the_way(&self, request: &Request, seen: &Observation) -> Vec<PaymentEvent> {
        let transaction_id = seen.transaction_id.clone();
        match &seen.status {
            Observed::VirtualAccountIssued {
                bank,
                account,
                expires_at,
            } if !self.account_issued(&transaction_id) => vec![PaymentEvent::VirtualAccountIssued {
                order_id: request.order_id,
                transaction_id,
                bank: bank.clone(),
                account: account.clone(),
                expires_at: *expires_at,
            }],
            Observed::Failed { failed_at, pg_code } if !self.attempt_failed(&transaction_id) => {
                vec![PaymentEvent::Failed {
                    order_id: request.order_id,
                    transaction_id,
                    failed_at: *failed_at,
                    pg_code: pg_code.clone(),
                }]
            }
            Observed::VirtualAccountIssued { .. } | Observed::Failed { .. } | Observed::Pending | Observed::Paid => {
                Vec::new()
            }
        }
    }
}

/// Why the shop does not take this money, if it does not. Currency first: an amount means nothing
/// without it.
fn refusal(request: &Request, seen: &Observation, paid: &PaidFacts) -> Option<RefuseReason> {
    let won = match request.due.currency {
        Currency::KRW => "KRW",
    };
    if seen.currency != won {
        Some(RefuseReason::WrongCurrency)
    } else if seen.total != request.due.amount {
        Some(RefuseReason::WrongAmount)
    } else if seen.live_shop && paid.means.channel == ChannelType::Test {
        Some(RefuseReason::TestChannel)
    } else {
        None
    }
}

const fn refund_reason(reason: RefuseReason) -> RefundReason {
    match reason {
        RefuseReason::WrongAmount => RefundReason::WrongAmount,
        RefuseReason::WrongCurrency => RefundReason::WrongCurrency,
        RefuseReason::TestChannel => RefundReason::TestChannel,
    }
}
