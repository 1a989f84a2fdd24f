//! Money of a sale that goes back.

use jangbu_events::{LineShare, TaxClass};
use proptest::prelude::*;

use super::*;

#[test]
fn a_refund_is_spread_over_the_lines_to_the_won() {
    let share = |text: &str, amount| LineShare {
        line_id: order_line(text, 1, 1).line_id,
        sku: sku(text),
        category: "드라이버".to_owned(),
        amount: won(amount),
    };
    // 20,000 and 3,000 of 23,000: of 100 won 86.96 and 13.04.
    given::<Order>(sold())
        .when(refund(1, "c1", 100))
        .then_expect_events(vec![OrderEvent::Refunded {
            payment_id: payment_id(1),
            cancellation_id: "c1".to_owned(),
            amount: won(100),
            refunded_total: won(100),
            remaining: won(22_900),
            cancelled_at: at(60),
            shares: vec![share("A", 87), share("B", 13)],
        }]);
}

#[test]
fn the_last_refund_takes_what_is_left_and_calls_the_order_off() {
    let mut order: Order = folded(sold());
    for event in order.decide(&refund(1, "c1", 100)).unwrap() {
        order.apply(event);
    }
    let events = order.decide(&refund(1, "c2", 22_900)).unwrap();
    let [
        OrderEvent::Refunded {
            shares,
            remaining,
            refunded_total,
            ..
        },
        last,
    ] = events.as_slice()
    else {
        panic!("a refund and a cancellation, not {events:?}");
    };
    assert_eq!((*refunded_total, *remaining), (won(TOTAL), Money::ZERO));
    let amounts: Vec<Money> = shares.iter().map(|share| share.amount).collect();
    assert_eq!(amounts, [won(20_000 - 87), won(3_000 - 13)]);
    assert_eq!(
        *last,
        OrderEvent::Cancelled {
            reason: CancelReason::RefundedInFull,
            was_confirmed: true,
        }
    );
}

#[test]
fn a_refund_told_twice_counts_once_and_never_passes_what_was_paid() {
    let mut order: Order = folded(sold());
    for event in order.decide(&refund(1, "c1", 22_000)).unwrap() {
        order.apply(event);
    }
    assert_eq!(order.decide(&refund(1, "c1", 22_000)), Ok(vec![]));
    assert_eq!(order.decide(&refund(1, "c2", 0)), Ok(vec![]));
    assert_eq!(
        order.decide(&refund(1, "c2", 1_001)),
        Err(OrderError::ExceedsPaid {
            amount: won(1_001),
            remaining: won(1_000),
        })
    );
}

#[test]
fn delivery_is_refunded_with_the_lines() {
    let mut order = place_order(lines());
    order.totals.shipping = won(2_500);
    order.totals.total = won(TOTAL + 2_500);
    let mut state = Order::default();
    for command in [OrderCommand::Place(Box::new(order)), confirm(1, TOTAL + 2_500)] {
        for event in state.decide(&command).unwrap() {
            state.apply(event);
        }
    }
    let events = state.decide(&refund(1, "c1", TOTAL + 2_500)).unwrap();
    let [OrderEvent::Refunded { shares, .. }, OrderEvent::Cancelled { .. }] = events.as_slice() else {
        panic!("a refund and a cancellation, not {events:?}");
    };
    let amounts: Vec<Money> = shares.iter().map(|share| share.amount).collect();
    assert_eq!(amounts, [won(22_174), won(3_326)]);
}

/// Lines at any price, and a way to give their money back in parts.
fn any_sale() -> impl Strategy<Value = (Vec<OrderLine>, Vec<i64>)> {
    let line = (0_i64..3_000_000, 1_u32..100, any::<bool>());
    (
        proptest::collection::vec(line, 1..12),
        proptest::collection::vec(1_i64..200_000_000, 0..12),
    )
        .prop_map(|(lines, parts)| {
            let lines = (0..)
                .zip(lines)
                .map(|(n, (price, quantity, tax_free))| {
                    let mut line = order_line(&format!("S{n}"), price, quantity);
                    if tax_free {
                        line.tax_class = TaxClass::TaxFree;
                    }
                    line
                })
                .collect();
            (lines, parts)
        })
}

proptest! {
    #[test]
    fn refunds_in_any_parts_end_at_exactly_the_line_totals((lines, parts) in any_sale()) {
        let mut order: Order = folded([placed(lines.clone()), confirmed_with(lines.clone())]);
        let mut back: BTreeMap<_, i64> = BTreeMap::new();
        let mut left = order.sale().unwrap().paid.amount;
        let mut parts = parts.into_iter();
        let mut n = 0;
        while left > 0 {
            let amount = parts.next().unwrap_or(left).min(left);
            n += 1;
            for event in order.decide(&refund(1, &format!("c{n}"), amount)).unwrap() {
                if let OrderEvent::Refunded { shares, remaining, refunded_total, .. } = &event {
                    left -= amount;
                    prop_assert_eq!(shares.iter().map(|share| share.amount.amount).sum::<i64>(), amount);
                    prop_assert_eq!(remaining.amount, left);
                    prop_assert_eq!(refunded_total.amount + remaining.amount, order.sale().unwrap().paid.amount);
                    for share in shares {
                        prop_assert!(share.amount.amount >= 0);
                        *back.entry(share.line_id).or_default() += share.amount.amount;
                    }
                }
                order.apply(event);
            }
            let sale = order.sale().unwrap();
            prop_assert!(sale.rest.values().all(|rest| rest.amount >= 0));
            prop_assert_eq!(sale.rest.values().map(|rest| rest.amount).sum::<i64>(), left);
        }
        for line in &lines {
            prop_assert_eq!(back.get(&line.line_id).copied().unwrap_or(0), line.total.amount);
        }
        if n > 0 {
            prop_assert_eq!(order.status(), Some(OrderStatus::Cancelled));
        }
    }
}
