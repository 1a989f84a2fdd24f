//! Invents histories of a small shop: scripted ones for a test's own story, random ones for
//! invariants. Random histories keep to what the streams would allow.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use jangbu_events::{
    AggregateId, CancelReason, CartEvent, CartId, CustomerId, Event, LineShare, Money, OrderEvent, OrderId, OrderLine,
    OrderTotals, Owner, PaymentEvent, PaymentId, ProductEvent, ProductId, ReleaseReason, Shortage, Sku, StockEvent,
    StoreId, TaxClass, Timestamp, order::ExtensionReason, samples,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use uuid::Uuid;

use super::History;

const CATEGORIES: [&str; 4] = ["드라이버", "퍼터", "공", "A/B & 100%"];
const NAMES: [&str; 6] = [
    "한빛 드라이버",
    "골프공 3구",
    "PUTTER 34",
    "퍼터 커버",
    "50% 세일_공",
    r"백\슬래시",
];

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
    fn left(&self) -> i64 {
        totals(&self.lines).total.amount - self.refunded
    }
}

fn line(cart: CartId, sku: &str, category: &str, price: i64, quantity: u32) -> OrderLine {
    let sku: Sku = sku.parse().expect("a sku");
    OrderLine {
        line_id: jangbu_events::LineId::of(cart, &sku),
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

/// `steps` things happen in a shop with a dozen products, over some days in Korea, in the order of no plan.
pub fn random_history(seed: u64, steps: usize) -> History {
    let mut random = StdRng::seed_from_u64(seed);
    let mut script = Script::new();
    let skus: Vec<String> = (0..12).map(|n| format!("SKU-{n}")).collect();
    let mut registered: Vec<Sku> = Vec::new();
    // With how many steps of its life each purchase has behind it.
    let mut open: Vec<(Purchase, u8)> = Vec::new();
    for step in 0..steps {
        script.clock += TimeDelta::microseconds(random.random_range(1..3_600_000_000));
        let number = u32::try_from(step).expect("few steps");
        let sku: Sku = skus.choose(&mut random).expect("a dozen").parse().expect("a sku");
        match random.random_range(0..12) {
            0 | 1 if !registered.contains(&sku) => {
                let (name, category) = (NAMES.choose(&mut random), CATEGORIES.choose(&mut random));
                let (name, category) = (name.expect("some"), category.expect("some"));
                script.register(sku.as_str(), name, category, random.random_range(0..5) * 1_000);
                registered.push(sku);
            }
            0..=2 if registered.contains(&sku) => revise(&mut script, &mut random, &sku),
            3 => script.receive(&sku, random.random_range(1..9)),
            4 => {
                let order = OrderId::from_uuid(Uuid::from_u128(random.random()));
                let quantity = random.random_range(1..4);
                if script.hold(&sku, order, quantity) {
                    if random.random() {
                        script.commit(&sku, order, quantity);
                    } else {
                        script.release(&sku, order, quantity);
                    }
                }
            }
            5 => {
                let household = ["27", "31"].choose(&mut random).copied().filter(|_| random.random());
                script.import(&number.to_string(), household, &random_lines(&mut random, &skus));
            }
            6 | 7 => {
                let owner = if random.random() {
                    samples::guest()
                } else {
                    let customer_id = CustomerId::from_uuid(Uuid::from_u128(random.random_range(1..4)));
                    Owner::Member { customer_id }
                };
                let lines = random_lines(&mut random, &skus);
                let purchase = script.place(number, owner, &lines);
                // Not for any projection here: to be passed over.
                script.history.cart(
                    purchase.cart,
                    script.clock,
                    CartEvent::Opened {
                        owner: samples::guest(),
                    },
                );
                open.push((purchase, 0));
            }
            _ if !open.is_empty() => {
                let chosen = random.random_range(0..open.len());
                let (purchase, done) = &mut open[chosen];
                if !live(&mut script, &mut random, purchase, done) {
                    open.swap_remove(chosen);
                }
            }
            _ => script.receive(&sku, 1),
        }
    }
    script.history
}

fn revise(script: &mut Script, random: &mut StdRng, sku: &Sku) {
    let event = match random.random_range(0..8) {
        0 | 1 => ProductEvent::Renamed {
            name: (*NAMES.choose(random).expect("some")).to_owned(),
        },
        2 => ProductEvent::Repriced {
            previous_price: Money::ZERO,
            price: Money::won(random.random_range(0..5) * 1_000),
        },
        3 => ProductEvent::Hidden {},
        4 => ProductEvent::Archived {},
        _ => ProductEvent::Published {},
    };
    script.product(sku, event);
}

fn random_lines<'a>(random: &mut StdRng, skus: &'a [String]) -> Vec<(&'a str, &'static str, i64, u32)> {
    let count = random.random_range(1..5);
    let skus: Vec<&String> = skus.choose_multiple(random, count).collect();
    skus.into_iter()
        .map(|sku| {
            let category = CATEGORIES.choose(random).expect("some");
            (
                sku.as_str(),
                *category,
                random.random_range(0..90) * 10,
                random.random_range(1..4),
            )
        })
        .collect()
}

/// One more step in the life of a purchase; `false` at its end.
fn live(script: &mut Script, random: &mut StdRng, purchase: &mut Purchase, done: &mut u8) -> bool {
    let stage = *done;
    *done += 1;
    match (stage, random.random_range(0..6)) {
        (0, 0) => {
            let shortage = Shortage {
                sku: purchase.lines[0].sku.clone(),
                requested: 3,
                available: 2,
            };
            script.order(
                purchase,
                OrderEvent::Refused {
                    shortages: vec![shortage],
                },
            );
            false
        }
        (0, _) => {
            script.await_payment(purchase);
            true
        }
        (1, 0) => {
            script.order(purchase, OrderEvent::Expired {});
            let rejected = sample("order.payment_rejected");
            script.order(purchase, rejected.try_into().expect("of an order"));
            false
        }
        (1, 1) => {
            let extended = OrderEvent::DeadlineExtended {
                expires_at: script.clock + TimeDelta::nanoseconds(86_400_000_000_501),
                reason: ExtensionReason::VirtualAccount,
            };
            script.order(purchase, extended);
            *done = 1;
            true
        }
        (1, 2) => {
            let cancelled = OrderEvent::Cancelled {
                reason: CancelReason::Customer,
                was_confirmed: false,
            };
            script.order(purchase, cancelled);
            false
        }
        (1, _) => {
            let paid = sample("payment.confirmed");
            let payment = PaymentId::of(purchase.order, 1);
            let paid: PaymentEvent = paid.try_into().expect("of a payment");
            script.history.payment(purchase.cart, payment, script.clock, paid);
            script.confirm(purchase);
            true
        }
        _ => {
            // Once in parts, then the rest.
            let parts = |line: &OrderLine| line.total.amount / 3;
            let rest = |line: &OrderLine| line.total.amount - line.total.amount / 3;
            let amounts: Vec<i64> = match stage {
                2 => purchase.lines.iter().map(parts).collect(),
                _ => purchase.lines.iter().map(rest).collect(),
            };
            script.refund(purchase, &amounts);
            if purchase.left() == 0 {
                let cancelled = OrderEvent::Cancelled {
                    reason: CancelReason::RefundedInFull,
                    was_confirmed: true,
                };
                script.order(purchase, cancelled);
            }
            purchase.left() > 0
        }
    }
}
