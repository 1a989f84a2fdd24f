//! What every request goes through: limits, problems, versions, documents, health.

use serde_json::{Value, json};

use crate::web::Web;

#[tokio::test]
async fn every_refusal_has_one_format() {
    let web = Web::start_with(&[], false).await;
    web.get("/nowhere").send().await.refused(404, "not_found");
    web.get("/docs/nowhere").send().await.refused(404, "not_found");
    let method = web
        .delete("/api/v1/carts")
        .send()
        .await
        .refused(405, "method_not_allowed");
    assert_eq!(method.header("allow"), Some("POST"));
    let lookup = "/api/v1/orders/lookup";
    web.post(lookup)
        .bytes("{}")
        .send()
        .await
        .refused(415, "unsupported_media_type");
    let json = |body: Vec<u8>| {
        web.post(lookup)
            .header("content-type", "application/json")
            .bytes(body)
            .send()
    };
    json(b"{".to_vec()).await.refused(400, "malformed_json");
    json(vec![b' '; 65_537]).await.refused(413, "body_too_large");
    let unknown = json(br#"{"number": "1", "phone": "2", "name": "3"}"#.to_vec())
        .await
        .refused(422, "validation_failed");
    assert_eq!(unknown.body["errors"][0]["pointer"], "/name");
    let korean = web
        .get("/nowhere")
        .header("accept-language", "ko-KR,ko;q=0.9,en;q=0.8")
        .send()
        .await;
    assert_eq!(korean.body["title"], "요청한 주소를 찾을 수 없습니다");
    assert_eq!(korean.header("content-language"), Some("ko"));
    let named = web
        .get("/nowhere")
        .header("x-request-id", "from-the-proxy.1")
        .send()
        .await;
    assert_eq!(named.body["instance"], "from-the-proxy.1");
    let meaning = web.get("/problems/sold_out").send().await.expect(200);
    assert_eq!(
        (&meaning.body["status"], &meaning.body["title_ko"]),
        (&json!(409), &json!("품절"))
    );
}

#[tokio::test]
async fn only_admins_run_the_shop() {
    let web = Web::start_with(&[], false).await;
    let (_, guest) = {
        let cart = web.post("/api/v1/carts").send().await.expect(201);
        (cart.text_of("/id"), cart.text_of("/token"))
    };
    for path in ["products", "stock", "orders", "sales?from=2026-01-01&to=2026-01-02"] {
        let path = format!("/api/v1/admin/{path}");
        let unknown = web.get(&path).send().await.refused(401, "unauthenticated");
        assert_eq!(unknown.header("www-authenticate"), Some("Bearer"));
        web.get(&path).token(&guest).send().await.refused(403, "forbidden");
        web.get(&path).token("a.b.c").send().await.refused(401, "token_invalid");
        web.get(&path).admin().send().await.expect(200);
    }
}

#[tokio::test]
async fn an_edit_says_which_version_it_was_made_on() {
    let web = Web::start_with(&[], false).await;
    let id = web.product("A", 1_000, 0).await;
    let path = format!("/api/v1/admin/products/{id}");
    let seen = web.get(&path).admin().send().await.expect(200);
    assert_eq!(seen.header("etag"), Some("\"v2\""));
    let rename = json!({"name": "새 이름"});
    web.patch(&path)
        .admin()
        .json(&rename)
        .send()
        .await
        .refused(428, "version_required");
    let stale = web
        .patch(&path)
        .admin()
        .json(&rename)
        .header("if-match", "\"v1\"")
        .send()
        .await;
    assert_eq!(stale.refused(412, "version_stale").body["version"], 2);
    web.patch(&path)
        .admin()
        .json(&rename)
        .header("if-match", "*")
        .send()
        .await
        .refused(400, "if_match_invalid");
    let edit = || {
        web.patch(&path)
            .admin()
            .key("edit")
            .json(&rename)
            .header("if-match", "\"v2\"")
            .send()
    };
    let edited = edit().await.expect(200);
    assert_eq!(
        (edited.header("etag"), &edited.body["name"]),
        (Some("\"v3\""), &json!("새 이름"))
    );
    let again = edit().await.expect(200);
    assert_eq!(
        (&again.text, again.header("idempotent-replayed")),
        (&edited.text, Some("true"))
    );
    let archive = json!({"status": "archived", "version": 3});
    web.patch(&path).admin().json(&archive).send().await.expect(200);
    let late = json!({"price": 1, "version": 4});
    web.patch(&path)
        .admin()
        .json(&late)
        .send()
        .await
        .refused(409, "product_archived");
    web.get("/api/v1/admin/products/B")
        .admin()
        .send()
        .await
        .refused(404, "product_not_found");

    let twice = json!({"sku": "A", "name": "다른 것", "category": "골프채", "price": 1_000});
    web.post("/api/v1/admin/products")
        .admin()
        .json(&twice)
        .send()
        .await
        .refused(409, "product_exists");
    let dear = json!({"sku": "B", "name": "B", "category": "C", "price": 1_000_000_000_001_i64});
    web.post("/api/v1/admin/products")
        .admin()
        .json(&dear)
        .send()
        .await
        .refused(422, "price_out_of_range");
    let receive = |sku: &str, quantity: i64| {
        web.post(format!("/api/v1/admin/stock/{sku}/receive"))
            .admin()
            .json(&json!({"quantity": quantity}))
            .send()
    };
    receive("B", 1).await.refused(404, "product_not_found");
    receive("A", 0).await.refused(422, "validation_failed");
    assert_eq!(receive("A", 3).await.expect(200).body["available"], 3);
    let fewer = json!({"delta": -4, "reason": "count"});
    web.post("/api/v1/admin/stock/A/adjust")
        .admin()
        .json(&fewer)
        .send()
        .await
        .refused(409, "stock_below_held");
}

#[tokio::test]
async fn the_catalog_can_be_read_in_pages_and_asked_for_anew() {
    let web = Web::start().await;
    for (sku, price) in [("A", 3_000), ("B", 1_000), ("C", 2_000)] {
        web.product(sku, price, 1).await;
    }
    let position = web.get("/api/v1/admin/stock/C").admin().send().await.expect(200);
    let position = position.header("jangbu-position").expect("a position").to_owned();
    let list = |query: &str| {
        web.get(format!("/api/v1/products?{query}"))
            .header("jangbu-min-position", &position)
            .send()
    };
    let skus = |body: &Value| -> Vec<String> {
        let rows = body["data"].as_array().expect("rows").iter();
        rows.map(|row| row["sku"].as_str().expect("a sku").to_owned()).collect()
    };
    let first = list("category=&q=&sort=price&limit=2&after=").await.expect(200);
    assert_eq!(skus(&first.body), ["B", "C"]);
    let next = first.text_of("/page/next");
    let second = list(&format!("sort=price&limit=2&after={next}")).await.expect(200);
    assert_eq!(
        (skus(&second.body), &second.body["page"]["has_more"]),
        (vec!["A".to_owned()], &json!(false))
    );
    for wrong in ["sort=name&after=x", "limit=0", "limit=101", "sort=best", "colour=red"] {
        let refused = list(wrong).await.refused(422, "validation_failed");
        assert!(refused.body["errors"][0]["parameter"].is_string(), "{}", refused.text);
    }
    let tag = first.header("etag").expect("a tag").to_owned();
    let path = "/api/v1/products?sort=price&limit=2";
    let same = web.get(path).header("if-none-match", &tag).send().await.expect(304);
    assert_eq!((same.text.as_str(), same.header("etag")), ("", Some(tag.as_str())));
    web.get("/api/v1/products/nothing")
        .send()
        .await
        .refused(404, "product_not_found");
    assert_eq!(
        list("q=a").await.expect(200).body["data"][0]["total_payable"]["amount"],
        3_000
    );
}

#[tokio::test]
async fn a_list_that_is_behind_says_so() {
    let web = Web::start_with(&[("JANGBU_READY_LAG_MAX_SECONDS", "1")], false).await;
    web.get("/readyz").send().await.expect(200);
    web.product("A", 1_000, 1).await;
    let behind = web
        .get("/api/v1/products")
        .header("jangbu-min-position", "1")
        .send()
        .await;
    let behind = behind.refused(504, "projection_behind");
    assert_eq!(
        (&behind.body["position"], behind.header("retry-after")),
        (&json!(0), Some("1"))
    );
    web.get("/api/v1/products")
        .header("jangbu-min-position", "x")
        .send()
        .await
        .refused(422, "validation_failed");
    // That took two seconds, one more than the lag may be.
    let ready = web.get("/readyz").send().await.refused(503, "not_ready");
    assert_eq!(ready.body["projections"][0]["position"], 0);
    web.get("/livez").send().await.expect(200);
}

#[tokio::test]
async fn requests_have_a_limit() {
    let web = Web::start_with(&[("JANGBU_RATE_REQUESTS_PER_MINUTE", "3")], false).await;
    for remaining in ["2", "1", "0"] {
        let reply = web.get("/nowhere").send().await.refused(404, "not_found");
        assert_eq!(reply.header("ratelimit-remaining"), Some(remaining));
    }
    let exceeded = web.get("/nowhere").send().await.refused(429, "rate_limited");
    assert_eq!(
        (exceeded.header("ratelimit-limit"), exceeded.header("retry-after")),
        (Some("3"), Some("20"))
    );
    let elsewhere = web
        .get("/nowhere")
        .header("x-forwarded-for", "203.0.113.7")
        .send()
        .await;
    elsewhere.refused(404, "not_found");
    web.get("/livez").send().await.expect(200);
}

#[tokio::test]
async fn the_interface_describes_itself() {
    let web = Web::start_with(&[], false).await;
    let description = web.get("/openapi.json").send().await.expect(200);
    assert_eq!(description.body["openapi"], "3.1.0");
    let page = web.get("/docs/").send().await.expect(200);
    assert!(page.text.contains("swagger-ui"), "{}", page.text);
    for header in [
        "x-content-type-options",
        "content-security-policy",
        "referrer-policy",
        "x-request-id",
    ] {
        assert!(page.header(header).is_some(), "{header}");
    }
    web.get("/metrics").send().await.expect(200);
    // Every documented address exists: none of them is answered with "nothing at this address".
    for (path, operations) in description.body["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let path = path
                .replace("{cart_id}", &format!("crt_{}", "0".repeat(32)))
                .replace("{order_id}", &format!("ord_{}", "0".repeat(32)))
                .replace("{payment_id}", &"0".repeat(32))
                .replace("{code}", "sold_out")
                .replace("{sku}", "A")
                .replace("{id_or_sku}", "A");
            let reply = match method.as_str() {
                "get" => web.get(&path),
                "post" => web.post(&path),
                "put" => web.put(&path),
                "patch" => web.patch(&path),
                "delete" => web.delete(&path),
                other => panic!("{other} {path}"),
            }
            .send()
            .await;
            assert_ne!(reply.body["code"], "not_found", "{method} {path}");
            assert_ne!(reply.body["code"], "method_not_allowed", "{method} {path}");
            assert!(
                reply.status < 500 || reply.body["code"] == "payments_not_configured",
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn every_example_of_the_description_works() {
    let web = Web::start().await;
    let description = web.get("/openapi.json").send().await.expect(200).body;
    let mut unused: std::collections::BTreeSet<String> = description["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|operations| operations.as_object().expect("operations").values())
        .filter_map(|operation| operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str())
        .map(|reference| reference.rsplit('/').next().expect("a name").to_owned())
        .collect();
    let mut example = |schema: &str| {
        assert!(unused.remove(schema), "{schema}");
        description["components"]["schemas"][schema]["example"].clone()
    };
    let post = |path: String, token: &str, body: Value| {
        let key = web.fresh_key();
        web.post(path).token(token).key(&key).json(&body).send()
    };
    let admin = web.admin.as_str();
    let product = post("/api/v1/admin/products".into(), admin, example("NewProduct"))
        .await
        .expect(201);
    let sku = product.text_of("/sku");
    let stock = format!("/api/v1/admin/stock/{sku}");
    post(format!("{stock}/receive"), admin, example("Receive"))
        .await
        .expect(200);
    post(format!("{stock}/adjust"), admin, example("Adjust"))
        .await
        .expect(200);

    let cart = web.post("/api/v1/carts").send().await.expect(201);
    let (id, token) = (cart.text_of("/id"), cart.text_of("/token"));
    post(format!("/api/v1/carts/{id}/lines"), &token, example("AddLines"))
        .await
        .expect(200);
    let line = web
        .patch(format!("/api/v1/carts/{id}/lines/{sku}"))
        .token(&token)
        .json(&example("ChangeQuantity"));
    line.send().await.expect(200);
    let placed = post(format!("/api/v1/carts/{id}/checkout"), &token, example("CheckOut"))
        .await
        .expect(201);
    let (order, payment) = (
        placed.text_of("/order/id"),
        placed.text_of("/payment_request/paymentId"),
    );
    web.at_portone(&payment, "pay", json!({})).await;
    web.order_becomes(&order, &token, "confirmed").await;

    let path = format!("/api/v1/admin/orders/{order}");
    post(format!("{path}/refund"), admin, example("RefundOrder"))
        .await
        .expect(200);
    let mut cancelled = post(format!("{path}/cancel"), admin, example("CancelOrder")).await;
    while cancelled.body["code"] == "refund_in_progress" {
        cancelled = post(format!("{path}/cancel"), admin, json!({"reason": "operator"})).await;
    }
    cancelled.expect(200);

    // An account is asked for where the money came by bank transfer: of what the shop does not take, and
    // of what the buyer calls off.
    let deposited = async |won: Value| {
        let (order, payment, token) = web.order(&[(&sku, 1)]).await;
        web.at_portone(&payment, "issue", json!({})).await;
        web.at_portone(&payment, "deposit", won).await;
        (order, payment, token)
    };
    let (order, payment, token) = deposited(json!({"totalAmount": 1})).await;
    let needed = async || {
        let order = web.get(format!("/api/v1/orders/{order}")).token(&token).send().await;
        order.body["payment"]["refund_account_needed"] == true
    };
    while !needed().await {}
    let account = web
        .put(format!("/api/v1/payments/{payment}/refund-account"))
        .token(&token)
        .key("an account")
        .json(&example("RefundAccountInput"));
    account.send().await.expect(200);
    let (order, _, token) = deposited(json!({})).await;
    web.order_becomes(&order, &token, "confirmed").await;
    let own = description["components"]["schemas"]["CancelOwnOrder"]["example"].clone();
    post(format!("/api/v1/orders/{order}/cancel"), &token, own)
        .await
        .expect(200);
    web.order_becomes(&order, &token, "cancelled").await;
    let revision = web
        .patch(format!("/api/v1/admin/products/{sku}"))
        .admin()
        .json(&example("ProductRevision"));
    revision.send().await.expect(200);
    upkeep_examples(&web, &mut example).await;
    user_examples(&web, &mut example).await;
    post("/api/v1/orders/lookup".into(), &token, example("LookUp"))
        .await
        .refused(404, "order_not_found");
    assert!(unused.is_empty(), "untested examples: {unused:?}");
}

/// Of what an admin does beside selling.
async fn user_examples(web: &Web, example: &mut impl FnMut(&str) -> Value) {
    let post = |path: &str, body: Value| {
        let key = web.fresh_key();
        web.post(path).key(&key).json(&body)
    };
    post("/api/v1/users/sign-up", example("SignUp"))
        .send()
        .await
        .expect(201);
    let tokens = post("/api/v1/users/sign-in", example("SignIn"))
        .send()
        .await
        .expect(200);
    let token = tokens.text_of("/access_token");
    let change = web.patch("/api/v1/users/me").token(&token);
    change.json(&example("ChangeMe")).send().await.expect(200);
    let password = post("/api/v1/users/me/password", example("ChangePassword"));
    password.token(&token).send().await.expect(204);
    post("/api/v1/users/token", example("Refresh"))
        .send()
        .await
        .refused(401, "session_ended");
}

async fn upkeep_examples(web: &Web, example: &mut impl FnMut(&str) -> Value) {
    let mut post = async |path: String, schema: &str| {
        let key = web.fresh_key();
        let ask = web.post(format!("/api/v1/admin/{path}")).admin().key(&key);
        ask.json(&example(schema)).send().await
    };
    for (path, schema) in [("parked", "RetryParked"), ("failed-steps", "RetrySteps")] {
        post(format!("{path}/retry"), schema).await.expect(200);
    }
    let webhook = post("webhooks".into(), "NewWebhook").await.expect(201).text_of("/id");
    for (action, schema) in [
        ("rotate", "SecretRotation"),
        ("rewind", "WebhookRewind"),
        ("retry", "WebhookRetry"),
    ] {
        post(format!("webhooks/{webhook}/{action}"), schema).await.expect(200);
    }
    let change = web.patch(format!("/api/v1/admin/webhooks/{webhook}")).admin();
    change.json(&example("WebhookChange")).send().await.expect(200);
}
