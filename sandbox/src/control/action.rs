//! What can be done to a payment from outside the API.

use serde_json::{Value, json};

use super::act::{Act, wrong};
use crate::faults::FaultKind;
use crate::portone::Sandbox;
use crate::portone::attempt::{Happening, Moment, Refusal};
use crate::portone::cancel::{CancelOrder, Cancellation, CancellationStatus, PgOutcome, Trigger};
use crate::portone::payment::Payment;

/// The last segment of `POST /_sim/payments/{paymentId}/…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Open,
    Pay,
    Pend,
    Authorize,
    Fail,
    Issue,
    Deposit,
    Expire,
    Cancel,
    CompleteCancel,
    Dispute,
    ResolveDispute,
}

impl Action {
    pub(crate) fn parse(name: &str) -> Result<Self, Refusal> {
        Ok(match name {
            "open" => Self::Open,
            "pay" => Self::Pay,
            "pend" => Self::Pend,
            "authorize" => Self::Authorize,
            "fail" => Self::Fail,
            "issue" => Self::Issue,
            "deposit" => Self::Deposit,
            "expire" => Self::Expire,
            "cancel" => Self::Cancel,
            "complete-cancel" => Self::CompleteCancel,
            "dispute" => Self::Dispute,
            "resolve-dispute" => Self::ResolveDispute,
            _ => return Err(Refusal::new("ActionNotFound", format!("there is no action {name:?}"))),
        })
    }

    /// Whether it happens in the payment window, which is opened for it if need be.
    fn needs_window(self) -> bool {
        matches!(
            self,
            Self::Pay | Self::Pend | Self::Authorize | Self::Fail | Self::Issue
        )
    }
}

/// What an action leaves: the happenings, and fields for its answer.
struct Done {
    happenings: Vec<Happening>,
    cancellation: Option<(String, CancellationStatus)>,
    payment_token: Option<String>,
}

impl Done {
    fn with(happening: Happening) -> Self {
        Self {
            happenings: vec![happening],
            cancellation: None,
            payment_token: None,
        }
    }
}

impl Sandbox {
    /// Does it, sends the webhooks, and answers with what the browser SDK would give, and the status.
    pub(crate) fn act(&self, id: &str, action: Action, act: &Act) -> Result<Value, Refusal> {
        act.validate()?;
        let moment = self.moment();
        let store_id = act.store_id.as_deref().unwrap_or(&self.config.store_id);
        let work = |payment: &mut Payment| -> Result<_, Refusal> {
            let mut happenings = Vec::new();
            if action == Action::Open || (action.needs_window() && payment.open_attempt().is_none()) {
                // Only `open` is held to what was pre-registered: an amount given to another action is the hostile
                // case on purpose, a charge that differs from what the shop fixed.
                let opening = act.opening(payment, self)?;
                happenings.push(payment.open(opening, action == Action::Open, moment)?);
            }
            let done = self.carry_out(payment, action, act, moment)?;
            happenings.extend(done.happenings);
            if act.skip_webhook {
                happenings.clear();
            }
            let attempt = payment
                .current()
                .ok_or_else(|| Refusal::new("PaymentNotFound", "no window was opened yet"))?;
            let mut answer = json!({
                "transactionType": "PAYMENT",
                "paymentId": payment.id,
                "txId": attempt.transaction_id,
                "status": attempt.status.name(),
            });
            if let Some((id, status)) = done.cancellation {
                answer["cancellationId"] = id.into();
                answer["cancellationStatus"] = status.name().into();
            }
            if let Some(token) = done.payment_token {
                answer["paymentToken"] = token.into();
            }
            Ok((answer, self.announce(payment, &happenings)))
        };
        let (answer, webhooks) = if action == Action::Open || action.needs_window() {
            self.store.with_or_new(id, store_id, work)?
        } else {
            self.store
                .with(id, work)
                .ok_or_else(|| Refusal::new("PaymentNotFound", "there is no such payment"))??
        };
        self.send(webhooks);
        Ok(answer)
    }

    fn carry_out(&self, payment: &mut Payment, action: Action, act: &Act, moment: Moment<'_>) -> Result<Done, Refusal> {
        let none = || Done {
            happenings: Vec::new(),
            cancellation: None,
            payment_token: None,
        };
        let reason = |default: &str| act.reason.clone().unwrap_or_else(|| default.to_owned());
        let mut cancelled = None;
        let happening = match action {
            Action::Open => None,
            Action::Pay => Some(payment.pay(act.total_amount, act.discount.unwrap_or(0), moment)?),
            Action::Pend => Some(payment.pend(moment)?),
            Action::Authorize => {
                return Ok(Done {
                    payment_token: Some(payment.authorize(moment)?),
                    ..none()
                });
            }
            Action::Fail => Some(payment.fail(act.failure(), moment)?),
            Action::Issue => {
                let opened_with = payment
                    .open_attempt()
                    .and_then(|attempt| attempt.opening.account_expiry);
                let expiry = act.expiry(opened_with, moment.now)?;
                Some(payment.issue(act.bank.as_deref().unwrap_or("SHINHAN"), expiry, moment)?)
            }
            Action::Deposit => {
                let short = self.faults.strike(FaultKind::DepositShort, Some(&payment.id), None);
                Some(payment.deposit(act.total_amount, short.map_or(0, |fault| fault.won), moment)?)
            }
            Action::Expire => {
                payment.expire(moment)?;
                None
            }
            Action::Cancel => {
                let (cancellation, happening) = self.cancel_at_console(payment, act, moment)?;
                cancelled = Some((cancellation.id, cancellation.status));
                happening
            }
            Action::CompleteCancel => {
                let outcome = act.cancellation_status()?;
                let id = act.cancellation_id.as_deref();
                let (cancellation, happening) = payment.complete_cancellation(id, outcome, moment)?;
                cancelled = Some((cancellation.id, cancellation.status));
                happening
            }
            Action::Dispute => Some(payment.dispute(reason("상품을 받지 못했습니다"), moment)?),
            Action::ResolveDispute => Some(payment.resolve_dispute(moment)?),
        };
        Ok(Done {
            cancellation: cancelled,
            ..happening.map_or_else(none, Done::with)
        })
    }

    /// A refund that the shop did not start: an operator at the console, or a chargeback.
    fn cancel_at_console(
        &self,
        payment: &mut Payment,
        act: &Act,
        moment: Moment<'_>,
    ) -> Result<(Cancellation, Option<Happening>), Refusal> {
        let trigger = match act.trigger.as_deref() {
            None => Trigger::Console,
            Some(name) => Trigger::parse(name)
                .map_or_else(|| wrong("trigger is CONSOLE, API, PORTONE_ADMIN or CHARGEBACK"), Ok)?,
        };
        let outcome = act.cancellation_status()?;
        let order = CancelOrder {
            reason: act.reason.clone().unwrap_or_else(|| "콘솔에서 취소".to_owned()),
            amount: act.total_amount,
            tax_free: act.tax_free_amount,
            vat: act.vat_amount,
            ..CancelOrder::default()
        };
        let needs_account = self.config.refund_account_required && trigger == Trigger::Api;
        payment
            .cancel(&order, trigger, needs_account, moment, || PgOutcome::Becomes(outcome))
            .map_err(|error| Refusal::new("InvalidEntityState", error.to_string()))
    }
}
