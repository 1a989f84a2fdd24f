//! A payment as `PortOne` tells it, reduced to what the shop acts on or keeps.
//!
//! The person's name, phone, e-mail and address are not read at all: the shop has its own, sealed.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::Redacted;

/// The current state of one payment, all attempts under its id together.
///
/// `Debug` shows amounts, states and times only.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WirePayment")]
pub struct Payment {
    /// The id that the shop chose.
    pub id: String,
    /// `PortOne`'s id of the current attempt.
    pub transaction_id: String,
    /// The store it belongs to. Compare with the configured one.
    pub store_id: String,
    /// Where it stands.
    pub status: PaymentStatus,
    /// The sums, in the smallest unit of `currency`.
    pub amount: Amount,
    /// ISO 4217, such as `KRW`.
    pub currency: String,
    /// Real or test money. `Unknown` as long as no channel was chosen.
    pub channel_type: ChannelType,
    /// The payment gateway, such as `TOSSPAYMENTS`.
    pub pg_provider: Option<String>,
    /// The means of payment, once chosen.
    pub method: Option<Method>,
    /// When the attempt began.
    pub requested_at: DateTime<Utc>,
    /// When `status` became what it is.
    pub status_changed_at: DateTime<Utc>,
    /// When the money was taken (virtual account: deposited).
    pub paid_at: Option<DateTime<Utc>>,
    /// When the attempt failed, with [`PaymentStatus::Failed`].
    pub failed_at: Option<DateTime<Utc>>,
    /// Why, with [`PaymentStatus::Failed`].
    pub failure: Option<Failure>,
    /// When the latest cancellation succeeded.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Every cancellation ever asked for, whoever asked and however it ended. Sum the succeeded ones only.
    pub cancellations: Vec<Cancellation>,
    /// The receipt's address. Whoever has it sees the purchase.
    pub receipt_url: Option<String>,
    /// The gateway's own transaction number.
    pub pg_tx_id: Option<String>,
}

impl fmt::Debug for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payment")
            .field("id", &self.id)
            .field("transaction_id", &self.transaction_id)
            .field("store_id", &self.store_id)
            .field("status", &self.status)
            .field("amount", &self.amount)
            .field("currency", &self.currency)
            .field("channel_type", &self.channel_type)
            .field("pg_provider", &self.pg_provider)
            .field("method", &self.method)
            .field("requested_at", &self.requested_at)
            .field("status_changed_at", &self.status_changed_at)
            .field("paid_at", &self.paid_at)
            .field("failed_at", &self.failed_at)
            .field("failure", &self.failure)
            .field("cancelled_at", &self.cancelled_at)
            .field("cancellations", &self.cancellations)
            .field("receipt_url", &self.receipt_url.as_ref().map(|_| Redacted))
            .field("pg_tx_id", &self.pg_tx_id)
            .finish()
    }
}

/// Where a payment stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "String")]
pub enum PaymentStatus {
    /// The window was opened, nothing is paid.
    Ready,
    /// The approval is outstanding.
    PayPending,
    /// An account number was given, the money is not there.
    VirtualAccountIssued,
    /// Paid in full.
    Paid,
    /// The attempt failed; another one may follow under the same id.
    Failed,
    /// A part was returned.
    PartialCancelled,
    /// All was returned.
    Cancelled,
    /// A state that did not exist when this was written.
    Unknown(String),
}

impl PaymentStatus {
    /// The name in answers.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ready => "READY",
            Self::PayPending => "PAY_PENDING",
            Self::VirtualAccountIssued => "VIRTUAL_ACCOUNT_ISSUED",
            Self::Paid => "PAID",
            Self::Failed => "FAILED",
            Self::PartialCancelled => "PARTIAL_CANCELLED",
            Self::Cancelled => "CANCELLED",
            Self::Unknown(name) => name,
        }
    }

    /// The name in the list call's filter, which calls one state differently.
    pub(super) fn filter_name(&self) -> &str {
        match self {
            Self::PayPending => "PENDING",
            other => other.as_str(),
        }
    }
}

impl From<String> for PaymentStatus {
    fn from(name: String) -> Self {
        match name.as_str() {
            "READY" => Self::Ready,
            "PAY_PENDING" => Self::PayPending,
            "VIRTUAL_ACCOUNT_ISSUED" => Self::VirtualAccountIssued,
            "PAID" => Self::Paid,
            "FAILED" => Self::Failed,
            "PARTIAL_CANCELLED" => Self::PartialCancelled,
            "CANCELLED" => Self::Cancelled,
            _ => Self::Unknown(name),
        }
    }
}

/// The sums of a payment in the currency's smallest unit; 10000 is 10,000 won.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// What was asked for. Compare this with the order.
    pub total: i64,
    /// The share without VAT.
    pub tax_free: i64,
    /// The VAT in `total`, if told.
    pub vat: Option<i64>,
    /// The taxable share before VAT, if told.
    pub supply: Option<i64>,
    /// Reductions that the payment side gave (card, points, coupons).
    pub discount: i64,
    /// What the shopper's means was charged.
    pub paid: i64,
    /// The sum of succeeded cancellations.
    pub cancelled: i64,
    /// The tax-free share of `cancelled`.
    pub cancelled_tax_free: i64,
}

impl Amount {
    /// What can still be cancelled: the balance to state in a cancel request.
    pub fn cancellable(&self) -> i64 {
        self.total.saturating_sub(self.cancelled)
    }
}

/// Whether real money moves. A live shop must refuse everything but `Live`: test channel keys are public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ChannelType {
    /// Real money.
    #[serde(rename = "LIVE")]
    Live,
    /// Play money.
    #[serde(rename = "TEST")]
    Test,
    /// Not told, or told in a word that did not exist when this was written.
    #[serde(other)]
    Unknown,
}

/// The means of payment, as far as the shop shows or keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// `card`, `virtual_account`, `transfer`, `easy_pay`, `mobile`, `gift_certificate`, `convenience_store`, `crypto`,
    /// or a later one: the schema's name without `PaymentMethod`, in snake case.
    pub kind: String,
    /// The wallet of an easy payment, such as `KAKAOPAY`.
    pub provider: Option<String>,
    /// The card's issuer (also behind a wallet), or the bank of a transfer.
    pub issuer: Option<String>,
    /// Months of a card's instalment plan; 0 is a single charge.
    pub installment_months: Option<u32>,
    /// The card company's number of the approval.
    pub approval_number: Option<String>,
    /// The account to pay into, with `virtual_account`.
    pub virtual_account: Option<VirtualAccount>,
}

/// An account number issued for one payment. `Debug` hides number and holder.
#[derive(Clone, PartialEq, Eq)]
pub struct VirtualAccount {
    /// The bank, such as `SHINHAN`.
    pub bank: Option<String>,
    /// Digits.
    pub account_number: String,
    /// The account's holder as the shopper's bank shows it.
    pub remittee_name: Option<String>,
    /// When it was issued.
    pub issued_at: Option<DateTime<Utc>>,
    /// Until when it can be paid. `PortOne` sends no webhook when this passes.
    pub expired_at: Option<DateTime<Utc>>,
}

impl fmt::Debug for VirtualAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualAccount")
            .field("bank", &self.bank)
            .field("account_number", &Redacted)
            .field("remittee_name", &self.remittee_name.as_ref().map(|_| Redacted))
            .field("issued_at", &self.issued_at)
            .field("expired_at", &self.expired_at)
            .finish()
    }
}

/// Why an attempt failed. Texts are for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// `PortOne`'s words.
    pub reason: Option<String>,
    /// The gateway's code.
    pub pg_code: Option<String>,
    /// The gateway's words.
    pub pg_message: Option<String>,
}

/// One cancellation (refund) of a payment, whoever started it. `Debug` hides the reason, which a person wrote.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancellation {
    /// `PortOne`'s id of it: the key to know it again by.
    pub id: String,
    /// How far it is. An answer of HTTP 200 may well say `Failed`.
    pub status: CancellationStatus,
    /// What is returned, in the smallest unit.
    pub total_amount: i64,
    /// The tax-free share of it.
    pub tax_free_amount: i64,
    /// The VAT in it.
    pub vat_amount: i64,
    /// Why, in the words of whoever asked.
    pub reason: String,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When it succeeded.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Who started it: `CONSOLE`, `API`, `PORTONE_ADMIN`, `CHARGEBACK` or a later word.
    pub trigger: Option<String>,
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation")
            .field("id", &self.id)
            .field("status", &self.status)
            .field("total_amount", &self.total_amount)
            .field("tax_free_amount", &self.tax_free_amount)
            .field("vat_amount", &self.vat_amount)
            .field("reason", &Redacted)
            .field("requested_at", &self.requested_at)
            .field("cancelled_at", &self.cancelled_at)
            .field("trigger", &self.trigger)
            .finish()
    }
}

/// How far a cancellation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum CancellationStatus {
    /// Under way, sometimes for days. Do not count it, and do not ask a second time.
    #[serde(rename = "REQUESTED")]
    Requested,
    /// The money is on its way back.
    #[serde(rename = "SUCCEEDED")]
    Succeeded,
    /// Nothing was returned.
    #[serde(rename = "FAILED")]
    Failed,
    /// A state that did not exist when this was written.
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePayment {
    id: String,
    transaction_id: String,
    store_id: String,
    status: PaymentStatus,
    amount: Amount,
    currency: String,
    channel: Option<WireChannel>,
    method: Option<Value>,
    requested_at: DateTime<Utc>,
    status_changed_at: DateTime<Utc>,
    paid_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    failure: Option<Failure>,
    cancelled_at: Option<DateTime<Utc>>,
    cancellations: Option<Vec<Cancellation>>,
    receipt_url: Option<String>,
    pg_tx_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireChannel {
    #[serde(rename = "type")]
    kind: Option<ChannelType>,
    pg_provider: Option<String>,
}

impl From<WirePayment> for Payment {
    fn from(wire: WirePayment) -> Self {
        let channel = wire.channel.unwrap_or(WireChannel {
            kind: None,
            pg_provider: None,
        });
        Self {
            id: wire.id,
            transaction_id: wire.transaction_id,
            store_id: wire.store_id,
            status: wire.status,
            amount: wire.amount,
            currency: wire.currency,
            channel_type: channel.kind.unwrap_or(ChannelType::Unknown),
            pg_provider: channel.pg_provider,
            method: wire.method.as_ref().and_then(Method::from_wire),
            requested_at: wire.requested_at,
            status_changed_at: wire.status_changed_at,
            paid_at: wire.paid_at,
            failed_at: wire.failed_at,
            failure: wire.failure,
            cancelled_at: wire.cancelled_at,
            cancellations: wire.cancellations.unwrap_or_default(),
            receipt_url: wire.receipt_url,
            pg_tx_id: wire.pg_tx_id,
        }
    }
}

impl Method {
    /// Takes what it recognises. No order hangs on this part, so an odd shape in it must not fail the whole payment.
    fn from_wire(wire: &Value) -> Option<Self> {
        let text = |pointer: &str| wire.pointer(pointer)?.as_str().map(str::to_owned);
        let time = |pointer: &str| wire.pointer(pointer)?.as_str()?.parse::<DateTime<Utc>>().ok();
        let name = wire.get("type")?.as_str()?;
        let kind = snake_case(name.strip_prefix("PaymentMethod").unwrap_or(name));
        let virtual_account = (kind == "virtual_account").then(|| text("/accountNumber")).flatten();
        Some(Self {
            provider: text("/provider"),
            issuer: [
                "/card/issuer",
                "/easyPayMethod/card/issuer",
                "/bank",
                "/easyPayMethod/bank",
            ]
            .into_iter()
            .find_map(text),
            installment_months: ["/installment/month", "/easyPayMethod/installment/month"]
                .into_iter()
                .find_map(|pointer| u32::try_from(wire.pointer(pointer)?.as_u64()?).ok()),
            approval_number: ["/approvalNumber", "/easyPayMethod/approvalNumber"]
                .into_iter()
                .find_map(text),
            virtual_account: virtual_account.map(|account_number| VirtualAccount {
                bank: text("/bank"),
                account_number,
                remittee_name: text("/remitteeName"),
                issued_at: time("/issuedAt"),
                expired_at: time("/expiredAt"),
            }),
            kind,
        })
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
#[path = "payment/tests.rs"]
mod tests;
