//! What happens to an order.

use std::collections::BTreeMap;

use cqrs_es::DomainEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    CartId, ChannelType, CustomerId, LineId, Money, Orderer, PaymentId, ProductId, Recipient, Sealed, Sku, Timestamp,
    event::current_version,
};

/// An order waits for its stock, then for its payment, and ends confirmed, cancelled, refused or expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum OrderEvent {
    /// It exists; its stock is being held.
    #[serde(rename = "order.placed")]
    Placed {
        /// `yymmdd-XXXXXXXX`, unique in the store.
        order_number: String,
        /// The cart it was made of; its bits are the purchase id.
        cart_id: CartId,
        /// Counts the orders of this cart from 1.
        attempt: u32,
        /// Whose it is.
        owner: Owner,
        /// What was bought at which price.
        lines: Vec<OrderLine>,
        /// Sums over the lines.
        totals: OrderTotals,
        /// Who orders.
        orderer: Sealed<Orderer>,
        /// Who receives the goods.
        recipient: Sealed<Recipient>,
        /// What the orderer agreed to.
        consents: Consents,
        /// How the orderer wants to pay.
        pay_method: PayMethod,
        /// Until when it waits for its payment.
        expires_at: Timestamp,
    },
    /// Every line is held; the payment may come.
    #[serde(rename = "order.awaiting_payment")]
    AwaitingPayment {
        /// The payment it waits for.
        payment_id: PaymentId,
        /// What that payment must be, to the won.
        due: Money,
        /// Until when it waits.
        expires_at: Timestamp,
    },
    /// It waits longer: a virtual account was given, or PortOne has not answered yet.
    #[serde(rename = "order.deadline_extended")]
    DeadlineExtended {
        /// Until when it waits now.
        expires_at: Timestamp,
        /// Why.
        reason: ExtensionReason,
    },
    /// It is paid in full: this is the sale, and carries all that a sales figure needs.
    #[serde(rename = "order.confirmed")]
    Confirmed {
        /// The payment that paid for it.
        payment_id: PaymentId,
        /// What was paid: equals what was due.
        paid: Money,
        /// When, by PortOne's clock.
        paid_at: Timestamp,
        /// Real money or play money: what a shop sold before it went live is no revenue.
        channel: ChannelType,
        /// Its number, for readers of this event alone.
        order_number: String,
        /// What was sold at which price.
        lines: Vec<OrderLine>,
        /// Sums over the lines.
        totals: OrderTotals,
    },
    /// Money came for it that it cannot take; that money goes back in full.
    #[serde(rename = "order.payment_rejected")]
    PaymentRejected {
        /// The payment that goes back.
        payment_id: PaymentId,
        /// What was paid.
        paid: Money,
        /// Why it cannot be taken.
        reason: RejectReason,
    },
    /// Some or all of the money of a confirmed order went back to the buyer.
    #[serde(rename = "order.refunded")]
    Refunded {
        /// Of which payment.
        payment_id: PaymentId,
        /// PortOne's id of this cancellation.
        cancellation_id: String,
        /// What went back this time.
        amount: Money,
        /// What has gone back in all.
        refunded_total: Money,
        /// What has not gone back.
        remaining: Money,
        /// When, by PortOne's clock.
        cancelled_at: Timestamp,
        /// `amount` spread over the lines to the won.
        shares: Vec<LineShare>,
    },
    /// It is off.
    #[serde(rename = "order.cancelled")]
    Cancelled {
        /// Why.
        reason: CancelReason,
        /// Whether it had been confirmed before.
        was_confirmed: bool,
    },
    /// Something was sold out; nothing was charged.
    #[serde(rename = "order.refused")]
    Refused {
        /// Every line that could not be held.
        shortages: Vec<Shortage>,
    },
    /// Nobody paid in time.
    #[serde(rename = "order.expired")]
    Expired {},
    /// A past order of another system: counted, never acted upon.
    #[serde(rename = "order.imported")]
    Imported {
        /// The system it comes from.
        source: String,
        /// Its id there.
        source_id: String,
        /// The buyer's id there, if known.
        external_customer: Option<String>,
        /// Further columns of the source, kept as they were.
        external_reference: BTreeMap<String, String>,
        /// What was bought, at the catalog's prices when it was imported.
        lines: Vec<OrderLine>,
        /// Sums over the lines.
        totals: OrderTotals,
    },
}

/// One line of an order, complete in itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderLine {
    /// Unique in the order.
    pub line_id: LineId,
    /// What.
    pub product_id: ProductId,
    /// What, in the shop's words.
    pub sku: Sku,
    /// Its name at the sale.
    pub name: String,
    /// Its category at the sale.
    pub category: String,
    /// Price of one, VAT included.
    pub unit_price: Money,
    /// How many.
    pub quantity: u32,
    /// This line's share of all discounts.
    pub discount: Money,
    /// How VAT applies.
    pub tax_class: TaxClass,
    /// `unit_price * quantity - discount`.
    pub total: Money,
}

/// Sums of an order, each in won. `total = goods - discount + shipping = supply + vat + tax_free`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderTotals {
    /// Prices times quantities.
    pub goods: Money,
    /// Taken off.
    pub discount: Money,
    /// Delivery.
    pub shipping: Money,
    /// What the buyer pays.
    pub total: Money,
    /// The part without VAT.
    pub tax_free: Money,
    /// The taxed part less its VAT.
    pub supply: Money,
    /// Value added tax inside `total`: a tenth of `supply`.
    pub vat: Money,
}

/// How VAT applies to a product.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaxClass {
    /// 10 %, included in the price.
    #[default]
    Taxable,
    /// 면세: unprocessed food, books …
    TaxFree,
}

/// Who a cart and its orders belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Owner {
    /// Whoever holds the cart's token.
    Guest {
        /// SHA-256 of the token, 64 hex digits.
        token_hash: String,
    },
    /// A registered customer.
    Member {
        /// Which.
        customer_id: CustomerId,
    },
}

/// What the orderer agreed to at checkout (KOREA U3, G1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Consents {
    /// Collection and use of personal data for this order: required.
    pub privacy: bool,
    /// Which wording was shown.
    pub privacy_version: String,
    /// SHA-256 of that wording, 64 hex digits: a version's name alone proves nothing.
    pub privacy_text_sha256: String,
}

/// How the orderer wants to pay; the names are PortOne's (PROTOCOL D1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PayMethod {
    /// Credit or debit card.
    Card,
    /// 가상계좌.
    VirtualAccount,
    /// 계좌이체.
    Transfer,
    /// 휴대폰 소액결제.
    Mobile,
    /// 상품권.
    GiftCertificate,
    /// Kakao Pay, Naver Pay, Toss Pay …
    EasyPay,
}

/// Why an order waits longer than it first said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExtensionReason {
    /// The buyer was given an account number and has until its end to pay.
    VirtualAccount,
}

/// Why an order cannot take a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// It had expired.
    OrderExpired,
    /// It had been cancelled.
    OrderCancelled,
    /// It had been refused for want of stock.
    OrderRefused,
    /// Another payment had paid for it.
    AlreadyPaid,
    /// It is not the amount due.
    WrongAmount,
}

/// Why an order is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// The buyer wished it.
    Customer,
    /// An operator wished it.
    Operator,
    /// All its money went back, on whose wish PortOne knows.
    RefundedInFull,
}

/// A line that could not be held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shortage {
    /// Which.
    pub sku: Sku,
    /// How many were wanted.
    pub requested: u32,
    /// How many there were.
    pub available: u32,
}

/// A line's part of an amount that went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineShare {
    /// Which line.
    pub line_id: LineId,
    /// Its sku.
    pub sku: Sku,
    /// Its category at the sale.
    pub category: String,
    /// Its part.
    pub amount: Money,
}

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }
    fn event_version(&self) -> String {
        current_version(self.name()).to_owned()
    }
}

impl OrderEvent {
    /// When it happened in the world, where that is not when the shop learnt it.
    pub const fn happened_at(&self) -> Option<Timestamp> {
        match self {
            Self::Confirmed { paid_at: at, .. } | Self::Refunded { cancelled_at: at, .. } => Some(*at),
            Self::Placed { .. }
            | Self::AwaitingPayment { .. }
            | Self::DeadlineExtended { .. }
            | Self::PaymentRejected { .. }
            | Self::Cancelled { .. }
            | Self::Refused { .. }
            | Self::Expired {}
            | Self::Imported { .. } => None,
        }
    }

    /// The stored name, as in the `event_type` column.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Placed { .. } => "order.placed",
            Self::AwaitingPayment { .. } => "order.awaiting_payment",
            Self::DeadlineExtended { .. } => "order.deadline_extended",
            Self::Confirmed { .. } => "order.confirmed",
            Self::PaymentRejected { .. } => "order.payment_rejected",
            Self::Refunded { .. } => "order.refunded",
            Self::Cancelled { .. } => "order.cancelled",
            Self::Refused { .. } => "order.refused",
            Self::Expired {} => "order.expired",
            Self::Imported { .. } => "order.imported",
        }
    }
}
