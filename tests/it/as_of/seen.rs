//! `?as_of=`: what was seen then is seen again, by whom it concerns.

use std::time::Duration;

use jangbu_projections::korea;
use serde_json::{Value, json};

use crate::web::Web;

/// Waits until nothing of the background is left to do, and gives the head.
async fn quiet(web: &Web) -> i64 {
    let log = web.node.executor.log();
    for _ in 0..400 {
        let head = log.head().await.expect("a head").position;
        let handled: i64 = sqlx::query_scalar("select coalesce(max(position), 0) from process_checkpoints")
            .fetch_one(log.pool())
            .await
            .expect("a checkpoint");
        let listed: i64 = sqlx::query_scalar("select min(position) from checkpoints")
            .fetch_one(log.pool())
            .await
            .expect("checkpoints");
        if (handled, listed) == (head, head) {
            return head;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the shop does not come to rest")
}

/// Everything that can be asked about the past, as it is now.
async fn look(web: &Web, paths: &[(String, String)]) -> Vec<Value> {
    let mut seen = Vec::new();
    for (path, token) in paths {
        let reply = web.get(path).token(token).send().await;
        assert!([200, 404].contains(&reply.status), "{}", reply.text);
        seen.push(without(reply.body, &["instance"]));
    }
    seen
}

fn without(mut body: Value, names: &[&str]) -> Value {
    let object = body.as_object_mut().expect("an object");
    for name in names {
        object.remove(*name);
    }
    body
}

/// A life of a shop: what each step leaves is seen at once and remembered with its position.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_then_is_seen_again() {
    let web = Web::start().await;
    web.product("A", 39_000, 10).await;
    web.product("B", 1_000, 1).await;
    let (order, payment, token) = web.order(&[("A", 2), ("B", 1)]).await;
    let mut paths: Vec<(String, String)> = vec![(format!("/api/v1/orders/{order}"), token.clone())];
    for path in [
        format!("orders/{order}"),
        "products/A".to_owned(),
        "stock/A".to_owned(),
        "stock/B".to_owned(),
        "stock".to_owned(),
        "stock?available_at_most=0".to_owned(),
        "products".to_owned(),
        "products?status=published".to_owned(),
        "orders".to_owned(),
        "orders?status=confirmed".to_owned(),
    ] {
        paths.push((format!("/api/v1/admin/{path}"), web.admin.clone()));
    }
    for sku in ["A", "B"] {
        paths.push((format!("/api/v1/products/{sku}"), web.admin.clone()));
    }
    let today = korea::day_of(web.node.executor.log().surroundings().now());
    let tomorrow = today + chrono::Days::new(1);
    for by in ["day", "hour", "category", "product"] {
        let path = format!("/api/v1/admin/sales?from={today}&to={tomorrow}&by={by}");
        paths.push((path, web.admin.clone()));
    }

    let mut remembered = vec![(quiet(&web).await, look(&web, &paths).await)];
    web.at_portone(&payment, "pay", json!({})).await;
    web.order_becomes(&order, &token, "confirmed").await;
    remembered.push((quiet(&web).await, look(&web, &paths).await));
    let revise = json!({"price": 45_000, "name": "새 이름"});
    let product = "/api/v1/admin/products/A";
    let edited = web.patch(product).admin().header("if-match", "\"v2\"").json(&revise);
    edited.send().await.expect(200);
    remembered.push((quiet(&web).await, look(&web, &paths).await));
    let hide = json!({"status": "hidden", "version": 4});
    web.patch(product).admin().json(&hide).send().await.expect(200);
    remembered.push((quiet(&web).await, look(&web, &paths).await));
    let refund = json!({"amount": 10_000});
    let refunding = web.post(format!("/api/v1/admin/orders/{order}/refund")).admin();
    refunding.key(&web.fresh_key()).json(&refund).send().await.expect(200);
    for _ in 0..400 {
        if web.events_of("order.refunded").await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    remembered.push((quiet(&web).await, look(&web, &paths).await));

    let distinct: Vec<_> = remembered.windows(2).map(|pair| pair[0].1 != pair[1].1).collect();
    assert_eq!(distinct, [true; 4], "every step shows");
    for (position, seen) in remembered {
        for ((path, token), seen) in paths.iter().zip(seen) {
            let joint = if path.contains('?') { '&' } else { '?' };
            let past = web
                .get(format!("{path}{joint}as_of={position}"))
                .token(token)
                .send()
                .await;
            if past.status == 200 {
                assert_eq!(past.body["as_of"]["position"], position, "{path}");
                assert_eq!(past.header("jangbu-position"), Some(&*position.to_string()));
            }
            let past = without(past.body, &["as_of", "instance"]);
            assert_eq!(past, seen, "{path} as of {position}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_shown_to_whom_it_concerns() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 39_000, 10).await;
    let (order, _, token) = web.order(&[("A", 2)]).await;
    let (_, stranger) = web.cart(&[("A", 1)]).await;
    let head = web.node.executor.log().head().await.expect("a head").position;
    let path = format!("/api/v1/orders/{order}");
    let mine = web
        .get(format!("{path}?as_of={head}"))
        .token(&token)
        .send()
        .await
        .expect(200);
    assert_eq!(mine.body["orderer"]["name"], "홍길동");
    let before = web.get(format!("{path}?as_of=1")).token(&token).send().await;
    before.refused(404, "order_not_found");
    for query in ["", "?as_of=1", &format!("?as_of={head}")] {
        let other = web.get(format!("{path}{query}")).token(&stranger).send().await;
        other.refused(404, "order_not_found");
        web.get(format!("{path}{query}"))
            .send()
            .await
            .refused(404, "order_not_found");
    }

    // What was sold when can be read from past stocks: that is the shop's business.
    let shelf = "/api/v1/products/A?as_of=4";
    web.get(shelf).send().await.refused(401, "unauthenticated");
    web.get(shelf).token(&stranger).send().await.refused(403, "forbidden");
    // Registered, published, and stocked, in this order.
    let registered = web.get("/api/v1/products/A?as_of=1").admin().send().await;
    registered.refused(404, "product_not_found");
    let sold_out = web.get("/api/v1/products/A?as_of=2").admin().send().await.expect(200);
    assert_eq!(sold_out.body["stock"], json!({"state": "sold_out", "available": 0}));
    let stocked = web.get("/api/v1/products/A?as_of=3").admin().send().await.expect(200);
    assert_eq!(stocked.body["stock"]["available"], 10);
    let draft = web
        .get("/api/v1/admin/products/A?as_of=1")
        .admin()
        .send()
        .await
        .expect(200);
    assert_eq!(
        (draft.text_of("/status"), draft.header("etag")),
        ("draft".to_owned(), None)
    );
    web.get("/api/v1/admin/products/A?as_of=0")
        .admin()
        .send()
        .await
        .refused(404, "product_not_found");
    web.get("/api/v1/admin/stock/A?as_of=0")
        .admin()
        .send()
        .await
        .refused(404, "product_not_found");
    let empty = web
        .get("/api/v1/admin/stock/A?as_of=2")
        .admin()
        .send()
        .await
        .expect(200);
    assert_eq!((&empty.body["on_hand"], empty.header("etag")), (&json!(0), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_that_makes_no_sense_is_refused() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 39_000, 10).await;
    let ask = async |as_of: &str| {
        web.get(format!("/api/v1/admin/stock/A?as_of={as_of}"))
            .admin()
            .send()
            .await
    };
    for (as_of, code) in [
        ("-1", "invalid"),
        ("4", "beyond_the_log"),
        ("20260302", "beyond_the_log"),
        ("99999999999999999999999", "beyond_the_log"),
        ("2099-01-01", "in_the_future"),
        ("2099-01-01T00:00:00Z", "in_the_future"),
        ("2026-02-30", "invalid"),
        ("2026-03-02T00:00:00", "invalid"),
        ("yesterday", "invalid"),
        ("%00", "invalid"),
        ("1&as_of=2", "duplicate_field"),
        ("1&as_off=2", "unknown_field"),
    ] {
        let refused = ask(as_of).await.refused(422, "validation_failed");
        assert_eq!(refused.body["errors"][0]["code"], code, "{}", refused.text);
    }
    assert_eq!(ask("4").await.body["errors"][0]["parameter"], "as_of");
    // Times come back as they are told, and an offset survives an address that nobody escaped.
    let told = ask("3").await.expect(200).text_of("/as_of/recorded_at");
    assert!(told.ends_with("+09:00"), "{told}");
    let again = ask(&told).await.expect(200);
    assert_eq!(again.body["as_of"]["position"], 3);
    assert!(
        ask("").await.expect(200).body.get("as_of").is_none(),
        "nothing was asked for"
    );
    let sales = web.get("/api/v1/admin/sales?from=2026-01-01&to=2026-01-02&as_of=2020-01-01");
    let sales = sales.admin().send().await.expect(200);
    assert_eq!(sales.body["as_of"], json!({"position": 0, "recorded_at": null}));
    assert_eq!(sales.body["total"]["gross"], 0);
    let sales = web.get("/api/v1/admin/sales?from=2026-01-01&to=2026-01-02&as_of=-1");
    sales.admin().send().await.refused(422, "validation_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_would_read_too_much_is_refused() {
    let web = Web::start_with(&[], false).await;
    web.product("A", 39_000, 10).await;
    // A log that nobody would want to write here.
    sqlx::query(
        "insert into events select 500001, aggregate_type, 'elsewhere', 1, event_type, event_version, payload, metadata,
           slot, store_id, gen_random_uuid(), gen_random_uuid(), null, null, occurred_at, recorded_at
         from events where position = 1",
    )
    .execute(web.node.executor.log().pool())
    .await
    .expect("the log takes it");
    let path = "/api/v1/admin/sales?from=2026-01-01&to=2026-01-02&as_of";
    let refused = web
        .get(format!("{path}=500001"))
        .admin()
        .send()
        .await
        .refused(422, "log_too_long");
    assert_eq!(refused.body["positions_max"], 500_000);
    assert!(refused.text_of("/detail").contains("jangbu replay"), "{}", refused.text);
    // What is asked about an earlier moment is answered.
    web.get(format!("{path}=3")).admin().send().await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_says_where_the_past_can_be_asked_for() {
    let web = Web::start_with(&[], false).await;
    let description = web.get("/openapi.json").send().await.expect(200).body;
    for path in [
        "/api/v1/orders/{order_id}",
        "/api/v1/products/{id_or_sku}",
        "/api/v1/admin/orders",
        "/api/v1/admin/orders/{order_id}",
        "/api/v1/admin/products",
        "/api/v1/admin/products/{id_or_sku}",
        "/api/v1/admin/stock",
        "/api/v1/admin/stock/{sku}",
        "/api/v1/admin/sales",
    ] {
        let get = &description["paths"][path]["get"];
        let mut parameters = get["parameters"].as_array().expect("parameters").iter();
        let as_of = parameters.find(|parameter| parameter["name"] == "as_of");
        let as_of = as_of.unwrap_or_else(|| panic!("{path}: {get}"));
        assert_eq!(
            (&as_of["in"], &as_of["required"]),
            (&json!("query"), &json!(false)),
            "{path}"
        );
        let schema = &get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        let name = schema
            .as_str()
            .and_then(|schema| schema.rsplit('/').next())
            .expect("a schema");
        let schema = &description["components"]["schemas"][name];
        assert!(schema.to_string().contains("AsOfView"), "{name}: {schema}");
    }
}
