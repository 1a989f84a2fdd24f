use std::collections::BTreeMap;

use jangbu_events::{AggregateId, CartEvent, CustomerId, LineId, ReopenReason, samples};
use proptest::prelude::*;

use super::*;
use crate::fixtures::{check_out, folded, given, lines, order_line, outcome, product, sku, won};

fn new_line(text: &str, quantity: u32) -> NewLine {
    NewLine {
        line_id: LineId::of(samples::cart_id(), &sku(text)),
        product_id: product(text),
        sku: sku(text),
        name: format!("상품 {text}"),
        unit_price: won(10_000),
        quantity,
    }
}

fn add(lines: &[(&str, u32)]) -> CartCommand {
    CartCommand::AddLines {
        lines: lines.iter().map(|(text, quantity)| new_line(text, *quantity)).collect(),
    }
}

fn added(text: &str, quantity: u32) -> CartEvent {
    let line = new_line(text, quantity);
    CartEvent::LineAdded {
        line_id: line.line_id,
        product_id: line.product_id,
        sku: line.sku,
        name: line.name,
        unit_price: line.unit_price,
        quantity,
    }
}

fn changed(text: &str, previous_quantity: u32, quantity: u32) -> CartEvent {
    CartEvent::LineQuantityChanged {
        line_id: new_line(text, quantity).line_id,
        sku: sku(text),
        previous_quantity,
        quantity,
    }
}

fn change(text: &str, quantity: u32) -> CartCommand {
    CartCommand::ChangeQuantity {
        sku: sku(text),
        quantity,
    }
}

fn remove(text: &str) -> CartCommand {
    CartCommand::RemoveLine { sku: sku(text) }
}

fn open() -> CartEvent {
    CartEvent::Opened {
        owner: samples::guest(),
    }
}

/// A cart of two A and one B.
fn filled() -> Vec<CartEvent> {
    vec![open(), added("A", 2), added("B", 1)]
}

fn checked_out(attempt: u32) -> CartEvent {
    let check_out = check_out(attempt, lines());
    CartEvent::CheckedOut {
        order_id: OrderId::of(samples::cart_id(), attempt),
        order_number: check_out.order_number,
        attempt,
        owner: samples::guest(),
        lines: check_out.lines,
        totals: check_out.totals,
        orderer: check_out.orderer,
        recipient: check_out.recipient,
        consents: check_out.consents,
        pay_method: check_out.pay_method,
        expires_at: check_out.expires_at,
    }
}

fn to_order(check_out: CheckOut) -> CartCommand {
    CartCommand::CheckOut(Box::new(check_out))
}

fn reopen(attempt: u32) -> CartCommand {
    CartCommand::Reopen {
        order_id: OrderId::of(samples::cart_id(), attempt),
        reason: ReopenReason::OrderExpired,
    }
}

fn reopened(attempt: u32) -> CartEvent {
    CartEvent::Reopened {
        order_id: OrderId::of(samples::cart_id(), attempt),
        reason: ReopenReason::OrderExpired,
    }
}

#[test]
fn a_cart_belongs_to_whoever_opened_it() {
    let command = CartCommand::Open {
        owner: samples::guest(),
    };
    given::<Cart>(vec![]).when(command).then_expect_events(vec![open()]);
    let other = CartCommand::Open {
        owner: Owner::Member {
            customer_id: CustomerId::from_uuid(Uuid::from_u128(1)),
        },
    };
    given::<Cart>(vec![open()])
        .when(other)
        .then_expect_error(CartError::AlreadyOpened);
}

#[test]
fn lines_of_one_sku_become_one_line() {
    given::<Cart>(filled())
        .when(add(&[("C", 1), ("A", 3), ("C", 4)]))
        .then_expect_events(vec![added("C", 5), changed("A", 2, 5)]);
}

#[test]
fn lines_go_in_together_or_not_at_all() {
    given::<Cart>(filled())
        .when(add(&[("C", 1), ("A", 98)]))
        .then_expect_error(CartError::QuantityOutOfRange {
            sku: sku("A"),
            quantity: 100,
            max: 99,
        });
}

#[test]
fn a_line_has_1_to_99() {
    for (quantity, allowed) in [(0, false), (1, true), (99, true), (100, false), (u32::MAX, false)] {
        let refused = CartError::QuantityOutOfRange {
            sku: sku("C"),
            quantity,
            max: 99,
        };
        let expected = if allowed {
            Ok(vec![added("C", quantity)])
        } else {
            Err(refused)
        };
        let result = given::<Cart>(filled()).when(add(&[("C", quantity)])).inspect_result();
        assert_eq!(result, expected);
    }
    // The same sku twice in one command, to the limit and past what 32 bits hold.
    assert_eq!(
        outcome::<Cart>(filled(), add(&[("C", 50), ("C", 49)])),
        "cart.line_added"
    );
    assert_eq!(
        outcome::<Cart>(filled(), add(&[("C", 50), ("C", 50)])),
        "! QuantityOutOfRange"
    );
}

#[test]
fn a_cart_has_at_most_500_lines() {
    let names: Vec<String> = (0..=500).map(|n| format!("S{n}")).collect();
    let all: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    given::<Cart>(vec![open()])
        .when(add(&all))
        .then_expect_error(CartError::TooManyLines { max: 500 });
    let full: Vec<CartEvent> = std::iter::once(open())
        .chain(names[..500].iter().map(|name| added(name, 1)))
        .collect();
    given::<Cart>(full.clone())
        .when(add(&[("S500", 1)]))
        .then_expect_error(CartError::TooManyLines { max: 500 });
    given::<Cart>(full)
        .when(add(&[("S0", 1)]))
        .then_expect_events(vec![changed("S0", 1, 2)]);
}

#[test]
fn a_line_can_be_changed_and_taken_out() {
    given::<Cart>(filled())
        .when(change("A", 7))
        .then_expect_events(vec![changed("A", 2, 7)]);
    given::<Cart>(filled())
        .when(change("C", 7))
        .then_expect_error(CartError::UnknownLine { sku: sku("C") });
    given::<Cart>(filled())
        .when(remove("A"))
        .then_expect_events(vec![CartEvent::LineRemoved {
            line_id: new_line("A", 2).line_id,
            sku: sku("A"),
            quantity: 2,
        }]);
}

#[test]
fn a_cart_becomes_the_order_that_its_attempt_names() {
    given::<Cart>(filled())
        .when(to_order(check_out(1, lines())))
        .then_expect_events(vec![checked_out(1)]);
    let again = [filled(), vec![checked_out(1), reopened(1)]].concat();
    given::<Cart>(again)
        .when(to_order(check_out(2, lines())))
        .then_expect_events(vec![checked_out(2)]);
}

#[test]
fn a_checkout_of_other_lines_than_the_carts_is_refused() {
    let line = |text: &str, quantity| order_line(text, 10_000, quantity);
    for lines in [
        vec![line("A", 2)],
        vec![line("A", 1), line("B", 1)],
        vec![line("A", 2), line("C", 1)],
        vec![line("A", 2), line("B", 1), line("C", 1)],
        vec![line("A", 2), line("B", 1), line("B", 1)],
        vec![line("A", 2), line("A", 2)],
        vec![],
    ] {
        given::<Cart>(filled())
            .when(to_order(check_out(1, lines)))
            .then_expect_error(CartError::Changed);
    }
    for attempt in [0, 2] {
        given::<Cart>(filled())
            .when(to_order(check_out(attempt, lines())))
            .then_expect_error(CartError::Changed);
    }
}

#[test]
fn a_checkout_needs_consent_and_totals_that_add_up() {
    let mut without_consent = check_out(1, lines());
    without_consent.consents.privacy = false;
    given::<Cart>(filled())
        .when(to_order(without_consent))
        .then_expect_error(CartError::ConsentMissing);
    let mut cheaper = check_out(1, lines());
    cheaper.totals.total = won(22_999);
    given::<Cart>(filled())
        .when(to_order(cheaper))
        .then_expect_error(CartError::WrongTotals);
}

#[test]
fn only_the_order_of_the_latest_checkout_reopens_a_cart() {
    let second = [filled(), vec![checked_out(1), reopened(1), checked_out(2)]].concat();
    given::<Cart>(second.clone()).when(reopen(1)).then_expect_events(vec![]);
    given::<Cart>(second.clone())
        .when(reopen(2))
        .then_expect_events(vec![reopened(2)]);
    let cart: Cart = folded(second.into_iter().chain([reopened(2)]));
    let contents = cart.contents().unwrap();
    assert!(matches!(cart, Cart::Open(_)));
    assert_eq!((contents.lines.len(), contents.attempts), (2, 2));
}

#[test]
fn every_command_in_every_state() {
    let commands = [
        CartCommand::Open {
            owner: samples::guest(),
        },
        add(&[("A", 1)]),
        add(&[]),
        change("A", 3),
        change("A", 2),
        remove("A"),
        remove("C"),
        CartCommand::Clear,
        to_order(check_out(1, lines())),
        reopen(1),
    ];
    let table = [
        (
            vec![],
            [
                "cart.opened",
                "! NotOpened",
                "! NotOpened",
                "! NotOpened",
                "! NotOpened",
                "! NotOpened",
                "! NotOpened",
                "! NotOpened",
                "! NotOpened",
                "! NotOpened",
            ],
        ),
        (
            vec![open()],
            [
                "-",
                "cart.line_added",
                "-",
                "! UnknownLine",
                "! UnknownLine",
                "-",
                "-",
                "-",
                "! Empty",
                "-",
            ],
        ),
        (
            filled(),
            [
                "-",
                "cart.line_quantity_changed",
                "-",
                "cart.line_quantity_changed",
                "-",
                "cart.line_removed",
                "-",
                "cart.cleared",
                "cart.checked_out",
                "-",
            ],
        ),
        (
            [filled(), vec![checked_out(1)]].concat(),
            [
                "-",
                "! CheckedOut",
                "! CheckedOut",
                "! CheckedOut",
                "! CheckedOut",
                "! CheckedOut",
                "! CheckedOut",
                "! CheckedOut",
                "! CheckedOut",
                "cart.reopened",
            ],
        ),
    ];
    for (events, expected) in table {
        let outcomes = commands.clone().map(|command| outcome::<Cart>(events.clone(), command));
        assert_eq!(outcomes, expected, "after {events:?}");
    }
}

#[test]
fn a_cart_reads_back_from_its_json() {
    for events in [vec![], filled(), [filled(), vec![checked_out(1)]].concat()] {
        let cart: Cart = folded(events);
        let json = serde_json::to_string(&cart).unwrap();
        assert_eq!(serde_json::from_str::<Cart>(&json).unwrap(), cart);
    }
}

fn any_cart_command() -> impl Strategy<Value = CartCommand> {
    let text = || (0_usize..600).prop_map(|n| format!("S{n}"));
    prop_oneof![
        4 => proptest::collection::vec((text(), 0_u32..60), 0..300).prop_map(|lines| {
            CartCommand::AddLines { lines: lines.iter().map(|(text, quantity)| new_line(text, *quantity)).collect() }
        }),
        4 => proptest::collection::vec((text(), 1_u32..20), 0..300).prop_map(|lines| {
            CartCommand::AddLines { lines: lines.iter().map(|(text, quantity)| new_line(text, *quantity)).collect() }
        }),
        2 => (text(), 0_u32..120).prop_map(|(text, quantity)| change(&text, quantity)),
        2 => text().prop_map(|text| remove(&text)),
        1 => Just(CartCommand::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn limits_hold_over_any_history(commands in proptest::collection::vec(any_cart_command(), 0..24)) {
        let mut cart: Cart = folded([open()]);
        for command in commands {
            let before: BTreeMap<Sku, u32> = quantities(&cart);
            let Ok(events) = cart.decide(&command) else { continue };
            for event in events {
                cart.apply(event);
            }
            let after = quantities(&cart);
            prop_assert!(after.len() <= Cart::LINES_MAX);
            prop_assert!(after.values().all(|quantity| (1..=Cart::QUANTITY_MAX).contains(quantity)));
            if let CartCommand::AddLines { lines } = command {
                let sum = |quantities: &BTreeMap<Sku, u32>| quantities.values().sum::<u32>();
                prop_assert_eq!(sum(&after), sum(&before) + lines.iter().map(|line| line.quantity).sum::<u32>());
            }
        }
    }
}

fn quantities(cart: &Cart) -> BTreeMap<Sku, u32> {
    let lines = cart.contents().unwrap().lines.iter();
    lines.map(|(sku, line)| (sku.clone(), line.quantity)).collect()
}
