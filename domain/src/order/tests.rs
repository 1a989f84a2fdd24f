use std::collections::BTreeMap;

use super::*;
use crate::fixtures::{
    at, deadline, folded, given, lines, order_id, order_line, outcome, payment_id, place_order, placed, sku, sums, won,
};
use jangbu_events::RejectReason;

mod refunds;

const TOTAL: i64 = 23_000;

fn awaiting() -> OrderEvent {
    OrderEvent::AwaitingPayment {
        payment_id: payment_id(1),
        due: won(TOTAL),
        expires_at: deadline(),
    }
}

fn confirmed_with(lines: Vec<OrderLine>) -> OrderEvent {
    let order = place_order(lines);
    OrderEvent::Confirmed {
        payment_id: payment_id(1),
        paid: order.totals.total,
        paid_at: at(5),
        channel: jangbu_events::ChannelType::Live,
        order_number: order.order_number,
        lines: order.lines,
        totals: order.totals,
    }
}

fn confirm(n: u32, paid: i64) -> OrderCommand {
    OrderCommand::Confirm {
        payment_id: payment_id(n),
        paid: won(paid),
        paid_at: at(5),
        channel: jangbu_events::ChannelType::Live,
    }
}

fn rejected(n: u32, paid: i64, reason: RejectReason) -> OrderEvent {
    OrderEvent::PaymentRejected {
        payment_id: payment_id(n),
        paid: won(paid),
        reason,
    }
}

fn refund(n: u32, cancellation: &str, amount: i64) -> OrderCommand {
    OrderCommand::RecordRefund {
        payment_id: payment_id(n),
        cancellation_id: cancellation.to_owned(),
        amount: won(amount),
        cancelled_at: at(60),
    }
}

fn shortages() -> Vec<Shortage> {
    vec![Shortage {
        sku: sku("A"),
        requested: 2,
        available: 1,
    }]
}

fn import() -> ImportOrder {
    ImportOrder {
        source: "journey".to_owned(),
        source_id: "1".to_owned(),
        external_customer: None,
        external_reference: BTreeMap::new(),
        lines: lines(),
        totals: sums(&lines()),
    }
}

fn imported() -> OrderEvent {
    let import = import();
    OrderEvent::Imported {
        source: import.source,
        source_id: import.source_id,
        external_customer: import.external_customer,
        external_reference: import.external_reference,
        lines: import.lines,
        totals: import.totals,
    }
}

const fn cancelled(was_confirmed: bool) -> OrderEvent {
    OrderEvent::Cancelled {
        reason: CancelReason::Customer,
        was_confirmed,
    }
}

fn refunded_in_full() -> Vec<OrderEvent> {
    let mut order: Order = folded(sold());
    let mut events = sold();
    for event in order.decide(&refund(1, "c1", TOTAL)).unwrap() {
        order.apply(event.clone());
        events.push(event);
    }
    events
}

fn waiting() -> Vec<OrderEvent> {
    vec![placed(lines()), awaiting()]
}

fn sold() -> Vec<OrderEvent> {
    vec![placed(lines()), awaiting(), confirmed_with(lines())]
}

fn and(mut events: Vec<OrderEvent>, event: OrderEvent) -> Vec<OrderEvent> {
    events.push(event);
    events
}

/// One history for every state an order can be in.
fn states() -> Vec<(OrderStatus, Vec<OrderEvent>)> {
    let shortages = shortages();
    vec![
        (OrderStatus::Placed, vec![placed(lines())]),
        (OrderStatus::AwaitingPayment, waiting()),
        (OrderStatus::Confirmed, sold()),
        (OrderStatus::Cancelled, and(waiting(), cancelled(false))),
        (OrderStatus::Cancelled, refunded_in_full()),
        (
            OrderStatus::Refused,
            vec![placed(lines()), OrderEvent::Refused { shortages }],
        ),
        (OrderStatus::Expired, and(waiting(), OrderEvent::Expired {})),
        (OrderStatus::Imported, vec![imported()]),
    ]
}

#[test]
fn every_command_in_every_state() {
    let other_place = PlaceOrder {
        order_number: "260302-99999999".to_owned(),
        ..place_order(lines())
    };
    let other_import = ImportOrder {
        source_id: "2".to_owned(),
        ..import()
    };
    let extend = |expires_at| OrderCommand::ExtendDeadline {
        expires_at,
        reason: ExtensionReason::VirtualAccount,
    };
    let (rejected, confirmed) = ("order.payment_rejected", "order.confirmed");
    let not_placed = "! NotPlaced";
    let imported = "! Imported";
    // Rows: commands. Columns: not placed, then `states()`: placed, awaiting, confirmed, cancelled
    // before and after it was paid for, refused, expired, imported.
    #[rustfmt::skip]
    let table: Vec<(OrderCommand, [&str; 9])> = vec![
        (OrderCommand::Place(Box::new(place_order(lines()))),
            ["order.placed", "-", "-", "-", "-", "-", "-", "-", imported]),
        (OrderCommand::Place(Box::new(other_place)),
            ["order.placed", "! AlreadyPlaced", "! AlreadyPlaced", "! AlreadyPlaced", "! AlreadyPlaced",
             "! AlreadyPlaced", "! AlreadyPlaced", "! AlreadyPlaced", imported]),
        (OrderCommand::AwaitPayment { payment_id: payment_id(1) },
            [not_placed, "order.awaiting_payment", "-", "-", "-", "-", "-", "-", imported]),
        (extend(at(31)),
            [not_placed, "order.deadline_extended", "order.deadline_extended", "-", "-", "-", "-", "-", imported]),
        (extend(deadline()),
            [not_placed, "-", "-", "-", "-", "-", "-", "-", imported]),
        (confirm(1, TOTAL),
            [not_placed, confirmed, confirmed, "-", rejected, "-", rejected, rejected, imported]),
        (confirm(1, TOTAL - 1),
            [not_placed, rejected, rejected, "-", rejected, "-", rejected, rejected, imported]),
        (confirm(2, TOTAL),
            [not_placed, confirmed, confirmed, rejected, rejected, rejected, rejected, rejected, imported]),
        (refund(1, "c9", 1),
            [not_placed, "-", "-", "order.refunded", "-", "! ExceedsPaid", "-", "-", imported]),
        (refund(1, "c1", TOTAL),
            [not_placed, "-", "-", "order.refunded order.cancelled", "-", "-", "-", "-", imported]),
        (refund(2, "c1", TOTAL),
            [not_placed, "-", "-", "-", "-", "-", "-", "-", imported]),
        (OrderCommand::Cancel { reason: CancelReason::Customer },
            [not_placed, "order.cancelled", "order.cancelled", "! RefundFirst", "-", "-", "! Ended", "! Ended", imported]),
        (OrderCommand::Refuse { shortages: shortages() },
            [not_placed, "order.refused", "! StockHeld", "! StockHeld", "-", "-", "-", "-", imported]),
        (OrderCommand::Expire { now: deadline() },
            [not_placed, "order.expired", "order.expired", "-", "-", "-", "-", "-", imported]),
        (OrderCommand::Expire { now: at(29) },
            [not_placed, "-", "-", "-", "-", "-", "-", "-", imported]),
        (OrderCommand::Import(Box::new(import())),
            ["order.imported", "! AlreadyPlaced", "! AlreadyPlaced", "! AlreadyPlaced", "! AlreadyPlaced",
             "! AlreadyPlaced", "! AlreadyPlaced", "! AlreadyPlaced", "-"]),
        (OrderCommand::Import(Box::new(other_import)),
            ["order.imported", "! AlreadyPlaced", "! AlreadyPlaced", "! AlreadyPlaced", "! AlreadyPlaced",
             "! AlreadyPlaced", "! AlreadyPlaced", "! AlreadyPlaced", imported]),
    ];
    let histories: Vec<Vec<OrderEvent>> = std::iter::once(Vec::new())
        .chain(states().into_iter().map(|(_, events)| events))
        .collect();
    for (command, expected) in table {
        let outcomes: Vec<String> = histories
            .iter()
            .map(|events| outcome::<Order>(events.clone(), command.clone()))
            .collect();
        assert_eq!(outcomes, expected, "{command:?}");
    }
}

#[test]
fn every_history_leads_to_its_state_and_reads_back_from_json() {
    for (status, events) in states() {
        let order: Order = folded(events);
        assert_eq!(order.status(), Some(status));
        let json = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&json).unwrap(), order);
    }
}

#[test]
fn a_placed_order_waits_for_a_payment_of_its_total() {
    given::<Order>(vec![placed(lines())])
        .when(OrderCommand::AwaitPayment {
            payment_id: payment_id(1),
        })
        .then_expect_events(vec![awaiting()]);
}

#[test]
fn an_extended_deadline_is_the_one_that_counts() {
    let extended = OrderEvent::DeadlineExtended {
        expires_at: at(90),
        reason: ExtensionReason::VirtualAccount,
    };
    let history = and(waiting(), extended);
    given::<Order>(history.clone())
        .when(OrderCommand::Expire { now: at(89) })
        .then_expect_events(vec![]);
    given::<Order>(history)
        .when(OrderCommand::Expire { now: at(90) })
        .then_expect_events(vec![OrderEvent::Expired {}]);
}

#[test]
fn the_right_payment_makes_the_sale_with_all_that_was_sold() {
    given::<Order>(waiting())
        .when(confirm(1, TOTAL))
        .then_expect_events(vec![confirmed_with(lines())]);
}

#[test]
fn a_payment_that_cannot_be_taken_is_rejected_once_and_says_why() {
    let shortages = shortages();
    for (history, n, paid, reason) in [
        (waiting(), 1, TOTAL + 1, RejectReason::WrongAmount),
        (sold(), 2, TOTAL, RejectReason::AlreadyPaid),
        (
            and(waiting(), OrderEvent::Expired {}),
            1,
            TOTAL,
            RejectReason::OrderExpired,
        ),
        (and(waiting(), cancelled(false)), 1, TOTAL, RejectReason::OrderCancelled),
        (
            vec![placed(lines()), OrderEvent::Refused { shortages }],
            1,
            TOTAL,
            RejectReason::OrderRefused,
        ),
    ] {
        let rejection = rejected(n, paid, reason);
        given::<Order>(history.clone())
            .when(confirm(n, paid))
            .then_expect_events(vec![rejection.clone()]);
        given::<Order>(and(history, rejection))
            .when(confirm(n, paid))
            .then_expect_events(vec![]);
    }
}

#[test]
fn a_rejected_payment_does_not_keep_another_from_paying() {
    let history = and(waiting(), rejected(1, TOTAL + 1, RejectReason::WrongAmount));
    assert_eq!(outcome::<Order>(history, confirm(2, TOTAL)), "order.confirmed");
}

#[test]
fn an_order_that_cost_nothing_can_be_cancelled_after_it_was_confirmed() {
    let free = vec![order_line("A", 0, 1)];
    given::<Order>(vec![placed(free.clone()), confirmed_with(free)])
        .when(OrderCommand::Cancel {
            reason: CancelReason::Customer,
        })
        .then_expect_events(vec![cancelled(true)]);
}

#[test]
fn an_order_shares_the_slot_of_its_cart_and_an_imported_one_has_its_own() {
    let place = OrderCommand::Place(Box::new(place_order(lines())));
    assert_eq!(
        Order::partition_key(order_id(), &place),
        place_order(lines()).cart_id.uuid()
    );
    let import = OrderCommand::Import(Box::new(import()));
    assert_eq!(Order::partition_key(order_id(), &import), order_id().uuid());
}
