//! Over HTTP: cart commands, catalog reads, and full purchases with what every process takes.

use std::{fmt::Write as _, time::Duration};

use jangbu::clock::Surroundings;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    buyer::{Buyer, Cart},
    client::{Connection, Request},
    commands,
    figure::{Against, Figure, Goal},
    measure::{self, Client, Pace, Run, median, per_second},
    process::{self, Usage},
    shop::{SetUp, Shop, in_a_shop},
    verdict::Verdict,
};

/// Keep-alive connections, as the figures to reach are set for.
const CONNECTIONS: usize = 64;
/// Products on sale.
const PRODUCTS: usize = 200;
/// Of each: more than can be sold in one measurement.
const STOCK: u32 = 1_000_000;
/// Carts that one connection fills in turn, so that no cart gets long.
const LINES: u32 = 3;

/// A browser that changes the quantity of one line again and again.
struct Changer {
    connection: Connection,
    cart: Cart,
    path: String,
    quantity: u32,
}

impl Client for Changer {
    async fn step(&mut self) -> anyhow::Result<()> {
        self.quantity = self.quantity % 99 + 1;
        let body = json!({"quantity": self.quantity});
        let request = Request {
            method: "PATCH",
            token: Some(&self.cart.token),
            ..Request::post(&self.path, &body)
        };
        self.connection.send(request).await?.expect(200)?;
        Ok(())
    }
}

/// A browser that leafs through the catalog.
struct Reader {
    connection: Connection,
}

impl Client for Reader {
    async fn step(&mut self) -> anyhow::Result<()> {
        let answer = self.connection.send(Request::get("/api/v1/products?limit=20")).await?;
        anyhow::ensure!(answer.status == 200 && !answer.body.is_empty(), "{}", answer.status);
        Ok(())
    }
}

/// Row 6.
pub async fn http(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Vec<Figure>> {
    let limit = commands::executor_rate(surroundings, pace).await?;
    let (mut cart_runs, mut catalog_runs, mut verdict) = (Vec::new(), Vec::new(), Verdict::default());
    for _ in 0..pace.times {
        let set_up = SetUp {
            serves: 1,
            broker: false,
        };
        let (cart, catalog, its) = in_a_shop(surroundings, set_up, async |shop| {
            shop.offer(PRODUCTS, STOCK).await?;
            shop.catch_up().await?;
            let cart = change(shop, surroundings, pace).await?;
            let readers = (0..CONNECTIONS).map(|n| Reader {
                connection: Connection::new(shop.address(n)),
            });
            let (catalog, _) = measure::run(readers.collect(), pace).await?;
            Ok((cart, catalog, Verdict::of_log(&shop.database.pool).await?))
        })
        .await?;
        cart_runs.push(cart);
        catalog_runs.push(catalog);
        verdict += its;
    }
    let figure = |measure: &str, runs: &[Run], limit, goal, verdict| Figure {
        row: "http".into(),
        measure: measure.to_owned(),
        value: median(runs.iter().map(|run| run.per_second)),
        unit: "/s".into(),
        runs: runs.iter().map(|run| run.per_second).collect(),
        limit,
        goal,
        verdict,
        notes: commands::latencies(runs),
    };
    let limit = Against {
        what: "commands through the executor, 32 clients".to_owned(),
        value: limit,
    };
    Ok(vec![
        figure(
            "cart commands over HTTP, 64 connections",
            &cart_runs,
            Some(limit),
            Goal::TimesAtLeast(50),
            Some(verdict),
        ),
        figure(
            "catalog pages of 20 over HTTP, 64 connections",
            &catalog_runs,
            None,
            Goal::None,
            None,
        ),
    ])
}

async fn change(shop: &Shop, surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Run> {
    let mut changers = Vec::new();
    for number in 0..CONNECTIONS {
        let mut buyer = Buyer::new(shop.address(number), shop.sandbox().address, surroundings.clone());
        let cart = buyer.take_cart().await?;
        let sku = format!("SKU-{}", number % PRODUCTS);
        buyer.add(&cart, &[(sku.clone(), 1)]).await?;
        changers.push(Changer {
            connection: Connection::new(shop.address(number)),
            path: format!("/api/v1/carts/{}/lines/{sku}", cart.id),
            cart,
            quantity: 1,
        });
    }
    let before = shop.count("cart.line_quantity_changed").await?;
    let (run, changers) = measure::run(changers, pace).await?;
    let changed: u64 = shop.count("cart.line_quantity_changed").await? - before;
    let answered = changers.len() as u64;
    anyhow::ensure!(
        changed >= answered,
        "{changed} changes of {answered} carts are in the log"
    );
    Ok(run)
}

/// A guest who buys three things, and then the next one.
struct Shopper {
    buyer: Buyer,
    number: usize,
    turn: usize,
}

impl Client for Shopper {
    async fn step(&mut self) -> anyhow::Result<()> {
        self.turn += 1;
        let lines: Vec<(String, u32)> = (0..LINES)
            .map(|line| {
                let product = (self.number * 31 + self.turn * 7 + line as usize * 67) % PRODUCTS;
                (format!("SKU-{product}"), line % 2 + 1)
            })
            .collect();
        let bought = self.buyer.buy(&lines).await?;
        anyhow::ensure!(bought, "something is sold out");
        Ok(())
    }
}

/// Rows 13 and 15.
pub async fn purchases(surroundings: &Surroundings, sustained: Duration, broker: bool) -> anyhow::Result<Vec<Figure>> {
    let pace = Pace {
        warm_up: Duration::from_secs(2),
        measured: sustained,
        times: 1,
    };
    let set_up = SetUp { serves: 1, broker };
    in_a_shop(surroundings, set_up, async |shop| {
        buy(shop, surroundings, pace, broker).await
    })
    .await
}

async fn buy(shop: &Shop, surroundings: &Surroundings, pace: Pace, broker: bool) -> anyhow::Result<Vec<Figure>> {
    shop.offer(PRODUCTS, STOCK).await?;
    shop.catch_up().await?;
    let idle = shop.serve().usage()?;
    let shoppers = (0..CONNECTIONS)
        .map(|number| Shopper {
            buyer: Buyer::new(shop.address(number), shop.sandbox().address, surroundings.clone()),
            number,
            turn: 0,
        })
        .collect();
    let taken = Taken::now(shop)?;
    let begun = Instant::now();
    let (run, shoppers) = measure::run(shoppers, pace).await?;
    let elapsed = begun.elapsed();
    let lag = shop.catch_up().await?;
    let after = Taken::now(shop)?;
    let bought: u64 = shoppers.iter().map(|shopper| shopper.turn as u64).sum();
    let repeats: u64 = shoppers.iter().map(|shopper| shopper.buyer.repeats).sum();
    let verdict = shop.verdict(bought).await?;
    let events: i64 = sqlx::query_scalar("select max(position) from events")
        .fetch_one(&shop.database.pool)
        .await?;

    let way = if broker { "RabbitMQ" } else { "no broker" };
    let figure = |row: &'static str, measure: String, value, unit: &'static str, goal, notes| Figure {
        row: row.into(),
        measure,
        value,
        unit: unit.into(),
        runs: vec![value],
        limit: None,
        goal,
        verdict: Some(verdict),
        notes,
    };
    let mut notes = format!(
        "{bought} purchases and {events} events in {} s, {}, {repeats} repeated requests; processor seconds:",
        elapsed.as_secs(),
        commands::latencies(std::slice::from_ref(&run)),
    );
    after.since(&taken, &mut notes);
    Ok(vec![
        figure(
            "purchases",
            format!(
                "full purchases over HTTP, 64 buyers, {} s, {way}",
                pace.measured.as_secs()
            ),
            run.per_second,
            "/s",
            Goal::AtLeast(300),
            notes,
        ),
        figure(
            "purchases",
            format!("the read side's lag at the end of it, {way}"),
            u64::try_from(lag.as_millis())?,
            "ms",
            Goal::AtMost(1_000),
            String::new(),
        ),
        figure(
            "purchases",
            format!("resident memory of serve, idle, {way}"),
            idle.resident_mib,
            "MiB",
            Goal::AtMost(50),
            String::new(),
        ),
        figure(
            "purchases",
            format!("resident memory of serve, after that load, {way}"),
            after.serve.resident_mib,
            "MiB",
            Goal::AtMost(200),
            String::new(),
        ),
    ])
}

/// What everything has taken of the processor.
struct Taken {
    serve: Usage,
    sandbox: Usage,
    postgres: Duration,
    rabbitmq: Duration,
    own: Duration,
}

impl Taken {
    fn now(shop: &Shop) -> anyhow::Result<Self> {
        Ok(Self {
            serve: shop.serve().usage()?,
            sandbox: shop.sandbox().usage()?,
            postgres: process::cpu_of_backends(shop.database.name()),
            rabbitmq: process::cpu_of_all("beam.smp"),
            own: process::own_cpu()?,
        })
    }

    fn since(&self, before: &Self, notes: &mut String) {
        for (name, now, then) in [
            ("serve", self.serve.cpu, before.serve.cpu),
            ("PostgreSQL", self.postgres, before.postgres),
            ("RabbitMQ", self.rabbitmq, before.rabbitmq),
            ("sandbox", self.sandbox.cpu, before.sandbox.cpu),
            ("buyers", self.own, before.own),
        ] {
            let taken = now.saturating_sub(then);
            let tenths = per_second(
                u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
                Duration::from_secs(100),
            );
            write!(notes, " {name} {}.{}", tenths / 10, tenths % 10).expect("a string takes everything");
        }
    }
}
