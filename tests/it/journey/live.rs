//! As live sales: guests at the till, all at once, and webhooks that come three times and shuffled.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use jangbu::{
    clock::korean_time,
    import::{self, Options, Silent},
};
use serde_json::{Value, json};

use super::{
    broker::{Listener, amqp_url},
    past::{all_pages, ask_when_seen, count},
    truth::{Basket, Truth, file},
};
use crate::web::Web;

const CLIENTS: usize = 16;
/// So many baskets unless `JANGBU_TEST_BASKETS` says otherwise; there are 609.
const BASKETS: usize = 80;
/// What is left of everything at the end.
const REST: u32 = 7;

/// What a guest has in hand after paying.
struct Bought<'a> {
    basket: &'a Basket,
    order: String,
    payment: String,
    token: String,
}

async fn buy<'a>(web: &Web, basket: &'a Basket) -> Bought<'a> {
    let lines: Vec<(&str, u32)> = basket
        .lines
        .iter()
        .map(|(sku, quantity)| (sku.as_str(), *quantity))
        .collect();
    let (order, payment, token) = web.order(&lines).await;
    web.at_portone(&payment, "pay", json!({})).await;
    Bought {
        basket,
        order,
        payment,
        token,
    }
}

/// Works through everything with so many at once.
async fn at_once<I: Copy, O>(items: &[I], work: impl AsyncFn(I) -> O) -> Vec<O> {
    let next = AtomicUsize::new(0);
    let clients = (0..CLIENTS).map(|_| async {
        let mut done = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push(work(*item).await);
        }
        done
    });
    join_all(clients).await.into_iter().flatten().collect()
}

async fn deliveries(web: &Web) -> Value {
    let url = format!("{}/_sim/webhooks?limit=100000", web.sandbox.base_url());
    let answer = web.client.get(url).send().await.expect("an answer");
    answer.json().await.expect("JSON")
}

/// Every webhook came three times, not in the order in which it was written, and was taken: at once, or
/// when it came again because we had been too busy.
async fn assert_hostile(web: &Web, bought: &[Bought<'_>]) {
    let log = deliveries(web).await;
    let mut first_tries: HashMap<&str, Vec<&str>> = HashMap::new();
    let (mut last_outcomes, mut busy) = (HashMap::new(), 0);
    for delivery in log["items"].as_array().expect("deliveries") {
        let text = |key: &str| delivery[key].as_str().unwrap_or_else(|| panic!("{key} of {delivery}"));
        match (text("outcome"), delivery["status"].as_u64()) {
            ("succeeded", Some(200)) => {}
            ("refused", Some(503)) => busy += 1,
            _ => panic!("{delivery}"),
        }
        if delivery["execution"] == 1 {
            first_tries.entry(text("paymentId")).or_default().push(text("type"));
        }
        // Only the original is repeated until it is taken.
        if delivery["duplicate"] == false {
            last_outcomes.insert(text("webhookId"), text("outcome"));
        }
    }
    assert_eq!(last_outcomes.len(), 2 * bought.len());
    assert!(last_outcomes.values().all(|outcome| *outcome == "succeeded"));
    println!("{busy} webhooks were asked to come again");
    let mut shuffled = 0;
    for one in bought {
        let mut kinds = first_tries[one.payment.as_str()].clone();
        shuffled += usize::from(kinds[..3] != ["Transaction.Ready"; 3]);
        kinds.sort_unstable();
        assert_eq!(kinds, [["Transaction.Paid"; 3], ["Transaction.Ready"; 3]].concat());
    }
    assert!(
        shuffled * 2 > bought.len(),
        "only {shuffled} of {} payments",
        bought.len()
    );
}

/// A buyer sees the order confirmed before the runner has sold the goods: waits for that.
async fn goods_are_sold(web: &Web, truth: &Truth) {
    let lines: usize = truth.baskets.iter().map(|basket| basket.lines.len()).sum();
    let all = async {
        let sql = "select count(*) from events where event_type = 'stock.committed'";
        while usize::try_from(count(web, sql).await).is_ok_and(|sold| sold < lines) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("all goods are sold in the end");
}

/// The log holds what it would hold if every webhook had come once.
async fn assert_events(web: &Web, truth: &Truth) {
    let counted: Vec<(String, i64)> =
        sqlx::query_as("select event_type, count(*) from events where aggregate_type <> 'product' group by event_type")
            .fetch_all(web.node.executor.log().pool())
            .await
            .expect("events can be counted");
    let counted: BTreeMap<&str, i64> = counted.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    let number = |n: usize| i64::try_from(n).expect("few");
    let (orders, lines) = (
        number(truth.baskets.len()),
        number(truth.baskets.iter().map(|basket| basket.lines.len()).sum()),
    );
    let expected = BTreeMap::from([
        ("cart.opened", orders),
        ("cart.line_added", lines),
        ("cart.checked_out", orders),
        ("order.placed", orders),
        ("order.awaiting_payment", orders),
        ("order.confirmed", orders),
        ("payment.requested", orders),
        ("payment.confirmed", orders),
        ("stock.received", number(truth.units().len())),
        ("stock.held", lines),
        ("stock.committed", lines),
    ]);
    assert_eq!(counted, expected);
    let sql = "select count(distinct aggregate_id) from events where event_type = 'payment.confirmed'";
    assert_eq!(count(web, sql).await, orders, "each payment's money came once");
    let sql = "select count(*) from events p
        join events o on o.correlation_id = p.correlation_id and o.event_type = 'order.confirmed'
        where p.event_type = 'payment.confirmed'";
    assert_eq!(count(web, sql).await, orders, "to its own order");
}

async fn assert_stock(web: &Web, truth: &Truth, received: &BTreeMap<&str, u32>) {
    let rows = all_pages(web, "/api/v1/admin/stock?limit=1000").await;
    assert_eq!(rows.len(), received.len());
    let sold = truth.units();
    for row in rows {
        let sku = row["sku"].as_str().expect("a sku");
        let left = json!(received[sku] - sold[sku]);
        assert_eq!(
            (&row["on_hand"], &row["available"], &row["held"]),
            (&left, &left, &json!(0)),
            "{sku}"
        );
        assert_eq!((&left, &row["refusals"]), (&json!(REST), &json!(0)), "{sku}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_baskets_are_sold_live_and_come_to_their_true_total() {
    let mut truth = Truth::read();
    let wanted = std::env::var("JANGBU_TEST_BASKETS").map_or(BASKETS, |text| text.parse().expect("a number"));
    truth.baskets.truncate(wanted);
    let web = Web::start_with(&[("AMQP_URL", &amqp_url()), ("JANGBU_DB_POOL_MAX", "10")], true).await;
    let _listener = Listener::bind(web.node.executor.log().log_id()).await;
    let started = Instant::now();
    let options = Options::default();
    let imported = import::products(&web.node.executor, &file("products.csv"), &options, &Silent).await;
    assert_eq!(imported.expect("the products are imported").imported, 3_325);
    let received: BTreeMap<&str, u32> = truth
        .units()
        .into_iter()
        .map(|(sku, units)| (sku, units + REST))
        .collect();
    let arrivals: Vec<(&str, u32)> = received.iter().map(|(sku, quantity)| (*sku, *quantity)).collect();
    at_once(&arrivals, async |(sku, quantity): (&str, u32)| {
        let path = format!("/api/v1/admin/stock/{sku}/receive");
        let body = json!({"quantity": quantity});
        web.post(path).admin().json(&body).send().await.expect(200);
    })
    .await;
    let filled = started.elapsed();

    let faults = json!([{"fault": "webhook_duplicate", "copies": 3},
        {"fault": "webhook_reorder", "hold": 48, "ms": 500}]);
    let url = format!("{}/_sim/faults", web.sandbox.base_url());
    let armed = web.client.post(url).json(&faults).send().await.expect("an answer");
    assert!(armed.status().is_success());
    let (first_day, started) = (web.node.executor.log().surroundings().now(), Instant::now());
    let baskets: Vec<&Basket> = truth.baskets.iter().collect();
    let bought = at_once(&baskets, async |basket: &'_ Basket| buy(&web, basket).await).await;
    tokio::time::timeout(Duration::from_secs(60), web.sandbox.sandbox().webhooks_idle())
        .await
        .expect("every webhook is taken in the end");
    let sold = started.elapsed();
    assert_eq!(bought.len(), truth.baskets.len());

    for one in &bought {
        let order = web.order_becomes(&one.order, &one.token, "confirmed").await;
        let total = truth.total_of(one.basket);
        assert_eq!(order.body["total"]["amount"], total);
        let payment = &order.body["payment"];
        assert_eq!(
            (
                &payment["status"],
                &payment["paid"]["amount"],
                &payment["refundable"]["amount"]
            ),
            (&json!("confirmed"), &json!(total), &json!(total))
        );
    }
    let last_day = web.node.executor.log().surroundings().now();
    println!(
        "{} baskets: shop filled in {filled:.1?}, sold by {CLIENTS} clients and confirmed in {sold:.1?}",
        bought.len()
    );
    assert_hostile(&web, &bought).await;
    goods_are_sold(&web, &truth).await;
    assert_events(&web, &truth).await;
    assert_stock(&web, &truth, &received).await;
    let day = |at| korean_time(at).date_naive();
    let days = format!("from={}&to={}", day(first_day), day(last_day));
    let sales = ask_when_seen(&web, &format!("/api/v1/admin/sales?{days}&by=product"))
        .await
        .body;
    assert_eq!(sales["total"], truth.total().view());
    let units: BTreeMap<&str, u64> = sales["data"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            (
                row["sku"].as_str().expect("a sku"),
                row["units"].as_u64().expect("units"),
            )
        })
        .collect();
    let expected: BTreeMap<&str, u64> = truth.units().into_iter().map(|(sku, n)| (sku, n.into())).collect();
    assert_eq!(units, expected);
    assert_eq!(count(&web, "select count(*) from process_failures").await, 0);
    crate::invariants::check(web.node.executor.log().pool()).await;
}
