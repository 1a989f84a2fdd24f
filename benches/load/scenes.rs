//! Whole scenes that must come out to the won: a flash sale, and a real shop's baskets with every webhook three times.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use jangbu::clock::{Surroundings, korean_time};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    buyer::Buyer,
    figure::{Figure, Goal},
    measure::median,
    shop::{SetUp, Shop, in_a_shop},
};

/// In stock, and who wants one.
const FLASH_STOCK: u32 = 100;
const FLASH_BUYERS: usize = 500;
const FLASH_AT_ONCE: usize = 32;

/// The baskets: what is bought, and what that comes to.
const JOURNEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/journey");
const JOURNEY_CLIENTS: usize = 16;
/// The longest that the last webhooks may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Row 14, on so many `serve` processes.
async fn flash(shop: &Shop, surroundings: &Surroundings, sales: usize, serves: usize) -> anyhow::Result<Figure> {
    shop.offer(sales, FLASH_STOCK).await?;
    shop.catch_up().await?;
    let mut runs_ms = Vec::new();
    for sale in 0..sales {
        let (sold, refused, elapsed) = one_sale(shop, surroundings, format!("SKU-{sale}")).await?;
        anyhow::ensure!(
            sold == u64::from(FLASH_STOCK) && sold + refused == FLASH_BUYERS as u64,
            "{sold} were sold and {refused} refused"
        );
        runs_ms.push(u64::try_from(elapsed.as_millis())?);
    }
    shop.catch_up().await?;
    let confirmed = (sales as u64) * u64::from(FLASH_STOCK);
    let mut verdict = shop.verdict(confirmed).await?;
    // Nobody who was refused may have been asked for money.
    let asked = shop.count("payment.requested").await?;
    verdict.duplicated += asked.saturating_sub(confirmed);
    let refusals = shop.count("order.refused").await?;
    anyhow::ensure!(
        refusals == (sales * FLASH_BUYERS) as u64 - confirmed,
        "{refusals} orders were refused"
    );
    let worst = runs_ms.iter().max().copied().unwrap_or(0);
    Ok(Figure {
        row: "flash".into(),
        measure: format!("flash sale, stock {FLASH_STOCK}, {FLASH_BUYERS} buyers at {FLASH_AT_ONCE}, {serves} serve"),
        value: median(runs_ms.clone()),
        unit: "ms".into(),
        runs: runs_ms,
        limit: None,
        goal: Goal::AtMost(1_000),
        verdict: Some(verdict),
        notes: format!(
            "{sales} in a row, slowest {worst} ms: each sold exactly {FLASH_STOCK}, refused {}, asked {asked} of \
             {confirmed} buyers for money",
            FLASH_BUYERS - FLASH_STOCK as usize
        ),
    })
}

/// Sold, refused, and how long until the last buyer knew.
async fn one_sale(shop: &Shop, surroundings: &Surroundings, sku: String) -> anyhow::Result<(u64, u64, Duration)> {
    let next = Arc::new(AtomicUsize::new(0));
    let (sold, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut running = JoinSet::new();
    let begun = Instant::now();
    for client in 0..FLASH_AT_ONCE {
        let (next, sold, refused) = (Arc::clone(&next), Arc::clone(&sold), Arc::clone(&refused));
        let mut buyer = Buyer::new(shop.address(client), shop.sandbox().address, surroundings.clone());
        let lines = [(sku.clone(), 1)];
        running.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < FLASH_BUYERS {
                let counted = if buyer.buy(&lines).await? { &sold } else { &refused };
                counted.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    let elapsed = begun.elapsed();
    Ok((sold.load(Ordering::Relaxed), refused.load(Ordering::Relaxed), elapsed))
}

/// A real shop's baskets, bought by live guests; every webhook comes three times, in random order.
pub async fn journey(surroundings: &Surroundings, baskets_max: usize) -> anyhow::Result<Vec<Figure>> {
    let expected: Value = serde_json::from_str(&tokio::fs::read_to_string(format!("{JOURNEY}/expected.json")).await?)?;
    let products = format!("{JOURNEY}/products.csv");
    let prices = prices(&products)?;
    let mut baskets = baskets(&format!("{JOURNEY}/baskets.csv"))?;
    let whole = baskets.len() <= baskets_max;
    baskets.truncate(baskets_max);
    let mut stock: BTreeMap<String, u32> = BTreeMap::new();
    let mut revenue = 0;
    for (sku, quantity) in baskets.iter().flatten() {
        *stock.entry(sku.clone()).or_default() += quantity;
        revenue += prices.get(sku).with_context(|| format!("{sku} has a price"))? * u64::from(*quantity);
    }
    if whole {
        anyhow::ensure!(expected["revenue_krw"] == revenue, "the baskets come to {revenue} won");
    }

    let count = baskets.len();
    let set_up = SetUp {
        serves: 1,
        broker: true,
    };
    let scene = async |shop: &Shop| {
        shop.import_products(&products).await?;
        shop.stock(stock.into_iter().collect()).await?;
        let faults = json!([
            {"fault": "webhook_duplicate", "copies": 3},
            {"fault": "webhook_reorder", "hold": 12, "ms": 200},
        ]);
        shop.at_portone("/_sim/faults", &faults).await?;
        let elapsed = buy_all(shop, surroundings, baskets).await?;
        let settled = settle(shop).await?;
        let verdict = shop.verdict(count as u64).await?;
        Ok((elapsed, settled, verdict, sold(shop, surroundings).await?))
    };
    let (elapsed, (taken, refused, lag), verdict, (orders, net)) = in_a_shop(surroundings, set_up, scene).await?;
    anyhow::ensure!(
        orders == count as u64 && net == revenue,
        "{orders} orders of {net} won are in the sales, instead of {count} of {revenue} won"
    );
    Ok(vec![Figure {
        row: "journey".into(),
        measure: format!("{count} real baskets as live guests, {JOURNEY_CLIENTS} clients, every webhook three times"),
        value: u64::try_from(elapsed.as_millis())?,
        unit: "ms".into(),
        runs: vec![u64::try_from(elapsed.as_millis())?],
        limit: None,
        goal: Goal::None,
        verdict: Some(verdict),
        notes: format!(
            "{orders} confirmed, revenue {net} won, as expected; {taken} webhooks taken and {refused} refused, sales \
             complete {} ms after the last",
            lag.as_millis()
        ),
    }])
}

async fn buy_all(
    shop: &Shop,
    surroundings: &Surroundings,
    baskets: Vec<Vec<(String, u32)>>,
) -> anyhow::Result<Duration> {
    let baskets = Arc::new(baskets);
    let mut running = JoinSet::new();
    let begun = Instant::now();
    for client in 0..JOURNEY_CLIENTS {
        let baskets = Arc::clone(&baskets);
        let mut buyer = Buyer::new(shop.address(client), shop.sandbox().address, surroundings.clone());
        running.spawn(async move {
            for basket in baskets.iter().skip(client).step_by(JOURNEY_CLIENTS) {
                anyhow::ensure!(buyer.buy(basket).await?, "something is sold out");
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(begun.elapsed())
}

/// Waits until the last webhook was delivered and everything is shown. How many webhooks were taken and refused, and
/// how long it took the read side.
async fn settle(shop: &Shop) -> anyhow::Result<(u64, u64, Duration)> {
    shop.at_portone("/_sim/webhooks/release", &json!({})).await?;
    let begun = Instant::now();
    loop {
        let (pending, taken, refused) = shop.webhooks().await?;
        if pending == 0 {
            return Ok((taken, refused, shop.catch_up().await?));
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{pending} webhooks are still pending");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Orders and won of yesterday, today and tomorrow, as the sales report has them: midnight may pass meanwhile.
async fn sold(shop: &Shop, surroundings: &Surroundings) -> anyhow::Result<(u64, u64)> {
    let today = korean_time(surroundings.now()).date_naive();
    let (from, to) = (today - chrono::TimeDelta::days(1), today + chrono::TimeDelta::days(1));
    let report = shop.ask(&format!("/api/v1/admin/sales?from={from}&to={to}")).await?;
    let number = |name: &str| {
        report["total"][name]
            .as_u64()
            .with_context(|| format!("{name} in {report}"))
    };
    Ok((number("orders")?, number("net")?))
}

/// What one of each product costs, in won.
fn prices(file: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut prices = BTreeMap::new();
    let mut table = csv::Reader::from_path(file)?;
    for row in table.deserialize::<BTreeMap<String, String>>() {
        let row = row?;
        prices.insert(row["sku"].clone(), row["price_krw"].parse()?);
    }
    Ok(prices)
}

/// (sku, quantity) of every basket.
fn baskets(file: &str) -> anyhow::Result<Vec<Vec<(String, u32)>>> {
    let mut baskets: BTreeMap<String, Vec<(String, u32)>> = BTreeMap::new();
    let mut table = csv::Reader::from_path(file)?;
    for row in table.deserialize::<BTreeMap<String, String>>() {
        let row = row?;
        let line = (row["sku"].clone(), row["quantity"].parse()?);
        baskets.entry(row["basket_id"].clone()).or_default().push(line);
    }
    Ok(baskets.into_values().collect())
}

/// The flash sales with one process and with two.
pub async fn flash_sales(surroundings: &Surroundings, sales: usize) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for serves in [1, 2] {
        let set_up = SetUp { serves, broker: false };
        let scene = async |shop: &Shop| flash(shop, surroundings, sales, serves).await;
        figures.push(in_a_shop(surroundings, set_up, scene).await?);
    }
    Ok(figures)
}
