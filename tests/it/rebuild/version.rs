//! docs/fixing-a-read-model.md, done: a bug is found in a read model, and a new code version of it is built
//! beside the old one, which stays.

use std::{sync::Arc, time::Duration};

use jangbu::workers;
use jangbu_events::{Event, Recorded};
use jangbu_projections::{Projection, Registered, builds};
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use super::{PARTITIONS, again, entry, rebuild};
use crate::{
    database,
    fanout::probe::{World, eventually},
};

const SCHEMA: &str = "create table renames (partition smallint primary key, counted bigint not null, until bigint)";

async fn count(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>], each: i64) -> sqlx::Result<()> {
    let events = i64::try_from(batch.len()).expect("a few");
    let until = batch.iter().map(|event| event.position).max();
    sqlx::query(
        "insert into renames values ($1, $2, $3)
         on conflict (partition) do update
         set counted = renames.counted + excluded.counted, until = excluded.until",
    )
    .bind(partition)
    .bind(events * each)
    .bind(until)
    .execute(db)
    .await?;
    Ok(())
}

/// Counts every renaming twice. That is the bug.
struct Wrong;

impl Projection for Wrong {
    const NAME: &'static str = "renames";
    const CODE_VERSION: i32 = 1;
    const SCHEMA: &'static str = SCHEMA;
    const EVENT_TYPES: &'static [&'static str] = &["product.renamed"];

    async fn apply(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        count(db, partition, batch, 2).await
    }
}

/// The same, put right.
struct Right;

impl Projection for Right {
    const NAME: &'static str = "renames";
    const CODE_VERSION: i32 = 2;
    const SCHEMA: &'static str = SCHEMA;
    const EVENT_TYPES: &'static [&'static str] = &["product.renamed"];

    async fn apply(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        count(db, partition, batch, 1).await
    }
}

static WRONG: Registered = Registered::of::<Wrong>();
static RIGHT: Registered = Registered::of::<Right>();

/// Nothing, while there is no such schema yet.
async fn counted(db: &PgPool, schema: &str) -> i64 {
    let query = format!("select coalesce(sum(counted), 0)::bigint from {schema}.renames");
    sqlx::query_scalar(&query).fetch_one(db).await.unwrap_or(-1)
}

async fn renamed(db: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from events where event_type = 'product.renamed'")
        .fetch_one(db)
        .await
        .expect("a count")
}

async fn follows(db: &PgPool, schema: &str, times: i64) {
    eventually("the tables are at the head", Duration::from_secs(20), async || {
        counted(db, schema).await == times * renamed(db).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bug_that_is_found_later_is_fixed_beside_the_open_shop() {
    let world = Arc::new(World::create().await);
    let db = &world.database.pool;
    // The old program is live, and wrong.
    let old = CancellationToken::new();
    let old_program = tokio::spawn(workers::run(world.process(None).await, vec![&WRONG], old.clone()));
    world.append(200).await;
    follows(db, "renames_v1_b1", 2).await;

    // The new one is built beside it, while the shop goes on.
    let writing = world.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..20 {
            writing.append(20).await;
        }
    });
    let rebuilt = rebuild(db, &RIGHT, again(PARTITIONS)).await.expect("it is built");
    assert_eq!((rebuilt.schema.as_str(), rebuilt.replaced), ("renames_v2_b1", None));
    // It is what the new program reads, and nothing changed for the old one, which goes on.
    let (first, second) = (entry(db, "renames_v1_b1").await, entry(db, "renames_v2_b1").await);
    assert!(first.active && second.active, "{first:?} {second:?}");
    assert!(
        second.position >= 200,
        "it had caught up before it was read: {second:?}"
    );

    // The new program starts beside the old one, and finds it built.
    let now = database::surroundings().now();
    let found = builds::ensure(db, &RIGHT, PARTITIONS, now).await.expect("a build");
    assert_eq!(found.schema_name, "renames_v2_b1");
    let new = CancellationToken::new();
    let new_program = tokio::spawn(workers::run(world.process(None).await, vec![&RIGHT], new.clone()));
    writer.await.expect("it writes");
    follows(db, "renames_v2_b1", 1).await;
    follows(db, "renames_v1_b1", 2).await;

    // The old one is stopped, and its tables stay for going back: it catches up when it starts again.
    old.cancel();
    old_program.await.expect("it ends in order");
    world.append(50).await;
    follows(db, "renames_v2_b1", 1).await;
    let (old, back) = (CancellationToken::new(), world.process(None).await);
    let old_program = tokio::spawn(workers::run(back, vec![&WRONG], old.clone()));
    follows(db, "renames_v1_b1", 2).await;
    for stop in [old, new] {
        stop.cancel();
    }
    for program in [old_program, new_program] {
        program.await.expect("it ends in order");
    }
}
