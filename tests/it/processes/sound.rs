//! What must hold when all is quiet again, read from the log, the lists and PortOne's books.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cqrs_es::Aggregate as _;
use jangbu::feed;
use jangbu_domain::StockItem;
use jangbu_events::{Event, OrderEvent, OrderId, PaymentEvent, PaymentId};
use jangbu_projections::{builds, builds::Advanced};
use reqwest::Method;
use serde_json::Value;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use super::{
    asking::Ask,
    shop::{PARTITIONS, Shop},
};
use crate::{
    database::{Database, surroundings},
    invariants,
};

/// How long everything may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long nothing may happen before it counts as quiet.
const QUIET: Duration = Duration::from_secs(1);

/// What the test knows to have been sold.
pub struct Sales {
    /// The orders that guests were told of and paid.
    pub confirmed: BTreeSet<String>,
    /// How many guests were told that it is sold out.
    pub refused: usize,
    /// Sum of the confirmed orders, in won.
    pub revenue: i64,
    /// How many of each sku came in.
    pub received: BTreeMap<String, u32>,
}

/// How far everybody is.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct State {
    head: i64,
    relay: i64,
    checkout: i64,
    projections_least: i64,
    timers_due: i64,
    confirmed: i64,
}

async fn state(shop: &Shop) -> State {
    sqlx::query_as(
        "select (select coalesce(max(position), 0) from events) as head,
            (select position from relay_checkpoint) as relay,
            (select coalesce(max(position), 0) from process_checkpoints) as checkout,
            (select coalesce(min(position), 0) from checkpoints) as projections_least,
            (select count(*) from timers where due_at <= now() or kind = 'refund') as timers_due,
            (select count(*) from events where event_type = 'order.confirmed') as confirmed",
    )
    .fetch_one(&shop.database.pool)
    .await
    .expect("the state reads")
}

/// Waits until so many orders are confirmed, everybody is at the head, and nothing happens any more.
pub async fn wait_for_quiet(shop: &Shop, confirmed: usize) {
    let started = Instant::now();
    let mut last = state(shop).await;
    let mut since = Instant::now();
    loop {
        sleep(Duration::from_millis(50)).await;
        let now = state(shop).await;
        if now != last {
            (last, since) = (now.clone(), Instant::now());
        }
        let at_head = [now.relay, now.checkout, now.projections_least] == [now.head; 3];
        let complete = usize::try_from(now.confirmed) == Ok(confirmed) && now.timers_due == 0;
        if at_head && complete && since.elapsed() >= QUIET {
            return;
        }
        if started.elapsed() >= PATIENCE {
            println!("{}", undelivered(shop).await);
            panic!("not quiet with {confirmed} confirmed: {now:?}");
        }
    }
}

/// What became of webhooks that were not simply delivered, for a failed test.
async fn undelivered(shop: &Shop) -> String {
    let deliveries = shop.at_portone(Method::GET, "/_sim/webhooks?limit=10000", None).await;
    let deliveries = deliveries["items"].as_array().expect("a list");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in deliveries {
        let outcome = format!("{} of try {}", delivery["outcome"], delivery["execution"]);
        *outcomes.entry(outcome).or_default() += 1;
    }
    format!("webhooks: {outcomes:#?}")
}

/// Panics unless everything is as the guests were told.
pub async fn check(shop: &Shop, sales: &Sales) {
    let size = invariants::check(&shop.database.pool).await;
    println!("{} events of {} commands are sound", size.events, size.commands);
    let failures: Vec<(String, String)> = sqlx::query_as("select step, error from process_failures")
        .fetch_all(&shop.database.pool)
        .await
        .expect("failures can be listed");
    assert!(failures.is_empty(), "{failures:?}");
    let log = Folded::read(shop).await;
    assert_eq!(
        log.confirmed.keys().map(ToString::to_string).collect::<BTreeSet<_>>(),
        sales.confirmed,
        "the orders that guests paid are the confirmed ones"
    );
    assert_eq!(
        log.placed,
        sales.confirmed.len() + sales.refused,
        "one order for each guest"
    );
    assert_eq!(log.refused, sales.refused, "the others were refused");
    assert_eq!(
        log.confirmed.values().sum::<i64>(),
        sales.revenue,
        "all that was bought was charged"
    );
    check_payments(shop, &log).await;
    check_stock(shop, &log, sales).await;
    check_sales(shop, sales).await;
    check_rebuilt(&shop.database.pool).await;
    let said = shop.everything_said();
    for personal in ["홍길동", "성춘향", "9876-5432", "98765432", "hong.gildong", "테헤란로"] {
        assert!(!said.contains(personal), "{personal} stands in a process's output");
    }
}

/// What the log says, folded by other code than the program's own lists.
#[derive(Default)]
struct Folded {
    placed: usize,
    refused: usize,
    /// Confirmed orders and their totals.
    confirmed: BTreeMap<OrderId, i64>,
    /// Confirmed payments in the order of the log.
    paid: Vec<(OrderId, PaymentId, i64)>,
    /// What should never have happened: money that went back or was not taken.
    undone: Vec<String>,
    sold: BTreeMap<String, u32>,
    /// Of every stream.
    stock: BTreeMap<String, StockItem>,
}

impl Folded {
    async fn read(shop: &Shop) -> Self {
        let mut folded = Self::default();
        let events = feed::read(&shop.database.pool, 0, 10_000_000)
            .await
            .expect("the log reads");
        for raw in events {
            for event in Event::decode(&raw.payload).expect("it decodes") {
                folded.take(event, &raw.payload.event_type, &raw.aggregate_id);
            }
        }
        folded
    }

    fn take(&mut self, event: Event, event_type: &str, id: &str) {
        match event {
            Event::Order(OrderEvent::Placed { .. }) => self.placed += 1,
            Event::Order(OrderEvent::Refused { .. }) => self.refused += 1,
            Event::Order(OrderEvent::Confirmed { lines, totals, .. }) => {
                let order: OrderId = id.parse().expect("an order's id");
                assert_eq!(
                    self.confirmed.insert(order, totals.total.amount),
                    None,
                    "{id} is confirmed once"
                );
                for line in lines {
                    *self.sold.entry(line.sku.to_string()).or_default() += line.quantity;
                }
            }
            Event::Order(
                OrderEvent::PaymentRejected { .. }
                | OrderEvent::Refunded { .. }
                | OrderEvent::Expired { .. }
                | OrderEvent::Cancelled { .. },
            )
            | Event::Payment(
                PaymentEvent::Refused { .. }
                | PaymentEvent::Cancelled { .. }
                | PaymentEvent::CancellationRequested { .. }
                | PaymentEvent::Failed { .. },
            ) => self.undone.push(format!("{event_type} of {id}")),
            Event::Payment(PaymentEvent::Confirmed { order_id, paid, .. }) => {
                self.paid
                    .push((order_id, id.parse().expect("a payment's id"), paid.amount));
            }
            Event::Stock(event) => self.stock.entry(id.to_owned()).or_default().apply(event),
            _ => {}
        }
    }
}

/// Exactly one confirmed payment for each confirmed order, of its total, here and at PortOne.
async fn check_payments(shop: &Shop, log: &Folded) {
    assert!(log.undone.is_empty(), "{:?}", log.undone);
    let mut by_order = BTreeMap::new();
    for (order, _, amount) in &log.paid {
        assert_eq!(by_order.insert(*order, *amount), None, "{order} is paid once");
    }
    assert_eq!(
        by_order, log.confirmed,
        "what is confirmed was paid, and the other way round"
    );
    let ours: BTreeMap<String, (String, i64, i64)> = log
        .paid
        .iter()
        .map(|(_, payment, amount)| (payment.portone(), ("PAID".to_owned(), *amount, 0)))
        .collect();
    let theirs = shop.at_portone(Method::GET, "/_sim/payments?limit=100000", None).await;
    let theirs: BTreeMap<String, (String, i64, i64)> = theirs["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| {
            let number = |name: &str| line[name].as_i64().expect("a number");
            let status = line["status"].as_str().unwrap_or("never opened").to_owned();
            let id = line["id"].as_str().expect("an id").to_owned();
            (id, (status, number("total"), number("cancelled")))
        })
        .collect();
    assert_eq!(ours, theirs, "PortOne's books say the same");
}

/// Nothing is held any more, and what came in is sold or still there, in the log and in the list.
async fn check_stock(shop: &Shop, log: &Folded, sales: &Sales) {
    let mut there = BTreeMap::new();
    for item in log.stock.values() {
        let sku = &item.sku.as_ref().expect("it begins with its sku").to_string();
        assert!(item.holds.is_empty(), "{sku} is held by {:?}", item.holds.keys());
        let sold = log.sold.get(sku).copied().unwrap_or(0);
        assert_eq!(
            item.on_hand + sold,
            sales.received.get(sku).copied().unwrap_or(0),
            "{sku}"
        );
        let on_hand = i64::from(item.on_hand);
        there.insert(sku.clone(), (on_hand, on_hand));
    }
    let schema: String =
        sqlx::query_scalar("select schema_name from builds where projection = 'stock_levels' and active")
            .fetch_one(&shop.database.pool)
            .await
            .expect("the list has a build");
    let listed: Vec<(String, i64, i64)> =
        sqlx::query_as(&format!("select sku, on_hand, available from {schema}.stock_levels"))
            .fetch_all(&shop.database.pool)
            .await
            .expect("the list reads");
    let listed: BTreeMap<_, _> = listed
        .into_iter()
        .map(|(sku, on_hand, available)| (sku, (on_hand, available)))
        .collect();
    assert_eq!(listed, there, "the list of stock is the log's");
}

/// The sales report says what was sold.
async fn check_sales(shop: &Shop, sales: &Sales) {
    // A test may begin before midnight.
    let today = jangbu::clock::korean_time(surroundings().now()).date_naive();
    let path = format!(
        "/api/v1/admin/sales?from={}&to={today}&by=category",
        today - chrono::Days::new(1)
    );
    let report = shop.as_admin(Ask::get(0, &path)).await.expect(200);
    let total = &report.body["total"];
    let expected = (Some(sales.confirmed.len()), Some(sales.revenue));
    let told = |name: &str| total[name].as_i64();
    let orders = told("orders").and_then(|orders| usize::try_from(orders).ok());
    assert_eq!((orders, told("net")), expected, "{}", report.text);
    assert_eq!(total["cancelled"], Value::from(0));
}

/// Every list equals a second one that was made from the log alone, in another database.
pub async fn check_rebuilt(db: &PgPool) {
    let elsewhere = Database::create().await;
    let (made, now) = (&elsewhere.pool, surroundings().now());
    let head = feed::head(db).await.expect("a head");
    for projection in jangbu_projections::all() {
        let live = builds::ensure(db, projection, PARTITIONS, now).await;
        let live = live.expect("the live build is there");
        let anew = builds::ensure(made, projection, PARTITIONS, now)
            .await
            .expect("a build");
        for partition in 0..PARTITIONS {
            let slots = feed::slots(partition, PARTITIONS);
            let events = feed::read_slots(db, 0, head, slots, i64::MAX).await;
            let events = events.expect("the log reads");
            let advanced = builds::advance(made, projection, &anew, partition, 0, 0, head, &events, now).await;
            assert_eq!(advanced.expect("it advances"), Advanced::Moved);
            let hash = async |db, build| builds::table_hash(db, build, partition).await.expect("it is hashed");
            assert_eq!(
                hash(db, &live).await,
                hash(made, &anew).await,
                "{} of partition {partition} is what the log says",
                projection.name
            );
        }
    }
}
