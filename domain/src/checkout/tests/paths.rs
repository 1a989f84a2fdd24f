//! Every way a checkout can go, each also with every event told twice.

use jangbu_events::{CancelReason, Event, OrderEvent, RefundReason, Shortage};

use super::{
    shop::{Shop, cart},
    *,
};
use crate::{
    AnyCommand, Cart, OrderCommand, OrderError, Payment, PaymentCommand,
    fixtures::{at, sealed, sku, won},
    order::OrderStatus,
    payment::{Observation, Observed, PaymentStatus},
};

/// The path once with every event told once, and once with every event told twice.
fn each_way(stock: &[(&str, u32)], path: impl Fn(&mut Shop)) {
    for times_told in [1, 2] {
        let mut shop = Shop::with_stock(stock);
        shop.times_told = times_told;
        path(&mut shop);
        assert_eq!(shop.failures, Vec::<String>::new(), "told {times_told} times");
    }
}

fn status(shop: &Shop, order_id: OrderId) -> OrderStatus {
    shop.orders.get(order_id).status().unwrap()
}

/// On hand and held.
fn stock(shop: &Shop, text: &str) -> (u32, u32) {
    let item = shop.stock_of(text);
    (item.on_hand, item.held())
}

fn payment(order_id: OrderId) -> PaymentId {
    PaymentId::of(order_id, 1)
}

fn expire(shop: &mut Shop, order_id: OrderId) {
    shop.now += chrono::TimeDelta::minutes(31);
    let now = shop.now;
    shop.order(order_id, OrderCommand::Expire { now }).unwrap();
    shop.run();
}

fn cancel(shop: &mut Shop, order_id: OrderId) {
    let reason = CancelReason::Customer;
    shop.order(order_id, OrderCommand::Cancel { reason }).unwrap();
}

#[test]
fn a_purchase_is_paid_for_and_sold() {
    each_way(&[("A", 5), ("B", 5)], |shop| {
        let order_id = shop.buy(1, &[("A", 2), ("B", 1)]);
        shop.run();
        assert_eq!(status(shop, order_id), OrderStatus::AwaitingPayment);
        assert_eq!((stock(shop, "A"), stock(shop, "B")), ((5, 2), (5, 1)));
        let deadline = Timer::OrderDeadline {
            order_id,
            payment_id: payment(order_id),
        };
        assert_eq!(shop.timers.get(&deadline), Some(&at(30)));
        assert_eq!(
            shop.timers.get(&Timer::HoldBackstop { order_id }),
            Some(&at(24 * 60 + 30))
        );

        shop.pay_and_tell(order_id, 23_000);
        assert_eq!(status(shop, order_id), OrderStatus::Confirmed);
        assert_eq!((stock(shop, "A"), stock(shop, "B")), ((3, 0), (4, 0)));
        assert!(matches!(shop.carts.get(cart(1)), Cart::CheckedOut { .. }));
        assert_eq!(
            shop.told(order_id),
            [
                "cart.checked_out",
                "order.placed",
                "stock.held",
                "stock.held",
                "order.awaiting_payment",
                "payment.requested",
                "payment.confirmed",
                "order.confirmed",
                "stock.committed",
                "stock.committed",
            ]
        );
    });
}

#[test]
fn the_payment_asks_for_the_total_under_a_name_that_every_pg_takes() {
    let mut shop = Shop::with_stock(&[("A", 5), ("B", 5)]);
    let order_id = shop.buy(1, &[("A", 2), ("B", 1)]);
    shop.run();
    let request = shop.payments.get(payment(order_id)).request().cloned().unwrap();
    assert_eq!(
        (request.order_id, request.due, request.order_name.as_str()),
        (order_id, won(23_000), "상품 A 외 1건")
    );
}

#[test]
fn whichever_line_is_sold_out_the_order_is_refused_and_undone() {
    for sold_out in [vec!["A"], vec!["B"], vec!["C"], vec!["A", "C"], vec!["A", "B", "C"]] {
        let of = |text| if sold_out.contains(&text) { 1 } else { 5 };
        each_way(&[("A", of("A")), ("B", of("B")), ("C", of("C"))], |shop| {
            let order_id = shop.buy(1, &[("A", 2), ("B", 2), ("C", 2)]);
            shop.run();
            assert_eq!(status(shop, order_id), OrderStatus::Refused);
            let shortages: Vec<Shortage> = sold_out
                .iter()
                .map(|text| Shortage {
                    sku: sku(text),
                    requested: 2,
                    available: 1,
                })
                .collect();
            let refused = shop.log.iter().find_map(|event| match &event.payload {
                Event::Order(OrderEvent::Refused { shortages }) => Some(shortages),
                _ => None,
            });
            assert_eq!(refused, Some(&shortages));
            for text in ["A", "B", "C"] {
                assert_eq!(stock(shop, text), (of(text), 0));
            }
            assert!(matches!(shop.carts.get(cart(1)), Cart::Open(_)));
            assert_eq!(shop.payments.get(payment(order_id)), Payment::NotRequested);
        });
    }
}

#[test]
fn a_refused_cart_can_be_bought_after_a_delivery() {
    each_way(&[("A", 1)], |shop| {
        let first = shop.buy(1, &[("A", 2)]);
        shop.run();
        shop.receive("A", 1);
        let second = shop.check_out(cart(1)).unwrap();
        shop.run();
        shop.pay_and_tell(second, 20_000);
        assert_eq!(
            (status(shop, first), status(shop, second)),
            (OrderStatus::Refused, OrderStatus::Confirmed)
        );
        assert_eq!(stock(shop, "A"), (0, 0));
    });
}

#[test]
fn an_order_that_nobody_pays_for_is_undone() {
    each_way(&[("A", 5)], |shop| {
        let order_id = shop.buy(1, &[("A", 2)]);
        shop.run();
        expire(shop, order_id);
        assert_eq!(status(shop, order_id), OrderStatus::Expired);
        assert_eq!(stock(shop, "A"), (5, 0));
        assert!(matches!(shop.carts.get(cart(1)), Cart::Open(_)));
    });
}

#[test]
fn an_order_can_be_cancelled_after_every_step_and_is_undone() {
    // 0 is before anything followed from the placed order; the last is after the payment was asked
    // for. The runner learns of everything only afterwards.
    let mut steps = 0;
    loop {
        let mut shop = Shop::with_stock(&[("A", 5), ("B", 5)]);
        let order_id = shop.buy(1, &[("A", 2), ("B", 1)]);
        while shop.orders.get(order_id).status().is_none() {
            shop.step();
        }
        let more = (0..steps).all(|_| shop.step());
        cancel(&mut shop, order_id);
        shop.run();
        assert_eq!(shop.failures, Vec::<String>::new(), "after {steps} steps");
        assert_eq!(status(&shop, order_id), OrderStatus::Cancelled);
        assert_eq!((stock(&shop, "A"), stock(&shop, "B")), ((5, 0), (5, 0)));
        assert!(matches!(shop.carts.get(cart(1)), Cart::Open(_)));
        if !more {
            break;
        }
        steps += 1;
    }
    assert!(steps >= 4, "only {steps} steps");
}

#[test]
fn what_turns_out_to_be_held_after_the_end_is_released() {
    // The runner reads the end before the answer: the hold was sent, and lay in a hot stock's queue.
    let mut shop = Shop::with_stock(&[("A", 5)]);
    let order_id = shop.buy(1, &[("A", 2)]);
    shop.run();
    cancel(&mut shop, order_id);
    let of = |name: &str| shop.log.iter().find(|event| event.payload.name() == name).unwrap();
    let (placed, cancelled, held) = (of("order.placed"), of("order.cancelled"), of("stock.held"));
    let mut checkout = Checkout::default();
    checkout.react(placed);
    let on_end: Vec<_> = checkout.react(cancelled).into_iter().filter_map(released).collect();
    let on_answer: Vec<_> = checkout.react(held).into_iter().filter_map(released).collect();
    // Under another id: the first one is spent on a stock that held nothing then.
    assert_eq!((on_end.len(), on_answer.len()), (1, 1));
    assert_ne!(on_end, on_answer);
    assert_eq!(checkout.react(held), vec![]);
}

fn released(action: crate::Action) -> Option<Uuid> {
    match action {
        crate::Action::Execute { step, source, .. } if step == "release:A" => Some(command_id(source, &step)),
        _ => None,
    }
}

#[test]
fn money_that_comes_after_the_end_goes_back_in_full() {
    each_way(&[("A", 5)], |shop| {
        let order_id = shop.buy(1, &[("A", 2)]);
        shop.run();
        expire(shop, order_id);
        shop.pay_and_tell(order_id, 20_000);
        assert_eq!(status(shop, order_id), OrderStatus::Expired);
        shop.give_back();
        shop.run();
        assert_eq!(shop.left_at_portone(payment(order_id)), 0);
        assert_eq!(
            shop.payments.get(payment(order_id)).status(),
            Some(PaymentStatus::Cancelled)
        );
        assert_eq!(
            shop.told(order_id)[shop.told(order_id).len() - 4..],
            [
                "payment.confirmed",
                "order.payment_rejected",
                "payment.cancellation_requested",
                "payment.cancelled"
            ]
        );
        assert_eq!(stock(shop, "A"), (5, 0));
    });
}

#[test]
fn an_earlier_refund_that_failed_does_not_keep_rejected_money() {
    let mut shop = Shop::with_stock(&[("A", 5)]);
    let order_id = shop.buy(1, &[("A", 2)]);
    shop.run();
    expire(&mut shop, order_id);
    // The runner is behind: an operator sees the late money first, and PortOne refuses.
    shop.pay(payment(order_id), 20_000);
    shop.reread(payment(order_id));
    let by_operator = shop.payments.get(payment(order_id)).next_refund_id(payment(order_id));
    shop.payment(
        payment(order_id),
        PaymentCommand::RequestRefund {
            payment_id: payment(order_id),
            refund: crate::payment::Refunding::Next,
            amount: None,
            reason: RefundReason::Operator,
            account: None,
        },
    );
    shop.payment(
        payment(order_id),
        PaymentCommand::RecordRefundFailure {
            refund_id: by_operator,
            code: "PG_PROVIDER".to_owned(),
            pg_code: None,
        },
    );
    shop.run();
    shop.give_back();
    shop.run();
    assert_eq!(shop.failures, Vec::<String>::new());
    assert_eq!(shop.left_at_portone(payment(order_id)), 0);
}

#[test]
fn money_of_the_wrong_amount_goes_back_and_the_order_waits_on_until_it_expires() {
    each_way(&[("A", 5)], |shop| {
        let order_id = shop.buy(1, &[("A", 2)]);
        shop.run();
        shop.pay_and_tell(order_id, 19_999);
        assert_eq!(status(shop, order_id), OrderStatus::AwaitingPayment);
        shop.give_back();
        shop.run();
        assert_eq!(shop.left_at_portone(payment(order_id)), 0);
        expire(shop, order_id);
        assert_eq!(status(shop, order_id), OrderStatus::Expired);
        assert_eq!(stock(shop, "A"), (5, 0));
    });
}

#[test]
fn a_virtual_account_extends_the_deadline_to_its_own_end_and_some() {
    for (account_ends, order_ends) in [(Some(at(4_320)), at(4_330)), (None, at(1_440))] {
        each_way(&[("A", 5)], |shop| {
            let order_id = shop.buy(1, &[("A", 2)]);
            shop.run();
            shop.pay(payment(order_id), 20_000);
            let paid = shop.portone[&payment(order_id)].clone();
            let issued = Observation {
                status: Observed::VirtualAccountIssued {
                    bank: None,
                    account: sealed(),
                    expires_at: account_ends,
                },
                paid: None,
                ..paid
            };
            shop.portone.insert(payment(order_id), issued);
            shop.reread(payment(order_id));
            shop.run();
            let deadline = Timer::OrderDeadline {
                order_id,
                payment_id: payment(order_id),
            };
            assert_eq!(shop.timers[&deadline], order_ends);
            let backstop = order_ends + chrono::TimeDelta::hours(24);
            assert_eq!(shop.timers[&Timer::HoldBackstop { order_id }], backstop);
            shop.now = order_ends - chrono::TimeDelta::seconds(1);
            shop.fire_timers();
            assert_eq!(status(shop, order_id), OrderStatus::AwaitingPayment);
            shop.now = order_ends;
            shop.fire_timers();
            shop.run();
            assert_eq!(status(shop, order_id), OrderStatus::Expired);
        });
    }
}

#[test]
fn a_sale_that_is_refunded_in_full_brings_its_goods_back() {
    each_way(&[("A", 5), ("B", 5)], |shop| {
        let order_id = shop.buy(1, &[("A", 2), ("B", 1)]);
        shop.run();
        shop.pay_and_tell(order_id, 23_000);
        for amount in [1_000, 22_000] {
            shop.cancel_at_portone(payment(order_id), amount);
            shop.reread(payment(order_id));
            shop.run();
            let sold = amount == 1_000;
            assert_eq!(status(shop, order_id) == OrderStatus::Confirmed, sold);
            assert_eq!(stock(shop, "A"), if sold { (3, 0) } else { (5, 0) });
        }
        assert_eq!(stock(shop, "B"), (5, 0));
        // It was a sale: its cart stays what it became.
        assert!(matches!(shop.carts.get(cart(1)), Cart::CheckedOut { .. }));
    });
}

#[test]
fn money_that_came_and_went_back_before_it_was_learnt_is_a_sale_and_its_end() {
    each_way(&[("A", 5)], |shop| {
        let order_id = shop.buy(1, &[("A", 2)]);
        shop.run();
        shop.pay(payment(order_id), 20_000);
        shop.cancel_at_portone(payment(order_id), 20_000);
        shop.reread(payment(order_id));
        shop.run();
        assert_eq!(status(shop, order_id), OrderStatus::Cancelled);
        assert_eq!(stock(shop, "A"), (5, 0));
        let commands = shop.sent.values();
        let refused = commands
            .filter(|(command, _)| matches!(command, AnyCommand::Payment(_, PaymentCommand::RequestRefund { .. })));
        assert_eq!(refused.count(), 0);
    });
}

#[test]
fn a_sale_cannot_be_cancelled_before_its_money_went_back() {
    let mut shop = Shop::with_stock(&[("A", 5)]);
    let order_id = shop.buy(1, &[("A", 2)]);
    shop.run();
    shop.pay_and_tell(order_id, 20_000);
    let reason = CancelReason::Operator;
    let refused = shop.order(order_id, OrderCommand::Cancel { reason });
    assert_eq!(refused, Err(OrderError::RefundFirst.to_string()));
}

#[test]
fn a_handler_that_was_faster_leaves_the_runner_nothing_to_do() {
    for stock in [[("A", 5), ("B", 5)], [("A", 5), ("B", 0)]] {
        let mut alone = Shop::with_stock(&stock);
        alone.buy(1, &[("A", 2), ("B", 1)]);
        alone.run();
        let mut driven = Shop::with_stock(&stock);
        let order_id = driven.buy(1, &[("A", 2), ("B", 1)]);
        driven.drive(order_id);
        let events = driven.log.len();
        driven.run();
        assert_eq!(driven.log.len(), events);
        assert_eq!(driven.failures, Vec::<String>::new());
        let commands = |shop: &Shop| {
            let mut ids: Vec<Uuid> = shop.sent.keys().copied().collect();
            ids.sort();
            ids
        };
        assert_eq!(commands(&driven), commands(&alone));
    }
}

#[test]
fn an_event_of_no_checkout_makes_it_do_nothing() {
    for event in jangbu_events::samples::all() {
        let wanted = Checkout::EVENT_TYPES.contains(&event.name());
        let mut checkout = Checkout::default();
        let actions = checkout.react(&super::streams::recorded(event.clone()));
        assert!(wanted || actions.is_empty(), "{event:?}");
    }
}
