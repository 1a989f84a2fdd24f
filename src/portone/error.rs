//! What can go wrong between the shop and `PortOne`, told apart by what the caller may conclude from it.

use std::fmt;

use serde::Deserialize;

/// A call to `PortOne` that gave no usable answer. Never holds the API secret, an address or text of the payment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// HTTP 401: the API secret is wrong or belongs to something else. Only a change of configuration helps.
    #[error("PortOne does not accept the API secret (401)")]
    Unauthorized,
    /// A refusal that the API documents: final for this request.
    #[error(transparent)]
    Refused(Refusal),
    /// Any other answer than 200: gateway pages, overload, codes that nobody documented. What happened is unknown.
    #[error("PortOne answered {status}{}", kind.as_deref().map(|kind| format!(" {kind}")).unwrap_or_default())]
    Failed {
        /// The HTTP status.
        status: u16,
        /// The error's `type`, when there was one and it looks like a code.
        kind: Option<String>,
    },
    /// No complete answer came.
    #[error("no answer from PortOne: {0}")]
    Unreachable(Unreachable),
    /// HTTP 200 with a body that cannot be understood. The text says where, not what.
    #[error("PortOne's answer cannot be read: {0}")]
    Unreadable(String),
    /// The payment id is empty or a dot segment, so no address names it.
    #[error("the payment id cannot be part of an address")]
    BadPaymentId,
    /// So many re-reads are under way that another one is not started ([`super::Rereader`]).
    #[error("too many payments are being read at once")]
    Busy,
}

impl Error {
    /// Whether the same request may be answered otherwise a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Busy => true,
            Self::Failed { status, kind } => {
                *status >= 500 || matches!(status, 408 | 429) || kind.as_deref() == Some(OUTSTANDING)
            }
            Self::Unauthorized | Self::Refused(_) | Self::Unreadable(_) | Self::BadPaymentId => false,
        }
    }

    /// Wraps a decoding failure by its place alone: `serde_json`'s own text quotes the value, which may be a name.
    pub(super) fn unreadable(what: &str, error: &serde_json::Error) -> Self {
        let (category, line, column) = (error.classify(), error.line(), error.column());
        Self::Unreadable(format!("{what}, {category:?} error at line {line} column {column}"))
    }

    /// Sorts an answer other than 200.
    pub(super) fn from_answer(status: u16, body: &[u8]) -> Self {
        if status == 401 {
            return Self::Unauthorized;
        }
        let Ok(wire) = serde_json::from_slice::<WireError>(body) else {
            return Self::Failed { status, kind: None };
        };
        if let Some(kind) = documented_kind(status, &wire.kind) {
            let pg = match (wire.pg_code, wire.pg_message) {
                (None, None) => None,
                (code, message) => Some(PgRefusal {
                    code: code.unwrap_or_default(),
                    message: message.unwrap_or_default(),
                }),
            };
            return Self::Refused(Refusal {
                status,
                kind,
                message: wire.message,
                pg,
            });
        }
        let is_code = (1..=64).contains(&wire.kind.len())
            && wire
                .kind
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        Self::Failed {
            status,
            kind: is_code.then_some(wire.kind),
        }
    }
}

/// Why no complete answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No connection could be made: the request was never sent.
    Connect,
    /// The time ran out. The request may have been carried out.
    Timeout,
    /// The connection ended early. The request may have been carried out.
    Dropped,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection",
            Self::Timeout => "timed out",
            Self::Dropped => "the connection was dropped",
        })
    }
}

/// A documented error answer: `PortOne`, or the company behind it, decided against this request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("PortOne refused: {kind} ({status}){}", pg.as_ref().map(|pg| format!(", code {:?}", pg.code)).unwrap_or_default())]
pub struct Refusal {
    /// The HTTP status, 4xx or 502.
    pub status: u16,
    /// The documented `type`, such as `PAYMENT_NOT_FOUND`. Decide on this.
    pub kind: &'static str,
    /// Text for a person, in a language that nobody promises. Never decide on this.
    pub message: Option<String>,
    /// What the payment gateway said, with `PG_PROVIDER`: for the operator; shoppers get a neutral text.
    pub pg: Option<PgRefusal>,
}

/// The payment gateway's own words about a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgRefusal {
    /// Its code, different with every gateway.
    pub code: String,
    /// Its message.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireError {
    #[serde(rename = "type")]
    kind: String,
    message: Option<String>,
    pg_code: Option<String>,
    pg_message: Option<String>,
}

/// The first request with this key still runs, so this answer says nothing about its outcome.
const OUTSTANDING: &str = "IDEMPOTENCY_OUTSTANDING_REQUEST";

/// The codes that mean "refused" when they come with a 4xx status (API 1.16.0).
const REFUSED_BY_PORTONE: &[&str] = &[
    "INVALID_REQUEST",
    "INVALID_PAYMENT_TOKEN",
    "DISCOUNT_AMOUNT_EXCEEDS_TOTAL_AMOUNT",
    "MAX_TRANSACTION_COUNT_REACHED",
    "MAX_WEBHOOK_RETRY_COUNT_REACHED",
    "NEGATIVE_PROMOTION_ADJUSTED_CANCEL_AMOUNT",
    "PROMOTION_DISCOUNT_RETAIN_OPTION_SHOULD_NOT_BE_CHANGED",
    "PROMOTION_PAY_METHOD_DOES_NOT_MATCH",
    "FORBIDDEN",
    "PAYMENT_NOT_FOUND",
    "BILLING_KEY_NOT_FOUND",
    "BILLING_KEY_NOT_ISSUED",
    "CASH_RECEIPT_NOT_FOUND",
    "CASH_RECEIPT_NOT_ISSUED",
    "CHANNEL_NOT_FOUND",
    "PAYMENT_CANCELLATION_NOT_FOUND",
    "PAYMENT_SCHEDULE_NOT_FOUND",
    "WEBHOOK_NOT_FOUND",
    "ALREADY_PAID",
    "ALREADY_PAID_OR_WAITING",
    "BILLING_KEY_ALREADY_DELETED",
    "BILLING_KEY_ALREADY_ISSUED",
    "CANCEL_AMOUNT_EXCEEDS_CANCELLABLE_AMOUNT",
    "CANCEL_TAX_AMOUNT_EXCEEDS_CANCELLABLE_TAX_AMOUNT",
    "CANCEL_TAX_FREE_AMOUNT_EXCEEDS_CANCELLABLE_TAX_FREE_AMOUNT",
    "CANCELLABLE_AMOUNT_CONSISTENCY_BROKEN",
    "CASH_RECEIPT_ALREADY_ISSUED",
    "INFORMATION_MISMATCH",
    "MAX_CANCEL_COUNT_REACHED",
    "PAYMENT_ALREADY_CANCELLED",
    "PAYMENT_CANCELLATION_NOT_PENDING",
    "PAYMENT_NOT_PAID",
    "PAYMENT_NOT_WAITING_FOR_DEPOSIT",
    "PAYMENT_SCHEDULE_ALREADY_EXISTS",
    "PAYMENT_SCHEDULE_ALREADY_PROCESSED",
    "PAYMENT_SCHEDULE_ALREADY_REVOKED",
    "SUM_OF_PARTS_EXCEEDS_CANCEL_AMOUNT",
    "SUM_OF_PARTS_EXCEEDS_TOTAL_AMOUNT",
];

/// The codes that mean "refused" when they come with 502: the gateway answered, and its answer was no.
const REFUSED_BY_GATEWAY: &[&str] = &["PG_PROVIDER", "CHANNEL_SPECIFIC"];

fn documented_kind(status: u16, kind: &str) -> Option<&'static str> {
    let known = match status {
        400..=499 => REFUSED_BY_PORTONE,
        502 => REFUSED_BY_GATEWAY,
        _ => return None,
    };
    known.iter().copied().find(|candidate| *candidate == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(status: u16, kind: Option<&str>) -> Error {
        Error::Failed {
            status,
            kind: kind.map(str::to_owned),
        }
    }

    #[test]
    fn a_documented_code_is_a_refusal_only_with_its_status() {
        let body = br#"{"type":"PAYMENT_NOT_PAID","message":"x","later":1}"#;
        let Error::Refused(refusal) = Error::from_answer(409, body) else {
            panic!("not a refusal")
        };
        assert_eq!(
            (refusal.status, refusal.kind, refusal.pg),
            (409, "PAYMENT_NOT_PAID", None)
        );
        assert_eq!(Error::from_answer(500, body), failed(500, Some("PAYMENT_NOT_PAID")));
        assert_eq!(
            Error::from_answer(409, br#"{"type":"PG_PROVIDER"}"#),
            failed(409, Some("PG_PROVIDER"))
        );
    }

    #[test]
    fn a_gateways_refusal_keeps_its_code_and_message() {
        let body = r#"{"type":"PG_PROVIDER","pgCode":"7044","pgMessage":"한도 초과"}"#;
        let Error::Refused(refusal) = Error::from_answer(502, body.as_bytes()) else {
            panic!("not a refusal")
        };
        assert_eq!(
            refusal.to_string(),
            r#"PortOne refused: PG_PROVIDER (502), code "7044""#
        );
        assert_eq!(
            refusal.pg,
            Some(PgRefusal {
                code: "7044".into(),
                message: "한도 초과".into()
            })
        );
    }

    #[test]
    fn pages_and_unknown_codes_are_unknown_failures_of_their_status() {
        assert_eq!(Error::from_answer(502, b"<html>Bad Gateway</html>"), failed(502, None));
        assert_eq!(Error::from_answer(404, b"<html>Not Found</html>"), failed(404, None));
        assert_eq!(
            Error::from_answer(400, br#"{"type":"BRAND_NEW"}"#),
            failed(400, Some("BRAND_NEW"))
        );
        assert_eq!(Error::from_answer(400, br#"{"type":"line\nbreak"}"#), failed(400, None));
        assert_eq!(Error::from_answer(400, br#"{"message":"no type"}"#), failed(400, None));
    }

    #[test]
    fn every_401_is_a_matter_of_configuration() {
        assert_eq!(
            Error::from_answer(401, br#"{"type":"UNAUTHORIZED"}"#),
            Error::Unauthorized
        );
        assert_eq!(Error::from_answer(401, b"<html/>"), Error::Unauthorized);
    }

    #[test]
    fn only_what_may_change_by_itself_is_transient() {
        for error in [
            failed(500, None),
            failed(429, None),
            failed(408, None),
            failed(409, Some(OUTSTANDING)),
        ] {
            assert!(error.is_transient(), "{error}");
        }
        for error in [
            failed(404, None),
            failed(301, None),
            Error::Unauthorized,
            Error::BadPaymentId,
        ] {
            assert!(!error.is_transient(), "{error}");
        }
    }

    #[test]
    fn a_decoding_error_does_not_quote_the_answer() {
        let error = serde_json::from_str::<i64>(r#""hong@example.com""#).expect_err("a text is no number");
        let shown = Error::unreadable("payment", &error).to_string();
        assert!(shown.contains("line 1") && !shown.contains("hong"), "{shown}");
    }
}
