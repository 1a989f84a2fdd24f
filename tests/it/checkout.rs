//! From a cart to a sale, and every way it can come to nothing.

use chrono::TimeDelta;
use futures_util::StreamExt as _;
use jangbu::checkout::CheckoutError;
use jangbu_domain::{Cart, order::OrderStatus, payment::PaymentStatus};
use jangbu_events::{CartId, OrderId, PaymentId, RefundReason};
use serde_json::json;

use crate::shop::{Shop, nothing, request};

async fn cart_is_open(shop: &Shop, cart: CartId) -> bool {
    matches!(
        &*shop.executor.load::<Cart>(cart).await.expect("the cart loads").state,
        Cart::Open(_)
    )
}

fn payment(order: OrderId) -> PaymentId {
    PaymentId::of(order, 1)
}

#[tokio::test]
async fn a_paid_order_is_confirmed_and_its_stock_is_sold() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    shop.product("BALL-12", 25_000, 10).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1), ("BALL-12", 2)]).await;
    let checked_out = shop.check_out(cart).await.expect("it checks out");
    assert_eq!(checked_out.order.status(), Some(OrderStatus::AwaitingPayment));
    assert_eq!(checked_out.payment_request.total_amount, 89_000);
    assert_eq!(
        (shop.stock("DRIVER-10.5").await, shop.stock("BALL-12").await),
        ((3, 2), (10, 8))
    );

    shop.at_portone(payment(checked_out.order_id), "pay", nothing()).await;
    let settled = shop.settle(payment(checked_out.order_id)).await;
    assert_eq!(settled.order.state.status(), Some(OrderStatus::Confirmed));
    let again = shop.settle(payment(checked_out.order_id)).await;
    assert_eq!(again.position(), settled.position(), "a second webhook changes nothing");
    shop.run().await;
    assert_eq!(
        (shop.stock("DRIVER-10.5").await, shop.stock("BALL-12").await),
        ((2, 2), (8, 8))
    );
    assert_eq!(shop.failures().await, Vec::<String>::new());
    let types = shop.event_types().await;
    assert_eq!(types.iter().filter(|t| *t == "order.confirmed").count(), 1);
    assert_eq!(types.iter().filter(|t| *t == "stock.committed").count(), 2);
}

#[tokio::test]
async fn a_sold_out_line_refuses_the_order_and_gives_the_rest_back() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 1).await;
    shop.product("BALL-12", 25_000, 10).await;
    let cart = shop.cart(&[("DRIVER-10.5", 2), ("BALL-12", 2)]).await;
    let Err(CheckoutError::SoldOut { shortages, .. }) = shop.check_out(cart).await else {
        panic!("it is sold out")
    };
    assert_eq!(
        shortages
            .iter()
            .map(|s| (s.sku.as_str(), s.requested, s.available))
            .collect::<Vec<_>>(),
        [("DRIVER-10.5", 2, 1)]
    );
    assert!(cart_is_open(&shop, cart).await);
    assert_eq!(
        (shop.stock("DRIVER-10.5").await, shop.stock("BALL-12").await),
        ((1, 1), (10, 10))
    );
    let before = shop.event_types().await;
    shop.run().await;
    assert_eq!(shop.event_types().await, before, "the runner finds every step done");
    assert_eq!(shop.failures().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_repeated_checkout_is_answered_with_the_same_order() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let envelope = shop.envelope();
    let first = shop
        .checkout
        .check_out(cart, request(), envelope.clone())
        .await
        .expect("it checks out");
    let head = shop.executor.log().head().await.expect("a head");
    let second = shop
        .checkout
        .check_out(cart, request(), envelope)
        .await
        .expect("it checks out");
    assert_eq!(
        (second.order_id, second.duplicate, first.duplicate),
        (first.order_id, true, false)
    );
    assert_eq!(second.payment_request, first.payment_request);
    assert_eq!(shop.executor.log().head().await.expect("a head"), head);
    let Err(CheckoutError::Cart(_)) = shop.check_out(cart).await else {
        panic!("another request is refused")
    };
}

#[tokio::test]
async fn the_runner_finishes_what_a_crash_left() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    // The first append of a checkout, and nothing after it: as if the process had died there.
    let checked_out = shop.check_out(cart).await.expect("it checks out");
    let kept: i64 = sqlx::query_scalar("select position from events where event_type = 'cart.checked_out'")
        .fetch_one(&shop.database.pool)
        .await
        .expect("it was checked out");
    let copy = crate::database::Database::create().await;
    copy_log(&shop.database.pool, &copy.pool, kept).await;
    let executor = copy.executor(shop.executor.log().surroundings().clone()).await;
    while jangbu::processes::round(&executor, 1, executor.log().head().await.expect("a head").position)
        .await
        .expect("a round")
        > 0
    {}
    let order = executor
        .load::<jangbu_domain::Order>(checked_out.order_id)
        .await
        .expect("the order loads");
    assert_eq!(order.state.status(), Some(OrderStatus::AwaitingPayment));
    let ids = |pool: sqlx::PgPool| async move {
        sqlx::query_as::<_, (String, uuid::Uuid)>(
            "select event_type, event_id from events order by event_type, event_id",
        )
        .fetch_all(&pool)
        .await
        .expect("events read")
    };
    assert_eq!(
        ids(copy.pool.clone()).await,
        ids(shop.database.pool.clone()).await,
        "inline and runner make the same"
    );
}

async fn copy_log(from: &sqlx::PgPool, to: &sqlx::PgPool, through: i64) {
    for (table, column) in [("events", "position"), ("commands", "position")] {
        let rows: Vec<sqlx::types::Json<serde_json::Value>> = sqlx::query_scalar(&format!(
            "select to_json(t) from {table} t where {column} <= $1 order by {column}"
        ))
        .bind(through)
        .fetch_all(from)
        .await
        .expect("rows read");
        for row in rows {
            sqlx::query(&format!(
                "insert into {table} select * from json_populate_record(null::{table}, $1::json)"
            ))
            .bind(row)
            .execute(to)
            .await
            .expect("a row is copied");
        }
    }
}

#[tokio::test]
async fn a_payment_one_won_short_is_refused_and_refunded_in_full() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.at_portone(payment(order), "pay", json!({ "amount": 38_999 }))
        .await;
    let settled = shop.settle(payment(order)).await;
    assert_eq!(settled.order.state.status(), Some(OrderStatus::AwaitingPayment));
    shop.run().await;
    let settled = shop.settle(payment(order)).await;
    assert_eq!(settled.payment.state.status(), Some(PaymentStatus::Cancelled));
    let seen = shop.seen_at_portone(payment(order)).await;
    assert_eq!(seen["cancelEffects"], 1, "{seen}");
    assert_eq!(settled.seen.expect("PortOne knows it").amount.cancelled, 38_999);
    shop.clock.advance(TimeDelta::minutes(31));
    shop.run().await;
    assert_eq!(shop.order(order).await.status(), Some(OrderStatus::Expired));
    assert_eq!(shop.stock("DRIVER-10.5").await, (3, 3));
    assert!(cart_is_open(&shop, cart).await);
}

#[tokio::test]
async fn a_live_shop_refuses_play_money() {
    let shop = Shop::open_as(true).await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.at_portone(
        payment(order),
        "open",
        json!({ "totalAmount": 39_000, "channelType": "TEST" }),
    )
    .await;
    shop.at_portone(payment(order), "pay", nothing()).await;
    let settled = shop.settle(payment(order)).await;
    assert_eq!(settled.order.state.status(), Some(OrderStatus::AwaitingPayment));
    shop.run().await;
    assert_eq!(shop.seen_at_portone(payment(order)).await["cancelEffects"], 1);
}

#[tokio::test]
async fn an_unpaid_order_expires_and_money_that_comes_later_goes_back() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.run().await;
    shop.clock.advance(TimeDelta::minutes(29));
    shop.run().await;
    assert_eq!(shop.order(order).await.status(), Some(OrderStatus::AwaitingPayment));
    shop.clock.advance(TimeDelta::minutes(2));
    shop.run().await;
    assert_eq!(shop.order(order).await.status(), Some(OrderStatus::Expired));
    assert_eq!(shop.stock("DRIVER-10.5").await, (3, 3));
    assert!(cart_is_open(&shop, cart).await);

    shop.at_portone(payment(order), "pay", nothing()).await;
    shop.settle(payment(order)).await;
    shop.run().await;
    let settled = shop.settle(payment(order)).await;
    assert_eq!(settled.order.state.status(), Some(OrderStatus::Expired));
    assert_eq!(settled.seen.expect("PortOne knows it").amount.cancelled, 39_000);
    assert_eq!(shop.seen_at_portone(payment(order)).await["cancelEffects"], 1);
    assert_eq!(shop.failures().await, Vec::<String>::new());
}

#[tokio::test]
async fn money_that_came_at_the_deadline_confirms_the_order() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    // Paid, and every webhook is lost.
    shop.at_portone(payment(order), "pay", nothing()).await;
    shop.run().await;
    shop.clock.advance(TimeDelta::minutes(31));
    shop.run().await;
    assert_eq!(shop.order(order).await.status(), Some(OrderStatus::Confirmed));
    assert_eq!(shop.stock("DRIVER-10.5").await, (2, 2));
}

#[tokio::test]
async fn a_refund_whose_answer_is_lost_happens_once() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.at_portone(payment(order), "pay", nothing()).await;
    shop.settle(payment(order)).await;
    shop.run().await;
    shop.faults(json!({ "fault": "api_drop_after", "operation": "cancel", "times": 1 }))
        .await;
    shop.payments
        .refund(
            payment(order),
            None,
            jangbu_events::RefundReason::Customer,
            None,
            shop.envelope(),
        )
        .await
        .expect("the wish is recorded");
    shop.run().await;
    let settled = shop.settle(payment(order)).await;
    shop.run().await;
    assert_eq!(shop.seen_at_portone(payment(order)).await["cancelEffects"], 1);
    assert_eq!(settled.order.state.status(), Some(OrderStatus::Cancelled));
    assert_eq!(shop.stock("DRIVER-10.5").await, (3, 3));
    let types = shop.event_types().await;
    assert_eq!(types.iter().filter(|t| *t == "payment.cancelled").count(), 1);
    assert_eq!(types.iter().filter(|t| *t == "order.refunded").count(), 1);
}

#[tokio::test]
async fn a_virtual_account_waits_until_its_own_end() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.at_portone(payment(order), "issue", nothing()).await;
    let settled = shop.settle(payment(order)).await;
    assert!(settled.payment.state.account().is_some());
    shop.run().await;
    shop.clock.advance(TimeDelta::minutes(31));
    shop.run().await;
    assert_eq!(shop.order(order).await.status(), Some(OrderStatus::AwaitingPayment));
    shop.at_portone(payment(order), "deposit", nothing()).await;
    shop.settle(payment(order)).await;
    assert_eq!(shop.order(order).await.status(), Some(OrderStatus::Confirmed));
}

#[tokio::test]
async fn reconciliation_finds_what_webhooks_missed() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 30).await;
    let mut orders = Vec::new();
    for _ in 0..5 {
        let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
        let order = shop.check_out(cart).await.expect("it checks out").order_id;
        shop.at_portone(payment(order), "pay", nothing()).await;
        orders.push(order);
    }
    // The simulator has the machine's clock.
    let now = jangbu::clock::Surroundings::system().now();
    let range = || (now - TimeDelta::hours(1), now + TimeDelta::hours(1));
    let found = shop
        .payments
        .reconcile(range().0, range().1)
        .await
        .expect("it reconciles");
    assert_eq!((found.ours, found.repaired, found.failed), (5, 5, 0));
    for order in orders {
        assert_eq!(shop.order(order).await.status(), Some(OrderStatus::Confirmed));
    }
    let found = shop
        .payments
        .reconcile(range().0, range().1)
        .await
        .expect("it reconciles");
    assert_eq!((found.ours, found.repaired, found.failed), (5, 0, 0));
}

#[tokio::test]
async fn a_hundred_items_are_sold_to_a_hundred_of_five_hundred_buyers() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 100).await;
    let mut carts = Vec::new();
    for _ in 0..500 {
        carts.push(shop.cart(&[("DRIVER-10.5", 1)]).await);
    }
    let outcomes: Vec<_> = futures_util::stream::iter(carts)
        .map(|cart| shop.check_out(cart))
        .buffer_unordered(32)
        .collect()
        .await;
    let sold = outcomes.iter().filter(|o| o.is_ok()).count();
    let refused = outcomes
        .iter()
        .filter(|o| matches!(o, Err(CheckoutError::SoldOut { .. })))
        .count();
    assert_eq!((sold, refused), (100, 400));
    shop.run().await;
    assert_eq!(shop.stock("DRIVER-10.5").await, (100, 0));
    assert_eq!(shop.failures().await, Vec::<String>::new());
}

/// A paid order whose buyer wants the money back.
async fn refund_wished(shop: &Shop) -> OrderId {
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.at_portone(payment(order), "pay", nothing()).await;
    shop.settle(payment(order)).await;
    shop.run().await;
    wish(shop, order).await.expect("the wish is recorded");
    order
}

async fn wish(shop: &Shop, order: OrderId) -> Result<(), String> {
    let wished = shop
        .payments
        .refund(payment(order), None, RefundReason::Customer, None, shop.envelope())
        .await;
    wished.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_refund_that_waited_for_hours_is_still_asked_for() {
    let shop = Shop::open().await;
    let order = refund_wished(&shop).await;
    shop.clock.advance(TimeDelta::hours(4));
    shop.run().await;
    assert_eq!(shop.seen_at_portone(payment(order)).await["cancelEffects"], 1);
    assert_eq!(shop.order(order).await.status(), Some(OrderStatus::Cancelled));
    assert_eq!(shop.timers_of("refund").await, 0);
}

#[tokio::test]
async fn a_refund_that_the_bank_fails_later_can_be_wished_for_again() {
    let shop = Shop::open().await;
    shop.faults(json!({ "fault": "cancel_requested", "times": 1 })).await;
    let order = refund_wished(&shop).await;
    shop.run().await;
    assert_eq!(
        shop.order(order).await.status(),
        Some(OrderStatus::Confirmed),
        "it is only under way"
    );
    assert!(wish(&shop, order).await.is_err(), "one is under way");
    shop.at_portone(payment(order), "complete-cancel", json!({ "status": "FAILED" }))
        .await;
    shop.clock.advance(TimeDelta::minutes(2));
    shop.run().await;
    assert_eq!(shop.timers_of("refund").await, 0);
    wish(&shop, order).await.expect("it can be wished for again");
    shop.run().await;
    assert_eq!(shop.order(order).await.status(), Some(OrderStatus::Cancelled));
}

#[tokio::test]
async fn of_two_refunds_at_once_one_is_told_of_the_other() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.at_portone(payment(order), "pay", nothing()).await;
    shop.settle(payment(order)).await;
    let part = |amount| {
        shop.payments.refund(
            payment(order),
            Some(amount),
            RefundReason::Operator,
            None,
            shop.envelope(),
        )
    };
    let (first, second) = tokio::join!(part(1_000), part(2_000));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    shop.run().await;
    assert_eq!(shop.seen_at_portone(payment(order)).await["cancelEffects"], 1);
}

#[tokio::test]
async fn a_refund_the_shop_owes_is_wished_for_again_after_portone_refused_it() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.faults(json!({ "fault": "cancel_failed", "times": 1 })).await;
    shop.at_portone(payment(order), "pay", json!({ "amount": 38_000 }))
        .await;
    shop.settle(payment(order)).await;
    shop.run().await;
    assert_eq!(shop.settle(payment(order)).await.payment.state.refundable(), 38_000);
    shop.clock.advance(TimeDelta::minutes(61));
    shop.run().await;
    assert_eq!(shop.settle(payment(order)).await.payment.state.refundable(), 0);
}

#[tokio::test]
async fn a_refund_does_not_overtake_the_payment_that_a_crash_kept_from_its_order() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.at_portone(payment(order), "pay", nothing()).await;
    // The payment was learnt of, and the process died before it told the order.
    let seen = shop
        .payments
        .shop()
        .expect("a shop")
        .rereader
        .payment(&payment(order).portone())
        .await;
    let seen = seen.expect("PortOne answers").expect("it knows the payment");
    let observation = jangbu_domain::Observation {
        payment_id: payment(order),
        transaction_id: seen.transaction_id.clone(),
        live_shop: false,
        currency: "KRW".to_owned(),
        total: 39_000,
        status: jangbu_domain::Observed::Paid,
        paid: Some(jangbu_domain::payment::PaidFacts {
            paid_at: seen.paid_at.expect("it is paid"),
            tax_free: 0,
            vat: None,
            discount: 0,
            means: jangbu_events::samples::means(),
        }),
        cancellations: Vec::new(),
    };
    shop.execute::<jangbu_domain::Payment>(
        payment(order),
        jangbu_domain::PaymentCommand::Observe(Box::new(observation)),
    )
    .await;
    // Then somebody cancels it at PortOne's console, and that webhook comes first.
    shop.at_portone(payment(order), "cancel", nothing()).await;
    shop.settle(payment(order)).await;
    shop.run().await;
    assert_eq!(shop.order(order).await.status(), Some(OrderStatus::Cancelled));
    assert_eq!(shop.stock("DRIVER-10.5").await, (3, 3));
    assert_eq!(shop.failures().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_account_number_of_an_order_that_ended_is_closed() {
    let shop = Shop::open().await;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    shop.at_portone(payment(order), "issue", nothing()).await;
    shop.settle(payment(order)).await;
    shop.run().await;
    let cancel = jangbu_domain::OrderCommand::Cancel {
        reason: jangbu_events::CancelReason::Customer,
    };
    shop.execute::<jangbu_domain::Order>(order, cancel).await;
    shop.run().await;
    let seen = shop.settle(payment(order)).await.seen.expect("PortOne knows it");
    assert_eq!(seen.status, jangbu::portone::PaymentStatus::Cancelled);
    assert_eq!(shop.timers_of("close_account").await, 0);
}
