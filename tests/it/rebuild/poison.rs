//! An event that cannot be applied stops a rebuild, and nobody who reads notices.

use jangbu::rebuild::{RebuildError, copy::CopyError};
use jangbu_events::{Event, Recorded};
use jangbu_projections::{Projection, Registered};
use sqlx::PgConnection;

use super::{PARTITIONS, again, entry, rebuild};
use crate::fanout::probe::World;

/// Takes nothing from position 40 on.
struct Picky;

impl Projection for Picky {
    const NAME: &'static str = "picky";
    const CODE_VERSION: i32 = 1;
    const SCHEMA: &'static str =
        "create table taken (position bigint primary key check (position < 40), partition smallint)";
    const EVENT_TYPES: &'static [&'static str] = &["product.renamed"];

    async fn apply(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        let positions: Vec<i64> = batch.iter().map(|event| event.position).collect();
        sqlx::query(
            "insert into taken (partition, position) select $1, position from unnest($2::bigint[]) as position",
        )
        .bind(partition)
        .bind(positions)
        .execute(db)
        .await?;
        Ok(())
    }
}

static PICKY: Registered = Registered::of::<Picky>();

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_event_is_named_and_nothing_is_switched() {
    let world = World::create().await;
    let db = &world.database.pool;
    for _ in 0..30 {
        world.append_one().await;
    }
    let first = rebuild(db, &PICKY, again(PARTITIONS)).await.expect("it is made");
    assert_eq!(
        (first.schema.as_str(), first.position, first.events),
        ("picky_v1_b1", 0, 30)
    );
    for _ in 0..30 {
        world.append_one().await;
    }
    for _ in 0..2 {
        let failed = rebuild(db, &PICKY, again(PARTITIONS)).await.expect_err("it is poison");
        let RebuildError::Copy(CopyError::Poison {
            position,
            event_type,
            ref reason,
            ..
        }) = failed
        else {
            panic!("{failed:?}")
        };
        assert!(position >= 40, "{position}");
        assert_eq!(event_type, "product.renamed");
        assert!(reason.contains("taken_position_check"), "{reason}");
        assert!(
            failed
                .to_string()
                .starts_with(&format!("the event at position {position} (product.renamed of prd_"))
        );
    }
    // Everything before it is in the tables, all of it once.
    let taken: i64 = sqlx::query_scalar("select count(*) from picky_v1_b2.taken where position < 40")
        .fetch_one(db)
        .await
        .expect("a count");
    assert!((30..=39).contains(&taken), "{taken}");
    let (old, new) = (entry(db, "picky_v1_b1").await, entry(db, "picky_v1_b2").await);
    assert_eq!((old.active, new.active, new.phase), (true, false, "filling"));
    jangbu::rebuild::list::drop(db, "picky_v1_b2", true)
        .await
        .expect("it is dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_is_named_too() {
    let world = World::create().await;
    let db = &world.database.pool;
    world.append_one().await;
    sqlx::query(
        "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
             metadata, slot, store_id, event_id, command_id, occurred_at, recorded_at)
         select 2, aggregate_type, 'prd_x', 1, event_type, event_version, '{\"type\": \"product.renamed\", \"name\": 7}',
             metadata, slot, store_id, gen_random_uuid(), gen_random_uuid(), occurred_at, recorded_at
         from events where position = 1",
    )
    .execute(db)
    .await
    .expect("a damaged log");
    let failed = rebuild(db, &PICKY, again(1)).await.expect_err("it is poison");
    assert!(
        failed.to_string().starts_with("the event at position 2 cannot be read"),
        "{failed}"
    );
}
