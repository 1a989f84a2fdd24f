//! Error answers: `{"type", "message"}` with PortOne's codes, and the status that goes with each.

use std::fmt;

use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};

/// What a call is answered with; also what the idempotency store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn ok(body: &Value) -> Self {
        Self {
            status: StatusCode::OK,
            body: Bytes::from(body.to_string()),
        }
    }
}

/// An error of the API. The message is for a person; programs decide on the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiError {
    InvalidRequest(String),
    InvalidPaymentToken,
    MaxWebhookRetryCountReached,
    Unauthorized,
    Forbidden,
    PaymentNotFound,
    WebhookNotFound,
    AlreadyPaid,
    PaymentNotPaid,
    PaymentAlreadyCancelled,
    PaymentNotWaitingForDeposit,
    CancellableAmountConsistencyBroken { cancellable: i64 },
    CancelAmountExceeds { cancellable: i64 },
    CancelTaxAmountExceeds { cancellable: i64 },
    CancelTaxFreeAmountExceeds { cancellable: i64 },
    SumOfPartsExceedsCancelAmount,
    MaxCancelCountReached,
    InformationMismatch(&'static str),
    IdempotencyOutstandingRequest,
    PgProvider { code: String, message: String },
}

impl ApiError {
    fn parts(&self) -> (StatusCode, &'static str, String) {
        use StatusCode as S;
        let text = str::to_owned;
        match self {
            Self::InvalidRequest(why) => (S::BAD_REQUEST, "INVALID_REQUEST", why.clone()),
            Self::InvalidPaymentToken => (
                S::BAD_REQUEST,
                "INVALID_PAYMENT_TOKEN",
                text("the payment token is not one of this payment"),
            ),
            Self::MaxWebhookRetryCountReached => (
                S::BAD_REQUEST,
                "MAX_WEBHOOK_RETRY_COUNT_REACHED",
                text("this webhook was sent again as often as is allowed"),
            ),
            Self::Unauthorized => (
                S::UNAUTHORIZED,
                "UNAUTHORIZED",
                text("the credentials are missing or wrong"),
            ),
            Self::Forbidden => (
                S::FORBIDDEN,
                "FORBIDDEN",
                text("the secret does not belong to that store"),
            ),
            Self::PaymentNotFound => (S::NOT_FOUND, "PAYMENT_NOT_FOUND", text("there is no such payment")),
            Self::WebhookNotFound => (S::NOT_FOUND, "WEBHOOK_NOT_FOUND", text("there is no such webhook")),
            Self::AlreadyPaid => (S::CONFLICT, "ALREADY_PAID", text("the payment is already paid")),
            Self::PaymentNotPaid => (S::CONFLICT, "PAYMENT_NOT_PAID", text("the payment is not paid")),
            Self::PaymentAlreadyCancelled => (
                S::CONFLICT,
                "PAYMENT_ALREADY_CANCELLED",
                text("the payment is already cancelled"),
            ),
            Self::PaymentNotWaitingForDeposit => (
                S::CONFLICT,
                "PAYMENT_NOT_WAITING_FOR_DEPOSIT",
                text("the payment does not wait for a deposit"),
            ),
            Self::CancellableAmountConsistencyBroken { cancellable } => (
                S::CONFLICT,
                "CANCELLABLE_AMOUNT_CONSISTENCY_BROKEN",
                format!("the cancellable amount is {cancellable}"),
            ),
            Self::CancelAmountExceeds { cancellable } => (
                S::CONFLICT,
                "CANCEL_AMOUNT_EXCEEDS_CANCELLABLE_AMOUNT",
                format!("at most {cancellable} can be cancelled"),
            ),
            Self::CancelTaxAmountExceeds { cancellable } => (
                S::CONFLICT,
                "CANCEL_TAX_AMOUNT_EXCEEDS_CANCELLABLE_TAX_AMOUNT",
                format!("the taxed part that can be cancelled is {cancellable}"),
            ),
            Self::CancelTaxFreeAmountExceeds { cancellable } => (
                S::CONFLICT,
                "CANCEL_TAX_FREE_AMOUNT_EXCEEDS_CANCELLABLE_TAX_FREE_AMOUNT",
                format!("the tax-free part that can be cancelled is {cancellable}"),
            ),
            Self::SumOfPartsExceedsCancelAmount => (
                S::CONFLICT,
                "SUM_OF_PARTS_EXCEEDS_CANCEL_AMOUNT",
                text("tax-free part and VAT together exceed the amount to cancel"),
            ),
            Self::MaxCancelCountReached => (
                S::CONFLICT,
                "MAX_CANCEL_COUNT_REACHED",
                text("the payment was cancelled too often"),
            ),
            Self::InformationMismatch(field) => (
                S::CONFLICT,
                "INFORMATION_MISMATCH",
                format!("{field} differs from what was authorized"),
            ),
            Self::IdempotencyOutstandingRequest => (
                S::CONFLICT,
                "IDEMPOTENCY_OUTSTANDING_REQUEST",
                text("the first request with this key is still running"),
            ),
            Self::PgProvider { message, .. } => (S::BAD_GATEWAY, "PG_PROVIDER", message.clone()),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, kind, message) = self.parts();
        write!(f, "{kind}: {message}")
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        let (status, kind, message) = error.parts();
        let mut body = json!({"type": kind, "message": message});
        if let ApiError::PgProvider { code, message } = error {
            body["pgCode"] = code.into();
            body["pgMessage"] = message.into();
        }
        Self {
            status,
            body: Bytes::from(body.to_string()),
        }
    }
}
