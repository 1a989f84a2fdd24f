//! The whole journey: its true totals, straight from the log.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
};

use jangbu::{
    clock::korean_time,
    import::{self, Options, Phase, Progress, Report, Silent},
    processes,
};
use jangbu_domain::{Checkout, Order, OrderCommand, OrderError, totals};
use jangbu_events::{AggregateId, CancelReason, Event, OrderEvent, OrderId, ProductEvent};
use serde_json::{Value, json};

use super::files::{Shop, journey};
use crate::database::surroundings;

async fn import_all(shop: &Shop, options: &Options, progress: &dyn Progress) -> (Report, Report) {
    let products = import::products(&shop.executor, &journey("products.csv"), options, progress).await;
    let orders = import::orders(&shop.executor, &journey("baskets.csv"), options, progress).await;
    (
        products.expect("products are imported"),
        orders.expect("orders are imported"),
    )
}

/// What `expected.json` says, counted from the log's events.
async fn counted(shop: &Shop) -> Value {
    let mut products = 0;
    let (mut baskets, mut lines_count, mut units, mut revenue) = (0, 0, 0_u32, 0);
    let mut households = HashSet::new();
    let mut by_day: BTreeMap<String, (i64, u64)> = BTreeMap::new();
    let mut by_category: BTreeMap<String, i64> = BTreeMap::new();
    let mut by_sku: BTreeMap<String, u32> = BTreeMap::new();
    for event in shop.events(0).await {
        match &event.payload {
            Event::Product(ProductEvent::Registered { .. }) => products += 1,
            Event::Product(ProductEvent::Published {}) => {}
            Event::Order(OrderEvent::Imported {
                external_customer,
                lines,
                totals: sums,
                ..
            }) => {
                baskets += 1;
                lines_count += lines.len();
                households.insert(external_customer.clone());
                revenue += sums.total.amount;
                assert_eq!(Ok(*sums), totals(lines), "the sums are the sums of the lines");
                let day = korean_time(event.occurred_at).date_naive().to_string();
                let day = by_day.entry(day).or_default();
                day.0 += sums.total.amount;
                day.1 += 1;
                for line in lines {
                    units += line.quantity;
                    *by_category.entry(line.category.clone()).or_default() += line.total.amount;
                    *by_sku.entry(line.sku.to_string()).or_default() += line.quantity;
                }
            }
            other => panic!("an import makes no {other:?}"),
        }
    }
    let mut top: Vec<(String, u32)> = by_sku.into_iter().collect();
    top.sort_by_key(|(sku, units)| (std::cmp::Reverse(*units), sku.clone()));
    top.truncate(20);
    json!({
        "products": products,
        "baskets": baskets,
        "lines": lines_count,
        "households": households.len(),
        "units": units,
        "revenue_krw": revenue,
        "revenue_by_day_krw": by_day.iter().map(|(day, sums)| (day, sums.0)).collect::<BTreeMap<_, _>>(),
        "orders_by_day": by_day.iter().map(|(day, sums)| (day, sums.1)).collect::<BTreeMap<_, _>>(),
        "revenue_by_category_krw": by_category,
        "top_20_skus_by_units": top,
    })
}

fn expected() -> Value {
    let text = std::fs::read_to_string(journey("expected.json")).expect("expected.json is there");
    serde_json::from_str(&text).expect("expected.json is JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journey_comes_to_its_true_totals_and_is_imported_once() {
    let shop = Shop::open().await;
    let (products, orders) = import_all(&shop, &Options::default(), &Silent).await;
    assert_eq!((products.read, products.imported, products.rejected), (3_325, 3_325, 0));
    assert_eq!(
        (orders.rows, orders.read, orders.imported, orders.rejected),
        (5_745, 609, 609, 0)
    );
    assert_eq!(orders.total_krw, 21_774_230);
    assert_eq!((orders.rejects_file, orders.stopped), (None, false));
    let expected = expected();
    assert_eq!(expected["revenue_krw"], 21_774_230);
    assert_eq!(counted(&shop).await, expected);

    let head = shop.head().await;
    assert_eq!(head, 2 * 3_325 + 609);
    let (products, orders) = import_all(&shop, &Options::default(), &Silent).await;
    assert_eq!((products.read, products.unchanged), (3_325, 3_325));
    assert_eq!((orders.read, orders.unchanged, orders.total_krw), (609, 609, 0));
    assert_eq!(shop.head().await, head, "a second import changes nothing");
    // Nor does another process, which remembers nothing.
    assert_eq!(counted(&shop).await, expected);
}

/// Stops an import once so many products or baskets are done.
struct StopAfter<'a> {
    items: u64,
    options: &'a Options,
    seen: AtomicU64,
}

impl Progress for StopAfter<'_> {
    fn start(&self, _: Phase, bytes: u64) {
        assert!(bytes > 0);
    }
    fn advance(&self, _: u64, items: u64) {
        self.seen.fetch_max(items, Ordering::Relaxed);
        if items >= self.items {
            self.options.stop.cancel();
        }
    }
    fn finish(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_import_goes_on_where_it_stopped() {
    let shop = Shop::open().await;
    let file = journey("products.csv");
    let mut imported = 0;
    for round in 1.. {
        assert!(round < 20, "every round gets further");
        let options = Options::default();
        let stopper = StopAfter {
            items: imported + 1,
            options: &options,
            seen: AtomicU64::new(0),
        };
        let report = import::products(&shop.executor, &file, &options, &stopper).await;
        let report = report.expect("it stops cleanly");
        assert_eq!(report.read, report.imported + report.unchanged);
        assert_eq!(report.unchanged, imported.min(report.read));
        imported += report.imported;
        assert_eq!(shop.head().await, i64::try_from(2 * imported).expect("small"));
        if !report.stopped {
            assert!(round > 1, "the first round was stopped");
            break;
        }
    }
    assert_eq!(imported, 3_325);

    let options = Options::default();
    options.stop.cancel();
    let nothing = import::orders(&shop.executor, &journey("baskets.csv"), &options, &Silent).await;
    let nothing = nothing.expect("it stops cleanly");
    assert!(nothing.stopped);
    assert_eq!((nothing.read, shop.head().await), (0, 6_650));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_goes_on() {
    let shop = Shop::open().await;
    let file = journey("products.csv");
    let options = Options::default();
    let products = import::products(&shop.executor, &file, &options, &Silent).await;
    products.expect("products are imported");
    // Dropped in mid-flight, as by a signal: some commands are in the log, some are not.
    let baskets = journey("baskets.csv");
    let mut head = shop.executor.log().watch();
    let killed = tokio::select! {
        biased;
        grown = head.wait_for(|position| *position > 6_650) => grown.is_ok(),
        _ = import::orders(&shop.executor, &baskets, &options, &Silent) => false,
    };
    assert!(killed, "it was killed before it was done");
    let rest = import::orders(&shop.executor, &baskets, &options, &Silent).await;
    let rest = rest.expect("it goes on");
    assert_eq!(rest.imported + rest.unchanged, 609);
    assert!(rest.unchanged > 0);
    assert_eq!(counted(&shop).await, expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_imports_at_once_import_everything_once() {
    let shop = Shop::open().await;
    let options = Options::default();
    let (one, other) = tokio::join!(
        import_all(&shop, &options, &Silent),
        import_all(&shop, &options, &Silent)
    );
    assert_eq!(one.0.imported + other.0.imported, 3_325);
    assert_eq!(one.1.imported + other.1.imported, 609);
    assert_eq!(one.1.rejected + other.1.rejected, 0);
    assert_eq!(counted(&shop).await, expected());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_ever_acts_upon_an_imported_order() {
    let shop = Shop::open().await;
    import_all(&shop, &Options::default(), &Silent).await;
    let head = shop.head().await;
    assert!(!Checkout::EVENT_TYPES.contains(&"order.imported"));
    while processes::round(&shop.executor, 0, head)
        .await
        .expect("the checkout process goes on")
        > 0
    {}
    let seen: i64 = sqlx::query_scalar("select position from process_checkpoints")
        .fetch_one(shop.executor.log().pool())
        .await
        .expect("the process has a checkpoint");
    assert_eq!(seen, head, "it has seen everything");
    assert_eq!(shop.head().await, head, "the checkout process sent nothing");
    let timers: i64 = sqlx::query_scalar("select count(*) from timers")
        .fetch_one(shop.executor.log().pool())
        .await
        .expect("timers can be counted");
    assert_eq!(timers, 0);
    let event = shop.events(head - 1).await.remove(0);
    let id: OrderId = event.id().expect("an order");
    assert_eq!(event.slot, jangbu_events::Slot::of(id.uuid()));
    assert_eq!(event.correlation_id, Some(id.uuid()));
    assert_eq!(event.metadata.channel, "import");
    let reason = CancelReason::Operator;
    let envelope =
        jangbu::executor::CommandEnvelope::new(surroundings().ids.uuid(), event.metadata.clone(), surroundings().now());
    let refused = shop
        .executor
        .execute::<Order>(id, OrderCommand::Cancel { reason }, envelope)
        .await;
    assert!(matches!(
        refused,
        Err(jangbu::executor::ExecuteError::Refused(OrderError::Imported))
    ));
}
