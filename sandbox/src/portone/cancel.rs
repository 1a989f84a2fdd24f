//! Cancelling: the checks in their order, the three outcomes, and the bookkeeping that must agree with itself.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::attempt::{Happening, HappeningKind, Moment, Refusal, Status, vat_within};
use super::errors::ApiError;
use super::method::PayMethod;
use super::payment::Payment;

/// Cancellations that one payment may have.
const CANCELLATIONS_MAX: usize = 100;

/// `status` of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancellationStatus {
    Requested,
    Succeeded,
    Failed,
}

impl CancellationStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Requested, Self::Succeeded, Self::Failed]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// Who started a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    Console,
    Api,
    PortOneAdmin,
    Chargeback,
}

impl Trigger {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Console => "CONSOLE",
            Self::Api => "API",
            Self::PortOneAdmin => "PORTONE_ADMIN",
            Self::Chargeback => "CHARGEBACK",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Console, Self::Api, Self::PortOneAdmin, Self::Chargeback]
            .into_iter()
            .find(|own| own.name() == name)
    }
}

/// A cancellation in the payment's list.
#[derive(Debug, Clone)]
pub(crate) struct Cancellation {
    pub(crate) id: String,
    pub(crate) status: CancellationStatus,
    pub(crate) total: i64,
    pub(crate) tax_free: i64,
    pub(crate) vat: i64,
    pub(crate) reason: String,
    pub(crate) trigger: Trigger,
    pub(crate) requested_at: DateTime<Utc>,
    pub(crate) cancelled_at: Option<DateTime<Utc>>,
}

/// The checked body of a cancel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CancelOrder {
    pub(crate) reason: String,
    pub(crate) amount: Option<i64>,
    pub(crate) tax_free: Option<i64>,
    pub(crate) vat: Option<i64>,
    pub(crate) current_cancellable: Option<i64>,
    pub(crate) has_refund_account: bool,
    pub(crate) skip_webhook: bool,
}

impl CancelOrder {
    /// Reads the body. Whatever it is that is wrong, it is `INVALID_REQUEST`, before anything is looked up.
    pub(crate) fn parse(body: &Value) -> Result<Self, ApiError> {
        let Value::Object(fields) = body else {
            return invalid("the body must be an object");
        };
        let Some(Value::String(reason)) = fields.get("reason") else {
            return invalid("reason must be a string");
        };
        let order = Self {
            reason: reason.clone(),
            amount: integer(fields, "amount")?,
            tax_free: integer(fields, "taxFreeAmount")?,
            vat: integer(fields, "vatAmount")?,
            current_cancellable: integer(fields, "currentCancellableAmount")?,
            has_refund_account: refund_account(fields)?,
            skip_webhook: match fields.get("skipWebhook") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(skip)) => *skip,
                Some(_) => return invalid("skipWebhook must be true or false"),
            },
        };
        if order.amount.is_some_and(|amount| amount <= 0) {
            return invalid("amount must be greater than 0");
        }
        if [order.tax_free, order.vat].into_iter().flatten().any(|part| part < 0) {
            return invalid("taxFreeAmount and vatAmount must not be negative");
        }
        match fields.get("requester") {
            None | Some(Value::Null) => Ok(order),
            Some(Value::String(who)) if who == "CUSTOMER" || who == "ADMIN" => Ok(order),
            Some(_) => invalid("requester must be CUSTOMER or ADMIN"),
        }
    }
}

fn invalid<T>(why: &str) -> Result<T, ApiError> {
    Err(ApiError::InvalidRequest(why.to_owned()))
}

/// An optional integer; `null` counts as absent, `1.0` and `"1"` are refused.
pub(crate) fn integer(fields: &Map<String, Value>, name: &str) -> Result<Option<i64>, ApiError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64() {
            Some(number) => Ok(Some(number)),
            None => invalid(&format!("{name} must be an integer")),
        },
    }
}

fn refund_account(fields: &Map<String, Value>) -> Result<bool, ApiError> {
    match fields.get("refundAccount") {
        None | Some(Value::Null) => Ok(false),
        Some(account)
            if ["bank", "number", "holderName"]
                .iter()
                .all(|name| account[*name].is_string()) =>
        {
            Ok(true)
        }
        Some(_) => invalid("refundAccount needs bank, number and holderName"),
    }
}

/// What the PG says to a cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PgOutcome {
    Becomes(CancellationStatus),
    Refuses { code: String, message: String },
}

/// What can still be cancelled. Requested cancellations hold their share until they are decided.
struct Remaining {
    total: i64,
    tax_free: i64,
    vat: i64,
}

impl Payment {
    /// The sum of succeeded cancellations and the tax-free part of it.
    pub(crate) fn cancelled(&self) -> (i64, i64) {
        let succeeded = self
            .cancellations
            .iter()
            .filter(|done| done.status == CancellationStatus::Succeeded);
        succeeded.fold((0, 0), |(total, tax_free), done| {
            (total + done.total, tax_free + done.tax_free)
        })
    }

    /// When money was last returned.
    pub(crate) fn cancelled_at(&self) -> Option<DateTime<Utc>> {
        self.cancellations.iter().filter_map(|done| done.cancelled_at).max()
    }

    fn remaining(&self) -> Option<Remaining> {
        let opening = &self.settled()?.opening;
        let mut left = Remaining {
            total: opening.total,
            tax_free: opening.tax_free,
            vat: opening.vat(),
        };
        for taken in self
            .cancellations
            .iter()
            .filter(|taken| taken.status != CancellationStatus::Failed)
        {
            left.total -= taken.total;
            left.tax_free -= taken.tax_free;
            left.vat -= taken.vat;
        }
        Some(left)
    }

    /// Cancels all that is left or a part. `ask_pg` is called once every check has passed.
    pub(crate) fn cancel(
        &mut self,
        order: &CancelOrder,
        trigger: Trigger,
        refund_account_required: bool,
        moment: Moment<'_>,
        ask_pg: impl FnOnce() -> PgOutcome,
    ) -> Result<(Cancellation, Option<Happening>), ApiError> {
        let attempt = self.settled().ok_or(ApiError::PaymentNotPaid)?;
        if attempt.status == Status::Cancelled {
            return Err(ApiError::PaymentAlreadyCancelled);
        }
        let by_account = attempt.opening.method == PayMethod::VirtualAccount;
        let left = self.remaining().expect("a settled attempt has a balance");
        let mut cancellation = check_amounts(order, &left)?;
        if self.cancellations.len() >= CANCELLATIONS_MAX {
            return Err(ApiError::MaxCancelCountReached);
        }
        if by_account && refund_account_required && !order.has_refund_account && trigger == Trigger::Api {
            // The API leaves the field optional; it is the PG that cannot return money to nowhere.
            return Err(ApiError::PgProvider {
                code: "REFUND_ACCOUNT_REQUIRED".to_owned(),
                message: "환불 받을 계좌 정보가 필요합니다".to_owned(),
            });
        }
        cancellation.status = match ask_pg() {
            PgOutcome::Becomes(status) => status,
            PgOutcome::Refuses { code, message } => return Err(ApiError::PgProvider { code, message }),
        };
        cancellation.id = moment.random.uuid();
        cancellation.trigger = trigger;
        cancellation.requested_at = moment.now;
        if cancellation.status != CancellationStatus::Failed {
            self.cancel_effects += 1;
        }
        let settle = cancellation.status;
        self.cancellations.push(cancellation);
        let happening = self.settle_cancellation(self.cancellations.len() - 1, settle, moment);
        let cancellation = self.cancellations.last().cloned().expect("it was pushed above");
        Ok((cancellation, happening))
    }

    /// Decides a requested cancellation, the oldest one if no id is given.
    pub(crate) fn complete_cancellation(
        &mut self,
        id: Option<&str>,
        outcome: CancellationStatus,
        moment: Moment<'_>,
    ) -> Result<(Cancellation, Option<Happening>), Refusal> {
        let waiting = self.cancellations.iter().position(|cancellation| {
            cancellation.status == CancellationStatus::Requested && id.is_none_or(|id| id == cancellation.id)
        });
        let index = waiting.ok_or_else(|| Refusal::state("no such cancellation is waiting"))?;
        if outcome == CancellationStatus::Requested {
            return Err(Refusal::new(
                "RequestParseFailed",
                "a cancellation ends as SUCCEEDED or FAILED",
            ));
        }
        let happening = self.settle_cancellation(index, outcome, moment);
        Ok((self.cancellations[index].clone(), happening))
    }

    /// Writes the outcome into the cancellation and brings the attempt's status into line with the sums.
    fn settle_cancellation(
        &mut self,
        index: usize,
        outcome: CancellationStatus,
        moment: Moment<'_>,
    ) -> Option<Happening> {
        let cancellation = &mut self.cancellations[index];
        cancellation.status = outcome;
        if outcome == CancellationStatus::Succeeded {
            cancellation.cancelled_at = Some(moment.now);
        }
        let cancellation_id = Some(cancellation.id.clone());
        let (cancelled, _) = self.cancelled();
        let attempt = self.settled_mut().expect("only a settled payment has cancellations");
        let kind = match outcome {
            CancellationStatus::Failed => None,
            CancellationStatus::Requested => Some(HappeningKind::CancelPending),
            CancellationStatus::Succeeded if cancelled == attempt.opening.total => Some(HappeningKind::Cancelled),
            CancellationStatus::Succeeded => Some(HappeningKind::PartialCancelled),
        };
        match kind {
            Some(HappeningKind::Cancelled) => attempt.become_status(Status::Cancelled, moment.now),
            Some(HappeningKind::PartialCancelled) => attempt.become_status(Status::PartialCancelled, moment.now),
            _ => attempt.updated_at = moment.now,
        }
        let transaction_id = attempt.transaction_id.clone();
        kind.map(|kind| Happening {
            kind,
            transaction_id,
            cancellation_id,
            at: moment.now,
        })
    }
}

/// The expected balance first, then the amounts. Gives the cancellation's amounts, everything else still blank.
fn check_amounts(order: &CancelOrder, left: &Remaining) -> Result<Cancellation, ApiError> {
    if order.current_cancellable.is_some_and(|expected| expected != left.total) {
        return Err(ApiError::CancellableAmountConsistencyBroken {
            cancellable: left.total,
        });
    }
    let total = order.amount.unwrap_or(left.total);
    if total > left.total || total == 0 {
        return Err(ApiError::CancelAmountExceeds {
            cancellable: left.total,
        });
    }
    // Without an amount everything goes back, so the tax-free part does too; with one, all of it counts as taxed.
    let tax_free = order
        .tax_free
        .unwrap_or(if order.amount.is_none() { left.tax_free } else { 0 });
    if tax_free > left.tax_free {
        return Err(ApiError::CancelTaxFreeAmountExceeds {
            cancellable: left.tax_free,
        });
    }
    if tax_free.saturating_add(order.vat.unwrap_or(0)) > total {
        return Err(ApiError::SumOfPartsExceedsCancelAmount);
    }
    let taxed_left = left.total - left.tax_free;
    if total - tax_free > taxed_left || order.vat.is_some_and(|vat| vat > left.vat) {
        return Err(ApiError::CancelTaxAmountExceeds {
            cancellable: taxed_left,
        });
    }
    let vat = match order.vat {
        Some(vat) => vat,
        None if total == left.total => left.vat,
        None => vat_within(total - tax_free).min(left.vat),
    };
    Ok(Cancellation {
        id: String::new(),
        status: CancellationStatus::Requested,
        total,
        tax_free,
        vat,
        reason: order.reason.clone(),
        trigger: Trigger::Api,
        requested_at: DateTime::UNIX_EPOCH,
        cancelled_at: None,
    })
}

#[cfg(test)]
mod tests;
