//! What happens to a payment at PortOne, as the shop learnt it by re-reading. Times in payloads are
//! PortOne's own, so that the same facts give the same bytes however they were learnt.

use cqrs_es::DomainEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Money, OrderId, PayMethod, Sealed, Timestamp,
    event::current_version,
    personal::{AccountNumber, RefundAccount},
};

/// A payment is asked for, paid or failed, and perhaps goes back in parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum PaymentEvent {
    /// The shop asked for it; the buyer's window may open.
    #[serde(rename = "payment.requested")]
    Requested {
        /// For which order.
        order_id: OrderId,
        /// To the won.
        due: Money,
        /// The part of `due` that carries no VAT.
        tax_free: Money,
        /// How the buyer wants to pay.
        pay_method: PayMethod,
        /// What the payment window shows, at most 40 bytes.
        order_name: String,
    },
    /// The buyer was given an account number; the money is not there yet.
    #[serde(rename = "payment.virtual_account_issued")]
    VirtualAccountIssued {
        /// For which order.
        order_id: OrderId,
        /// PortOne's id of the attempt.
        transaction_id: String,
        /// PortOne's name of the bank (`SHINHAN`), if told.
        bank: Option<String>,
        /// Where to pay.
        account: Sealed<AccountNumber>,
        /// Until when.
        expires_at: Option<Timestamp>,
    },
    /// The money is there and is what was due.
    #[serde(rename = "payment.confirmed")]
    Confirmed {
        /// For which order.
        order_id: OrderId,
        /// PortOne's id of the attempt that succeeded.
        transaction_id: String,
        /// Equals what was due.
        paid: Money,
        /// The part of `paid` that carries no VAT, in PortOne's words.
        tax_free: Money,
        /// The VAT inside `paid`, if told.
        vat: Option<Money>,
        /// What the payment side took off: the buyer's means was charged `paid` less this.
        discount: Money,
        /// When, by PortOne's clock.
        paid_at: Timestamp,
        /// How it came.
        means: PaymentMeans,
    },
    /// An attempt failed; the buyer may try again under the same id.
    #[serde(rename = "payment.failed")]
    Failed {
        /// For which order.
        order_id: OrderId,
        /// PortOne's id of the attempt.
        transaction_id: String,
        /// When, by PortOne's clock.
        failed_at: Timestamp,
        /// The PG's code, if told.
        pg_code: Option<String>,
    },
    /// Money came that the shop does not accept; it goes back in full.
    #[serde(rename = "payment.refused")]
    Refused {
        /// For which order.
        order_id: OrderId,
        /// PortOne's id of the attempt.
        transaction_id: String,
        /// Why.
        reason: RefuseReason,
        /// What was due.
        due: Money,
        /// What came, in the smallest unit of `paid_currency`.
        paid_amount: i64,
        /// ISO 4217 code in PortOne's words.
        paid_currency: String,
        /// The part of `paid_amount` that carries no VAT.
        tax_free: i64,
        /// When, by PortOne's clock.
        paid_at: Timestamp,
        /// How it came.
        means: PaymentMeans,
    },
    /// The shop means to give money back. Written before PortOne is asked: `refund_id` is the
    /// `Idempotency-Key` of that request.
    #[serde(rename = "payment.cancellation_requested")]
    CancellationRequested {
        /// Of which order.
        order_id: OrderId,
        /// `refund-` and 32 hex digits.
        refund_id: String,
        /// How much, in the smallest unit of `currency`.
        amount: i64,
        /// The part of `amount` that carries no VAT: decided here, so that the request is the same
        /// however often it is sent.
        tax_free: i64,
        /// ISO 4217 code of the payment.
        currency: String,
        /// What could be cancelled at that moment, sent along as PortOne's compare-and-set.
        cancellable: i64,
        /// Why.
        reason: RefundReason,
    },
    /// The buyer said where money goes back to that came by bank transfer.
    #[serde(rename = "payment.refund_account_given")]
    RefundAccountGiven {
        /// For which order.
        order_id: OrderId,
        /// The buyer's own account.
        account: Sealed<RefundAccount>,
        /// The refund that waited for it, if one did.
        waiting_refund_id: Option<String>,
    },
    /// PortOne refused to give money back; an operator must look.
    #[serde(rename = "payment.cancellation_failed")]
    CancellationFailed {
        /// Of which order.
        order_id: OrderId,
        /// Which request.
        refund_id: String,
        /// PortOne's error type, or `FAILED`.
        code: String,
        /// The PG's code, if told.
        pg_code: Option<String>,
    },
    /// Some or all of the money went back, whoever asked for it.
    #[serde(rename = "payment.cancelled")]
    Cancelled {
        /// For which order.
        order_id: OrderId,
        /// PortOne's id of this cancellation.
        cancellation_id: String,
        /// How much went back, in the smallest unit of `currency`.
        amount: i64,
        /// The part of `amount` that carries no VAT.
        tax_free: i64,
        /// The VAT inside `amount`.
        vat: i64,
        /// ISO 4217 code of the payment.
        currency: String,
        /// How much has gone back in all.
        cancelled_total: i64,
        /// How much has not gone back.
        remaining: i64,
        /// When, by PortOne's clock.
        cancelled_at: Timestamp,
        /// Who began it, in PortOne's words: `API`, `CONSOLE`, `PORTONE_ADMIN`, `CHARGEBACK`, if told.
        trigger: Option<String>,
    },
}

/// How money came, in PortOne's words. The slip's address is left out: whoever has it sees the
/// buyer, so it is asked for when it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaymentMeans {
    /// `card`, `virtual_account`, `transfer`, `easy_pay` …, or `unknown`.
    pub method: String,
    /// Easy-pay provider or bank (`KAKAOPAY`, `SHINHAN`), if told.
    pub provider: Option<String>,
    /// Card issuer, of the card behind a wallet too, if told.
    pub issuer: Option<String>,
    /// Months of a card's instalments; 0 is all at once (KOREA W11).
    pub installment_months: Option<u32>,
    /// The card company's number of the approval, if told.
    pub approval_number: Option<String>,
    /// Real money or play money.
    pub channel: ChannelType,
    /// The PG behind PortOne (`TOSSPAYMENTS`), if told.
    pub pg_provider: Option<String>,
    /// The PG's id of it, if told.
    pub pg_tx_id: Option<String>,
}

/// Whether a payment channel moves real money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelType {
    /// Real money.
    Live,
    /// Play money; a live shop refuses it.
    Test,
}

/// Why the shop does not accept money that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefuseReason {
    /// Not the amount due.
    WrongAmount,
    /// Not won.
    WrongCurrency,
    /// Play money in a live shop.
    TestChannel,
}

/// Why money goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefundReason {
    /// Not the amount due.
    WrongAmount,
    /// Not won.
    WrongCurrency,
    /// Play money in a live shop.
    TestChannel,
    /// It came after the order had expired.
    OrderExpired,
    /// It came after the order had been cancelled.
    OrderCancelled,
    /// It came for an order that was refused for want of stock.
    OrderRefused,
    /// A second payment of one order.
    AlreadyPaid,
    /// An operator's wish.
    Operator,
    /// The buyer's wish.
    Customer,
}

impl RefundReason {
    /// Whether the shop owes all of the money back, whether or not anybody asks for it.
    pub const fn is_owed(self) -> bool {
        !matches!(self, Self::Operator | Self::Customer)
    }
}

impl DomainEvent for PaymentEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }
    fn event_version(&self) -> String {
        current_version(self.name()).to_owned()
    }
}

impl PaymentEvent {
    /// When it happened in the world, where that is not when the shop learnt it.
    pub const fn happened_at(&self) -> Option<Timestamp> {
        match self {
            Self::Confirmed { paid_at: at, .. }
            | Self::Refused { paid_at: at, .. }
            | Self::Failed { failed_at: at, .. }
            | Self::Cancelled { cancelled_at: at, .. } => Some(*at),
            Self::Requested { .. }
            | Self::VirtualAccountIssued { .. }
            | Self::CancellationRequested { .. }
            | Self::RefundAccountGiven { .. }
            | Self::CancellationFailed { .. } => None,
        }
    }

    /// The stored name, as in the `event_type` column.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Requested { .. } => "payment.requested",
            Self::VirtualAccountIssued { .. } => "payment.virtual_account_issued",
            Self::Confirmed { .. } => "payment.confirmed",
            Self::Failed { .. } => "payment.failed",
            Self::Refused { .. } => "payment.refused",
            Self::CancellationRequested { .. } => "payment.cancellation_requested",
            Self::RefundAccountGiven { .. } => "payment.refund_account_given",
            Self::CancellationFailed { .. } => "payment.cancellation_failed",
            Self::Cancelled { .. } => "payment.cancelled",
        }
    }
}
