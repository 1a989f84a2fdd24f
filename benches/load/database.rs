//! Throw-away databases on the server that `TEST_DATABASE_URL` names.

use std::str::FromStr as _;

use anyhow::Context as _;
use jangbu::{clock::Surroundings, executor::Executor, log::Log, node};
use reqwest::Url;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool, postgres::PgConnectOptions};

/// Connections of the pool that an executor under load gets, as many as `JANGBU_DB_POOL_MAX` gives one.
const POOL: u32 = 16;

/// A database that nobody else uses. [`Database::drop`] drops it; after a crash it stays, named `jangbu_bench_…`.
pub struct Database {
    server: Url,
    name: String,
    /// Where it is.
    pub options: PgConnectOptions,
    /// For set-up and for looking at what came of it.
    pub pool: PgPool,
}

/// Where databases can be made.
pub fn server() -> anyhow::Result<Url> {
    let url =
        std::env::var("TEST_DATABASE_URL").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    let url = Url::parse(&url).context("TEST_DATABASE_URL is not a URL")?;
    let local = url
        .host_str()
        .is_some_and(|host| matches!(host, "127.0.0.1" | "localhost" | "[::1]"));
    anyhow::ensure!(
        local,
        "TEST_DATABASE_URL is on another machine: load is only put on this one"
    );
    Ok(url)
}

impl Database {
    /// A new one with Jangbu's tables.
    pub async fn create(surroundings: &Surroundings) -> anyhow::Result<Self> {
        let server = server()?;
        let name = format!("jangbu_bench_{}", surroundings.ids.uuid().simple());
        let mut admin = admin(&server).await?;
        admin.execute(format!("create database {name}").as_str()).await?;
        admin.close().await?;
        let mut url = server.clone();
        url.set_path(&name);
        let options = PgConnectOptions::from_str(url.as_str())?.disable_statement_logging();
        let pool = node::pool(&options, POOL).await?;
        node::migrate(&pool).await?;
        Ok(Self {
            server,
            name,
            options,
            pool,
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, for other programs.
    pub fn url(&self) -> Url {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url
    }

    /// An executor as a process of its own has it.
    pub async fn executor(&self, surroundings: &Surroundings) -> anyhow::Result<Executor> {
        let pool = node::pool(&self.options, POOL).await?;
        let log = Log::open(self.options.clone(), pool, surroundings.clone()).await?;
        Ok(Executor::new(log))
    }

    /// Drops it, whoever is still connected.
    pub async fn drop(self) -> anyhow::Result<()> {
        self.pool.close().await;
        let mut admin = admin(&self.server).await?;
        admin
            .execute(format!("drop database {} with (force)", self.name).as_str())
            .await?;
        admin.close().await?;
        Ok(())
    }
}

/// The server's version, as it says itself.
pub async fn server_version() -> anyhow::Result<String> {
    let mut admin = admin(&server()?).await?;
    let version = sqlx::query_scalar("show server_version").fetch_one(&mut admin).await?;
    admin.close().await?;
    Ok(version)
}

async fn admin(server: &Url) -> anyhow::Result<PgConnection> {
    let options = PgConnectOptions::from_str(server.as_str())?.disable_statement_logging();
    PgConnection::connect_with(&options)
        .await
        .context("the server of TEST_DATABASE_URL does not answer")
}
