//! Histories of a small shop in which anything happens that the streams would allow: for invariants.

use chrono::TimeDelta;
use jangbu_events::{
    AggregateId, CancelReason, CartEvent, CustomerId, Money, OrderEvent, OrderId, OrderLine, Owner, PaymentEvent,
    PaymentId, ProductEvent, Shortage, Sku, order::ExtensionReason, samples,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use uuid::Uuid;

use super::{
    History, Script,
    narrator::{Purchase, sample},
};

const CATEGORIES: [&str; 4] = ["드라이버", "퍼터", "공", "A/B & 100%"];
const NAMES: [&str; 6] = [
    "한빛 드라이버",
    "골프공 3구",
    "PUTTER 34",
    "퍼터 커버",
    "50% 세일_공",
    r"백\슬래시",
];

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
