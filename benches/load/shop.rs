//! A whole shop for one measurement: a database, PortOne's simulator and one or more `serve`, each a process of its
//! own, with every role in each.

use std::{fmt::Write as _, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use jangbu::clock::Surroundings;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    broker,
    client::{Connection, Request},
    database::Database,
    process::{Process, free_address, output, program},
    verdict::Verdict,
};

const API_SECRET: &str = "bench-api-secret";
const STORE: &str = "store-bench";
/// What the read side may take to catch up at the end of anything.
const PATIENCE: Duration = Duration::from_secs(120);
/// Connections that fill the shelves.
const STOCKERS: usize = 16;

/// How a shop is set up.
#[derive(Debug, Clone, Copy)]
pub struct SetUp {
    /// `serve` processes on the one database.
    pub serves: usize,
    /// Whether events go through RabbitMQ.
    pub broker: bool,
}

/// A running shop.
pub struct Shop {
    /// Its own.
    pub database: Database,
    /// PortOne, and then the shop itself.
    processes: Vec<Process>,
    /// An admin's token.
    admin: String,
    amqp_url: Option<String>,
    directory: PathBuf,
    variables: Vec<(String, String)>,
}

/// Opens a shop, lets `scene` happen in it, and closes it whatever happened.
pub async fn in_a_shop<T>(
    surroundings: &Surroundings,
    set_up: SetUp,
    scene: impl AsyncFnOnce(&Shop) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut shop = Shop::prepare(surroundings, set_up).await?;
    let done = match shop.start(set_up.serves).await {
        Ok(()) => scene(&shop).await,
        Err(error) => Err(error),
    };
    let closed = shop.close().await;
    // What went wrong first is the better reason.
    let done = done?;
    closed?;
    Ok(done)
}

impl Shop {
    /// Everything but its processes.
    async fn prepare(surroundings: &Surroundings, set_up: SetUp) -> anyhow::Result<Self> {
        let database = Database::create(surroundings).await?;
        let directory = std::env::temp_dir().join(database.name());
        tokio::fs::create_dir(&directory).await?;
        let amqp_url = if set_up.broker { broker::url() } else { None };
        let mut variables: Vec<(String, String)> = [
            ("DATABASE_URL", database.url().to_string()),
            ("JANGBU_DATA_DIR", directory.display().to_string()),
            (
                "JANGBU_JWT_SECRET",
                "a secret of a bench, of 32 bytes or more".to_owned(),
            ),
            ("JANGBU_MASTER_KEY", "07".repeat(32)),
            ("JANGBU_RATE_REQUESTS_PER_MINUTE", "0".to_owned()),
            ("PORTONE_API_SECRET", API_SECRET.to_owned()),
            ("PORTONE_STORE_ID", STORE.to_owned()),
            ("PORTONE_CHANNEL_KEY", "channel-key-bench".to_owned()),
            (
                "PORTONE_WEBHOOK_SECRETS",
                "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned(),
            ),
            ("RUST_LOG", "error".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        variables.extend(amqp_url.clone().map(|url| ("AMQP_URL".to_owned(), url)));
        Ok(Self {
            database,
            processes: Vec::new(),
            admin: String::new(),
            amqp_url,
            directory,
            variables,
        })
    }

    /// PortOne first, then so many `serve`.
    async fn start(&mut self, serves: usize) -> anyhow::Result<()> {
        let mut addresses = Vec::new();
        for _ in 0..=serves {
            addresses.push(free_address().await?);
        }
        let portone = addresses[0];
        self.variables
            .push(("PORTONE_API_BASE".to_owned(), format!("http://{portone}")));
        let mut token = program(&self.directory, &self.variables);
        token.args(["token", "--role", "admin"]);
        self.admin = output(token).await?;

        let webhooks = format!("http://{}/webhooks/portone", addresses[1]);
        let mut command = program(&self.directory, &self.variables);
        command.args(["sandbox", "--bind", &portone.to_string(), "--webhook-url", &webhooks]);
        self.processes
            .push(Process::start("sandbox", command, portone, "/livez").await?);
        for address in addresses.into_iter().skip(1) {
            let mut command = program(&self.directory, &self.variables);
            command.env("JANGBU_BIND", address.to_string()).arg("serve");
            self.processes
                .push(Process::start("serve", command, address, "/readyz").await?);
        }
        Ok(())
    }

    /// PortOne.
    pub fn sandbox(&self) -> &Process {
        &self.processes[0]
    }

    /// The first `serve`.
    pub fn serve(&self) -> &Process {
        &self.processes[1]
    }

    /// Where the n-th client should go.
    pub fn address(&self, client: usize) -> SocketAddr {
        self.processes[1 + client % (self.processes.len() - 1)].address
    }

    /// Puts products on sale, from a file as `jangbu import products` takes it.
    pub async fn import_products(&self, file: &str) -> anyhow::Result<()> {
        let mut command = program(&self.directory, &self.variables);
        let rejects = self.directory.join("rejects.csv");
        command.args(["import", "products", file, "--rejects"]).arg(rejects);
        output(command).await?;
        Ok(())
    }

    /// Puts `count` products on sale, `SKU-0` …, at 1,000 won and up, with so many of each.
    pub async fn offer(&self, count: usize, quantity: u32) -> anyhow::Result<()> {
        let mut rows = String::from("sku,name,category,price_krw\n");
        for number in 0..count {
            let price = 1_000 + 10 * number;
            writeln!(rows, "SKU-{number},골프공 {number}호,골프공,{price}").expect("a string takes everything");
        }
        let file = self.directory.join("products.csv");
        tokio::fs::write(&file, rows).await?;
        self.import_products(&file.display().to_string()).await?;
        let stock = (0..count).map(|number| (format!("SKU-{number}"), quantity)).collect();
        self.stock(stock).await
    }

    /// Fills the shelves.
    pub async fn stock(&self, stock: Vec<(String, u32)>) -> anyhow::Result<()> {
        let stock = Arc::new(stock);
        let mut running = JoinSet::new();
        for stocker in 0..STOCKERS {
            let (stock, token) = (Arc::clone(&stock), self.admin.clone());
            let mut connection = Connection::new(self.address(stocker));
            running.spawn(async move {
                for (sku, quantity) in stock.iter().skip(stocker).step_by(STOCKERS) {
                    let (path, body) = (
                        format!("/api/v1/admin/stock/{sku}/receive"),
                        json!({"quantity": quantity}),
                    );
                    let request = Request {
                        token: Some(&token),
                        ..Request::post(&path, &body)
                    };
                    connection.send(request).await?.expect(200)?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(())
    }

    /// How long the read side takes from now to show everything that is in the log now.
    pub async fn catch_up(&self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let db = &self.database.pool;
        let head: i64 = sqlx::query_scalar("select coalesce(max(position), 0) from events")
            .fetch_one(db)
            .await?;
        while shown_to(db).await? < head {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the projections do not catch up");
            sleep(Duration::from_millis(2)).await;
        }
        Ok(begun.elapsed())
    }

    /// `GET` by an admin.
    pub async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let request = Request {
            token: Some(&self.admin),
            ..Request::get(path)
        };
        Connection::new(self.address(0)).send(request).await?.expect(200)
    }

    /// `POST` to the simulator's control surface.
    pub async fn at_portone(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let answer = Connection::new(self.sandbox().address)
            .send(Request::post(path, body))
            .await?;
        anyhow::ensure!(answer.status < 300, "{}", String::from_utf8_lossy(&answer.body));
        Ok(())
    }

    /// Webhooks that are still on their way, and how many were answered 200 and otherwise.
    pub async fn webhooks(&self) -> anyhow::Result<(u64, u64, u64)> {
        let log = Connection::new(self.sandbox().address)
            .send(Request::get("/_sim/webhooks?limit=10000"))
            .await?
            .expect(200)?;
        let items = log["items"].as_array().context("deliveries are listed")?;
        let taken = items.iter().filter(|one| one["status"] == 200).count();
        let pending = log["pending"].as_u64().context("pending webhooks are counted")?;
        Ok((pending, taken as u64, (items.len() - taken) as u64))
    }

    /// How many events of a type the log has.
    pub async fn count(&self, event_type: &str) -> anyhow::Result<u64> {
        let count: i64 = sqlx::query_scalar("select count(*) from events where event_type = $1")
            .bind(event_type)
            .fetch_one(&self.database.pool)
            .await?;
        Ok(u64::try_from(count)?)
    }

    /// The log's own order, and that exactly these orders were confirmed, each paid for once.
    pub async fn verdict(&self, confirmed: u64) -> anyhow::Result<Verdict> {
        let mut verdict = Verdict::of_log(&self.database.pool).await?;
        for event_type in ["order.confirmed", "payment.confirmed"] {
            let found = self.count(event_type).await?;
            verdict.lost += confirmed.saturating_sub(found);
            verdict.duplicated += found.saturating_sub(confirmed);
        }
        Ok(verdict)
    }

    /// Ends all of it and clears up, as far as that goes; tells what did not.
    async fn close(self) -> anyhow::Result<()> {
        let mut ended = Ok(());
        for process in self.processes.into_iter().rev() {
            ended = ended.and(process.stop().await);
        }
        if let Some(url) = &self.amqp_url {
            ended = ended.and(broker::forget(url, &self.database.pool).await);
        }
        ended = ended.and(self.database.drop().await);
        tokio::fs::remove_dir_all(&self.directory).await?;
        ended
    }
}

/// Up to where every projection shows the log.
async fn shown_to(db: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("select coalesce(min(position), 0) from checkpoints")
        .fetch_one(db)
        .await
}
