//! Orders. Personal data is opened at the edge and shown whole to the owner and the shop, masked to
//! whoever only knows number and phone (KOREA G4).

use jangbu_domain::{Order, order::Sale};
use jangbu_events::{Money, OrderId, OrderLine, OrderTotals, Orderer, Recipient, Shortage, personal::AddressLine};
use jangbu_projections::order_history::{OrderRow, Origin};
use serde::Serialize;
use utoipa::ToSchema;

use super::{MoneyView, PaymentView, time, word};

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderView {
    /// `ord_…`.
    #[schema(example = "ord_8c1f0a2b3d4e5f60718293a4b5c6d7e8")]
    pub id: String,
    /// `yymmdd-XXXXXXXX`; null for an imported order.
    #[schema(example = "260302-7K3M9QXW")]
    pub number: Option<String>,
    /// `placed`, `awaiting_payment`, `confirmed`, `cancelled`, `refused`, `expired` or `imported`.
    #[schema(example = "confirmed")]
    pub status: String,
    /// Of the order.
    pub version: i64,
    /// What the buyer pays.
    pub total: MoneyView,
    /// All sums.
    pub totals: TotalsView,
    /// What was bought at which price.
    pub lines: Vec<OrderLineView>,
    /// How the buyer wants to pay; null for an imported order.
    pub pay_method: Option<String>,
    /// Until when it waits, or waited, for its payment.
    pub expires_at: Option<String>,
    /// When it was paid.
    pub paid_at: Option<String>,
    /// What went back in all.
    pub refunded: MoneyView,
    /// Each time that money went back.
    pub refunds: Vec<RefundView>,
    /// Why it was cancelled: `customer`, `operator` or `refunded_in_full`.
    pub cancel_reason: Option<String>,
    /// Lines that were sold out, if it was refused.
    pub shortages: Vec<ShortageView>,
    /// Who ordered; null once destroyed.
    pub orderer: Option<OrdererView>,
    /// Who receives the goods; null once destroyed.
    pub recipient: Option<RecipientView>,
    /// Its payment, once one was asked for.
    pub payment: Option<PaymentView>,
    /// The system it comes from, if it was imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its id there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
}

/// Sums of an order. `total = goods - discount + shipping = supply + vat + tax_free`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TotalsView {
    /// Prices times quantities.
    pub goods: MoneyView,
    /// Taken off.
    pub discount: MoneyView,
    /// Delivery.
    pub shipping: MoneyView,
    /// What the buyer pays.
    pub total: MoneyView,
    /// The part without VAT.
    pub tax_free: MoneyView,
    /// The taxed part less its VAT.
    pub supply: MoneyView,
    /// VAT inside the total.
    pub vat: MoneyView,
}

/// A line of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderLineView {
    /// `lin_…`.
    pub line_id: String,
    /// `prd_…`.
    pub product_id: String,
    /// The shop's own name.
    pub sku: String,
    /// At the sale.
    pub name: String,
    /// At the sale.
    pub category: String,
    /// Of one, VAT included.
    pub unit_price: MoneyView,
    /// How many.
    pub quantity: u32,
    /// Its share of all discounts.
    pub discount: MoneyView,
    /// Price times quantity less the discount.
    pub total: MoneyView,
    /// `taxable` or `tax_free`.
    pub tax_class: String,
}

/// Money that went back.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefundView {
    /// How much.
    pub amount: MoneyView,
    /// When, by PortOne's clock.
    pub cancelled_at: String,
}

/// A line that could not be had.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShortageView {
    /// Which.
    pub sku: String,
    /// How many were wanted.
    pub requested: u32,
    /// How many there were.
    pub available: u32,
}

/// Who ordered.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrdererView {
    /// Full, or `홍*동`.
    #[schema(example = "홍길동")]
    pub name: String,
    /// `010-1234-5678`, or `010-****-5678`.
    pub phone: String,
    /// Full, or `ho**@example.com`.
    pub email: String,
}

/// Who receives the goods.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecipientView {
    /// Full, or `홍*동`.
    pub name: String,
    /// `010-1234-5678`, or `010-****-5678`.
    pub phone: String,
    /// Five digits; hidden where masked.
    pub postcode: String,
    /// Road-name address; its first words where masked.
    pub road: String,
    /// Flat, floor; hidden where masked.
    pub detail: Option<String>,
}

/// What whoever knows number and phone is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct LookedUpOrderView {
    /// The order, with masked personal data.
    pub order: OrderView,
    /// Always true.
    pub masked: bool,
}

/// An order in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderListItem {
    /// `ord_…`.
    pub id: String,
    /// Null for an imported order.
    pub number: Option<String>,
    /// As in the order itself.
    pub status: &'static str,
    /// When it was placed; of an imported order, in its own system.
    pub placed_at: String,
    /// When it was confirmed.
    pub confirmed_at: Option<String>,
    /// Until when it waits, or waited, for its payment.
    pub expires_at: Option<String>,
    /// What the buyer pays.
    pub total: MoneyView,
    /// What went back in all.
    pub refunded: MoneyView,
    /// The first line's name.
    pub first_line: Option<String>,
    /// How many lines there are.
    pub line_count: usize,
    /// `pay_…`.
    pub payment_id: Option<String>,
    /// Who ordered, masked; only in the shop's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orderer: Option<OrdererView>,
    /// The system it comes from, if it was imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its id there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    /// The buyer's id there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_customer: Option<String>,
}

/// The people of an order, opened; `None` once destroyed.
#[derive(Debug, Default)]
pub struct People {
    /// Who ordered.
    pub orderer: Option<OrdererView>,
    /// Who receives the goods.
    pub recipient: Option<RecipientView>,
}

impl OrderView {
    /// `None` where there is no such order.
    pub fn of(id: OrderId, order: &Order, sequence: i64, people: People, payment: Option<PaymentView>) -> Option<Self> {
        let status = order.status()?.as_str().to_owned();
        if let Order::Imported(imported) = order {
            return Some(Self {
                source: Some(imported.source.clone()),
                source_id: Some(imported.source_id.clone()),
                ..Self::bare(id, status, sequence, &imported.lines, &imported.totals)
            });
        }
        let details = order.details()?;
        let sale = order.sale();
        let (cancel_reason, shortages) = match order {
            Order::Cancelled { reason, .. } => (Some(word(reason)), &[][..]),
            Order::Refused { shortages, .. } => (None, shortages.as_slice()),
            _ => (None, &[][..]),
        };
        Some(Self {
            number: Some(details.order_number.clone()),
            pay_method: Some(word(details.pay_method)),
            expires_at: Some(time(details.expires_at)),
            paid_at: sale.map(|sale| time(sale.paid_at)),
            refunded: sale.map_or(Money::ZERO, Sale::refunded).into(),
            refunds: sale
                .into_iter()
                .flat_map(|sale| &sale.refunds)
                .map(|refund| RefundView {
                    amount: refund.amount.into(),
                    cancelled_at: time(refund.cancelled_at),
                })
                .collect(),
            cancel_reason,
            shortages: shortages.iter().map(Into::into).collect(),
            orderer: people.orderer,
            recipient: people.recipient,
            payment,
            ..Self::bare(id, status, sequence, &details.lines, &details.totals)
        })
    }

    /// What every order has.
    fn bare(id: OrderId, status: String, sequence: i64, lines: &[OrderLine], totals: &OrderTotals) -> Self {
        Self {
            id: id.to_string(),
            number: None,
            status,
            version: sequence,
            total: totals.total.into(),
            totals: totals.into(),
            lines: lines.iter().map(Into::into).collect(),
            pay_method: None,
            expires_at: None,
            paid_at: None,
            refunded: Money::ZERO.into(),
            refunds: Vec::new(),
            cancel_reason: None,
            shortages: Vec::new(),
            orderer: None,
            recipient: None,
            payment: None,
            source: None,
            source_id: None,
        }
    }
}

impl From<&OrderTotals> for TotalsView {
    fn from(totals: &OrderTotals) -> Self {
        Self {
            goods: totals.goods.into(),
            discount: totals.discount.into(),
            shipping: totals.shipping.into(),
            total: totals.total.into(),
            tax_free: totals.tax_free.into(),
            supply: totals.supply.into(),
            vat: totals.vat.into(),
        }
    }
}

impl From<&OrderLine> for OrderLineView {
    fn from(line: &OrderLine) -> Self {
        Self {
            line_id: line.line_id.to_string(),
            product_id: line.product_id.to_string(),
            sku: line.sku.to_string(),
            name: line.name.clone(),
            category: line.category.clone(),
            unit_price: line.unit_price.into(),
            quantity: line.quantity,
            discount: line.discount.into(),
            total: line.total.into(),
            tax_class: word(line.tax_class),
        }
    }
}

impl From<&Shortage> for ShortageView {
    fn from(shortage: &Shortage) -> Self {
        Self {
            sku: shortage.sku.to_string(),
            requested: shortage.requested,
            available: shortage.available,
        }
    }
}

impl OrdererView {
    /// In full.
    pub fn open(orderer: &Orderer) -> Self {
        Self {
            name: orderer.name.as_str().to_owned(),
            phone: orderer.phone.national(),
            email: orderer.email.as_str().to_owned(),
        }
    }

    /// As a stranger may see it.
    pub fn masked(orderer: &Orderer) -> Self {
        Self {
            name: orderer.name.masked(),
            phone: orderer.phone.masked(),
            email: orderer.email.masked(),
        }
    }
}

impl RecipientView {
    /// In full.
    pub fn open(recipient: &Recipient) -> Self {
        Self {
            name: recipient.name.as_str().to_owned(),
            phone: recipient.phone.national(),
            postcode: recipient.postcode.as_str().to_owned(),
            road: recipient.road.as_str().to_owned(),
            detail: recipient.detail.as_ref().map(|detail| detail.as_str().to_owned()),
        }
    }

    /// As a stranger may see it.
    pub fn masked(recipient: &Recipient) -> Self {
        Self {
            name: recipient.name.masked(),
            phone: recipient.phone.masked(),
            postcode: "*****".to_owned(),
            road: AddressLine::masked(&recipient.road),
            detail: recipient.detail.as_ref().map(|_| "***".to_owned()),
        }
    }
}

impl OrderListItem {
    /// Of a row of the order history; `orderer` as far as the reader may see it.
    pub fn of(row: OrderRow, orderer: Option<OrdererView>) -> Self {
        let (first_line, line_count) = row.summary();
        let first_line = first_line.map(str::to_owned);
        let (number, source, source_id, external_customer) = match row.origin {
            Origin::Shop(order) => (Some(order.order_number), None, None, None),
            Origin::Imported {
                source,
                source_id,
                external_customer,
                ..
            } => (None, Some(source), Some(source_id), external_customer),
        };
        Self {
            id: row.order_id.to_string(),
            number,
            status: row.status.as_str(),
            placed_at: time(row.placed_at),
            confirmed_at: row.confirmed_at.map(time),
            expires_at: row.expires_at.map(time),
            total: row.totals.total.into(),
            refunded: row.refunded.into(),
            first_line,
            line_count,
            payment_id: row.payment_id.map(|id| id.to_string()),
            orderer,
            source,
            source_id,
            external_customer,
        }
    }
}
