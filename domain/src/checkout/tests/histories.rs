//! Anything in any order: buyers, operators, PortOne, a slow runner and a fast handler at once.
//! When all has come to rest, nothing is oversold, nothing stays held, and no won is lost.

use std::collections::{BTreeMap, HashMap, HashSet};

use jangbu_events::{CancelReason, CartId, Event, OrderEvent, Recorded, StockEvent};
use proptest::{prelude::*, sample::Index};

use super::{
    shop::{RANGE, Shop, cart, price},
    *,
};
use crate::{
    Action, AnyCommand, Cart, OrderCommand,
    fixtures::{product, sku},
    order::OrderStatus,
};

const CARTS: u128 = 4;

#[derive(Debug, Clone)]
enum Move {
    Fill(u128, usize, u32),
    CheckOut(u128),
    Drive(u128),
    Run(usize),
    Pay(u128, i64),
    Tell(u128),
    Cancel(u128),
    ConsoleRefund(u128, i64),
    GiveBack,
    Restock(usize, u32),
    Wait(i64),
}

fn any_move() -> impl Strategy<Value = Move> {
    let cart = 1..=CARTS;
    prop_oneof![
        4 => (cart.clone(), 0..RANGE.len(), 1_u32..4).prop_map(|(cart, sku, quantity)| Move::Fill(cart, sku, quantity)),
        4 => cart.clone().prop_map(Move::CheckOut),
        2 => cart.clone().prop_map(Move::Drive),
        6 => (1_usize..12).prop_map(Move::Run),
        3 => (cart.clone(), prop_oneof![4 => Just(0_i64), 1 => Just(1_i64), 1 => Just(-1_i64)])
            .prop_map(|(cart, off)| Move::Pay(cart, off)),
        3 => cart.clone().prop_map(Move::Tell),
        1 => cart.clone().prop_map(Move::Cancel),
        1 => (cart, 1_i64..40_000).prop_map(|(cart, amount)| Move::ConsoleRefund(cart, amount)),
        1 => Just(Move::GiveBack),
        1 => (0..RANGE.len(), 1_u32..4).prop_map(|(sku, quantity)| Move::Restock(sku, quantity)),
        1 => (1_i64..40).prop_map(Move::Wait),
    ]
}

/// The latest order of a cart.
fn order_of(shop: &Shop, cart: CartId) -> Option<OrderId> {
    let attempts = shop.carts.get(cart).contents()?.attempts;
    (attempts > 0).then(|| OrderId::of(cart, attempts))
}

fn play(shop: &mut Shop, step: &Move) {
    // Refusals are answers to people; only the checkout's own commands must never be refused.
    match step {
        Move::Fill(n, index, quantity) => {
            let _ = shop.fill(cart(*n), &[(RANGE[*index].0, *quantity)]);
        }
        Move::CheckOut(n) => {
            let _ = shop.check_out(cart(*n));
        }
        Move::Drive(n) => {
            if let Some(order_id) = order_of(shop, cart(*n)) {
                shop.drive(order_id);
            }
        }
        Move::Run(steps) => {
            for _ in 0..*steps {
                shop.step();
            }
        }
        Move::Pay(n, off) => {
            let payment_id = order_of(shop, cart(*n)).map(|order_id| PaymentId::of(order_id, 1));
            let request = payment_id.and_then(|id| shop.payments.get(id).request().cloned());
            if let Some((payment_id, request)) = payment_id.zip(request) {
                shop.pay(payment_id, request.due.amount + off);
            }
        }
        Move::Tell(n) => {
            if let Some(order_id) = order_of(shop, cart(*n)) {
                shop.reread(PaymentId::of(order_id, 1));
            }
        }
        Move::Cancel(n) => {
            if let Some(order_id) = order_of(shop, cart(*n)) {
                let reason = CancelReason::Customer;
                let _ = shop.order(order_id, OrderCommand::Cancel { reason });
            }
        }
        Move::ConsoleRefund(n, amount) => {
            let Some(order_id) = order_of(shop, cart(*n)) else {
                return;
            };
            let payment_id = PaymentId::of(order_id, 1);
            // While the shop's own request is under way PortOne's comparison would refuse one of
            // the two, and an operator looks: another story.
            let sold = shop.orders.get(order_id).status() == Some(OrderStatus::Confirmed);
            let amount = (*amount).min(shop.left_at_portone(payment_id));
            if sold && amount > 0 {
                shop.cancel_at_portone(payment_id, amount);
            }
        }
        Move::GiveBack => shop.give_back(),
        Move::Restock(index, quantity) => shop.receive(RANGE[*index].0, *quantity),
        Move::Wait(minutes) => {
            shop.now += chrono::TimeDelta::minutes(*minutes);
            shop.fire_timers();
        }
    }
}

/// Lets everything that is under way come to its end.
fn settle(shop: &mut Shop) {
    for _ in 0..3 {
        shop.run();
        shop.now += chrono::TimeDelta::hours(1);
        shop.fire_timers();
        for payment_id in shop.portone.keys().copied().collect::<Vec<_>>() {
            shop.reread(payment_id);
        }
        shop.run();
        shop.give_back();
        shop.run();
    }
}

fn check(shop: &Shop, received: &BTreeMap<&str, u32>) -> Result<(), TestCaseError> {
    prop_assert_eq!(&shop.failures, &Vec::<String>::new());
    let mut sold: BTreeMap<String, u32> = BTreeMap::new();
    for (order_id, (order, _)) in &shop.orders.0 {
        let status = order.status().unwrap();
        prop_assert!(
            !matches!(status, OrderStatus::Placed | OrderStatus::AwaitingPayment),
            "{} is still {}",
            order_id,
            status
        );
        let payment_id = PaymentId::of(*order_id, 1);
        let left = shop.left_at_portone(payment_id);
        if status == OrderStatus::Confirmed {
            prop_assert_eq!(order.sale().unwrap().remaining().amount, left);
            for line in &order.details().unwrap().lines {
                *sold.entry(line.sku.to_string()).or_default() += line.quantity;
            }
        } else {
            prop_assert_eq!(left, 0, "{} is {} and PortOne keeps {}", order_id, status, left);
        }
        let details = order.details().unwrap();
        if order_of(shop, details.cart_id) == Some(*order_id) {
            let open = matches!(shop.carts.get(details.cart_id), Cart::Open(_));
            prop_assert_eq!(open, order.sale().is_none(), "the cart of {}", order_id);
        }
    }
    for (text, _) in RANGE {
        let stock = shop.stock_of(text);
        prop_assert_eq!(stock.held(), 0, "{}", text);
        prop_assert_eq!(stock.on_hand + sold.get(text).unwrap_or(&0), received[text], "{}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whatever_happens_stock_and_money_come_out_even(
        moves in proptest::collection::vec(any_move(), 0..120),
        times_told in 1_usize..3,
    ) {
        let opening = RANGE.map(|(text, _)| (text, 4));
        let mut shop = Shop::with_stock(&opening);
        shop.times_told = times_told;
        let mut received = BTreeMap::from(opening);
        for step in &moves {
            play(&mut shop, step);
            if let Move::Restock(index, quantity) = step {
                *received.entry(RANGE[*index].0).or_default() += quantity;
            }
            for (text, _) in RANGE {
                let stock = shop.stock_of(text);
                prop_assert!(stock.held() <= stock.on_hand);
            }
        }
        settle(&mut shop);
        check(&shop, &received)?;
    }

    #[test]
    fn in_any_order_the_log_could_have_the_same_commands_follow(
        path in 0_usize..4,
        choices in proptest::collection::vec(any::<Index>(), 64),
    ) {
        let shop = finished(path);
        let told = react_to(&shop.log);
        let shuffled = shuffle(&shop.log, &choices);
        prop_assert_eq!(shuffled.len(), shop.log.len());
        prop_assert_eq!(react_to(&shuffled), told);
    }
}

/// Paths to their ends: sold, refused, expired, refunded.
fn finished(path: usize) -> Shop {
    let of_b = if path == 1 { 0 } else { 5 };
    let mut shop = Shop::with_stock(&[("A", 5), ("B", of_b), ("C", 5)]);
    let order_id = shop.buy(1, &[("A", 2), ("B", 1), ("C", 3)]);
    shop.run();
    let total = 2 * price("A") + price("B") + 3 * price("C");
    let payment_id = PaymentId::of(order_id, 1);
    if path == 2 {
        shop.now += chrono::TimeDelta::hours(1);
        shop.fire_timers();
        shop.run();
    }
    shop.pay_and_tell(order_id, total);
    if path == 3 {
        shop.cancel_at_portone(payment_id, total);
        shop.reread(payment_id);
        shop.run();
    }
    assert_eq!(shop.failures, Vec::<String>::new());
    shop
}

/// Every command that follows from a log, by its id.
fn react_to(log: &[Recorded<Event>]) -> BTreeMap<Uuid, AnyCommand> {
    let mut states: HashMap<OrderId, Checkout> = HashMap::new();
    let mut commands = BTreeMap::new();
    for event in log {
        let Some(order_id) = Checkout::key(event) else { continue };
        for action in states.entry(order_id).or_default().react(event) {
            if let Action::Execute { step, source, command } = action {
                let before = commands.insert(command_id(source, &step), (*command).clone());
                assert!(before.is_none_or(|before| before == *command), "{step}");
            }
        }
    }
    commands
}

/// The log as it could have been as well: streams keep their order, what follows from an event
/// stays behind it, and the outcome of the holds stays behind every one of them.
fn shuffle(log: &[Recorded<Event>], choices: &[Index]) -> Vec<Recorded<Event>> {
    let is_answer = |event: &Recorded<Event>| {
        matches!(
            event.payload,
            Event::Stock(StockEvent::Held { .. } | StockEvent::HoldRefused { .. })
        )
    };
    let mut waiting: Vec<&Recorded<Event>> = log.iter().collect();
    let mut told: HashSet<Uuid> = HashSet::new();
    let mut shuffled = Vec::new();
    let mut choices = choices.iter().cycle();
    while !waiting.is_empty() {
        let ready: Vec<usize> = (0..waiting.len())
            .filter(|&at| {
                let event = waiting[at];
                let caused = event
                    .causation_id
                    .is_none_or(|cause| told.contains(&cause) || log.iter().all(|e| e.event_id != cause));
                let first = waiting
                    .iter()
                    .all(|other| other.aggregate_id != event.aggregate_id || other.sequence >= event.sequence);
                let outcome = matches!(
                    event.payload,
                    Event::Order(OrderEvent::AwaitingPayment { .. } | OrderEvent::Refused { .. })
                );
                let answered = !outcome || !waiting.iter().any(|other| is_answer(other));
                caused && first && answered
            })
            .collect();
        let at = *choices.next().unwrap().get(&ready);
        let event = waiting.remove(at);
        told.insert(event.event_id);
        shuffled.push(event.clone());
    }
    shuffled
}

#[test]
fn a_hundred_buyers_of_ten_goods_buy_ten() {
    let mut shop = Shop::with_stock(&[("A", 10)]);
    let orders: Vec<OrderId> = (1..=100).map(|n| shop.buy(n, &[("A", 1)])).collect();
    shop.run();
    for order_id in &orders {
        let payment_id = PaymentId::of(*order_id, 1);
        if shop.payments.get(payment_id).request().is_some() {
            shop.pay_and_tell(*order_id, price("A"));
        }
    }
    let sold = orders
        .iter()
        .filter(|order_id| shop.orders.get(**order_id).status() == Some(OrderStatus::Confirmed));
    assert_eq!(sold.count(), 10);
    let stock = shop.stock.get(product("A").stock_item());
    assert_eq!(
        (stock.sku.as_ref(), stock.on_hand, stock.held()),
        (Some(&sku("A")), 0, 0)
    );
}
