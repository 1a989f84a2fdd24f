//! Throw-away databases on this machine's server.

use std::str::FromStr as _;

use anyhow::Context as _;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use crate::work::CONNECTIONS;

/// A database that nobody else uses.
pub struct Database {
    server: PgConnectOptions,
    name: String,
    /// Where it is.
    pub options: PgConnectOptions,
    /// As many connections as a store may use.
    pub pool: PgPool,
}

impl Database {
    /// A new, empty one, on the server of `TEST_DATABASE_URL`.
    pub async fn create() -> anyhow::Result<Self> {
        let url = std::env::var("TEST_DATABASE_URL")
            .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
        let server = PgConnectOptions::from_str(&url)?.disable_statement_logging();
        let local = ["127.0.0.1", "localhost", "::1"].contains(&server.get_host());
        anyhow::ensure!(
            local,
            "TEST_DATABASE_URL is on another machine: load is only put on this one"
        );
        let name = format!("peers_{}", Uuid::now_v7().simple());
        let mut admin = PgConnection::connect_with(&server)
            .await
            .context("the server of TEST_DATABASE_URL does not answer")?;
        admin.execute(format!("create database {name}").as_str()).await?;
        admin.close().await?;
        let options = server.clone().database(&name);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await?;
        Ok(Self {
            server,
            name,
            options,
            pool,
        })
    }

    /// Drops it, whoever is still connected.
    pub async fn drop(self) -> anyhow::Result<()> {
        self.pool.close().await;
        let mut admin = PgConnection::connect_with(&self.server).await?;
        admin
            .execute(format!("drop database {} with (force)", self.name).as_str())
            .await?;
        Ok(admin.close().await?)
    }
}
