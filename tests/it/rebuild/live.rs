//! A shop that sells while its read tables are made again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jangbu::rebuild::{Goal, list};
use serde_json::json;

use super::{PARTITIONS, again, entry, projection, rebuild};
use crate::{fanout::probe::eventually, web::Web};

/// Reads until it is told to stop; gives how many answers were wrong, and says why.
async fn read(web: Arc<Web>, stop: Arc<AtomicBool>, reads: Arc<AtomicU64>, least: usize) -> u64 {
    let (mut wrong, mut units) = (0, 0);
    let mut refuse = |what: &str, text: &str| {
        eprintln!("{what}: {text}");
        wrong += 1;
    };
    while !stop.load(Ordering::Relaxed) {
        let page = web.get("/api/v1/products?limit=100").send().await;
        let products = page.body["data"].as_array().map_or(0, Vec::len);
        if page.status != 200 || products < least {
            refuse("products", &page.text);
        }
        let stock = web.get("/api/v1/admin/stock?limit=100").admin().send().await;
        let now: u64 = stock.body["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item["on_hand"].as_u64())
            .sum();
        if stock.status != 200 || now < units {
            refuse("stock", &format!("{units} were there before: {}", stock.text));
        }
        units = now;
        reads.fetch_add(2, Ordering::Relaxed);
    }
    wrong
}

/// Receives goods, and reads what it has written.
async fn write(web: Arc<Web>, stop: Arc<AtomicBool>) -> (u64, u64) {
    let (mut written, mut wrong) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let received = web
            .post("/api/v1/admin/stock/A/receive")
            .admin()
            .json(&json!({"quantity": 1}))
            .send()
            .await
            .expect(200);
        written += 1;
        let position = received.header("jangbu-position").expect("a position").to_owned();
        let page = web
            .get("/api/v1/admin/stock?limit=100")
            .admin()
            .header("jangbu-min-position", position)
            .send()
            .await;
        let items = page.body["data"].as_array().cloned().unwrap_or_default();
        let found = items.iter().find(|item| item["sku"] == "A");
        let on_hand = found.and_then(|item| item["on_hand"].as_u64());
        if page.status != 200 || on_hand != Some(10 + written) {
            eprintln!("{written} were received: {}", page.text);
            wrong += 1;
        }
    }
    (written, wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_misses_a_page_while_builds_change_under_them() {
    let web = Arc::new(Web::start().await);
    for sku in ["A", "B", "C", "D", "E"] {
        web.product(sku, 1_000, 10).await;
    }
    let db = web.database().pool.clone();
    eventually("lists have everything", Duration::from_secs(10), async || {
        let page = web.get("/api/v1/products?limit=100").send().await;
        page.body["data"].as_array().map_or(0, Vec::len) == 5
    })
    .await;
    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..2)
        .map(|_| tokio::spawn(read(web.clone(), stop.clone(), reads.clone(), 5)))
        .collect();
    let writer = tokio::spawn(write(web.clone(), stop.clone()));
    let some_reads = async || {
        let before = reads.load(Ordering::Relaxed);
        eventually("readers go on", Duration::from_secs(30), async || {
            reads.load(Ordering::Relaxed) > before + 20
        })
        .await;
    };
    let mut switches = Vec::new();
    for (name, partitions) in [("stock_levels", 4), ("catalog", 4), ("stock_levels", 2)] {
        some_reads().await;
        let rebuilt = rebuild(&db, projection(name), again(partitions))
            .await
            .expect("it is made");
        switches.push(rebuilt.switch_ms);
    }
    some_reads().await;
    let back = rebuild(&db, projection("stock_levels"), Goal::RollBack).await;
    let back = back.expect("it goes back");
    assert_eq!(
        (back.schema.as_str(), back.partitions),
        ("stock_levels_v1_b2", PARTITIONS)
    );
    switches.push(back.switch_ms);
    some_reads().await;
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert_eq!(reader.await.expect("it reads to the end"), 0, "reads failed");
    }
    let (written, wrong) = writer.await.expect("it writes to the end");
    assert_eq!(wrong, 0, "of {written} writes");
    println!(
        "{} reads, {written} writes, switches of {switches:.1?} ms",
        reads.load(Ordering::Relaxed)
    );

    // Workers feed what is read, and what is not read stands still.
    let retired = entry(&db, "stock_levels_v1_b3").await;
    let received = web
        .post("/api/v1/admin/stock/B/receive")
        .admin()
        .json(&json!({"quantity": 1}))
        .send()
        .await
        .expect(200);
    let head: i64 = received
        .header("jangbu-position")
        .and_then(|text| text.parse().ok())
        .expect("a position");
    for live in ["stock_levels_v1_b2", "catalog_v1_b2", "sales_v1_b1"] {
        eventually("what is read is fed", Duration::from_secs(10), async || {
            entry(&db, live).await.position >= head
        })
        .await;
    }
    assert_eq!(entry(&db, "stock_levels_v1_b3").await.position, retired.position);
    // Once its readers have left, it can go, and the others cannot.
    eventually("it is dropped", Duration::from_secs(10), async || {
        list::drop(&db, "stock_levels_v1_b3", false).await.is_ok()
    })
    .await;
    let refused = list::drop(&db, "stock_levels_v1_b2", true).await;
    assert!(matches!(refused, Err(list::DropError::Active(_))), "{refused:?}");
    web.get("/api/v1/admin/stock").admin().send().await.expect(200);
}
