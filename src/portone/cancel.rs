//! What a cancel (refund) is asked with, and how it can end.

use std::fmt;

use jangbu_events::personal;
use serde::Serialize;

use super::{Error, Redacted, Refusal};

/// How many characters an [`IdempotencyKey`] may have.
pub const IDEMPOTENCY_KEY_CHARS: std::ops::RangeInclusive<usize> = 16..=256;

/// A refund to ask for. Its `Debug` hides the reason and the account.
#[derive(Clone)]
pub struct CancelRequest {
    /// What to return, in the smallest unit.
    pub amount: i64,
    /// The tax-free share of `amount`.
    pub tax_free_amount: i64,
    /// Why, for the record.
    pub reason: String,
    /// What the caller believes can still be cancelled before this ([`super::Amount::cancellable`]). If `PortOne` knows
    /// better it refuses with `CANCELLABLE_AMOUNT_CONSISTENCY_BROKEN`: so two refunds at once cannot both succeed.
    pub current_cancellable_amount: i64,
    /// Who wants it.
    pub requester: Option<Requester>,
    /// Where the money goes; required for a paid virtual account.
    pub refund_account: Option<RefundAccount>,
    /// Stored with the refund before the first call. A new try after a definite refusal needs a new one.
    pub idempotency_key: IdempotencyKey,
}

impl fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelRequest")
            .field("amount", &self.amount)
            .field("tax_free_amount", &self.tax_free_amount)
            .field("reason", &Redacted)
            .field("current_cancellable_amount", &self.current_cancellable_amount)
            .field("requester", &self.requester)
            .field("refund_account", &self.refund_account)
            .field("idempotency_key", &self.idempotency_key)
            .finish()
    }
}

/// Who wants a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Requester {
    /// The shopper.
    Customer,
    /// The shop.
    Admin,
}

/// The shopper's own account, to return money to. `Debug` shows the bank only.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefundAccount {
    /// The bank by its REST name, such as `SHINHAN`.
    pub bank: String,
    /// Digits.
    pub number: String,
    /// The holder's name.
    pub holder_name: String,
    /// The holder's phone; Smartro asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_phone_number: Option<String>,
}

impl From<personal::RefundAccount> for RefundAccount {
    fn from(account: personal::RefundAccount) -> Self {
        Self {
            bank: account.bank.as_str().to_owned(),
            number: account.number.as_str().to_owned(),
            holder_name: account.holder_name.as_str().to_owned(),
            holder_phone_number: account.holder_phone.map(|phone| phone.digits()),
        }
    }
}

impl fmt::Debug for RefundAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefundAccount")
            .field("bank", &self.bank)
            .finish_non_exhaustive()
    }
}

/// Names one request, so that repeating it after a lost reply does not move money twice. `PortOne` remembers it for
/// three hours; after that read the payment and look for the cancellation instead of repeating.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// A text that is no idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 16 to 256 characters of A-Z a-z 0-9 - _")]
pub struct InvalidIdempotencyKey;

impl IdempotencyKey {
    /// Takes 16 to 256 characters of `A-Z a-z 0-9 - _`, such as `refund-` and a UUID.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidIdempotencyKey> {
        let text = text.into();
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if plain && IDEMPOTENCY_KEY_CHARS.contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(InvalidIdempotencyKey)
        }
    }

    /// The key without the quotes that the header adds.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The header's value: a structured-field string, so the quotes belong to it.
    pub(super) fn header_value(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

/// A cancel that did not end with a cancellation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// Refused: this request returned nothing and never will. A later try needs a new key.
    #[error(transparent)]
    Refused(Refusal),
    /// Turned away at the door, before the request was looked at. The same key may be used once the secret is right.
    #[error("PortOne does not accept the API secret (401)")]
    Unauthorized,
    /// The money may or may not be on its way. Repeat with the same key, or read the payment; never use a new key.
    #[error("it is not known whether the cancel took place: {0}")]
    OutcomeUnknown(#[source] Error),
}

/// The body of the cancel call.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CancelBody<'a> {
    store_id: &'a str,
    amount: i64,
    tax_free_amount: i64,
    reason: &'a str,
    current_cancellable_amount: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    requester: Option<Requester>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_account: Option<&'a RefundAccount>,
}

impl<'a> CancelBody<'a> {
    pub(super) fn new(store_id: &'a str, request: &'a CancelRequest) -> Self {
        Self {
            store_id,
            amount: request.amount,
            tax_free_amount: request.tax_free_amount,
            reason: &request.reason,
            current_cancellable_amount: request.current_cancellable_amount,
            requester: request.requester,
            refund_account: request.refund_account.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_16_to_256_plain_characters() {
        assert!(IdempotencyKey::parse("refund-01J9ZK3V6Q8W2N4B7XJ5RT0M1C").is_ok());
        assert!(IdempotencyKey::parse("a".repeat(16)).is_ok() && IdempotencyKey::parse("a".repeat(256)).is_ok());
        for bad in [
            "a".repeat(15),
            "a".repeat(257),
            "a b c d e f g h i".into(),
            "refund\"0123456789".into(),
            "환불".repeat(8),
        ] {
            assert_eq!(IdempotencyKey::parse(bad), Err(InvalidIdempotencyKey));
        }
    }

    #[test]
    fn a_request_shows_no_person() {
        let request = CancelRequest {
            amount: 1_000,
            tax_free_amount: 0,
            reason: "홍길동 변심".into(),
            current_cancellable_amount: 39_000,
            requester: Some(Requester::Customer),
            refund_account: Some(RefundAccount {
                bank: "SHINHAN".into(),
                number: "110123456789".into(),
                holder_name: "홍길동".into(),
                holder_phone_number: Some("01012345678".into()),
            }),
            idempotency_key: IdempotencyKey::parse("refund-0000000001").expect("a key"),
        };
        let shown = format!("{request:?}");
        assert!(
            shown.contains("refund-0000000001") && shown.contains("39000"),
            "{shown}"
        );
        for hidden in ["홍길동", "110123456789", "01012345678"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
}
