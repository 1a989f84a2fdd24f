//! As past sales: imported into an empty database, read over HTTP.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use jangbu::import::{self, Options, Silent};
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use tokio::process::Command;

use super::{
    broker::{Listener, amqp_url},
    truth::{By, Sums, Truth, expected, file},
};
use crate::web::{Reply, Web};

const DAYS: &str = "from=2017-03-01&to=2017-04-30";

/// Asks as an administrator, once the projection that answers has seen the whole log of this moment.
pub async fn ask_when_seen(web: &Web, path: &str) -> Reply {
    let head = web.node.executor.log().head().await.expect("the head reads").position;
    for _ in 0..30 {
        let ask = web.get(path).admin().header("jangbu-min-position", head.to_string());
        let reply = ask.send().await;
        if reply.status != 504 {
            return reply.expect(200);
        }
    }
    panic!("no projection came to {head} to answer {path}")
}

/// Every row of a list, page by page.
pub async fn all_pages(web: &Web, path: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut page = ask_when_seen(web, path).await;
    loop {
        let Value::Array(data) = page.body["data"].take() else {
            panic!("{}", page.text)
        };
        assert!(
            !data.is_empty() || rows.is_empty(),
            "no page is empty but that of nothing"
        );
        rows.extend(data);
        let Some(next) = page.body["page"]["next"].as_str() else {
            assert_eq!(page.body["page"]["has_more"], false);
            return rows;
        };
        page = web.get(format!("{path}&after={next}")).admin().send().await.expect(200);
    }
}

pub async fn count(web: &Web, sql: &str) -> i64 {
    sqlx::query_scalar(sql)
        .fetch_one(web.node.readers.now().pool())
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

async fn assert_sales(web: &Web, truth: &Truth) {
    let total = truth.total();
    let report = async |query: &str| ask_when_seen(web, &format!("/api/v1/admin/sales?{query}")).await.body;
    for by in By::ALL {
        let report = report(&format!("{DAYS}&by={}", by.word())).await;
        assert_eq!(report["currency"], "KRW");
        assert_eq!(report["total"], total.view(), "{by:?}");
        assert_eq!(report["data"], json!(truth.rows(by)), "{by:?}");
    }

    // Once more with figures that are not of our own reckoning.
    let expected = expected();
    let days = report(DAYS).await;
    let column = |report: &Value, key: &str, value: &str| -> BTreeMap<String, Value> {
        let rows = report["data"].as_array().expect("rows").iter();
        rows.map(|row| (row[key].as_str().expect("a key").to_owned(), row[value].clone()))
            .collect()
    };
    assert_eq!(json!(column(&days, "date", "gross")), expected["revenue_by_day_krw"]);
    assert_eq!(json!(column(&days, "date", "orders")), expected["orders_by_day"]);
    assert_eq!(
        (&days["total"]["net"], &days["total"]["orders"], &days["total"]["units"]),
        (&expected["revenue_krw"], &expected["baskets"], &expected["units"])
    );
    let categories = report(&format!("{DAYS}&by=category")).await;
    assert_eq!(
        json!(column(&categories, "category", "gross")),
        expected["revenue_by_category_krw"]
    );
    let top = report(&format!("{DAYS}&by=product&limit=20")).await;
    let rows = top["data"].as_array().expect("rows").iter();
    let top_skus: Vec<Value> = rows.map(|row| json!([row["sku"], row["units"]])).collect();
    assert_eq!(json!(top_skus), expected["top_20_skus_by_units"]);
    assert_eq!(top["total"], total.view(), "the total is over all rows");

    // The days are Korea's: their ends are neither UTC's nor a day off.
    let first = report("from=2017-03-01&to=2017-03-01").await;
    assert_eq!(first["total"]["gross"], expected["revenue_by_day_krw"]["2017-03-01"]);
    for outside in ["from=2017-01-01&to=2017-02-28", "from=2017-05-01&to=2017-12-31"] {
        let report = report(outside).await;
        assert_eq!(
            (&report["data"], &report["total"]),
            (&json!([]), &Sums::default().view())
        );
    }
}

async fn assert_catalog(web: &Web, truth: &Truth) {
    // Names and prices come many times, so every page ends in the middle of equals.
    for sort in ["name", "price", "-price", "newest"] {
        let rows = all_pages(web, &format!("/api/v1/products?limit=100&sort={sort}")).await;
        assert_eq!(rows.len(), 3_325, "{sort}");
        let mut products: BTreeMap<&str, &Value> = BTreeMap::new();
        for row in &rows {
            let sku = row["sku"].as_str().expect("a sku");
            assert!(products.insert(sku, row).is_none(), "{sku} comes twice by {sort}");
        }
        for (sku, product) in &truth.products {
            let row = products[sku.as_str()];
            assert_eq!(
                (&row["price"]["amount"], &row["category"]),
                (&json!(product.price), &json!(product.category))
            );
        }
        let prices = rows.iter().map(|row| row["price"]["amount"].as_i64().expect("won"));
        match sort {
            "price" => assert!(prices.is_sorted()),
            "-price" => assert!(prices.rev().is_sorted()),
            _ => {}
        }
    }
}

async fn assert_orders(web: &Web, truth: &Truth) {
    let rows = all_pages(web, "/api/v1/admin/orders?status=imported&limit=100").await;
    assert_eq!(rows.len(), 609);
    let rows: BTreeMap<&str, &Value> = rows
        .iter()
        .map(|row| (row["source_id"].as_str().expect("an id"), row))
        .collect();
    for basket in &truth.baskets {
        let row = rows[basket.id.as_str()];
        assert_eq!(
            (
                &row["total"]["amount"],
                &row["external_customer"],
                &row["status"],
                &row["number"]
            ),
            (
                &json!(truth.total_of(basket)),
                &json!(basket.household),
                &json!("imported"),
                &Value::Null
            )
        );
        let placed_at = format!("{}.000+09:00", &basket.ordered_at[..19]);
        assert_eq!(row["placed_at"], placed_at);
    }
    let all = all_pages(web, "/api/v1/admin/orders?limit=1000").await;
    assert_eq!(all.len(), 609, "there is nothing else");
    let household = &truth.baskets[0].household;
    let theirs = all_pages(
        web,
        &format!("/api/v1/admin/orders?external_customer={household}&limit=5"),
    )
    .await;
    let baskets = truth.baskets.iter().filter(|basket| basket.household == *household);
    assert_eq!(theirs.len(), baskets.count());

    // Nobody can do anything to one, and nothing of the live shop has happened to any.
    let basket = &truth.baskets[0];
    let id = rows[basket.id.as_str()]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/admin/orders/{id}");
    let order = web.get(&path).admin().send().await.expect(200);
    assert_eq!(order.body["lines"].as_array().map(Vec::len), Some(basket.lines.len()));
    assert_eq!(order.body["payment"], Value::Null);
    for (action, body) in [
        ("cancel", json!({"reason": "customer"})),
        ("refund", json!({"amount": 1_000})),
    ] {
        web.post(format!("{path}/{action}"))
            .admin()
            .key(&web.fresh_key())
            .json(&body)
            .send()
            .await
            .refused(409, "order_imported");
    }
    let head = web.node.executor.log().head().await.expect("the head reads").position;
    assert_eq!(head, 2 * 3_325 + 609);
    for (nothing, sql) in [
        (
            "events that are no import's",
            "select count(*) from events
             where event_type not in ('product.registered', 'product.published', 'order.imported')",
        ),
        ("stock", "select count(*) from stock_levels"),
        ("timers", "select count(*) from timers"),
        ("states of processes", "select count(*) from process_states"),
        ("failures of processes", "select count(*) from process_failures"),
        ("personal keys", "select count(*) from personal_keys"),
    ] {
        assert_eq!(count(web, sql).await, 0, "{nothing}");
    }
    assert_eq!(
        all_pages(web, "/api/v1/admin/stock?limit=1000").await,
        Vec::<Value>::new()
    );
}

async fn assert_true(web: &Web) {
    let truth = Truth::read();
    assert_sales(web, &truth).await;
    assert_catalog(web, &truth).await;
    assert_orders(web, &truth).await;
    let size = crate::invariants::check(web.node.executor.log().pool()).await;
    // One command for each product and each basket; to publish is part of the first.
    assert_eq!(size.events, 2 * 3_325 + 609);
}

/// As a person does it: with the command, beside a process that serves.
async fn import_with_the_command(web: &Web, kind: &str, name: &str) -> Value {
    let database = web.node.executor.log().pool().connect_options().to_url_lossy();
    let output = Command::new(env!("CARGO_BIN_EXE_jangbu"))
        .args(["import", kind, "--json"])
        .arg(file(name))
        .current_dir(std::env::temp_dir())
        .env_clear()
        .env("DATABASE_URL", database.as_str())
        .env("JANGBU_JWT_SECRET", crate::web::JWT_SECRET)
        .env("JANGBU_MASTER_KEY", "07".repeat(32))
        .env("JANGBU_DB_POOL_MAX", "5")
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the program starts");
    assert!(
        output.status.success(),
        "{kind}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("a report")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_comes_to_its_true_totals_through_rabbitmq() {
    let web = Web::start_with(&[("AMQP_URL", &amqp_url())], true).await;
    let mut listener = Listener::bind(web.node.executor.log().log_id()).await;
    let products = import_with_the_command(&web, "products", "products.csv").await;
    assert_eq!(
        (&products["imported"], &products["rejected"]),
        (&json!(3_325), &json!(0))
    );
    let orders = import_with_the_command(&web, "orders", "baskets.csv").await;
    assert_eq!(
        (&orders["imported"], &orders["total_krw"]),
        (&json!(609), &json!(21_774_230))
    );
    assert_true(&web).await;

    // Everything went through the broker; some of it twice, if the relay had to begin anew.
    let head = web.node.executor.log().head().await.expect("the head reads").position;
    let mut positions: Vec<i64> = Vec::new();
    for (_, message) in listener.read_through(head).await {
        assert!(message.events.is_sorted_by_key(|event| event.position));
        positions.extend(message.events.iter().map(|event| event.position));
    }
    positions.sort_unstable();
    positions.dedup();
    assert!(positions.into_iter().eq(1..=head));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_comes_to_its_true_totals_without_a_broker() {
    let web = Web::start().await;
    let options = Options::default();
    let products = import::products(&web.node.executor, &file("products.csv"), &options, &Silent).await;
    assert_eq!(products.expect("the products are imported").imported, 3_325);
    let orders = import::orders(&web.node.executor, &file("baskets.csv"), &options, &Silent).await;
    assert_eq!(orders.expect("the orders are imported").imported, 609);
    // The checkout's runner has looked at all of it.
    let seen = async || count(&web, "select coalesce(min(position), 0) from process_checkpoints").await;
    tokio::time::timeout(Duration::from_secs(30), async {
        while seen().await < 2 * 3_325 + 609 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the checkout's runner comes to the end of the log");
    assert_true(&web).await;
}
