//! One example of every event, with fixed values: for snapshots, the golden corpus and tests.

mod customer;

use std::collections::BTreeMap;

use chrono::DateTime;
use uuid::Uuid;

use crate::{
    AddressId, AdjustReason, AggregateId, CancelReason, CartEvent, CartId, ChannelType, Consents, CustomerId, Event,
    LineId, LineShare, Money, OrderEvent, OrderId, OrderLine, OrderTotals, Owner, PayMethod, PaymentEvent, PaymentId,
    PaymentMeans, ProductEvent, RefundReason, RefuseReason, RejectReason, ReleaseReason, ReopenReason, Sealed,
    Shortage, Sku, StockEvent, StoreId, TaxClass, Timestamp, order::ExtensionReason,
};

/// 2026-03-02 13:05:06 in Korea.
pub fn moment() -> Timestamp {
    DateTime::from_timestamp(1_772_424_306, 0).expect("a valid moment")
}

/// A cart.
pub fn cart_id() -> CartId {
    CartId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001))
}

/// The first order of [`cart_id`].
pub fn order_id() -> OrderId {
    OrderId::of(cart_id(), 1)
}

/// The first payment of [`order_id`].
pub fn payment_id() -> PaymentId {
    PaymentId::of(order_id(), 1)
}

/// `DRIVER-10.5`.
pub fn sku() -> Sku {
    "DRIVER-10.5".parse().expect("a valid sku")
}

/// One driver at 39,000 won.
pub fn line() -> OrderLine {
    OrderLine {
        line_id: LineId::of(cart_id(), &sku()),
        product_id: crate::ProductId::of(StoreId::DEFAULT, &sku()),
        sku: sku(),
        name: "드라이버 10.5도".to_owned(),
        category: "드라이버".to_owned(),
        unit_price: Money::won(39_000),
        quantity: 1,
        discount: Money::ZERO,
        tax_class: TaxClass::Taxable,
        total: Money::won(39_000),
    }
}

/// Of [`line()`] alone.
pub fn totals() -> OrderTotals {
    OrderTotals {
        goods: Money::won(39_000),
        discount: Money::ZERO,
        shipping: Money::ZERO,
        total: Money::won(39_000),
        tax_free: Money::ZERO,
        supply: Money::won(35_455),
        vat: Money::won(3_545),
    }
}

/// A guest.
pub fn guest() -> Owner {
    Owner::Guest {
        token_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
    }
}

fn sealed<T>() -> Sealed<T> {
    Sealed::new(
        Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_00aa),
        "c2VhbGVk".to_owned(),
    )
}

fn consents() -> Consents {
    Consents {
        privacy: true,
        privacy_version: "2026-01-01".to_owned(),
        privacy_text_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
    }
}

/// A customer.
pub fn customer_id() -> CustomerId {
    CustomerId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002))
}

/// An address of [`customer_id`].
pub fn address_id() -> AddressId {
    AddressId::from_uuid(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0003))
}

/// Every variant of every event, in the order of [`crate::event::CURRENT_VERSIONS`].
pub fn all() -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    events.extend(cart_events().into_iter().map(Event::from));
    events.extend(customer::events().into_iter().map(Event::from));
    events.extend(order_events().into_iter().map(Event::from));
    events.extend(payment_events().into_iter().map(Event::from));
    events.extend(product_events().into_iter().map(Event::from));
    events.extend(stock_events().into_iter().map(Event::from));
    events
}

/// The events of [`all`] that name an owner, once more: of a member.
pub fn of_members() -> Vec<Event> {
    let member = Owner::Member {
        customer_id: customer_id(),
    };
    let mut events = all();
    events.retain_mut(|event| match event {
        Event::Cart(CartEvent::Opened { owner } | CartEvent::CheckedOut { owner, .. })
        | Event::Order(OrderEvent::Placed { owner, .. }) => {
            owner.clone_from(&member);
            true
        }
        _ => false,
    });
    events
}

fn cart_events() -> Vec<CartEvent> {
    let line = line();
    vec![
        CartEvent::Opened { owner: guest() },
        CartEvent::LineAdded {
            line_id: line.line_id,
            product_id: line.product_id,
            sku: sku(),
            name: line.name.clone(),
            unit_price: line.unit_price,
            quantity: 1,
        },
        CartEvent::LineQuantityChanged {
            line_id: line.line_id,
            sku: sku(),
            previous_quantity: 1,
            quantity: 3,
        },
        CartEvent::LineRemoved {
            line_id: line.line_id,
            sku: sku(),
            quantity: 3,
        },
        CartEvent::Cleared {},
        CartEvent::CheckedOut {
            order_id: order_id(),
            order_number: "260302-0ABCDEFG".to_owned(),
            attempt: 1,
            owner: guest(),
            lines: vec![line],
            totals: totals(),
            orderer: sealed(),
            recipient: sealed(),
            consents: consents(),
            pay_method: PayMethod::Card,
            expires_at: moment(),
        },
        CartEvent::Reopened {
            order_id: order_id(),
            reason: ReopenReason::OrderRefused,
        },
    ]
}

fn order_events() -> Vec<OrderEvent> {
    let line = line();
    let share = LineShare {
        line_id: line.line_id,
        sku: sku(),
        category: line.category.clone(),
        amount: Money::won(39_000),
    };
    vec![
        OrderEvent::Placed {
            order_number: "260302-0ABCDEFG".to_owned(),
            cart_id: cart_id(),
            attempt: 1,
            owner: guest(),
            lines: vec![line.clone()],
            totals: totals(),
            orderer: sealed(),
            recipient: sealed(),
            consents: consents(),
            pay_method: PayMethod::Card,
            expires_at: moment(),
        },
        OrderEvent::AwaitingPayment {
            payment_id: payment_id(),
            due: Money::won(39_000),
            expires_at: moment(),
        },
        OrderEvent::DeadlineExtended {
            expires_at: moment(),
            reason: ExtensionReason::VirtualAccount,
        },
        OrderEvent::Confirmed {
            payment_id: payment_id(),
            paid: Money::won(39_000),
            paid_at: moment(),
            channel: ChannelType::Live,
            order_number: "260302-0ABCDEFG".to_owned(),
            lines: vec![line.clone()],
            totals: totals(),
        },
        OrderEvent::PaymentRejected {
            payment_id: payment_id(),
            paid: Money::won(39_000),
            reason: RejectReason::OrderExpired,
        },
        OrderEvent::Refunded {
            payment_id: payment_id(),
            cancellation_id: "cancellation-1".to_owned(),
            amount: Money::won(39_000),
            refunded_total: Money::won(39_000),
            remaining: Money::ZERO,
            cancelled_at: moment(),
            shares: vec![share],
        },
        OrderEvent::Cancelled {
            reason: CancelReason::Customer,
            was_confirmed: false,
        },
        OrderEvent::Refused {
            shortages: vec![Shortage {
                sku: sku(),
                requested: 3,
                available: 2,
            }],
        },
        OrderEvent::Expired {},
        OrderEvent::Imported {
            source: "journey".to_owned(),
            source_id: "32053262115".to_owned(),
            external_customer: Some("27".to_owned()),
            external_reference: BTreeMap::from([("store_id".to_owned(), "359".to_owned())]),
            lines: vec![line],
            totals: totals(),
        },
    ]
}

/// A card.
pub fn means() -> PaymentMeans {
    PaymentMeans {
        method: "easy_pay".to_owned(),
        provider: Some("KAKAOPAY".to_owned()),
        issuer: Some("SHINHAN_CARD".to_owned()),
        installment_months: Some(0),
        approval_number: Some("00000000".to_owned()),
        channel: ChannelType::Live,
        pg_provider: Some("TOSSPAYMENTS".to_owned()),
        pg_tx_id: Some("tshop20260302".to_owned()),
    }
}

fn payment_events() -> Vec<PaymentEvent> {
    let transaction_id = "55451513-9763-4a7a-bb43-78a4c65be843".to_owned();
    vec![
        PaymentEvent::Requested {
            order_id: order_id(),
            due: Money::won(39_000),
            tax_free: Money::ZERO,
            pay_method: PayMethod::Card,
            order_name: "드라이버 10.5도".to_owned(),
        },
        PaymentEvent::VirtualAccountIssued {
            order_id: order_id(),
            transaction_id: transaction_id.clone(),
            bank: Some("SHINHAN".to_owned()),
            account: sealed(),
            expires_at: Some(moment()),
        },
        PaymentEvent::Confirmed {
            order_id: order_id(),
            transaction_id: transaction_id.clone(),
            paid: Money::won(39_000),
            tax_free: Money::ZERO,
            vat: Some(Money::won(3_545)),
            discount: Money::ZERO,
            paid_at: moment(),
            means: means(),
        },
        PaymentEvent::Failed {
            order_id: order_id(),
            transaction_id: transaction_id.clone(),
            failed_at: moment(),
            pg_code: Some("REJECT_CARD".to_owned()),
        },
        PaymentEvent::Refused {
            order_id: order_id(),
            transaction_id,
            reason: RefuseReason::WrongAmount,
            due: Money::won(39_000),
            paid_amount: 38_999,
            paid_currency: "KRW".to_owned(),
            tax_free: 0,
            paid_at: moment(),
            means: means(),
        },
        PaymentEvent::CancellationRequested {
            order_id: order_id(),
            refund_id: "refund-0190000000007000800000000000000b".to_owned(),
            amount: 39_000,
            tax_free: 0,
            currency: "KRW".to_owned(),
            cancellable: 39_000,
            reason: RefundReason::OrderExpired,
        },
        PaymentEvent::RefundAccountGiven {
            order_id: order_id(),
            account: sealed(),
            waiting_refund_id: Some("refund-0190000000007000800000000000000b".to_owned()),
        },
        PaymentEvent::CancellationFailed {
            order_id: order_id(),
            refund_id: "refund-0190000000007000800000000000000b".to_owned(),
            code: "PG_PROVIDER".to_owned(),
            pg_code: Some("NOT_CANCELABLE_PAYMENT".to_owned()),
        },
        PaymentEvent::Cancelled {
            order_id: order_id(),
            cancellation_id: "cancellation-1".to_owned(),
            amount: 39_000,
            tax_free: 0,
            vat: 3_545,
            currency: "KRW".to_owned(),
            cancelled_total: 39_000,
            remaining: 0,
            cancelled_at: moment(),
            trigger: Some("API".to_owned()),
        },
    ]
}

fn product_events() -> Vec<ProductEvent> {
    vec![
        ProductEvent::Registered {
            sku: sku(),
            name: "드라이버 10.5도".to_owned(),
            category: "드라이버".to_owned(),
            price: Money::won(39_000),
            tax_class: TaxClass::Taxable,
            attributes: BTreeMap::from([("brand".to_owned(), "한빛".to_owned())]),
        },
        ProductEvent::Renamed {
            name: "드라이버 10.5도 (2026)".to_owned(),
        },
        ProductEvent::Repriced {
            previous_price: Money::won(39_000),
            price: Money::won(35_000),
        },
        ProductEvent::Published {},
        ProductEvent::Hidden {},
        ProductEvent::Archived {},
    ]
}

fn stock_events() -> Vec<StockEvent> {
    vec![
        StockEvent::Received {
            sku: sku(),
            quantity: 10,
            on_hand: 10,
            available: 10,
        },
        StockEvent::Adjusted {
            sku: sku(),
            delta: -1,
            reason: AdjustReason::Count,
            on_hand: 9,
            available: 9,
        },
        StockEvent::Held {
            sku: sku(),
            order_id: order_id(),
            quantity: 1,
            available: 8,
            backstop_at: moment(),
        },
        StockEvent::HoldRefused {
            sku: sku(),
            order_id: order_id(),
            requested: 20,
            available: 8,
        },
        StockEvent::Released {
            sku: sku(),
            order_id: order_id(),
            quantity: 1,
            available: 9,
            reason: ReleaseReason::OrderExpired,
        },
        StockEvent::Committed {
            sku: sku(),
            order_id: order_id(),
            quantity: 1,
            on_hand: 8,
            available: 8,
        },
        StockEvent::Returned {
            sku: sku(),
            order_id: order_id(),
            quantity: 1,
            on_hand: 9,
            available: 9,
        },
    ]
}
