//! Shoppers over HTTP: from an empty cart to a paid order, and everything that may go otherwise.

use serde_json::json;

use crate::web::{Web, checkout_body};

#[tokio::test]
async fn a_guest_buys_and_everybody_sees_it() {
    let web = Web::start().await;
    web.product("DRIVER-10.5", 390_000, 5).await;
    web.product("BALL", 30_000, 100).await;
    let (cart, token) = web.cart(&[("DRIVER-10.5", 1), ("BALL", 2)]).await;

    let seen = web
        .get(format!("/api/v1/carts/{cart}"))
        .token(&token)
        .send()
        .await
        .expect(200);
    assert_eq!(seen.body["total"], json!({"amount": 450_000, "currency": "KRW"}));
    assert_eq!(seen.body["lines"][0]["sku"], "BALL");
    assert_eq!(seen.header("etag"), Some("\"v3\""));

    let placed = web.check_out(&cart, &token).await.expect(201);
    assert_eq!(placed.body["order"]["status"], "awaiting_payment");
    assert_eq!(placed.body["order"]["total"]["amount"], 450_000);
    assert!(placed.text_of("/order/expires_at").ends_with("+09:00"));
    let request = &placed.body["payment_request"];
    assert_eq!(
        (&request["totalAmount"], &request["currency"]),
        (&json!(450_000), &json!("KRW"))
    );
    let (order, number) = (placed.text_of("/order/id"), placed.text_of("/order/number"));
    let payment = placed.text_of("/payment_request/paymentId");
    assert_eq!(
        placed.header("location"),
        Some(format!("/api/v1/orders/{order}").as_str())
    );

    web.at_portone(&payment, "pay", json!({})).await;
    let confirmed = web.order_becomes(&order, &token, "confirmed").await;
    assert_eq!(confirmed.body["orderer"]["phone"], "010-9876-5432");
    assert_eq!(confirmed.body["recipient"]["road"], "서울특별시 강남구 테헤란로 152");
    assert_eq!(confirmed.body["payment"]["status"], "confirmed");
    assert_eq!(confirmed.body["payment"]["id"], format!("pay_{payment}"));
    let position = confirmed.header("jangbu-position").expect("a position").to_owned();

    let own = web
        .get("/api/v1/orders")
        .token(&token)
        .header("jangbu-min-position", &position)
        .send()
        .await
        .expect(200);
    assert_eq!(own.body["data"][0]["id"], order);
    assert_eq!(own.body["page"], json!({"next": null, "has_more": false}));
    let all = web
        .get(format!("/api/v1/admin/orders?number={number}"))
        .admin()
        .header("jangbu-min-position", &position)
        .send()
        .await
        .expect(200);
    assert_eq!(
        all.body["data"][0]["orderer"],
        json!({"name": "홍*동", "phone": "010-****-5432",
        "email": "ho**********@example.com"})
    );
    let sales = web
        .get("/api/v1/admin/sales?from=2020-01-01&to=2039-12-31&by=category")
        .admin()
        .header("jangbu-min-position", &position)
        .send()
        .await
        .expect(200);
    assert_eq!(
        sales.body,
        json!({"currency": "KRW",
            "data": [{"category": "골프채", "orders": 1, "units": 3, "gross": 450_000, "cancelled": 0, "net": 450_000}],
            "total": {"orders": 1, "units": 3, "gross": 450_000, "cancelled": 0, "net": 450_000}})
    );
    let product = web
        .get("/api/v1/products/DRIVER-10.5")
        .header("jangbu-min-position", &position)
        .send()
        .await
        .expect(200);
    assert_eq!(product.body["stock"], json!({"state": "few_left", "available": 4}));
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_was_whatever_happened_since() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 5).await;
    let open = || web.post("/api/v1/carts").key("a random key of a guest").send();
    let (first, again) = (open().await.expect(201), open().await.expect(201));
    assert_eq!(first.text, again.text);
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        (None, Some("true"))
    );
    web.post("/api/v1/carts")
        .key("short")
        .send()
        .await
        .refused(400, "idempotency_key_invalid");

    let (cart, token) = (first.text_of("/id"), first.text_of("/token"));
    let lines = format!("/api/v1/carts/{cart}/lines");
    let add = || {
        web.post(&lines)
            .token(&token)
            .key("k1")
            .json(&json!({"sku": "A", "quantity": 2}))
            .send()
    };
    let first = add().await.expect(200);
    web.delete(&lines).token(&token).send().await.expect(200);
    let hide = json!({"status": "hidden", "version": 2});
    web.patch("/api/v1/admin/products/A")
        .admin()
        .json(&hide)
        .send()
        .await
        .expect(200);
    let again = add().await.expect(200);
    assert_eq!((again.body["version"].as_i64(), &again.text), (Some(2), &first.text));
    assert_eq!(first.header("jangbu-position"), again.header("jangbu-position"));

    let other = json!({"sku": "A", "quantity": 3});
    web.post(&lines)
        .token(&token)
        .key("k1")
        .json(&other)
        .send()
        .await
        .refused(422, "idempotency_key_reused");
    let unkeyed = web
        .post(&lines)
        .token(&token)
        .json(&other)
        .send()
        .await
        .refused(422, "product_not_for_sale");
    assert_eq!(unkeyed.body["errors"][0]["pointer"], "/sku");
    assert!(
        unkeyed.header("idempotency-key").is_some_and(|key| key.len() == 36),
        "the server made one"
    );
}

#[tokio::test]
async fn a_cart_is_changed_line_by_line() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 5).await;
    web.product("B", 2_000, 5).await;
    let (cart, token) = web.cart(&[("A", 2), ("B", 1)]).await;
    let line = |sku: &str| format!("/api/v1/carts/{cart}/lines/{sku}");
    let changed = web
        .patch(line("A"))
        .token(&token)
        .json(&json!({"quantity": 99}))
        .send()
        .await
        .expect(200);
    assert_eq!(changed.body["total"]["amount"], 101_000);
    let many = web
        .patch(line("A"))
        .token(&token)
        .json(&json!({"quantity": 100}))
        .send()
        .await;
    assert_eq!(
        many.refused(422, "quantity_out_of_range").body["errors"][0]["pointer"],
        "/quantity"
    );
    let more = json!({"lines": [{"sku": "B", "quantity": 1}, {"sku": "A", "quantity": 1}]});
    let lines = format!("/api/v1/carts/{cart}/lines");
    let more = web
        .post(&lines)
        .token(&token)
        .json(&more)
        .send()
        .await
        .refused(422, "quantity_out_of_range");
    assert_eq!(
        (&more.body["errors"][0]["pointer"], &more.body["max"]),
        (&json!("/lines/1/quantity"), &json!(99))
    );
    web.patch(line("C"))
        .token(&token)
        .json(&json!({"quantity": 1}))
        .send()
        .await
        .refused(404, "line_not_found");
    let stale = web
        .delete(line("A"))
        .token(&token)
        .header("if-match", "\"v1\"")
        .send()
        .await;
    assert_eq!(stale.refused(412, "version_stale").body["version"], 4);
    let removed = web
        .delete(line("A"))
        .token(&token)
        .header("if-match", "\"v4\"")
        .send()
        .await
        .expect(200);
    assert_eq!(removed.body["lines"].as_array().map(Vec::len), Some(1));
    web.post(&lines)
        .token(&token)
        .json(&json!({"lines": []}))
        .send()
        .await
        .refused(422, "validation_failed");
}

#[tokio::test]
async fn strangers_find_nothing() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 5).await;
    let (order, payment, token) = web.order(&[("A", 1)]).await;
    let (cart, _) = web.cart(&[("A", 1)]).await;
    let (_, stranger) = web.cart(&[("A", 1)]).await;
    for token in [None, Some(stranger.as_str()), Some(web.admin.as_str())] {
        web.get(format!("/api/v1/carts/{cart}"))
            .token_if(token)
            .send()
            .await
            .refused(404, "cart_not_found");
        web.delete(format!("/api/v1/carts/{cart}/lines"))
            .token_if(token)
            .send()
            .await
            .refused(404, "cart_not_found");
        web.post(format!("/api/v1/carts/{cart}/checkout"))
            .key("a key of sixteen characters")
            .json(&checkout_body())
            .token_if(token)
            .send()
            .await
            .refused(404, "cart_not_found");
        web.get(format!("/api/v1/orders/{order}"))
            .token_if(token)
            .send()
            .await
            .refused(404, "order_not_found");
        web.post(format!("/api/v1/orders/{order}/cancel"))
            .key("a key of sixteen characters")
            .token_if(token)
            .send()
            .await
            .refused(404, "order_not_found");
        web.get(format!("/api/v1/payments/{payment}"))
            .token_if(token)
            .send()
            .await
            .refused(404, "payment_not_found");
        web.post(format!("/api/v1/payments/{payment}/complete"))
            .token_if(token)
            .send()
            .await
            .refused(404, "payment_not_found");
    }
    web.get(format!("/api/v1/payments/pay_{payment}"))
        .token(&token)
        .send()
        .await
        .expect(200);
    web.get("/api/v1/orders").send().await.refused(401, "unauthenticated");
    web.get("/api/v1/orders")
        .token("junk")
        .send()
        .await
        .refused(401, "token_invalid");
    web.get("/api/v1/carts/crt_0")
        .token(&token)
        .send()
        .await
        .refused(404, "not_found");
}

#[tokio::test]
async fn checkout_refuses_with_what_a_person_needs() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 1_000, 2).await;
    let (cart, token) = web.cart(&[("A", 2)]).await;
    let path = format!("/api/v1/carts/{cart}/checkout");
    let with = |change: serde_json::Value| {
        let mut body = checkout_body();
        body.as_object_mut()
            .expect("an object")
            .extend(change.as_object().expect("an object").clone());
        web.post(&path).token(&token).key(&web.fresh_key()).json(&body).send()
    };
    web.post(&path)
        .token(&token)
        .json(&checkout_body())
        .send()
        .await
        .refused(400, "idempotency_key_required");
    let consent = with(json!({"consents": {"privacy": false}}))
        .await
        .refused(422, "consent_required");
    assert_eq!(consent.body["errors"][0]["pointer"], "/consents/privacy");
    let wrong = json!({"orderer": {"name": "900101-1234567", "phone": "1234", "email": "x"}});
    let wrong = with(wrong).await.refused(422, "validation_failed");
    let codes: Vec<_> = wrong.body["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|e| &e["code"])
        .collect();
    assert_eq!(codes, ["resident_number", "phone_invalid", "email_invalid"]);

    let dearer = json!({"price": {"amount": 1_500, "currency": "KRW"}, "version": 2});
    web.patch("/api/v1/admin/products/A")
        .admin()
        .json(&dearer)
        .send()
        .await
        .expect(200);
    let changed = with(json!({})).await.refused(409, "price_changed");
    assert_eq!(changed.body["retry"], "after_reload");
    assert_eq!(
        (
            &changed.body["previous_total"]["amount"],
            &changed.body["total"]["amount"]
        ),
        (&json!(2_000), &json!(3_000))
    );
    assert_eq!(changed.body["lines"][0]["price"]["amount"], 1_500);

    let (rival, rival_token) = web.cart(&[("A", 1)]).await;
    web.check_out(&rival, &rival_token).await.expect(201);
    let sold_out = with(json!({"expected_total": 3_000})).await.refused(409, "sold_out");
    assert_eq!(
        sold_out.body["lines"],
        json!([{"sku": "A", "requested": 2, "available": 1}])
    );
    web.get(format!("/api/v1/orders/{}", sold_out.text_of("/order_id")))
        .token(&token)
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn a_shop_without_portone_says_so() {
    let web = Web::start_with(&[("PORTONE_API_SECRET", "")], false).await;
    web.product("A", 1_000, 2).await;
    let (cart, token) = web.cart(&[("A", 1)]).await;
    web.check_out(&cart, &token)
        .await
        .refused(503, "payments_not_configured");
}

#[tokio::test]
async fn an_order_is_found_by_number_and_phone_and_guesses_run_out() {
    let web = Web::start_with(&[("JANGBU_RATE_LOOKUPS_PER_MINUTE", "1000")], false).await;
    web.product("A", 1_000, 50).await;
    let (cart, token) = web.cart(&[("A", 1)]).await;
    let number = web.check_out(&cart, &token).await.expect(201).text_of("/order/number");
    let look_up = |number: &str, phone: &str| {
        web.post("/api/v1/orders/lookup")
            .json(&json!({"number": number, "phone": phone}))
            .send()
    };
    for _ in 0..6 {
        let found = look_up(&number.to_lowercase(), "+82 10-9876-5432").await.expect(200);
        assert_eq!(found.body["order"]["orderer"]["phone"], "010-****-5432");
        assert_eq!(found.body["order"]["recipient"]["postcode"], "*****");
        assert!(
            !found.text.contains("테헤란로") && !found.text.contains("홍길동"),
            "{}",
            found.text
        );
        assert_eq!(found.header("cache-control"), Some("no-store"));
    }
    look_up(&number, "1234").await.refused(422, "validation_failed");
    let mut wrong = look_up(&number, "010-0000-0000").await.refused(404, "order_not_found");
    let mut unknown = look_up("260302-00000000", "010-9876-5432")
        .await
        .refused(404, "order_not_found");
    for reply in [&mut wrong, &mut unknown] {
        reply.body["instance"] = json!(null);
    }
    assert_eq!(wrong.body, unknown.body, "they cannot be told apart");
    for _ in 0..3 {
        look_up(&number, "010-0000-0000").await.refused(404, "order_not_found");
    }
    let exceeded = look_up(&number, "010-9876-5432").await.refused(429, "rate_limited");
    let seconds: u64 = exceeded
        .header("retry-after")
        .and_then(|text| text.parse().ok())
        .expect("seconds");
    assert!((1..=180).contains(&seconds), "{seconds}");
    assert_eq!(exceeded.header("ratelimit-limit"), Some("5"));
}
