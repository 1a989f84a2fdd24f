//! What the failures of our own services mean to a client.

use jangbu_domain::{
    PricingError,
    customer::{EMAIL_SCOPE, PHONE_SCOPE},
};
use jangbu_projections::page::ListError;
use serde_json::json;

use super::{Code, FieldError, Problem, Text};
use crate::{
    checkout::CheckoutError,
    executor::{ExecuteError, LoadError},
    http::views::{MoneyView, ShortageView},
    payments::SettleError,
    processes::SendError,
    sealing::SealError,
};

impl<E: std::error::Error + Into<Problem>> From<ExecuteError<E>> for Problem {
    fn from(error: ExecuteError<E>) -> Self {
        match error {
            ExecuteError::Refused(refusal) => refusal.into(),
            ExecuteError::Stale { current } => Self::new(Code::VersionStale).fact("version", current),
            ExecuteError::Conflict { current } => Self::new(Code::Conflict).fact("version", current),
            ExecuteError::KeyReused => Code::IdempotencyKeyReused.into(),
            ExecuteError::KeyTaken { scope: EMAIL_SCOPE } => Self::new(Code::EmailTaken).at("/email"),
            ExecuteError::KeyTaken { scope: PHONE_SCOPE } => Self::new(Code::PhoneTaken).at("/phone"),
            ExecuteError::KeyTaken { scope } => Self::new(Code::Taken).fact("scope", scope),
            ExecuteError::Busy => Self::new(Code::Busy).retry_after(1),
            ExecuteError::OutcomeUnknown => Self::new(Code::OutcomeUnknown).retry_after(1),
            ExecuteError::Load(error) => error.into(),
            // Every text and size was checked at the edge: what the log still refuses is our mistake.
            ExecuteError::Rejected(reason) => Self::internal(reason),
        }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unavailable(error) => error.into(),
            LoadError::Undecodable { .. } | LoadError::Foreign { .. } => Self::internal(error),
        }
    }
}

impl From<sqlx::Error> for Problem {
    /// A database that cannot be reached comes back; one that refuses a statement is our mistake.
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::new(Code::DatabaseUnavailable).retry_after(1).because(error),
            // The connection failed (08) or stood still within a transaction for too long (25P03), the
            // transaction met another (40, 55P03), there is no room (53), the server goes down (57P0).
            sqlx::Error::Database(ref refused)
                if refused.code().is_some_and(|code| {
                    ["08", "25P03", "40", "53", "55P03", "57P0"]
                        .iter()
                        .any(|class| code.starts_with(class))
                }) =>
            {
                Self::new(Code::DatabaseUnavailable).retry_after(1).because(error)
            }
            other => Self::internal(other),
        }
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Unavailable(error) => error.into(),
            SealError::Corrupt { .. } => Self::internal(error),
        }
    }
}

impl From<CheckoutError> for Problem {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::Cart(error) => error.into(),
            CheckoutError::PriceChanged {
                lines,
                previous_total,
                total,
            } => {
                let lines: Vec<_> = lines
                    .iter()
                    .map(|line| {
                        json!({
                            "sku": line.sku.as_str(),
                            "previous_price": MoneyView::from(line.previous),
                            "price": MoneyView::from(line.current),
                        })
                    })
                    .collect();
                Self::new(Code::PriceChanged)
                    .detail(
                        format!("The total is {total} now, not {previous_total}. Send it as expected_total to agree."),
                        format!(
                            "결제 금액이 {previous_total}에서 {total}으로 바뀌었습니다. 확인 후 다시 주문해 주세요."
                        ),
                    )
                    .fact("lines", lines)
                    .fact("previous_total", MoneyView::from(previous_total))
                    .fact("total", MoneyView::from(total))
            }
            CheckoutError::NotForSale { skus } => {
                let skus: Vec<String> = skus.iter().map(ToString::to_string).collect();
                Self::new(Code::ProductNotForSale).fact("skus", skus)
            }
            CheckoutError::SoldOut { order_id, shortages } => {
                let lines: Vec<ShortageView> = shortages.iter().map(Into::into).collect();
                Self::new(Code::SoldOut)
                    .fact("order_id", order_id.to_string())
                    .fact("lines", lines)
            }
            CheckoutError::NotConfigured => Code::PaymentsNotConfigured.into(),
            CheckoutError::StillWorking { order_id } => Self::new(Code::OutcomeUnknown)
                .detail(
                    "The order is being placed. Send the same request again.",
                    "주문을 처리하고 있습니다. 같은 요청을 다시 보내 주세요.",
                )
                .fact("order_id", order_id.to_string())
                .retry_after(1),
            CheckoutError::Ended { order_id, status } => Self::new(Code::OrderEnded)
                .fact("order_id", order_id.to_string())
                .fact("order_status", status.as_str()),
            CheckoutError::Pricing(error) => match error {
                PricingError::TooMuch => Code::AmountTooLarge.into(),
                PricingError::Discount { .. } | PricingError::LineTotal { .. } => Self::internal(error),
            },
            CheckoutError::Load(error) => error.into(),
            CheckoutError::Send(error) => error.into(),
            CheckoutError::Seal(error) => error.into(),
        }
    }
}

impl From<SendError> for Problem {
    /// What was begun is finished in the background.
    fn from(error: SendError) -> Self {
        if error.may_pass() {
            Self::new(Code::OutcomeUnknown).retry_after(1).because(error)
        } else {
            Self::internal(error)
        }
    }
}

impl From<SettleError> for Problem {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::NotConfigured => Code::PaymentsNotConfigured.into(),
            // Whether PortOne is away, overloaded, or does not take our secret: somebody repairs it,
            // and the payment is read again then.
            SettleError::Portone(error) => Self::new(Code::PaymentProviderUnreachable)
                .retry_after(5)
                .because(error),
            SettleError::ForeignStore => Code::PaymentNotFound.into(),
            SettleError::Execute(error) => error.into(),
            SettleError::Send(error) => error.into(),
            SettleError::Load(error) => error.into(),
            SettleError::Seal(error) => error.into(),
            SettleError::Account(_) => Self::internal(error),
        }
    }
}

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Cursor(error) => Self::field(FieldError::parameter(
                "after",
                "cursor_invalid",
                Text::new(error.to_string(), "이 목록의 다음 페이지 값이 아닙니다."),
            )),
            ListError::Database(error) => error.into(),
        }
    }
}
