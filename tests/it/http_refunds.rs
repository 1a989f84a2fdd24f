//! Money that came by bank transfer goes back to an account of the buyer's, at a gateway that asks for one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::web::{Reply, Web};

fn account() -> Value {
    json!({"bank": "SHINHAN", "number": "110-123-456789", "holder_name": "홍길동", "holder_phone": "010-9876-5432"})
}

/// An order whose money came by bank transfer: so many won instead of 1,000.
async fn deposited(web: &Web, won: i64) -> (String, String, String) {
    web.product("A", 1_000, 5).await;
    let (order, payment, token) = web.order(&[("A", 1)]).await;
    web.at_portone(&payment, "issue", json!({})).await;
    web.at_portone(&payment, "deposit", json!({"totalAmount": won})).await;
    (order, payment, token)
}

/// Asks until the payment says so; the background work has ten seconds.
async fn payment_says(web: &Web, order: &str, token: &str, pointer: &str, wanted: Value) -> Reply {
    let mut seen = Value::Null;
    for _ in 0..400 {
        let path = format!("/api/v1/orders/{order}");
        let reply = web.get(path).token(token).send().await.expect(200);
        if reply.body["payment"].pointer(pointer) == Some(&wanted) {
            return reply;
        }
        seen = reply.body;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{pointer} did not become {wanted}: {seen}")
}

#[tokio::test]
async fn a_deposit_one_won_short_goes_back_once_the_buyer_says_where_to() {
    let web = Web::start().await;
    let (order, payment, token) = deposited(&web, 999).await;
    let waiting = payment_says(&web, &order, &token, "/refund_account_needed", json!(true)).await;
    assert_eq!(
        (
            &waiting.body["payment"]["status"],
            &waiting.body["payment"]["refund_in_progress"]
        ),
        (&json!("refused"), &json!(true))
    );
    let path = format!("/api/v1/payments/{payment}/refund-account");
    let give = |body: Value, key: &str| web.put(&path).token(&token).key(key).json(&body).send();

    for (pointer, wrong) in [
        ("/bank", json!("BANK_OF_NOWHERE")),
        ("/number", json!("12-34")),
        ("/number", json!("110-123-45678X")),
        ("/holder_name", json!("")),
        ("/holder_name", json!("홍길동\u{0}")),
        ("/holder_phone", json!("1234")),
    ] {
        let mut body = account();
        *body.pointer_mut(pointer).expect("it is there") = wrong;
        let refused = give(body, "wrong").await.refused(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["pointer"], pointer, "{}", refused.text);
    }
    let (_, stranger) = web.cart(&[("A", 1)]).await;
    let others = web.put(&path).token(&stranger).key("mine").json(&account()).send();
    others.await.refused(404, "payment_not_found");
    let keyless = web.put(&path).token(&token).json(&account()).send();
    keyless.await.refused(400, "idempotency_key_required");

    let given = give(account(), "here").await.expect(200);
    let back = payment_says(&web, &order, &token, "/status", json!("cancelled")).await;
    assert_eq!(back.body["payment"]["refund_account_needed"], false);
    let again = give(account(), "here").await.expect(200);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("jangbu-position"), given.header("jangbu-position"));
    let late = give(account(), "once more").await;
    late.refused(409, "refund_account_not_needed");
    let seen = web.seen_at_portone(&payment).await;
    assert_eq!(seen["cancelEffects"], 1, "{seen}");
    assert!(!back.text.contains("110123456789"), "it is shown to nobody");
}

#[tokio::test]
async fn a_paid_deposit_is_called_off_with_an_account_alone() {
    let web = Web::start().await;
    let (order, payment, token) = deposited(&web, 1_000).await;
    web.order_becomes(&order, &token, "confirmed").await;
    let cancel = |body: Value, key: &str| {
        let path = format!("/api/v1/orders/{order}/cancel");
        web.post(path).token(&token).key(key).json(&body).send()
    };
    let without = cancel(json!({}), "a").await.refused(422, "refund_account_required");
    assert_eq!(without.body["errors"][0]["pointer"], "/refund_account");
    let by_admin = web
        .post(format!("/api/v1/admin/orders/{order}/refund"))
        .admin()
        .key("part")
        .json(&json!({"amount": 100}))
        .send();
    by_admin.await.refused(422, "refund_account_required");
    let path = format!("/api/v1/orders/{order}");
    let untouched = web.get(path).token(&token).send().await.expect(200);
    assert_eq!(untouched.body["payment"]["refund_in_progress"], false);

    // A part by the shop, and the rest to the same account without saying it again.
    let part = web
        .post(format!("/api/v1/admin/orders/{order}/refund"))
        .admin()
        .key("part with account")
        .json(&json!({"amount": 100, "refund_account": account()}))
        .send();
    part.await.expect(200);
    payment_says(&web, &order, &token, "/status", json!("partly_cancelled")).await;
    cancel(json!({}), "b").await.expect(200);
    let off = web.order_becomes(&order, &token, "cancelled").await;
    assert_eq!(off.body["refunded"]["amount"], 1_000);
    assert_eq!(web.seen_at_portone(&payment).await["cancelEffects"], 2);
}

#[tokio::test]
async fn the_shop_says_it_for_a_buyer_on_the_telephone() {
    let web = Web::start().await;
    let (order, payment, token) = deposited(&web, 999).await;
    payment_says(&web, &order, &token, "/refund_account_needed", json!(true)).await;
    let give = |id: &str| {
        let path = format!("/api/v1/admin/payments/{id}/refund-account");
        web.put(path).admin().key("by telephone").json(&account()).send()
    };
    give("0123456789abcdef0123456789abcdef")
        .await
        .refused(404, "payment_not_found");
    give(&payment).await.expect(200);
    payment_says(&web, &order, &token, "/status", json!("cancelled")).await;
}

#[tokio::test]
async fn an_account_that_is_not_needed_is_not_kept() {
    let web = Web::start().await;
    web.product("A", 1_000, 5).await;
    let (order, payment, token) = web.order(&[("A", 1)]).await;
    let path = format!("/api/v1/payments/{payment}/refund-account");
    let early = web.put(&path).token(&token).key("early").json(&account()).send();
    early.await.refused(409, "payment_not_paid");
    web.at_portone(&payment, "pay", json!({})).await;
    web.order_becomes(&order, &token, "confirmed").await;
    let card = web.put(&path).token(&token).key("card").json(&account()).send();
    card.await.refused(409, "refund_account_not_needed");
    let cancel = web
        .post(format!("/api/v1/orders/{order}/cancel"))
        .token(&token)
        .key("off")
        .json(&json!({"refund_account": account()}))
        .send();
    cancel.await.expect(200);
    web.order_becomes(&order, &token, "cancelled").await;
    assert_eq!(web.events_of("payment.refund_account_given").await, 0);
}
