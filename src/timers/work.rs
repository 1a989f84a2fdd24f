//! What is done when a timer is due.

use std::time::Duration;

use chrono::TimeDelta;
use jangbu_domain::{Order, OrderCommand, Payment, PaymentCommand, StockItem, payment::OpenRefund};
use jangbu_events::{AggregateId, Metadata, OrderId, PaymentId, RefundReason, Timestamp};
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    Done, Taken, Work,
    core::{
        Deadline, Expiry, Memory, Refund as Next, Seen, Standing, WAITS_FOR_ACCOUNT, Word, close_again, expiry, pause,
        taken_on, wished_again,
    },
};
use crate::{
    clock::Surroundings,
    executor::{CommandEnvelope, ExecuteError, LoadError},
    payments::{Payments, SettleError},
    portone::{
        self, CancelError, CancelRequest, CancellationStatus, IdempotencyKey, PaymentStatus, Requester,
        VirtualAccountClosure,
    },
};

/// How long closing an account number may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(20);
/// How long one refund may take to be answered; card companies are slow.
const CANCEL_WITHIN: Duration = Duration::from_secs(90);

/// [`Work::Refund`] as it was taken.
#[derive(Clone, Copy)]
struct Refund<'a> {
    payment_id: PaymentId,
    id: &'a str,
    begun: Option<&'a str>,
    asked_at: Option<Timestamp>,
}

impl Refund<'_> {
    fn work(&self, begun: Option<&str>) -> Work {
        Work::Refund {
            payment_id: self.payment_id,
            refund_id: self.id.to_owned(),
            cancellation_id: begun.map(ToOwned::to_owned),
            asked_at: self.asked_at,
        }
    }
}

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
                asked_at,
            } => {
                let refund = Refund {
                    payment_id: *payment_id,
                    id: refund_id,
                    begun: cancellation_id.as_deref(),
                    asked_at: *asked_at,
                };
                self.refund(timer, refund).await
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
        if let Some(done) = waits_longer(Deadline::of(&order.state, now)) {
            return Ok(done);
        }
        let (word, silence) = match self.payments.settle(payment_id, system("timer")).await {
            Ok(Some(settled)) => {
                if let Some(done) = waits_longer(Deadline::of(&settled.order.state, now)) {
                    return Ok(done);
                }
                let account_end = settled.payment.state.account().and_then(|account| account.expires_at);
                let word = match settled.seen.as_ref().map(|seen| &seen.status) {
                    Some(PaymentStatus::PayPending) => Word::Pending,
                    Some(PaymentStatus::VirtualAccountIssued) => Word::Account(account_end),
                    _ => Word::Nothing,
                };
                (word, None)
            }
            Ok(None) | Err(SettleError::ForeignStore) => (Word::Nothing, None),
            Err(error) => (Word::Silence, Some(error)),
        };
        let minute = TimeDelta::minutes(1);
        match (expiry(word, now, timer.attempts), silence) {
            (Expiry::Later { after, .. }, Some(error)) => return Ok(self.again(after, &error)),
            (Expiry::Later { after, why }, None) => return Ok(self.again(after, &why)),
            (Expiry::Expire, Some(error)) => {
                tracing::error!(order.id = %order_id, %error, "an order expires though PortOne did not answer");
            }
            (Expiry::Expire, None) => {}
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
    async fn refund(&self, timer: &Taken, refund: Refund<'_>) -> Result<Done, SettleError> {
        let Refund {
            payment_id,
            id: refund_id,
            ..
        } = refund;
        let shop = self.payments.shop().ok_or(SettleError::NotConfigured)?;
        // It may have been carried out, or refused, since it was wished for.
        let Some(settled) = self.payments.settle(payment_id, system("timer")).await? else {
            return Ok(Done::Finished);
        };
        let Some(open) = open_refund(&settled.payment.state, refund_id) else {
            return Ok(Done::Finished);
        };
        let again_after = pause(timer.attempts);
        let Some(seen) = &settled.seen else {
            return Ok(self.again(again_after, &"PortOne does not know the payment"));
        };
        let refund_account = self.payments.refund_account(&settled.payment.state).await?;
        let has_account = refund_account.is_some() || !came_by_transfer(&settled.payment.state);
        let memory = Memory {
            begun: refund.begun,
            asked_at: refund.asked_at,
        };
        let next = memory.next(
            &at_portone(seen),
            open.cancellable,
            has_account,
            self.now(),
            timer.attempts,
        );
        self.complain(refund, &memory, &next);
        match next {
            Next::Ask => {}
            Next::AskFirst => {
                let asked = Refund {
                    asked_at: Some(self.now()),
                    ..refund
                };
                let ours = self.remember(timer, &asked.work(None)).await.map_err(LoadError::from)?;
                if !ours {
                    return Ok(self.again(again_after, &"another process has it"));
                }
            }
            decided => return self.decided(timer, settled.order_id, refund, open, decided).await,
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
            refund_account: refund_account.map(Into::into),
            idempotency_key: IdempotencyKey::parse(refund_id).expect("refund ids are idempotency keys"),
        };
        match shop.client.cancel(&payment_id.portone(), &request, CANCEL_WITHIN).await {
            Ok(cancellation) => {
                if let Some(decided) = taken_on(&cancellation.id, standing(cancellation.status), timer.attempts) {
                    return self.decided(timer, settled.order_id, refund, open, decided).await;
                }
                let settled = self.payments.settle(payment_id, system("timer")).await?;
                let still_open =
                    settled.is_some_and(|settled| open_refund(&settled.payment.state, refund_id).is_some());
                Ok(if still_open {
                    self.again(again_after, &"PortOne does not show it yet")
                } else {
                    Done::Finished
                })
            }
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
            Err(error @ (CancelError::Unauthorized | CancelError::OutcomeUnknown(_))) => {
                Ok(self.again(again_after, &error))
            }
        }
    }

    /// Does what was decided about a refund without asking PortOne.
    async fn decided(
        &self,
        timer: &Taken,
        order_id: OrderId,
        refund: Refund<'_>,
        open: &OpenRefund,
        decided: Next,
    ) -> Result<Done, SettleError> {
        Ok(match decided {
            Next::Later { after, why } => self.again(after, &why),
            Next::Begun { cancellation_id, after } => Done::Again {
                at: self.now() + after,
                why: "the refund is under way".to_owned(),
                work: Some(refund.work(Some(&cancellation_id))),
            },
            Next::Failed { code } => {
                let code = code.to_owned();
                return self.failed(timer, order_id, refund.payment_id, open, code, None).await;
            }
            Next::Ask | Next::AskFirst => unreachable!("whoever asks has the answer"),
        })
    }

    /// Tells the operator of a refund that does not get on.
    fn complain(&self, refund: Refund<'_>, memory: &Memory<'_>, next: &Next) {
        let Refund {
            payment_id,
            id: refund_id,
            ..
        } = refund;
        if matches!(next, Next::Later { why, .. } if *why == WAITS_FOR_ACCOUNT) {
            metrics::counter!("jangbu_refunds_without_account").increment(1);
            tracing::error!(payment.id = %payment_id, refund_id, "a refund waits for an account to go to");
        } else if memory.begun.is_none() && memory.is_overdue(self.now()) {
            metrics::counter!("jangbu_refunds_overdue").increment(1);
            tracing::error!(payment.id = %payment_id, refund_id, "a refund is still not done after three hours");
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
        let executor = self.payments.executor();
        let payment = executor.load::<Payment>(payment_id).await?;
        let asked = payment
            .state
            .money()
            .map_or(0, |(_, returned)| returned.requested.len());
        let still_open = open_refund(&payment.state, &open.refund_id).is_some();
        // Set before the refusal is recorded: once it is, nothing leads back here.
        if let Some(wait) = wished_again(open.reason.is_owed(), asked).filter(|_| still_open) {
            let mut db = self.db().acquire().await.map_err(LoadError::from)?;
            let work = Work::RefundAgain {
                payment_id,
                reason: open.reason,
            };
            super::set(&mut db, order_id, &work, now + wait)
                .await
                .map_err(LoadError::from)?;
        }
        let mut envelope = CommandEnvelope::new(step_id(timer, now), system("timer"), now);
        envelope.correlation_id = Some(order_id.uuid());
        let command = PaymentCommand::RecordRefundFailure {
            refund_id: open.refund_id.clone(),
            code,
            pg_code,
        };
        executor.execute::<Payment>(payment_id, command, envelope).await?;
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
        match self.payments.refund(payment_id, None, reason, None, envelope).await {
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
            Err(error) => {
                if let Some(after) = close_again(timer.attempts) {
                    return Ok(self.again(after, &error));
                }
                tracing::error!(payment.id = %payment_id, %error, "an account number could not be closed");
                Ok(Done::Finished)
            }
        }
    }
}

/// The refund of this id, while it is under way.
fn open_refund<'a>(payment: &'a Payment, refund_id: &str) -> Option<&'a OpenRefund> {
    let (_, returned) = payment.money()?;
    returned.open.as_ref().filter(|open| open.refund_id == refund_id)
}

fn came_by_transfer(payment: &Payment) -> bool {
    payment.money().is_some_and(|(received, _)| received.came_by_transfer())
}

/// `None` if the order's time is really up.
fn waits_longer(deadline: Deadline) -> Option<Done> {
    match deadline {
        Deadline::Over => Some(Done::Finished),
        Deadline::Until(at) => Some(Done::Again {
            at,
            why: "the order has longer".to_owned(),
            work: None,
        }),
        Deadline::Up => None,
    }
}

fn at_portone(payment: &portone::Payment) -> Seen<'_> {
    Seen {
        cancellations: payment
            .cancellations
            .iter()
            .map(|one| (one.id.as_str(), standing(one.status)))
            .collect(),
        cancellable: payment.amount.cancellable(),
    }
}

const fn standing(status: CancellationStatus) -> Standing {
    match status {
        CancellationStatus::Succeeded => Standing::Succeeded,
        CancellationStatus::Failed => Standing::Failed,
        _ => Standing::UnderWay,
    }
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
