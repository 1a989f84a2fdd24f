//! What this crate's tests share: a database of their own, histories, and ways to tell them.

mod history;
mod narrator;
mod random;

use std::{
    env, process,
    sync::atomic::{AtomicU32, Ordering},
};

use jangbu_events::{Event, Recorded, Timestamp, samples};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::task::{LocalSet, spawn_local};

use crate::{Registered, all, builds};

pub use history::History;
pub use narrator::Script;
pub use random::random_history;

/// As many as the tests of this crate feed; any number would do.
pub const PARTITIONS: i16 = 4;

/// Runs a test in a migrated database of its own, which is dropped afterwards whatever came of it.
pub async fn with_database<F, Running>(test: F)
where
    F: FnOnce(PgPool) -> Running,
    Running: Future<Output = ()> + 'static,
{
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let url =
        env::var("TEST_DATABASE_URL").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    let options: PgConnectOptions = url.parse().expect("TEST_DATABASE_URL is a URL of PostgreSQL");
    let name = format!(
        "projections_{}_{}",
        process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let outer = pool(options.clone(), 1).await;
    let drop_it = format!("drop database if exists {name} with (force)");
    sqlx::raw_sql(&drop_it)
        .execute(&outer)
        .await
        .expect("a leftover is dropped");
    let create_it = format!("create database {name}");
    sqlx::raw_sql(&create_it)
        .execute(&outer)
        .await
        .expect("the role may create databases");

    let db = pool(options.database(&name), 3).await;
    sqlx::migrate!("../migrations")
        .run(&db)
        .await
        .expect("the migrations run");
    let running = test(db.clone());
    let outcome = LocalSet::new().run_until(async { spawn_local(running).await }).await;

    db.close().await;
    sqlx::raw_sql(&drop_it)
        .execute(&outer)
        .await
        .expect("the database is dropped");
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

async fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .expect("PostgreSQL answers")
}

/// A pool for queries, as the shell opens it: its search path leads to the active builds.
pub async fn query_pool(db: &PgPool) -> PgPool {
    let path = builds::active_search_path(db).await.expect("builds are listed");
    let options = (*db.connect_options())
        .clone()
        .options([("search_path", path.replace(' ', ""))]);
    pool(options, 2).await
}

/// Any moment will do for what is only ever shown.
pub fn now() -> Timestamp {
    samples::moment()
}

/// The registered projection of that name.
pub fn projection(name: &str) -> &'static Registered {
    all()
        .iter()
        .find(|projection| projection.name == name)
        .expect("it is registered")
}

/// The events of one partition, in order.
pub fn of_partition(events: &[Recorded<Event>], partition: i16) -> Vec<Recorded<Event>> {
    let here =
        |event: &&Recorded<Event>| i32::from(event.slot.partition(PARTITIONS.unsigned_abs())) == i32::from(partition);
    events.iter().filter(here).cloned().collect()
}

/// Builds one projection from the history in one go, and gives a pool to query it with.
pub async fn project(db: &PgPool, name: &str, history: &History) -> PgPool {
    let projection = projection(name);
    let build = builds::ensure(db, projection, PARTITIONS, now())
        .await
        .expect("a build");
    let through = history.head();
    for partition in 0..PARTITIONS {
        let raw = history.raw(partition);
        builds::advance(db, projection, &build, partition, 0, 0, through, &raw, now())
            .await
            .expect("the history is applied");
    }
    query_pool(db).await
}
