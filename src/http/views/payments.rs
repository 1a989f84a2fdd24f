//! Payments.

use jangbu_domain::Payment;
use jangbu_events::{Money, PaymentId, personal::AccountNumber};
use serde::Serialize;
use utoipa::ToSchema;

use super::{MoneyView, OrderView, time, word};

/// A payment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PaymentView {
    /// `pay_…`.
    #[schema(example = "pay_5b1d9f0c3a7e5d2f8c6b4a190e7d5c3b")]
    pub id: String,
    /// What PortOne calls it: the same digits without `pay_`.
    pub portone_id: String,
    /// For which order.
    pub order_id: String,
    /// `requested`, `virtual_account_issued`, `confirmed`, `refused`, `partly_cancelled` or `cancelled`.
    #[schema(example = "confirmed")]
    pub status: String,
    /// What it must be.
    pub due: MoneyView,
    /// How the buyer wanted to pay.
    pub pay_method: String,
    /// What came, in won; null before that.
    pub paid: Option<MoneyView>,
    /// When, by PortOne's clock.
    pub paid_at: Option<String>,
    /// `card`, `virtual_account` … once it came.
    pub method: Option<String>,
    /// Card issuer, bank or wallet, if told.
    pub provider: Option<String>,
    /// Where the buyer sees the slip; known only right after PortOne was asked.
    pub receipt_url: Option<String>,
    /// What came and has not gone back.
    pub refundable: MoneyView,
    /// Whether the shop has asked for money to go back and waits for it.
    pub refund_in_progress: bool,
    /// Whether it waits for an account of the buyer's to go to: say one at
    /// `PUT /api/v1/payments/{payment_id}/refund-account`.
    pub refund_account_needed: bool,
    /// Whether the last refund failed: an operator must look.
    pub refund_failed: bool,
    /// Where to pay, while no money has come.
    pub virtual_account: Option<VirtualAccountView>,
}

/// An account number that a buyer was given.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VirtualAccountView {
    /// PortOne's name of the bank.
    #[schema(example = "SHINHAN")]
    pub bank: Option<String>,
    /// The number; null for those who may not see it, and once it is destroyed.
    pub account_number: Option<String>,
    /// Until when.
    pub expires_at: Option<String>,
}

/// A payment after PortOne was asked, and what became of its order.
#[derive(Debug, Serialize, ToSchema)]
pub struct SettledView {
    /// The payment.
    pub payment: PaymentView,
    /// Its order.
    pub order: OrderView,
}

impl PaymentView {
    /// Of a payment that was asked for. `account` is its account number, opened.
    pub fn of(id: PaymentId, payment: &Payment, account: Option<&AccountNumber>) -> Option<Self> {
        let request = payment.request()?;
        let received = payment.money().map(|(received, _)| received);
        let returned = payment.money().map(|(_, returned)| returned);
        let means = received.map(|received| &received.means);
        // A refused payment may be in another currency; then the amount is none in won.
        let paid = received.filter(|received| received.currency == "KRW");
        Some(Self {
            id: id.to_string(),
            portone_id: id.portone(),
            order_id: request.order_id.to_string(),
            status: word(payment.status()?),
            due: request.due.into(),
            pay_method: word(request.pay_method),
            paid: paid.map(|received| Money::won(received.amount).into()),
            paid_at: received.map(|received| time(received.paid_at)),
            method: means.map(|means| means.method.clone()),
            provider: means.and_then(|means| means.provider.clone().or_else(|| means.issuer.clone())),
            receipt_url: None,
            refundable: Money::won(if paid.is_some() { payment.refundable().max(0) } else { 0 }).into(),
            refund_in_progress: returned.is_some_and(|returned| returned.open.is_some()),
            refund_account_needed: payment.needs_refund_account(),
            refund_failed: returned.is_some_and(|returned| returned.failed.is_some()),
            virtual_account: payment.account().map(|issued| VirtualAccountView {
                bank: issued.bank.clone(),
                account_number: account.map(|account| account.as_str().to_owned()),
                expires_at: issued.expires_at.map(time),
            }),
        })
    }
}
