//! Two processes that serve one shop see each other's changes at once.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;

use super::{asking::Ask, shop::Shop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_answered_the_other_knows_at_once() {
    let shop = Shop::open(2).await;
    restocked_here_bought_there(&shop).await;
    edited_here_stale_there(&shop).await;
    repeated_there_done_once(&shop).await;
    shop.close().await;
}

async fn restocked_here_bought_there(shop: &Shop) {
    let sku = "PUTTER-34";
    shop.product(0, sku, 89_000, 0).await;
    let basket = BTreeMap::from([(sku.to_owned(), 2)]);
    for round in 0..10 {
        let (here, there) = (round % 2, (round + 1) % 2);
        // Both have the stock in memory, as it was.
        let refused = shop.check_out(there, &format!("early-{round}-there"), &basket).await;
        let refused = refused.err().expect("nothing is there").refused(409, "sold_out");
        assert_eq!(refused.body["lines"][0]["available"], 0);
        let refused = shop.check_out(here, &format!("early-{round}-here"), &basket).await;
        refused.err().expect("nothing is there").refused(409, "sold_out");
        shop.receive(here, sku, 2).await;
        let order = shop.check_out(there, &format!("in-time-{round}"), &basket).await;
        order.unwrap_or_else(|refused| panic!("round {round}: {}", refused.text));
    }
}

async fn edited_here_stale_there(shop: &Shop) {
    let sku = "WEDGE-56";
    shop.product(0, sku, 120_000, 5).await;
    let path = format!("/api/v1/admin/products/{sku}");
    let edit = async |node, price: i64, version: &str| {
        let ask = Ask {
            method: Method::PATCH,
            if_match: Some(version),
            ..Ask::post(node, &path, json!({"price": price}))
        };
        shop.as_admin(ask).await
    };
    let version = |reply: &crate::web::Reply| reply.header("etag").expect("a version").to_owned();
    let seen = version(&shop.as_admin(Ask::get(1, &path)).await.expect(200));
    for round in 0..5 {
        let edited = edit(0, 130_000 + round, &seen_at(shop, 0, &path).await)
            .await
            .expect(200);
        edit(1, 99_000, &seen).await.refused(412, "version_stale");
        // Read there, it is the version that was answered here.
        assert_eq!(seen_at(shop, 1, &path).await, version(&edited));
    }
    let now = seen_at(shop, 1, &path).await;
    edit(1, 99_000, &now).await.expect(200);
    edit(0, 98_000, &now).await.refused(412, "version_stale");
}

async fn seen_at(shop: &Shop, node: usize, path: &str) -> String {
    let reply = shop.as_admin(Ask::get(node, path)).await.expect(200);
    reply.header("etag").expect("a version").to_owned()
}

/// A client whose connection broke comes back to another process.
async fn repeated_there_done_once(shop: &Shop) {
    let key = shop.key();
    let open = |node| shop.ask(Ask::post(node, "/api/v1/carts", json!({})).key(&key));
    let cart = open(0).await.expect(201);
    assert_eq!(open(1).await.expect(201).body["id"], cart.body["id"]);
    let (id, token) = (cart.text_of("/id"), cart.text_of("/token"));
    let (path, add_key) = (format!("/api/v1/carts/{id}/lines"), shop.key());
    for node in [0, 1, 0] {
        let line = json!({"sku": "WEDGE-56", "quantity": 2});
        let ask = Ask::post(node, &path, line).token(&token).key(&add_key);
        let added = shop.ask(ask).await.expect(200);
        assert_eq!(added.body["lines"][0]["quantity"], 2, "{}", added.text);
    }
    let (path, pay_key) = (format!("/api/v1/carts/{id}/checkout"), shop.key());
    let mut orders = Vec::new();
    for node in [0, 1] {
        let ask = Ask::post(node, &path, crate::web::checkout_body())
            .token(&token)
            .key(&pay_key);
        orders.push(shop.ask(ask).await.expect(201).text_of("/order/id"));
    }
    assert_eq!(orders[0], orders[1]);
}
