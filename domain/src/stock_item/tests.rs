use cqrs_es::DomainEvent as _;
use jangbu_events::{AggregateId, OrderId, ReleaseReason, StockEvent};
use proptest::prelude::*;

use super::*;
use crate::fixtures::{at, given, outcome, sku};

fn order(n: u128) -> OrderId {
    OrderId::from_uuid(Uuid::from_u128(n))
}

fn received(quantity: u32) -> StockEvent {
    StockEvent::Received {
        sku: sku("A"),
        quantity,
        on_hand: quantity,
        available: quantity,
    }
}

fn held(order_id: OrderId, quantity: u32, available: u32) -> StockEvent {
    StockEvent::Held {
        sku: sku("A"),
        order_id,
        quantity,
        available,
        backstop_at: at(0),
    }
}

fn receive(quantity: u32) -> StockCommand {
    StockCommand::Receive {
        sku: sku("A"),
        quantity,
    }
}

fn adjust(delta: i64) -> StockCommand {
    StockCommand::Adjust {
        sku: sku("A"),
        delta,
        reason: jangbu_events::AdjustReason::Count,
    }
}

fn hold(order_id: OrderId, quantity: u32) -> StockCommand {
    StockCommand::Hold {
        sku: sku("A"),
        order_id,
        quantity,
        backstop_at: at(0),
    }
}

fn release(order_id: OrderId) -> StockCommand {
    StockCommand::Release {
        order_id,
        reason: ReleaseReason::OrderExpired,
    }
}

const fn commit(order_id: OrderId) -> StockCommand {
    StockCommand::Commit { order_id }
}

const fn give_back(order_id: OrderId, quantity: u32) -> StockCommand {
    StockCommand::Return { order_id, quantity }
}

#[test]
fn an_order_holds_what_is_available() {
    given::<StockItem>(vec![received(10)])
        .when(hold(order(1), 4))
        .then_expect_events(vec![held(order(1), 4, 6)]);
}

#[test]
fn a_hold_takes_the_last_one_but_not_one_more() {
    let before = vec![received(10), held(order(1), 9, 1)];
    given::<StockItem>(before.clone())
        .when(hold(order(2), 1))
        .then_expect_events(vec![held(order(2), 1, 0)]);
    given::<StockItem>(before)
        .when(hold(order(2), 2))
        .then_expect_events(vec![StockEvent::HoldRefused {
            sku: sku("A"),
            order_id: order(2),
            requested: 2,
            available: 1,
        }]);
}

#[test]
fn what_never_had_any_stock_refuses_a_hold_by_an_event() {
    given::<StockItem>(vec![])
        .when(hold(order(1), 1))
        .then_expect_events(vec![StockEvent::HoldRefused {
            sku: sku("A"),
            order_id: order(1),
            requested: 1,
            available: 0,
        }]);
}

#[test]
fn committed_goods_leave_the_warehouse_and_released_ones_stay() {
    let before = vec![received(10), held(order(1), 4, 6)];
    given::<StockItem>(before.clone())
        .when(commit(order(1)))
        .then_expect_events(vec![StockEvent::Committed {
            sku: sku("A"),
            order_id: order(1),
            quantity: 4,
            on_hand: 6,
            available: 6,
        }]);
    given::<StockItem>(before)
        .when(release(order(1)))
        .then_expect_events(vec![StockEvent::Released {
            sku: sku("A"),
            order_id: order(1),
            quantity: 4,
            available: 10,
            reason: ReleaseReason::OrderExpired,
        }]);
}

#[test]
fn returned_goods_are_available_again() {
    let committed = StockEvent::Committed {
        sku: sku("A"),
        order_id: order(1),
        quantity: 4,
        on_hand: 6,
        available: 6,
    };
    given::<StockItem>(vec![received(10), held(order(1), 4, 6), committed])
        .when(give_back(order(1), 4))
        .then_expect_events(vec![StockEvent::Returned {
            sku: sku("A"),
            order_id: order(1),
            quantity: 4,
            on_hand: 10,
            available: 10,
        }]);
}

#[test]
fn a_count_never_goes_below_what_orders_hold() {
    let before = vec![received(10), held(order(1), 4, 6)];
    given::<StockItem>(before.clone())
        .when(adjust(-6))
        .then_expect_events(vec![StockEvent::Adjusted {
            sku: sku("A"),
            delta: -6,
            reason: jangbu_events::AdjustReason::Count,
            on_hand: 4,
            available: 0,
        }]);
    for delta in [-7, -11, i64::MIN] {
        given::<StockItem>(before.clone())
            .when(adjust(delta))
            .then_expect_error(StockError::BelowHeld { on_hand: 10, held: 4 });
    }
}

#[test]
fn there_is_a_most_that_can_be_kept() {
    let full = vec![received(StockItem::ON_HAND_MAX)];
    for command in [
        receive(1),
        receive(u32::MAX),
        adjust(1),
        adjust(i64::MAX),
        give_back(order(1), 1),
    ] {
        given::<StockItem>(full.clone())
            .when(command)
            .then_expect_error(StockError::TooMany);
    }
    assert_eq!(
        outcome::<StockItem>(vec![], receive(StockItem::ON_HAND_MAX)),
        "stock.received"
    );
}

#[test]
fn every_command_in_every_state() {
    let held_by_1 = vec![received(10), held(order(1), 4, 6)];
    let commands = [
        receive(1),
        receive(0),
        adjust(1),
        adjust(-1),
        adjust(0),
        hold(order(1), 4),
        hold(order(1), 5),
        hold(order(2), 6),
        hold(order(2), 7),
        release(order(1)),
        release(order(2)),
        commit(order(1)),
        commit(order(2)),
        give_back(order(1), 1),
    ];
    let table = [
        (
            vec![],
            [
                "stock.received",
                "-",
                "stock.adjusted",
                "! BelowHeld",
                "-",
                "stock.hold_refused",
                "stock.hold_refused",
                "stock.hold_refused",
                "stock.hold_refused",
                "-",
                "-",
                "! NoHold",
                "! NoHold",
                "! NeverStocked",
            ],
        ),
        (
            vec![received(10)],
            [
                "stock.received",
                "-",
                "stock.adjusted",
                "stock.adjusted",
                "-",
                "stock.held",
                "stock.held",
                "stock.held",
                "stock.held",
                "-",
                "-",
                "! NoHold",
                "! NoHold",
                "stock.returned",
            ],
        ),
        (
            held_by_1,
            [
                "stock.received",
                "-",
                "stock.adjusted",
                "stock.adjusted",
                "-",
                "-",
                "! HoldsAlready",
                "stock.held",
                "stock.hold_refused",
                "stock.released",
                "-",
                "stock.committed",
                "! NoHold",
                "stock.returned",
            ],
        ),
    ];
    for (events, expected) in table {
        let outcomes = commands
            .clone()
            .map(|command| outcome::<StockItem>(events.clone(), command));
        assert_eq!(outcomes, expected, "after {events:?}");
    }
}

fn any_stock_command() -> impl Strategy<Value = StockCommand> {
    let orders = (0_u128..6).prop_map(order);
    prop_oneof![
        (0_u32..12).prop_map(receive),
        (-12_i64..12).prop_map(adjust),
        (orders.clone(), 1_u32..8).prop_map(|(order_id, quantity)| hold(order_id, quantity)),
        (orders.clone(), 1_u32..8).prop_map(|(order_id, quantity)| hold(order_id, quantity)),
        orders.clone().prop_map(release),
        orders.clone().prop_map(commit),
        (orders, 0_u32..8).prop_map(|(order_id, quantity)| give_back(order_id, quantity)),
    ]
}

/// What an event says is left: on hand, if it says so, and available.
const fn told(event: &StockEvent) -> (Option<u32>, u32) {
    match event {
        StockEvent::Received { on_hand, available, .. }
        | StockEvent::Adjusted { on_hand, available, .. }
        | StockEvent::Committed { on_hand, available, .. }
        | StockEvent::Returned { on_hand, available, .. } => (Some(*on_hand), *available),
        StockEvent::Held { available, .. }
        | StockEvent::HoldRefused { available, .. }
        | StockEvent::Released { available, .. } => (None, *available),
    }
}

/// What an event adds to the warehouse.
fn moved(event: &StockEvent) -> i64 {
    match event {
        StockEvent::Received { quantity, .. } | StockEvent::Returned { quantity, .. } => i64::from(*quantity),
        StockEvent::Adjusted { delta, .. } => *delta,
        StockEvent::Committed { quantity, .. } => -i64::from(*quantity),
        StockEvent::Held { .. } | StockEvent::HoldRefused { .. } | StockEvent::Released { .. } => 0,
    }
}

proptest! {
    #[test]
    fn reservations_never_exceed_stock(commands in proptest::collection::vec(any_stock_command(), 0..64)) {
        let mut stock = StockItem::default();
        let mut on_hand = 0_i64;
        for command in commands {
            let Ok(events) = stock.decide(&command) else { continue };
            for event in events {
                on_hand += moved(&event);
                stock.apply(event.clone());
                prop_assert_eq!(stock.held(), stock.holds.values().map(|hold| hold.quantity).sum::<u32>());
                prop_assert!(stock.held() <= stock.on_hand);
                prop_assert_eq!(i64::from(stock.on_hand), on_hand);
                let (told_on_hand, told_available) = told(&event);
                prop_assert_eq!(told_available, stock.available());
                prop_assert_eq!(told_on_hand.unwrap_or(stock.on_hand), stock.on_hand);
                let kept = serde_json::to_string(&stock).expect("a state serialises");
                prop_assert_eq!(&serde_json::from_str::<StockItem>(&kept).expect("it reads back"), &stock);
            }
        }
    }
}

/// What every kind of event does to a snapshot. Whoever changes what `apply` does raises `SNAPSHOT_VERSION`:
/// what older code has folded would go on into the future otherwise.
#[test]
fn what_snapshots_of_version_1_are_folded_of_is_pinned() {
    let history = [
        receive(10),
        adjust(-1),
        hold(order(1), 2),
        hold(order(2), 3),
        hold(order(3), 9),
        release(order(2)),
        commit(order(1)),
        give_back(order(1), 1),
    ];
    let mut stock = StockItem::default();
    let mut folded = Vec::new();
    for event in history.iter().flat_map(|command| {
        let events = stock.decide(command).expect("it is allowed");
        for event in &events {
            stock.apply(event.clone());
        }
        let after = (stock.on_hand, stock.held(), stock.holds.len());
        events.into_iter().map(move |event| (event.event_type(), after))
    }) {
        folded.push(event);
    }
    assert_eq!(StockItem::SNAPSHOT_VERSION, Some(1));
    let pinned = [
        ("stock.received", (10, 0, 0)),
        ("stock.adjusted", (9, 0, 0)),
        ("stock.held", (9, 2, 1)),
        ("stock.held", (9, 5, 2)),
        ("stock.hold_refused", (9, 5, 2)),
        ("stock.released", (9, 2, 1)),
        ("stock.committed", (7, 0, 0)),
        ("stock.returned", (8, 0, 0)),
    ];
    assert_eq!(folded, pinned.map(|(name, after)| (name.to_owned(), after)));
    let every: std::collections::BTreeSet<_> = jangbu_events::samples::all()
        .iter()
        .map(jangbu_events::Event::name)
        .filter(|name| name.starts_with("stock."))
        .collect();
    assert_eq!(every, pinned.iter().map(|(name, _)| *name).collect());
}

/// Snapshots in databases read like this. Whoever changes it, or what `apply` does, raises
/// `SNAPSHOT_VERSION`.
#[test]
fn a_snapshot_of_version_1_is_pinned() {
    let mut stock = StockItem::default();
    for event in [received(10), held(order(1), 2, 8), held(order(2), 1, 7)] {
        stock.apply(event);
    }
    assert_eq!(StockItem::SNAPSHOT_VERSION, Some(1));
    assert_eq!(
        serde_json::to_string(&stock).unwrap(),
        r#"{"sku":"A","on_hand":10,"holds":{"ord_00000000000000000000000000000001":{"quantity":2,"backstop_at":"2026-03-02T04:05:06Z"},"ord_00000000000000000000000000000002":{"quantity":1,"backstop_at":"2026-03-02T04:05:06Z"}},"held":3}"#
    );
}
