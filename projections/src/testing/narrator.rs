//! Writes histories of a small shop, as a test's own story wants them.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use jangbu_events::{
    AggregateId, CartId, Event, LineId, LineShare, Money, OrderEvent, OrderId, OrderLine, OrderTotals, Owner,
    PaymentId, ProductEvent, ProductId, ReleaseReason, Sku, StockEvent, StoreId, TaxClass, Timestamp, samples,
};
use uuid::Uuid;

use super::History;

/// A shop whose past is written step by step.
pub struct Script {
    /// What happened so far.
    pub history: History,
    /// When the next thing happens.
    pub clock: Timestamp,
    stock: BTreeMap<Sku, (u32, u32)>,
}

/// A purchase that a script is in the middle of.
#[derive(Clone)]
pub struct Purchase {
    pub cart: CartId,
    pub order: OrderId,
    pub number: String,
    pub lines: Vec<OrderLine>,
    refunds: u32,
    refunded: i64,
}

impl Script {
    pub fn new() -> Self {
        Self {
            history: History::default(),
            clock: samples::moment(),
            stock: BTreeMap::new(),
        }
    }

    pub fn at(&mut self, moment: &str) -> &mut Self {
        self.clock = moment.parse().expect("a moment");
        self
    }

    pub fn register(&mut self, sku: &str, name: &str, category: &str, price: i64) -> Sku {
        let sku: Sku = sku.parse().expect("a sku");
        let registered = ProductEvent::Registered {
            sku: sku.clone(),
            name: name.to_owned(),
            category: category.to_owned(),
            price: Money::won(price),
            tax_class: TaxClass::Taxable,
            attributes: BTreeMap::from([("brand".to_owned(), "한빛".to_owned())]),
        };
        self.history.product(&sku, self.clock, registered);
        sku
    }

    pub fn product(&mut self, sku: &Sku, event: ProductEvent) {
        self.history.product(sku, self.clock, event);
    }

    pub fn publish(&mut self, sku: &str, name: &str, category: &str, price: i64) -> Sku {
        let sku = self.register(sku, name, category, price);
        self.product(&sku, ProductEvent::Published {});
        sku
    }

    pub fn receive(&mut self, sku: &Sku, quantity: u32) {
        let (on_hand, available) = self.stock.entry(sku.clone()).or_default();
        *on_hand += quantity;
        *available += quantity;
        let (sku, on_hand, available) = (sku.clone(), *on_hand, *available);
        let received = StockEvent::Received {
            sku: sku.clone(),
            quantity,
            on_hand,
            available,
        };
        self.history.stock(&sku, self.clock, received);
    }

    /// Whether there was enough.
    pub fn hold(&mut self, sku: &Sku, order_id: OrderId, quantity: u32) -> bool {
        let (_, available) = self.stock.entry(sku.clone()).or_default();
        let enough = *available >= quantity;
        let event = if enough {
            *available -= quantity;
            StockEvent::Held {
                sku: sku.clone(),
                order_id,
                quantity,
                available: *available,
                backstop_at: self.clock,
            }
        } else {
            StockEvent::HoldRefused {
                sku: sku.clone(),
                order_id,
                requested: quantity,
                available: *available,
            }
        };
        self.history.stock(sku, self.clock, event);
        enough
    }

    pub fn release(&mut self, sku: &Sku, order_id: OrderId, quantity: u32) {
        let (_, available) = self.stock.entry(sku.clone()).or_default();
        *available += quantity;
        let released = StockEvent::Released {
            sku: sku.clone(),
            order_id,
            quantity,
            available: *available,
            reason: ReleaseReason::OrderExpired,
        };
        self.history.stock(sku, self.clock, released);
    }

    pub fn commit(&mut self, sku: &Sku, order_id: OrderId, quantity: u32) {
        let (on_hand, available) = self.stock.entry(sku.clone()).or_default();
        *on_hand -= quantity;
        let committed = StockEvent::Committed {
            sku: sku.clone(),
            order_id,
            quantity,
            on_hand: *on_hand,
            available: *available,
        };
        self.history.stock(sku, self.clock, committed);
    }

    /// `lines` are (sku, category, unit price, quantity).
    pub fn place(&mut self, number: u32, owner: Owner, lines: &[(&str, &str, i64, u32)]) -> Purchase {
        let cart = CartId::from_uuid(Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()));
        let lines: Vec<OrderLine> = lines
            .iter()
            .map(|(sku, category, price, quantity)| line(cart, sku, category, *price, *quantity))
            .collect();
        let purchase = Purchase {
            cart,
            order: OrderId::of(cart, 1),
            number: format!("260302-{number:08}"),
            lines,
            refunds: 0,
            refunded: 0,
        };
        let Event::Order(OrderEvent::Placed {
            consents,
            orderer,
            recipient,
            pay_method,
            ..
        }) = sample("order.placed")
        else {
            unreachable!("the sample of that name");
        };
        let placed = OrderEvent::Placed {
            order_number: purchase.number.clone(),
            cart_id: cart,
            attempt: 1,
            owner,
            lines: purchase.lines.clone(),
            totals: totals(&purchase.lines),
            orderer,
            recipient,
            consents,
            pay_method,
            // The database keeps microseconds; what comes from outside may be finer.
            expires_at: self.clock + TimeDelta::nanoseconds(1_800_000_000_999),
        };
        self.order(&purchase, placed);
        purchase
    }

    pub fn order(&mut self, purchase: &Purchase, event: OrderEvent) {
        self.history.order(purchase.cart, purchase.order, self.clock, event);
    }

    pub fn await_payment(&mut self, purchase: &Purchase) {
        let awaiting = OrderEvent::AwaitingPayment {
            payment_id: PaymentId::of(purchase.order, 1),
            due: totals(&purchase.lines).total,
            expires_at: self.clock + TimeDelta::minutes(30),
        };
        self.order(purchase, awaiting);
    }

    pub fn confirm(&mut self, purchase: &Purchase) {
        let totals = totals(&purchase.lines);
        let confirmed = OrderEvent::Confirmed {
            payment_id: PaymentId::of(purchase.order, 1),
            paid: totals.total,
            paid_at: self.clock,
            channel: jangbu_events::ChannelType::Live,
            order_number: purchase.number.clone(),
            lines: purchase.lines.clone(),
            totals,
        };
        self.order(purchase, confirmed);
    }

    /// Gives back so much of every line.
    pub fn refund(&mut self, purchase: &mut Purchase, amounts: &[i64]) {
        purchase.refunds += 1;
        let amount: i64 = amounts.iter().sum();
        purchase.refunded += amount;
        let shares = purchase.lines.iter().zip(amounts).map(|(line, amount)| LineShare {
            line_id: line.line_id,
            sku: line.sku.clone(),
            category: line.category.clone(),
            amount: Money::won(*amount),
        });
        let refunded = OrderEvent::Refunded {
            payment_id: PaymentId::of(purchase.order, 1),
            cancellation_id: format!("cancellation-{}", purchase.refunds),
            amount: Money::won(amount),
            refunded_total: Money::won(purchase.refunded),
            remaining: Money::won(purchase.left()),
            cancelled_at: self.clock,
            shares: shares.collect(),
        };
        self.order(purchase, refunded);
    }

    /// An order of another system, which occurred at the script's clock.
    pub fn import(&mut self, basket: &str, household: Option<&str>, lines: &[(&str, &str, i64, u32)]) -> OrderId {
        let order = OrderId::imported("journey", basket);
        let cart = CartId::from_uuid(order.uuid());
        let lines: Vec<OrderLine> = lines
            .iter()
            .map(|(sku, category, price, quantity)| line(cart, sku, category, *price, *quantity))
            .collect();
        let imported = OrderEvent::Imported {
            source: "journey".to_owned(),
            source_id: basket.to_owned(),
            external_customer: household.map(str::to_owned),
            external_reference: BTreeMap::from([("store_id".to_owned(), "359".to_owned())]),
            totals: totals(&lines),
            lines,
        };
        self.history.import(order, self.clock, imported);
        order
    }
}

impl Purchase {
    pub fn left(&self) -> i64 {
        totals(&self.lines).total.amount - self.refunded
    }
}

fn line(cart: CartId, sku: &str, category: &str, price: i64, quantity: u32) -> OrderLine {
    let sku: Sku = sku.parse().expect("a sku");
    OrderLine {
        line_id: LineId::of(cart, &sku),
        product_id: ProductId::of(StoreId::DEFAULT, &sku),
        name: format!("{category} {sku}"),
        sku,
        category: category.to_owned(),
        unit_price: Money::won(price),
        quantity,
        discount: Money::ZERO,
        tax_class: TaxClass::Taxable,
        total: Money::won(price).checked_mul(quantity).expect("a small amount"),
    }
}

fn totals(lines: &[OrderLine]) -> OrderTotals {
    let total: i64 = lines.iter().map(|line| line.total.amount).sum();
    let vat = (total + 5) / 11;
    OrderTotals {
        goods: Money::won(total),
        discount: Money::ZERO,
        shipping: Money::ZERO,
        total: Money::won(total),
        tax_free: Money::ZERO,
        supply: Money::won(total - vat),
        vat: Money::won(vat),
    }
}

/// The sample event of that name.
pub fn sample(name: &str) -> Event {
    samples::all()
        .into_iter()
        .find(|event| event.name() == name)
        .expect("every event has a sample")
}
