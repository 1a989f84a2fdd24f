//! A database of its own for every test, made from a template that is migrated once a run.

use std::{str::FromStr, sync::Arc, time::Duration};

use jangbu::{clock::Surroundings, executor::Executor, log::Log};
use sqlx::{
    ConnectOptions, Connection, Executor as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::OnceCell;
use uuid::Uuid;

static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// Where databases can be made: `TEST_DATABASE_URL`.
pub fn server() -> PgConnectOptions {
    let url =
        std::env::var("TEST_DATABASE_URL").unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    PgConnectOptions::from_str(&url)
        .expect("TEST_DATABASE_URL is a PostgreSQL address")
        .disable_statement_logging()
}

/// A migrated database that is dropped when the test ends.
pub struct Database {
    pub name: String,
    pub options: PgConnectOptions,
    pub pool: PgPool,
}

impl Database {
    pub async fn create() -> Self {
        let template = TEMPLATE.get_or_init(make_template).await;
        let name = format!("jangbu_test_{}", Surroundings::system().ids.uuid().simple());
        let mut admin = PgConnection::connect_with(&server())
            .await
            .expect("the test server answers");
        admin
            .execute(format!("create database {name} template {template}").as_str())
            .await
            .expect("a database can be made");
        // Copies share the template's log id; two logs must never.
        let options = server().database(&name);
        let pool = pool(&options).await;
        sqlx::query("update log_identity set log_id = gen_random_uuid()")
            .execute(&pool)
            .await
            .expect("a new log id");
        Self { name, options, pool }
    }

    /// The log and an executor over it, as one process has them.
    pub async fn executor(&self, surroundings: Surroundings) -> Executor {
        let log = Log::open(self.options.clone(), pool(&self.options).await, surroundings).await;
        Executor::new(log.expect("the log opens"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = self.name.clone();
        // A thread of its own: the test's runtime is going away.
        let dropper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                if let Ok(mut admin) = PgConnection::connect_with(&server()).await {
                    _ = admin
                        .execute(format!("drop database if exists {name} with (force)").as_str())
                        .await;
                }
            });
        });
        _ = dropper.join();
    }
}

/// A small pool of a database.
pub async fn pool(options: &PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(5)
        .acquire_timeout(Duration::from_secs(20))
        .test_before_acquire(false)
        .connect_with(options.clone())
        .await
        .expect("the test database answers")
}

/// Named by what is in it: parallel runs of one version share it, another version makes its own.
async fn make_template() -> String {
    let migrator = sqlx::migrate!();
    let fingerprint = migrator.iter().fold(Vec::new(), |mut bytes, migration| {
        bytes.extend_from_slice(&migration.checksum);
        bytes
    });
    let name = format!(
        "jangbu_template_{}",
        Uuid::new_v5(&Uuid::NAMESPACE_OID, &fingerprint).simple()
    );
    let mut admin = PgConnection::connect_with(&server())
        .await
        .expect("the test server answers");
    // Test processes race to make it.
    admin
        .execute("select pg_advisory_lock(7236832)")
        .await
        .expect("the lock is taken");
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut admin)
        .await
        .expect("databases can be listed");
    if !exists {
        let making = format!("{name}_making");
        admin
            .execute(format!("drop database if exists {making} with (force)").as_str())
            .await
            .expect("a clean start");
        admin
            .execute(format!("create database {making}").as_str())
            .await
            .expect("a database can be made");
        let mut connection = PgConnection::connect_with(&server().database(&making))
            .await
            .expect("the new database answers");
        migrator.run_direct(&mut connection).await.expect("the migrations run");
        connection.close().await.expect("it closes");
        admin
            .execute(format!("alter database {making} rename to {name}").as_str())
            .await
            .expect("it is renamed");
    }
    admin
        .execute("select pg_advisory_unlock(7236832)")
        .await
        .expect("the lock is given back");
    name
}

/// The machine's clock and ids, for tests that do not care.
pub fn surroundings() -> Surroundings {
    Surroundings::system()
}

/// Surroundings whose clock stands where the test puts it.
pub fn surroundings_at(now: jangbu_events::Timestamp) -> (Surroundings, Arc<jangbu::clock::ManualClock>) {
    let clock = Arc::new(jangbu::clock::ManualClock::new(now));
    (
        Surroundings {
            clock: clock.clone(),
            ids: Arc::new(jangbu::clock::SystemIds),
        },
        clock,
    )
}
