//! Commands through the executor, straight into the log: latency, throughput, events, one hot aggregate.

use jangbu::{
    clock::Surroundings,
    executor::{CommandEnvelope, Executor},
    feed,
};
use jangbu_domain::product::{Product, ProductCommand, ProductStatus};
use jangbu_events::{Metadata, Money, ProductEvent, ProductId, Sku, StoreId, TaxClass};
use tokio::task::JoinSet;

use crate::{
    database::Database,
    figure::{Against, Figure, Goal},
    limit::{Limit, Measured},
    measure::{self, Client, Pace, Run, median},
    verdict::{Receipt, Verdict},
};

/// Bytes of the payload of `product.renamed`, here and in the limit.
const PAYLOAD_BYTES: usize = 300;

/// What a command changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// One event of [`PAYLOAD_BYTES`].
    Name,
    /// The same, and two small ones.
    NamePriceAndStatus,
}

/// Everything that is measured with one number of clients.
struct Case {
    clients: usize,
    /// Aggregates that they share out among them: as many as clients, or 1.
    products: usize,
    change: Change,
}

/// A shopkeeper who revises one product again and again.
struct Reviser {
    executor: Executor,
    surroundings: Surroundings,
    product: ProductId,
    change: Change,
    number: usize,
    turn: u64,
    receipts: Vec<Receipt>,
}

impl Client for Reviser {
    async fn step(&mut self) -> anyhow::Result<()> {
        self.turn += 1;
        let (command, events) = (revise(self.change, self.number, self.turn), count(self.change));
        let command_id = self.surroundings.ids.uuid();
        let envelope = CommandEnvelope::new(command_id, metadata(), self.surroundings.now());
        let committed = self
            .executor
            .execute::<Product>(self.product, command, envelope)
            .await?;
        anyhow::ensure!(
            committed.events.len() == events && !committed.duplicate,
            "a command made {} events instead of {events}",
            committed.events.len()
        );
        self.receipts.push(Receipt {
            command_id,
            position: committed.position,
            sequence: committed.sequence,
            events: i64::try_from(events)?,
        });
        Ok(())
    }
}

/// Row 1.
pub async fn latency(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Vec<Figure>> {
    let limit = Limit {
        clients: 1,
        rows: payloads(Change::Name),
    };
    let limit = limit.measure(surroundings, pace).await?;
    let case = Case {
        clients: 1,
        products: 1,
        change: Change::Name,
    };
    let (runs, verdict) = case.measure(surroundings, pace).await?;
    let figure = |hundredths, limit_us, goal| {
        let values: Vec<u64> = runs.iter().map(|run| run.percentile_us(hundredths)).collect();
        Figure {
            row: "latency".into(),
            measure: format!("one warm command through the executor, 1 client, p{hundredths}"),
            value: median(values.clone()),
            unit: "µs".into(),
            runs: values,
            limit: Some(Against {
                what: format!("pgbench, one-row commit, 1 client, p{hundredths}"),
                value: limit_us,
            }),
            goal,
            verdict: Some(verdict),
            notes: String::new(),
        }
    };
    Ok(vec![
        figure(50, limit.p50_us, Goal::TimesAtMost(150)),
        figure(99, limit.p99_us, Goal::None),
    ])
}

/// Row 2.
pub async fn throughput(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Vec<Figure>> {
    let limit = one_row_limit(surroundings, pace).await?;
    let mut figures = Vec::new();
    for (clients, goal) in [
        (1, Goal::None),
        (32, Goal::TimesAtLeast(140)),
        (256, Goal::TimesAtLeast(250)),
    ] {
        let case = Case {
            clients,
            products: clients,
            change: Change::Name,
        };
        let (runs, verdict) = case.measure(surroundings, pace).await?;
        figures.push(Figure {
            row: "commands".into(),
            measure: format!("commands through the executor, {clients} client(s)"),
            value: median(runs.iter().map(|run| run.per_second)),
            unit: "/s".into(),
            runs: runs.iter().map(|run| run.per_second).collect(),
            limit: Some(one_row(limit)),
            goal,
            verdict: Some(verdict),
            notes: latencies(&runs),
        });
    }
    Ok(figures)
}

/// Row 3.
pub async fn events(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Vec<Figure>> {
    let change = Change::NamePriceAndStatus;
    let limit = Limit {
        clients: 32,
        rows: payloads(change),
    };
    let limit = limit.measure(surroundings, pace).await?;
    let case = Case {
        clients: 128,
        products: 128,
        change,
    };
    let (runs, verdict) = case.measure(surroundings, pace).await?;
    let values: Vec<u64> = runs.iter().map(|run| run.per_second * count(change) as u64).collect();
    Ok(vec![Figure {
        row: "events".into(),
        measure: "events through the executor, 3 a command, 128 clients".to_owned(),
        value: median(values.clone()),
        unit: "/s".into(),
        runs: values,
        limit: Some(Against {
            what: "pgbench, rows of three-row commits of the same payloads, 32 clients".to_owned(),
            value: limit.commits_per_second * count(change) as u64,
        }),
        goal: Goal::TimesAtLeast(120),
        verdict: Some(verdict),
        notes: latencies(&runs),
    }])
}

/// Row 4.
pub async fn hot(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Vec<Figure>> {
    let case = |products| Case {
        clients: 32,
        products,
        change: Change::Name,
    };
    let (spread, mut verdict) = case(32).measure(surroundings, pace).await?;
    let (runs, hot_verdict) = case(1).measure(surroundings, pace).await?;
    verdict += hot_verdict;
    Ok(vec![Figure {
        row: "hot".into(),
        measure: "commands to one hot aggregate, 32 clients, no visible conflict".to_owned(),
        value: median(runs.iter().map(|run| run.per_second)),
        unit: "/s".into(),
        runs: runs.iter().map(|run| run.per_second).collect(),
        limit: Some(Against {
            what: "commands through the executor, 32 clients".to_owned(),
            value: median(spread.iter().map(|run| run.per_second)),
        }),
        goal: Goal::TimesAtLeast(70),
        verdict: Some(verdict),
        notes: latencies(&runs),
    }])
}

/// Row 12: the runs of 1 client and of 32 on a log that holds other things, each the `nth` of its kind there.
pub async fn among(
    database: &Database,
    surroundings: &Surroundings,
    pace: Pace,
    first: usize,
) -> anyhow::Result<([Vec<Run>; 2], Verdict)> {
    let (mut runs, mut verdict) = ([Vec::new(), Vec::new()], Verdict::default());
    for nth in 0..pace.times {
        for (kind, clients) in [1, 32].into_iter().enumerate() {
            let case = Case {
                clients,
                products: clients,
                change: Change::Name,
            };
            let nth = 2 * (first + nth) + kind;
            let (run, its) = case.once(database, surroundings, pace, nth).await?;
            runs[kind].push(run);
            verdict += its;
        }
    }
    Ok((runs, verdict))
}

/// Commands a second through the executor, 32 clients: what commands over HTTP are held against.
pub async fn executor_rate(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<u64> {
    let case = Case {
        clients: 32,
        products: 32,
        change: Change::Name,
    };
    let (runs, _) = case.measure(surroundings, pace).await?;
    Ok(median(runs.iter().map(|run| run.per_second)))
}

/// What one-row commits of 32 clients come to: what commands are held against.
async fn one_row_limit(surroundings: &Surroundings, pace: Pace) -> anyhow::Result<Measured> {
    let limit = Limit {
        clients: 32,
        rows: payloads(Change::Name),
    };
    limit.measure(surroundings, pace).await
}

fn one_row(limit: Measured) -> Against {
    Against {
        what: "pgbench, one-row commits, 32 clients".to_owned(),
        value: limit.commits_per_second,
    }
}

impl Case {
    async fn measure(&self, surroundings: &Surroundings, pace: Pace) -> anyhow::Result<(Vec<Run>, Verdict)> {
        let (mut runs, mut verdict) = (Vec::new(), Verdict::default());
        for _ in 0..pace.times {
            let database = Database::create(surroundings).await?;
            let ran = self.once(&database, surroundings, pace, 0).await;
            database.drop().await?;
            let (run, its) = ran?;
            verdict += its;
            runs.push(run);
        }
        Ok((runs, verdict))
    }

    /// One run, the `nth` on this database, whose log may hold other things already.
    async fn once(
        &self,
        database: &Database,
        surroundings: &Surroundings,
        pace: Pace,
        nth: usize,
    ) -> anyhow::Result<(Run, Verdict)> {
        let executor = database.executor(surroundings).await?;
        let before = feed::head(&database.pool).await?;
        let (products, mut receipts) = register(&executor, surroundings, nth, self.products).await?;
        let clients = (0..self.clients)
            .map(|number| Reviser {
                executor: executor.clone(),
                surroundings: surroundings.clone(),
                product: products[number % products.len()],
                change: self.change,
                number,
                turn: 0,
                receipts: Vec::new(),
            })
            .collect();
        let (run, clients) = measure::run(clients, pace).await?;
        receipts.extend(clients.into_iter().map(|client| client.receipts));
        let verdict = Verdict::of(&database.pool, before, &receipts).await?;
        executor.log().pool().close().await;
        Ok((run, verdict))
    }
}

/// Brings so many products into the range; each is a client of its own to the verdict.
async fn register(
    executor: &Executor,
    surroundings: &Surroundings,
    nth: usize,
    products: usize,
) -> anyhow::Result<(Vec<ProductId>, Vec<Vec<Receipt>>)> {
    let mut running = JoinSet::new();
    for number in 0..products {
        let (executor, surroundings) = (executor.clone(), surroundings.clone());
        running.spawn(async move {
            let sku = format!("BENCH-{nth}-{number}").parse::<Sku>()?;
            let product = ProductId::of(StoreId::DEFAULT, &sku);
            let command = ProductCommand::Register {
                sku,
                name: "드라이버".to_owned(),
                category: "golf".to_owned(),
                price: Money::won(390_000),
                tax_class: TaxClass::Taxable,
                attributes: std::collections::BTreeMap::new(),
            };
            let command_id = surroundings.ids.uuid();
            let envelope = CommandEnvelope::new(command_id, metadata(), surroundings.now());
            let committed = executor.execute::<Product>(product, command, envelope).await?;
            let receipt = Receipt {
                command_id,
                position: committed.position,
                sequence: committed.sequence,
                events: 1,
            };
            anyhow::Ok((product, vec![receipt]))
        });
    }
    let (mut ids, mut receipts) = (Vec::new(), Vec::new());
    while let Some(done) = running.join_next().await {
        let (product, its) = done??;
        ids.push(product);
        receipts.push(its);
    }
    Ok((ids, receipts))
}

/// As an admin request has it.
pub fn metadata() -> Metadata {
    Metadata {
        actor_kind: "admin".to_owned(),
        channel: "http".to_owned(),
        ..Metadata::default()
    }
}

/// The n-th revision by one client: never what the product is already.
fn revise(change: Change, number: usize, turn: u64) -> ProductCommand {
    let all = change == Change::NamePriceAndStatus;
    let statuses = [ProductStatus::Published, ProductStatus::Hidden];
    ProductCommand::Revise {
        name: Some(name(number, turn)),
        price: all.then(|| Money::won(100_000 + i64::try_from(turn % 100_000).expect("it is small"))),
        status: all.then(|| statuses[usize::from(turn.is_multiple_of(2))]),
    }
}

const fn count(change: Change) -> usize {
    match change {
        Change::Name => 1,
        Change::NamePriceAndStatus => 3,
    }
}

/// What a name is filled up with.
const PADDING: [u8; PAYLOAD_BYTES] = [b'x'; PAYLOAD_BYTES];

/// Makes the payload of `product.renamed` [`PAYLOAD_BYTES`] long.
fn name(number: usize, turn: u64) -> String {
    const JSON_AROUND_NAME: usize = r#"{"type":"product.renamed","name":""}"#.len();
    let mut name = format!("driver {number:06} {turn:012} ");
    let padding = PAYLOAD_BYTES - JSON_AROUND_NAME - name.len();
    name.push_str(std::str::from_utf8(&PADDING[..padding]).expect("it is ASCII"));
    name
}

/// JSON of the events of one command.
fn payloads(change: Change) -> Vec<String> {
    let mut events = vec![ProductEvent::Renamed { name: name(0, 1) }];
    if change == Change::NamePriceAndStatus {
        events.push(ProductEvent::Repriced {
            previous_price: Money::won(100_001),
            price: Money::won(100_002),
        });
        events.push(ProductEvent::Published {});
    }
    events
        .iter()
        .map(|event| serde_json::to_string(event).expect("events are JSON"))
        .collect()
}

/// Median and tail, for the notes.
pub fn latencies(runs: &[Run]) -> String {
    let of = |hundredths| median(runs.iter().map(|run| run.percentile_us(hundredths)));
    format!("p50 {} µs, p99 {} µs", of(50), of(99))
}
