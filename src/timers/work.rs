//! What is done when a timer is due.

use std::time::Duration;

use chrono::TimeDelta;
use jangbu_domain::{Order, OrderCommand, Payment, PaymentCommand, StockItem, order::OrderStatus, payment::OpenRefund};
use jangbu_events::{AggregateId, Metadata, OrderId, PaymentId, RefundReason, Timestamp};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Done, Taken, Work};
use crate::{
    clock::Surroundings,
    executor::{CommandEnvelope, ExecuteError, LoadError},
    payments::{Payments, SettleError},
    portone::{
        CancelError, CancelRequest, CancellationStatus, IdempotencyKey, PaymentStatus, Requester, VirtualAccountClosure,
    },
};

/// How often an order's deadline is put off because PortOne does not say how its payment stands.
const DEADLINE_TRIES: i32 = 30;
/// How often it is put off for the runner to extend it to a virtual account's own end.
const EXTENSION_TRIES: i32 = 6;
/// How often an account number is tried to be closed.
const CLOSE_TRIES: i32 = 30;
/// When a refund that the shop owes is wished for again after PortOne refused it, by how often it
/// has been; card companies have nights of maintenance.
const REFUND_AGAIN: [TimeDelta; 3] = [TimeDelta::hours(1), TimeDelta::hours(6), TimeDelta::hours(24)];
/// How long PortOne remembers an `Idempotency-Key`, with a margin (PROTOCOL A2: 3 hours).
const KEY_LIVES: TimeDelta = TimeDelta::minutes(170);
/// How long closing an account number may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);
/// How long one refund may take to be answered; card companies are slow.
const CANCEL_WITHIN: Duration = Duration::from_secs(90);

/// Does what is due.
#[derive(Clone)]
pub struct Timers {
    payments: Payments,
}

impl Timers {
    /// With all it needs.
    pub const fn new(payments: Payments) -> Self {
        Self { payments }
    }

    pub(super) fn db(&self) -> &PgPool {
        self.payments.executor().log().pool()
    }

    fn now(&self) -> Timestamp {
        self.payments.executor().log().surroundings().now()
    }

    /// Does the work of one timer.
    pub async fn perform(&self, timer: &Taken) -> Done {
        let done = match &timer.work {
            Work::OrderDeadline { order_id, payment_id } => self.deadline(timer, *order_id, *payment_id).await,
            Work::HoldBackstop { order_id } => self.backstop(*order_id).await,
            Work::Refund {
                payment_id,
                refund_id,
                cancellation_id,
            } => {
                self.refund(timer, *payment_id, refund_id, cancellation_id.as_deref())
                    .await
            }
            Work::RefundAgain { payment_id, reason } => self.refund_again(timer, *payment_id, *reason).await,
            Work::CloseAccount { payment_id } => self.close_account(timer, *payment_id).await,
        };
        done.unwrap_or_else(|error| self.again(TimeDelta::seconds(10), &error))
    }

    fn again(&self, after: TimeDelta, why: &dyn std::fmt::Display) -> Done {
        Done::Again {
            at: self.now() + after,
            why: why.to_string(),
            work: None,
        }
    }

    /// Clock and ids.
    pub fn surroundings(&self) -> &Surroundings {
        self.payments.executor().log().surroundings()
    }

    /// The order's time is up: its payment decides, and PortOne's word on it.
    async fn deadline(&self, timer: &Taken, order_id: OrderId, payment_id: PaymentId) -> Result<Done, SettleError> {
        let executor = self.payments.executor();
        let now = self.now();
        let order = executor.load::<Order>(order_id).await?;
        if let Some(done) = waits_longer(&order.state, now) {
            return Ok(done);
        }
        let minute = TimeDelta::minutes(1);
        match self.payments.settle(payment_id, system("timer")).await {
            Ok(Some(settled)) => {
                if let Some(done) = waits_longer(&settled.order.state, now) {
                    return Ok(done);
                }
                let status = settled.seen.as_ref().map(|seen| &seen.status);
                let account_end = settled.payment.state.account().and_then(|account| account.expires_at);
                match status {
                    Some(PaymentStatus::PayPending) if timer.attempts < DEADLINE_TRIES => {
                        return Ok(self.again(minute, &"the payment is pending"));
                    }
                    // The runner is about to extend the deadline to the account's own.
                    Some(PaymentStatus::VirtualAccountIssued)
                        if account_end.is_none_or(|end| now < end) && timer.attempts < EXTENSION_TRIES =>
                    {
                        return Ok(self.again(TimeDelta::seconds(10), &"a virtual account was issued"));
                    }
                    _ => {}
                }
            }
            Ok(None) | Err(SettleError::ForeignStore) => {}
            Err(error) if timer.attempts < DEADLINE_TRIES => return Ok(self.again(minute, &error)),
            Err(error) => {
                tracing::error!(order.id = %order_id, %error, "an order expires though PortOne did not answer");
            }
        }
        let mut envelope = CommandEnvelope::new(step_id(timer, now), system("timer"), now);
        envelope.correlation_id = Some(order_id.uuid());
        match executor
            .execute::<Order>(order_id, OrderCommand::Expire { now }, envelope)
            .await
        {
            Ok(_) => Ok(Done::Finished),
            Err(error) => Ok(self.again(minute, &error)),
        }
    }

    /// Nothing should hold stock by now. The hold stays: only the checkout releases.
    async fn backstop(&self, order_id: OrderId) -> Result<Done, SettleError> {
        let executor = self.payments.executor();
        let order = executor.load::<Order>(order_id).await?;
        let Some(details) = order.state.details() else {
            return Ok(Done::Finished);
        };
        let stocks: Vec<_> = details.lines.iter().map(|line| line.product_id.stock_item()).collect();
        let held = executor
            .load_many::<StockItem>(&stocks)
            .await?
            .iter()
            .filter(|stock| stock.state.holds.contains_key(&order_id))
            .count();
        if held == 0 {
            return Ok(Done::Finished);
        }
        metrics::counter!("jangbu_holds_overdue").increment(1);
        tracing::error!(order.id = %order_id, held, "an order still holds stock a day after its deadline");
        Ok(self.again(TimeDelta::days(1), &"stock is still held"))
    }

    /// Asks PortOne to give money back. A lost answer is resolved by reading the payment and by asking
    /// again under the same key; PortOne's own compare-and-set keeps money from going back twice even
    /// after it has forgotten the key.
    async fn refund(
        &self,
        timer: &Taken,
        payment_id: PaymentId,
        refund_id: &str,
        cancellation_id: Option<&str>,
    ) -> Result<Done, SettleError> {
        let shop = self.payments.shop().ok_or(SettleError::NotConfigured)?;
        // It may have been carried out, or refused, since it was wished for.
        let Some(settled) = self.payments.settle(payment_id, system("timer")).await? else {
            return Ok(Done::Finished);
        };
        let Some(open) = open_refund(&settled.payment.state, refund_id) else {
            return Ok(Done::Finished);
        };
        let pause = TimeDelta::seconds(i64::from(timer.attempts.clamp(1, 60)) * 10);
        let Some(seen) = &settled.seen else {
            return Ok(self.again(pause, &"PortOne does not know the payment"));
        };
        if let Some(id) = cancellation_id {
            let begun = seen.cancellations.iter().find(|one| one.id == id).map(|one| one.status);
            return match begun {
                Some(CancellationStatus::Failed) => {
                    self.failed(timer, settled.order_id, payment_id, open, "FAILED".to_owned(), None)
                        .await
                }
                _ => Ok(self.under_way(pause, payment_id, refund_id, id)),
            };
        }
        let asked_at = self.requested_at(payment_id, refund_id).await?;
        if asked_at.is_none_or(|at| self.now() - at > KEY_LIVES) {
            // The key may be forgotten: look before asking.
            let pending = seen
                .cancellations
                .iter()
                .any(|one| !matches!(one.status, CancellationStatus::Succeeded | CancellationStatus::Failed));
            metrics::counter!("jangbu_refunds_overdue").increment(1);
            tracing::error!(payment.id = %payment_id, refund_id, pending, "a refund is still not done after three hours");
            if pending || seen.amount.cancellable() != open.cancellable {
                return Ok(self.again(TimeDelta::minutes(10), &"the refund is overdue"));
            }
        }
        let customer = open.reason == RefundReason::Customer;
        let request = CancelRequest {
            amount: open.amount,
            tax_free_amount: open.tax_free,
            reason: reason_text(open.reason).to_owned(),
            current_cancellable_amount: open.cancellable,
            requester: Some(if customer {
                Requester::Customer
            } else {
                Requester::Admin
            }),
            refund_account: None,
            idempotency_key: IdempotencyKey::parse(refund_id).expect("refund ids are idempotency keys"),
        };
        match shop.client.cancel(&payment_id.portone(), &request, CANCEL_WITHIN).await {
            Ok(cancellation) => match cancellation.status {
                CancellationStatus::Failed => {
                    self.failed(timer, settled.order_id, payment_id, open, "FAILED".to_owned(), None)
                        .await
                }
                CancellationStatus::Succeeded => {
                    // The payment itself says what went back, in the words every other reader sees.
                    let settled = self.payments.settle(payment_id, system("timer")).await?;
                    let still_open =
                        settled.is_some_and(|settled| open_refund(&settled.payment.state, refund_id).is_some());
                    Ok(if still_open {
                        self.again(pause, &"PortOne does not show it yet")
                    } else {
                        Done::Finished
                    })
                }
                _ => Ok(self.under_way(pause, payment_id, refund_id, &cancellation.id)),
            },
            Err(CancelError::Refused(refusal)) => {
                // Somebody else may have given it back: then there is nothing to complain of.
                self.payments.settle(payment_id, system("timer")).await?;
                let pg_code = refusal.pg.map(|pg| pg.code);
                self.failed(
                    timer,
                    settled.order_id,
                    payment_id,
                    open,
                    refusal.kind.to_owned(),
                    pg_code,
                )
                .await
            }
            Err(error @ (CancelError::Unauthorized | CancelError::OutcomeUnknown(_))) => Ok(self.again(pause, &error)),
        }
    }

    /// The bank takes its time over it.
    fn under_way(&self, pause: TimeDelta, payment_id: PaymentId, refund_id: &str, cancellation_id: &str) -> Done {
        Done::Again {
            at: self.now() + pause.max(TimeDelta::minutes(1)),
            why: "the refund is under way".to_owned(),
            work: Some(Work::Refund {
                payment_id,
                refund_id: refund_id.to_owned(),
                cancellation_id: Some(cancellation_id.to_owned()),
            }),
        }
    }

    /// Records that PortOne refused; a request that was fulfilled meanwhile is left as it is. What the
    /// shop owes is wished for again later.
    async fn failed(
        &self,
        timer: &Taken,
        order_id: OrderId,
        payment_id: PaymentId,
        open: &OpenRefund,
        code: String,
        pg_code: Option<String>,
    ) -> Result<Done, SettleError> {
        let now = self.now();
        tracing::error!(payment.id = %payment_id, open.refund_id, code, "PortOne refused a refund");
        metrics::counter!("jangbu_refunds_refused").increment(1);
        let mut envelope = CommandEnvelope::new(step_id(timer, now), system("timer"), now);
        envelope.correlation_id = Some(order_id.uuid());
        let command = PaymentCommand::RecordRefundFailure {
            refund_id: open.refund_id.clone(),
            code,
            pg_code,
        };
        let executor = self.payments.executor();
        let committed = executor.execute::<Payment>(payment_id, command, envelope).await?;
        let owed = !matches!(open.reason, RefundReason::Operator | RefundReason::Customer);
        let asked = committed
            .state
            .money()
            .map_or(0, |(_, returned)| returned.requested.len());
        if let Some(wait) = REFUND_AGAIN
            .get(asked.saturating_sub(1))
            .filter(|_| owed && !committed.events.is_empty())
        {
            let mut db = self.db().acquire().await.map_err(LoadError::from)?;
            let work = Work::RefundAgain {
                payment_id,
                reason: open.reason,
            };
            super::set(&mut db, order_id, &work, now + *wait)
                .await
                .map_err(LoadError::from)?;
        }
        Ok(Done::Finished)
    }

    /// Wishes again for a refund that PortOne refused, unless the money has gone back since.
    async fn refund_again(
        &self,
        timer: &Taken,
        payment_id: PaymentId,
        reason: RefundReason,
    ) -> Result<Done, SettleError> {
        self.payments.settle(payment_id, system("timer")).await?;
        let now = self.now();
        let envelope = CommandEnvelope::new(step_id(timer, now), system("timer"), now);
        match self.payments.refund(payment_id, None, reason, envelope).await {
            // An operator was faster.
            Ok(_) | Err(ExecuteError::Refused(_)) => Ok(Done::Finished),
            Err(error) => Err(error.into()),
        }
    }

    /// Closes the account number of an order that came to nothing. If the money came in this moment,
    /// it is learnt here and goes back.
    async fn close_account(&self, timer: &Taken, payment_id: PaymentId) -> Result<Done, SettleError> {
        let payment = self.payments.executor().load::<Payment>(payment_id).await?;
        let (Some(shop), Some(_)) = (self.payments.shop(), payment.state.account()) else {
            return Ok(Done::Finished);
        };
        match shop
            .client
            .close_virtual_account(&payment_id.portone(), CLOSE_WITHIN)
            .await
        {
            Ok(VirtualAccountClosure::Closed(_)) => Ok(Done::Finished),
            Ok(VirtualAccountClosure::NotWaiting) => {
                self.payments.settle(payment_id, system("timer")).await?;
                Ok(Done::Finished)
            }
            Err(error) if timer.attempts < CLOSE_TRIES => Ok(self.again(TimeDelta::minutes(1), &error)),
            Err(error) => {
                tracing::error!(payment.id = %payment_id, %error, "an account number could not be closed");
                Ok(Done::Finished)
            }
        }
    }

    /// When the refund was first wished for.
    async fn requested_at(&self, payment_id: PaymentId, refund_id: &str) -> Result<Option<Timestamp>, SettleError> {
        let requested = sqlx::query_scalar!(
            "select recorded_at from events
            where aggregate_type = 'payment' and aggregate_id = $1
                and event_type = 'payment.cancellation_requested' and payload ->> 'refund_id' = $2",
            payment_id.to_string(),
            refund_id,
        );
        Ok(requested.fetch_optional(self.db()).await.map_err(LoadError::from)?)
    }
}

/// The refund of this id, while it is under way.
fn open_refund<'a>(payment: &'a Payment, refund_id: &str) -> Option<&'a OpenRefund> {
    let (_, returned) = payment.money()?;
    returned.open.as_ref().filter(|open| open.refund_id == refund_id)
}

/// What a deadline means for an order: `None` if its time is really up.
fn waits_longer(order: &Order, now: Timestamp) -> Option<Done> {
    if !matches!(order.status(), Some(OrderStatus::Placed | OrderStatus::AwaitingPayment)) {
        return Some(Done::Finished);
    }
    let at = order.details()?.expires_at;
    (now < at).then(|| Done::Again {
        at,
        why: "the order has longer".to_owned(),
        work: None,
    })
}

/// A command of a timer, new at every attempt: what one attempt decided binds no later one.
fn step_id(timer: &Taken, now: Timestamp) -> Uuid {
    Uuid::new_v5(
        &timer.timer_id,
        format!("{} {}", timer.attempts, now.timestamp_micros()).as_bytes(),
    )
}

fn system(channel: &str) -> Metadata {
    Metadata {
        actor_kind: "system".to_owned(),
        channel: channel.to_owned(),
        ..Metadata::default()
    }
}

/// What the operator sees in PortOne's console.
const fn reason_text(reason: RefundReason) -> &'static str {
    match reason {
        RefundReason::WrongAmount => "결제 금액 불일치",
        RefundReason::WrongCurrency => "결제 통화 불일치",
        RefundReason::TestChannel => "테스트 채널 결제",
        RefundReason::OrderExpired => "주문 만료 후 결제",
        RefundReason::OrderCancelled => "취소된 주문의 결제",
        RefundReason::OrderRefused => "품절된 주문의 결제",
        RefundReason::AlreadyPaid => "중복 결제",
        RefundReason::Operator => "판매자 취소",
        RefundReason::Customer => "구매자 취소",
    }
}
