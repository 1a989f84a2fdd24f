//! What the tests of several aggregates share.

use cqrs_es::{
    DomainEvent,
    test::{AggregateTestExecutor, TestFramework},
};
use jangbu_events::{
    Consents, LineId, Money, OrderEvent, OrderId, OrderLine, OrderTotals, PayMethod, PaymentId, ProductId, Sealed, Sku,
    StoreId, TaxClass, Timestamp, samples,
};
use uuid::Uuid;

use crate::{Decide, cart::CheckOut, order::PlaceOrder, totals};

/// cqrs-es's test kit around the aggregate, so that its `handle` is what is tested.
pub fn given<A: Decide>(events: Vec<A::Event>) -> AggregateTestExecutor<A> {
    TestFramework::<A>::with(()).given(events)
}

/// What follows, in short: the names of the events, `-` for none, or the name of the error.
pub fn outcome<A: Decide>(events: Vec<A::Event>, command: A::Command) -> String {
    match given::<A>(events).when(command).inspect_result() {
        Ok(events) if events.is_empty() => "-".to_owned(),
        Ok(events) => events.iter().map(DomainEvent::event_type).collect::<Vec<_>>().join(" "),
        Err(error) => {
            let text = format!("{error:?}");
            let name = text.split([' ', '{', '(']).next().unwrap_or_default();
            format!("! {name}")
        }
    }
}

/// The state that events lead to.
pub fn folded<A: Decide>(events: impl IntoIterator<Item = A::Event>) -> A {
    let mut state = A::default();
    for event in events {
        state.apply(event);
    }
    state
}

pub const fn won(amount: i64) -> Money {
    Money::won(amount)
}

pub fn sku(text: &str) -> Sku {
    text.parse().unwrap()
}

/// So many minutes after the sample moment.
pub fn at(minutes: i64) -> Timestamp {
    samples::moment() + chrono::TimeDelta::minutes(minutes)
}

/// When sample orders expire.
pub fn deadline() -> Timestamp {
    at(30)
}

pub fn sealed<T>() -> Sealed<T> {
    Sealed::new(Uuid::from_u128(0xaa), "c2VhbGVk".to_owned())
}

pub fn consents() -> Consents {
    Consents {
        privacy: true,
        privacy_version: "2026-01-01".to_owned(),
        privacy_text_sha256: "00".repeat(32),
    }
}

pub fn product(text: &str) -> ProductId {
    ProductId::of(StoreId::DEFAULT, &sku(text))
}

pub fn order_line(text: &str, unit_price: i64, quantity: u32) -> OrderLine {
    OrderLine {
        line_id: LineId::of(samples::cart_id(), &sku(text)),
        product_id: product(text),
        sku: sku(text),
        name: format!("상품 {text}"),
        category: "드라이버".to_owned(),
        unit_price: won(unit_price),
        quantity,
        discount: Money::ZERO,
        tax_class: TaxClass::Taxable,
        total: won(unit_price * i64::from(quantity)),
    }
}

/// Two of A at 10,000 won and one of B at 3,000 won: 23,000 won.
pub fn lines() -> Vec<OrderLine> {
    vec![order_line("A", 10_000, 2), order_line("B", 3_000, 1)]
}

pub fn sums(lines: &[OrderLine]) -> OrderTotals {
    totals(lines).unwrap()
}

/// The checkout of a cart that holds `lines`.
pub fn check_out(attempt: u32, lines: Vec<OrderLine>) -> CheckOut {
    CheckOut {
        cart_id: samples::cart_id(),
        order_number: format!("260302-0000000{attempt}"),
        attempt,
        totals: sums(&lines),
        lines,
        orderer: sealed(),
        recipient: sealed(),
        consents: consents(),
        pay_method: PayMethod::Card,
        expires_at: deadline(),
    }
}

pub fn place_order(lines: Vec<OrderLine>) -> PlaceOrder {
    PlaceOrder {
        order_number: "260302-00000001".to_owned(),
        cart_id: samples::cart_id(),
        attempt: 1,
        owner: samples::guest(),
        totals: sums(&lines),
        lines,
        orderer: sealed(),
        recipient: sealed(),
        consents: consents(),
        pay_method: PayMethod::Card,
        expires_at: deadline(),
    }
}

/// What [`place_order`] leads to.
pub fn placed(lines: Vec<OrderLine>) -> OrderEvent {
    let order = place_order(lines);
    OrderEvent::Placed {
        order_number: order.order_number,
        cart_id: order.cart_id,
        attempt: order.attempt,
        owner: order.owner,
        lines: order.lines,
        totals: order.totals,
        orderer: order.orderer,
        recipient: order.recipient,
        consents: order.consents,
        pay_method: order.pay_method,
        expires_at: order.expires_at,
    }
}

pub fn order_id() -> OrderId {
    samples::order_id()
}

/// The n-th payment of the sample order.
pub fn payment_id(n: u32) -> PaymentId {
    PaymentId::of(order_id(), n)
}
