//! A projection that writes down what it is told, so that twice, never and out of order all show.

use std::time::Duration;

use futures_util::future::join_all;
use jangbu::{
    broker,
    clock::Surroundings,
    feed::{self, Context},
    log::{Log, NewCommand, NewEvent, Outcome},
};
use jangbu_events::{AggregateId, Event, ProductId, Recorded, Slot, StoreId};
use jangbu_projections::{Projection, Registered};
use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::database::{self, Database};

/// Has no key, unlike any real projection: an event applied twice is two rows.
pub struct Probe;

impl Projection for Probe {
    const NAME: &'static str = "probe";
    const CODE_VERSION: i32 = 1;
    const SCHEMA: &'static str =
        "create table seen (n bigint generated always as identity, partition smallint, position bigint)";
    const EVENT_TYPES: &'static [&'static str] = &["product.renamed"];

    async fn apply(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        let positions: Vec<i64> = batch.iter().map(|event| event.position).collect();
        sqlx::query("insert into seen (partition, position) select $1, position from unnest($2::bigint[]) as position")
            .bind(partition)
            .bind(positions)
            .execute(db)
            .await?;
        Ok(())
    }
}

/// As the program's own are registered.
pub static PROBE: Registered = Registered::of::<Probe>();

/// Partitions in these tests.
pub const PARTITIONS: i16 = 4;
/// Of the leases in these tests.
pub const LEASE_TTL: Duration = Duration::from_millis(900);

/// A log that is being fanned out.
pub struct World {
    pub database: Database,
    pub log: Log,
    _exchange: Exchange,
}

impl World {
    pub async fn create() -> Self {
        let database = Database::create().await;
        let surroundings = database::surroundings();
        let log = Log::open(database.options.clone(), database.pool.clone(), surroundings)
            .await
            .expect("the log opens");
        let exchange = Exchange(log.log_id());
        Self {
            database,
            log,
            _exchange: exchange,
        }
    }

    /// What one process knows, with a pool of its own.
    pub async fn process(&self, amqp_url: Option<String>) -> Context {
        Context {
            db: database::pool(&self.database.options).await,
            surroundings: Surroundings::system(),
            amqp_url,
            partitions: PARTITIONS,
            head: Some(self.log.watch()),
            lease_ttl: LEASE_TTL,
        }
    }

    /// Appends `count` commands of one to three events to random streams, many at once.
    pub async fn append(&self, count: usize) {
        let answers = (0..count).map(|n| async move {
            let command = command(
                if n % 5 == 0 {
                    "product.published"
                } else {
                    "product.renamed"
                },
                1 + n % 3,
            );
            self.log
                .append(command, Duration::from_secs(20))
                .await
                .expect("the log answers")
        });
        for outcome in join_all(answers).await {
            assert!(matches!(outcome, Outcome::Appended(_)), "{outcome:?}");
        }
    }

    /// Appends one event that the probe sees and gives its position.
    pub async fn append_one(&self) -> i64 {
        let outcome = self
            .log
            .append(command("product.renamed", 1), Duration::from_secs(20))
            .await;
        let Ok(Outcome::Appended(appended)) = outcome else {
            panic!("{outcome:?}")
        };
        appended.position
    }

    /// Waits until every partition of the probe is at the head of this moment.
    pub async fn wait_until_complete(&self) {
        let head = feed::head(&self.database.pool).await.expect("the log has a head");
        eventually("every partition is at the head", Duration::from_secs(40), async || {
            let behind = "select count(*) from checkpoints where projection = 'probe' and position < $1";
            let rows = "select count(*) from checkpoints where projection = 'probe'";
            let rows: i64 = sqlx::query_scalar(rows)
                .fetch_one(&self.database.pool)
                .await
                .expect("a count");
            let behind: i64 = sqlx::query_scalar(behind)
                .bind(head)
                .fetch_one(&self.database.pool)
                .await
                .expect("a count");
            rows == i64::from(PARTITIONS) && behind == 0
        })
        .await;
    }

    /// Every event that the probe reads was applied once, in the order of its partition.
    pub async fn assert_each_once_in_order(&self) {
        for partition in 0..PARTITIONS {
            let slots = feed::slots(partition, PARTITIONS);
            let wanted: Vec<i64> = sqlx::query_scalar(
                "select position from events
                 where event_type = 'product.renamed' and slot between $1 and $2 order by position",
            )
            .bind(*slots.start())
            .bind(*slots.end())
            .fetch_all(&self.database.pool)
            .await
            .expect("the log reads");
            assert_eq!(
                seen(&self.database.pool, partition).await,
                wanted,
                "partition {partition}"
            );
        }
    }
}

/// What the probe was told of a partition, in the order it was told.
pub async fn seen(db: &PgPool, partition: i16) -> Vec<i64> {
    sqlx::query_scalar("select position from probe_v1_b1.seen where partition = $1 order by n")
        .bind(partition)
        .fetch_all(db)
        .await
        .expect("the probe's table reads")
}

pub fn command(event_type: &str, events: usize) -> NewCommand {
    let surroundings = database::surroundings();
    let id = ProductId::from_uuid(surroundings.ids.uuid());
    let payload = format!(r#"{{"type":"{event_type}","name":"드라이버"}}"#);
    let event = NewEvent {
        occurred_at: None,
        event_type: event_type.into(),
        event_version: "1".into(),
        payload,
    };
    NewCommand {
        command_id: surroundings.ids.uuid(),
        store_id: StoreId::DEFAULT,
        aggregate_type: "product",
        aggregate_id: id.to_string(),
        slot: Slot::of(id.uuid()),
        expected_sequence: 0,
        events: vec![event; events],
        metadata: r#"{"actor_kind":"system","channel":"test"}"#.into(),
        causation_id: None,
        correlation_id: None,
        occurred_at: surroundings.now(),
        body_hash: None,
        unique_keys: vec![],
        personal_keys: vec![],
        beside: jangbu::log::Beside::default(),
    }
}

/// Asks until it is so.
pub async fn eventually(what: &str, within: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Where RabbitMQ is.
pub fn amqp_url() -> String {
    std::env::var("TEST_AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// Deletes what a log has at the broker when the test ends.
struct Exchange(Uuid);

impl Drop for Exchange {
    fn drop(&mut self) {
        let log = self.0;
        // A thread of its own: the test's runtime is going away.
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(delete(log))
        });
        // Left behind, queues expire by themselves.
        _ = deleting.join();
    }
}

async fn delete(log: Uuid) -> Result<(), broker::ConnectError> {
    let connection = broker::connect(&amqp_url(), "test").await?;
    let channel = connection.create_channel().await?;
    for partition in 0..PARTITIONS {
        let queue = broker::queue(log, &build(), partition);
        channel
            .queue_delete(queue.into(), lapin::options::QueueDeleteOptions::default())
            .await?;
    }
    let options = lapin::options::ExchangeDeleteOptions::default();
    channel.exchange_delete(broker::exchange(log).into(), options).await?;
    Ok(connection.close(200, "bye".into()).await?)
}

/// The probe's only build.
pub fn build() -> broker::BuildName {
    broker::BuildName {
        projection: "probe".into(),
        code_version: 1,
        build: 1,
    }
}
