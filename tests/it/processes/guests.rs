//! Guests who buy over HTTP, whatever happens to the processes meanwhile.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    asking::Ask,
    baskets::{self, Basket, baskets},
    shop::Shop,
    sound::{self, Sales},
};
use crate::web::{Reply, checkout_body};

/// Guests who shop at the same time.
const GUESTS: usize = 16;

/// What a guest's checkout came to.
pub struct Order {
    pub id: String,
    pub payment: String,
    /// What the payment window is opened with, in won.
    pub amount: i64,
}

impl Shop {
    /// A guest fills a cart and goes to the till: an order, or the refusal. `who` makes the keys.
    pub async fn check_out(&self, node: usize, who: &str, basket: &Basket) -> Result<Order, Reply> {
        let key = |step: &str| format!("the-purchase-of-{who}-{step}");
        let (cart_key, lines_key, checkout_key) = (key("cart"), key("lines"), key("checkout"));
        let cart = Ask::post(node, "/api/v1/carts", json!({})).key(&cart_key);
        let cart = self.ask(cart).await.expect(201);
        let (cart, token) = (cart.text_of("/id"), cart.text_of("/token"));
        let lines: Vec<Value> = basket
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        let path = format!("/api/v1/carts/{cart}/lines");
        let add = Ask::post(node, &path, json!({"lines": lines}));
        self.ask(add.token(&token).key(&lines_key)).await.expect(200);
        let path = format!("/api/v1/carts/{cart}/checkout");
        let ask = Ask::post(node, &path, checkout_body()).token(&token).key(&checkout_key);
        let answer = self.ask(ask).await;
        if answer.status != 201 {
            return Err(answer);
        }
        Ok(Order {
            id: answer.text_of("/order/id"),
            payment: answer.text_of("/payment_request/paymentId"),
            amount: answer.body["payment_request"]["totalAmount"]
                .as_i64()
                .expect("an amount"),
        })
    }

    /// The guest pays in the payment window.
    pub async fn pay(&self, order: &Order) {
        let path = format!("/_sim/payments/{}/pay", order.payment);
        let body = json!({"totalAmount": order.amount});
        self.at_portone(Method::POST, &path, Some(&body)).await;
    }

    /// Every webhook comes three times, and out of order.
    pub async fn repeat_webhooks(&self) {
        let faults = json!([
            {"fault": "webhook_duplicate", "copies": 3},
            {"fault": "webhook_reorder", "hold": 3, "ms": 300},
        ]);
        self.at_portone(Method::POST, "/_sim/faults", Some(&faults)).await;
    }
}

/// Sells real baskets to guests over at least `span`, while `trouble` is made until the guests are
/// done; then everything must have come right. `trouble` is given whether the guests are done.
pub async fn sell(shop: &Shop, count: usize, span: Duration, trouble: impl AsyncFnOnce(&AtomicBool)) {
    let sold = baskets(count);
    let wanted = baskets::wanted(&sold);
    let prices = baskets::import(shop, &wanted.keys().collect::<BTreeSet<_>>()).await;
    // Some are left over, so that nobody is refused.
    let received = wanted
        .iter()
        .map(|(sku, quantity)| (sku.clone(), quantity + 7))
        .collect();
    shop.receive_all(&received).await;
    shop.repeat_webhooks().await;

    let (started, done) = (Instant::now(), AtomicBool::new(false));
    let gap = span / u32::try_from(count).expect("609 at most");
    let guests = async {
        let orders = futures_util::stream::iter(sold.iter().enumerate())
            .map(async |(number, basket)| {
                sleep_until(started + gap * u32::try_from(number).expect("609 at most")).await;
                let order = shop.check_out(0, &format!("guest-{number:04}"), basket).await;
                let order = order.unwrap_or_else(|refused| panic!("guest {number}: {}", refused.text));
                shop.pay(&order).await;
                order.id
            })
            .buffer_unordered(GUESTS)
            .collect::<Vec<String>>()
            .await;
        done.store(true, Ordering::Relaxed);
        orders
    };
    let (orders, ()) = tokio::join!(guests, trouble(&done));
    let bought = started.elapsed();
    let sales = Sales {
        confirmed: orders.into_iter().collect(),
        refused: 0,
        revenue: wanted
            .iter()
            .map(|(sku, quantity)| prices[sku] * i64::from(*quantity))
            .sum(),
        received,
    };
    assert_eq!(sales.confirmed.len(), count, "every guest has an order of their own");
    sound::wait_for_quiet(shop, count).await;
    println!(
        "{count} baskets bought in {bought:?}, quiet after {:?}, {} requests repeated",
        started.elapsed(),
        shop.repeats.load(Ordering::Relaxed)
    );
    sound::check(shop, &sales).await;
}
