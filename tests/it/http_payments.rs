//! Payments over HTTP: webhook, browser return, cancellation and refunds.

use jangbu::portone::webhook::sign;
use serde_json::{Value, json};

use crate::web::{STORE, WEBHOOK_SECRET, Web};

fn now() -> i64 {
    jangbu::clock::Surroundings::system().now().timestamp()
}

/// Posts a webhook signed at `timestamp` with `secret`.
async fn webhook(web: &Web, body: &str, timestamp: i64, secret: &str) -> crate::web::Reply {
    let signature = sign(secret, "wh_1", timestamp, body.as_bytes()).expect("the secret is one");
    web.post("/webhooks/portone")
        .header("content-type", "application/json")
        .header("webhook-id", "wh_1")
        .header("webhook-timestamp", timestamp.to_string())
        .header("webhook-signature", signature)
        .bytes(body)
        .send()
        .await
}

fn paid(payment: &str, store: &str) -> String {
    json!({"type": "Transaction.Paid", "timestamp": "2026-03-02T04:05:06.789Z",
        "data": {"paymentId": payment, "storeId": store, "transactionId": "tx-1"}})
    .to_string()
}

#[tokio::test]
async fn webhooks_are_answered_as_the_protocol_says() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 5).await;
    let (order, payment, token) = web.order(&[("A", 1)]).await;
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    let forged = paid(&payment, STORE);
    for (body, at, secret) in [
        (forged.as_str(), now(), other),
        (&forged, now() - 301, WEBHOOK_SECRET),
        (&forged, now() + 301, WEBHOOK_SECRET),
        ("not json", now(), WEBHOOK_SECRET),
    ] {
        let refused = webhook(&web, body, at, secret).await.refused(400, "webhook_refused");
        assert!(refused.body.get("detail").is_none(), "{}", refused.text);
    }
    web.post("/webhooks/portone")
        .bytes(forged.clone())
        .send()
        .await
        .refused(400, "webhook_refused");
    web.post("/webhooks/portone")
        .bytes(vec![b'x'; 65_537])
        .send()
        .await
        .refused(413, "body_too_large");
    let method = web
        .get("/webhooks/portone")
        .send()
        .await
        .refused(405, "method_not_allowed");
    assert_eq!(method.header("allow"), Some("POST"));

    let unknown = "0123456789abcdef0123456789abcdef";
    for body in [
        paid(&payment, "store-of-somebody-else"),
        paid("order-0001", STORE),
        paid(unknown, STORE),
        json!({"type": "Transaction.Exploded", "data": {}}).to_string(),
        json!({"type": "BillingKey.Issued", "data": {}}).to_string(),
        json!([1, 2, 3]).to_string(),
    ] {
        let reply = webhook(&web, &body, now(), WEBHOOK_SECRET).await.expect(200);
        assert_eq!(reply.body, json!({"status": "ok"}), "{body}");
    }
    // Signed and right in form, but PortOne knows of no money: the hint alone moves nothing.
    webhook(&web, &forged, now(), WEBHOOK_SECRET).await.expect(200);
    let order = web
        .get(format!("/api/v1/orders/{order}"))
        .token(&token)
        .send()
        .await
        .expect(200);
    assert_eq!(order.body["status"], "awaiting_payment");
}

#[tokio::test]
async fn portone_is_asked_to_come_again_while_it_does_not_answer() {
    let web = Web::start_with(&[("PORTONE_API_BASE", "http://127.0.0.1:9")], false).await;
    web.product("A", 1_000, 5).await;
    let (_, payment, token) = web.order(&[("A", 1)]).await;
    // Whether PortOne's silence or our own patience ends first, it must come again.
    webhook(&web, &paid(&payment, STORE), now(), WEBHOOK_SECRET)
        .await
        .expect(503);
    let complete = web
        .post(format!("/api/v1/payments/{payment}/complete"))
        .token(&token)
        .send()
        .await;
    assert_eq!(complete.expect(503).body["retry"], "same_key");
}

#[tokio::test]
async fn the_browser_comes_back_before_any_webhook() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 5).await;
    let (_, payment, token) = web.order(&[("A", 1)]).await;
    let complete = || {
        web.post(format!("/api/v1/payments/{payment}/complete"))
            .token(&token)
            .send()
    };
    let waiting = complete().await.expect(200);
    assert_eq!(waiting.body["payment"]["status"], "requested");
    // No webhook of this payment arrives: only the browser tells.
    web.at_portone(&payment, "pay", json!({"skipWebhook": true})).await;
    let done = complete().await.expect(200);
    assert_eq!(
        (&done.body["payment"]["status"], &done.body["order"]["status"]),
        (&json!("confirmed"), &json!("confirmed"))
    );
    assert_eq!(done.body["payment"]["paid"]["amount"], 1_000);
    assert_eq!(
        complete().await.expect(200).body["order"]["version"],
        done.body["order"]["version"]
    );
}

#[tokio::test]
async fn the_return_page_tells_strangers_nothing() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 5).await;
    let (order, payment, token) = web.order(&[("A", 1)]).await;
    web.at_portone(&payment, "pay", json!({})).await;
    let page = |id: &str| web.get(format!("/api/v1/payments/return?paymentId={id}&code=x")).send();
    let ours = page(&payment).await.expect(200);
    let settled = web
        .get(format!("/api/v1/orders/{order}"))
        .token(&token)
        .send()
        .await
        .expect(200);
    assert_eq!(settled.body["status"], "confirmed");
    for other in ["0123456789abcdef0123456789abcdef", "junk", ""] {
        assert_eq!(page(other).await.expect(200).text, ours.text, "{other}");
    }
    assert!(
        ours.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html"))
    );
}

#[tokio::test]
async fn a_buyer_calls_an_order_off_before_and_after_paying() {
    let web = Web::start().await;
    web.product("A", 1_000, 5).await;
    let (order, _, token) = web.order(&[("A", 1)]).await;
    let cancel = |order: &str, token: &str| {
        web.post(format!("/api/v1/orders/{order}/cancel"))
            .token(token)
            .key("cancel it")
            .send()
    };
    let first = cancel(&order, &token).await.expect(200);
    assert_eq!(
        (&first.body["status"], &first.body["cancel_reason"]),
        (&json!("cancelled"), &json!("customer"))
    );
    let again = cancel(&order, &token).await.expect(200);
    assert_eq!(
        (&again.text, again.header("idempotent-replayed")),
        (&first.text, Some("true"))
    );

    let (order, payment, token) = web.order(&[("A", 2)]).await;
    web.at_portone(&payment, "pay", json!({})).await;
    web.order_becomes(&order, &token, "confirmed").await;
    let asked = cancel(&order, &token).await.expect(200);
    assert_eq!(asked.body["payment"]["refund_in_progress"], true);
    let off = web.order_becomes(&order, &token, "cancelled").await;
    assert_eq!(off.body["refunded"]["amount"], 2_000);
    let again = cancel(&order, &token).await.expect(200);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("jangbu-position"), asked.header("jangbu-position"));
}

#[tokio::test]
async fn the_shop_gives_money_back_in_parts() {
    let web = Web::start().await;
    web.product("A", 1_000, 5).await;
    let (order, payment, token) = web.order(&[("A", 3)]).await;
    let refund = |amount: Value, key: &str| {
        web.post(format!("/api/v1/admin/orders/{order}/refund"))
            .admin()
            .key(key)
            .json(&json!({"amount": amount, "reason": "customer"}))
            .send()
    };
    refund(json!(1_000), "too early").await.refused(409, "payment_not_paid");
    web.at_portone(&payment, "pay", json!({})).await;
    web.order_becomes(&order, &token, "confirmed").await;
    refund(json!(0), "nothing").await.refused(422, "validation_failed");
    let over = refund(json!(3_001), "too much")
        .await
        .refused(409, "refund_exceeds_rest");
    assert_eq!(over.body["refundable"]["amount"], 3_000);
    let part = json!({"amount": 1_000, "currency": "KRW"});
    refund(part.clone(), "part").await.expect(200);
    let mut seen = web
        .get(format!("/api/v1/orders/{order}"))
        .token(&token)
        .send()
        .await
        .expect(200);
    while seen.body["refunded"]["amount"] == 0 {
        seen = web
            .get(format!("/api/v1/orders/{order}"))
            .token(&token)
            .send()
            .await
            .expect(200);
    }
    assert_eq!(
        (&seen.body["status"], &seen.body["payment"]["status"]),
        (&json!("confirmed"), &json!("partly_cancelled"))
    );
    let again = refund(part, "part").await.expect(200);
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "no second refund");
    let key_missing = web
        .post(format!("/api/v1/admin/orders/{order}/cancel"))
        .admin()
        .json(&json!({}))
        .send()
        .await;
    key_missing.refused(400, "idempotency_key_required");
    let cancel = web
        .post(format!("/api/v1/admin/orders/{order}/cancel"))
        .admin()
        .key("rest")
        .json(&json!({}))
        .send();
    cancel.await.expect(200);
    let off = web.order_becomes(&order, &token, "cancelled").await;
    assert_eq!(
        (
            &off.body["refunded"]["amount"],
            off.body["refunds"].as_array().map(Vec::len)
        ),
        (&json!(3_000), Some(2))
    );
}
