//! A moment comes to the position that counting would find, and without reading the log for it.

use jangbu::as_of::{AsOf, Moment, ResolveError};
use jangbu_events::Timestamp;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sqlx::PgPool;

use crate::database::Database;

/// Microseconds after a moment of 2026.
fn at(micros: i64) -> Timestamp {
    Timestamp::from_timestamp_micros(1_772_420_000_000_000 + micros).expect("a time")
}

/// A log of which only the times matter.
async fn record(db: &PgPool, times: &[Timestamp]) {
    sqlx::query(
        "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
           metadata, slot, store_id, event_id, command_id, occurred_at, recorded_at)
         select n, 'test', 'one', n, 'test.happened', '1', '{}', '{}', 0, gen_random_uuid(), gen_random_uuid(),
           gen_random_uuid(), t, t
         from unnest($1::timestamptz[]) with ordinality as events (t, n)",
    )
    .bind(times)
    .execute(db)
    .await
    .expect("the log takes them");
}

#[tokio::test]
async fn a_time_comes_to_the_last_position_recorded_by_then() {
    let mut random = StdRng::seed_from_u64(20_260_302);
    for length in [0, 1, 2, 3, 7, 8, 9, 100, 333] {
        let database = Database::create().await;
        let mut now = 0;
        // Many share a time, as events of one batch do.
        let times: Vec<Timestamp> = (0..length)
            .map(|_| {
                now += random.random_range(0..3);
                at(now)
            })
            .collect();
        record(&database.pool, &times).await;
        for micros in -1..=now + 1 {
            let moment = AsOf::Time(at(micros))
                .resolve(&database.pool, at(now + 1))
                .await
                .expect("it is past");
            let counted = times.iter().filter(|time| **time <= at(micros)).count();
            let expected = Moment {
                position: i64::try_from(counted).expect("few"),
                recorded_at: counted.checked_sub(1).map(|last| times[last]),
            };
            assert_eq!(moment, expected, "{micros} of {length} events");
        }
        for (position, recorded_at) in (1..).zip(&times) {
            let moment = AsOf::Position(position).resolve(&database.pool, at(0)).await;
            let recorded_at = Some(*recorded_at);
            assert_eq!(moment.expect("it is there"), Moment { position, recorded_at });
        }
    }
}

#[tokio::test]
async fn what_has_not_come_yet_has_no_position() {
    let database = Database::create().await;
    record(&database.pool, &[at(0), at(10)]).await;
    let resolve = async |as_of: AsOf, now| as_of.resolve(&database.pool, at(now)).await;
    let nothing = resolve(AsOf::Position(0), 10).await.expect("the beginning");
    assert_eq!((nothing.position, nothing.recorded_at), (0, None));
    let beyond = resolve(AsOf::Position(3), 10).await;
    assert!(
        matches!(beyond, Err(ResolveError::BeyondHead { head: 2 })),
        "{beyond:?}"
    );
    let beyond = resolve(AsOf::Position(i64::MAX), 10).await;
    assert!(
        matches!(beyond, Err(ResolveError::BeyondHead { head: 2 })),
        "{beyond:?}"
    );
    let future = resolve(AsOf::Time(at(12)), 11).await;
    assert!(matches!(future, Err(ResolveError::Future)), "{future:?}");
    assert_eq!(resolve(AsOf::Time(at(12)), 12).await.expect("it is now").position, 2);
    // Whoever recorded it has a clock that is ahead of ours: that is no future.
    assert_eq!(resolve(AsOf::Time(at(10)), 5).await.expect("it was").position, 2);
}

#[tokio::test]
async fn the_past_of_a_log_with_a_hole_is_not_told() {
    let database = Database::create().await;
    record(&database.pool, &[at(0), at(1), at(2), at(3)]).await;
    // Damage from outside: nothing here can do that.
    sqlx::raw_sql("alter table events disable trigger all; delete from events where position = 2")
        .execute(&database.pool)
        .await
        .expect("it is damaged");
    for as_of in [AsOf::Position(2), AsOf::Time(at(0))] {
        let told = as_of.resolve(&database.pool, at(9)).await;
        assert!(matches!(told, Err(ResolveError::Hole { position: 2 })), "{told:?}");
    }
}

#[tokio::test]
async fn a_time_is_found_by_the_primary_key_alone() {
    let database = Database::create().await;
    let times: Vec<Timestamp> = (0..50_000).map(at).collect();
    record(&database.pool, &times).await;
    sqlx::raw_sql("vacuum analyze events")
        .execute(&database.pool)
        .await
        .expect("it is analysed");
    let mut tx = database.pool.begin().await.expect("a transaction");
    let moment = AsOf::Time(at(31_415)).resolve(&mut *tx, at(60_000)).await;
    assert_eq!(moment.expect("it is past").position, 31_416);
    let (scanned, fetched): (i64, i64) = sqlx::query_as(
        "select pg_stat_get_xact_tuples_returned('events'::regclass),
           pg_stat_get_xact_tuples_fetched('events_pkey'::regclass)",
    )
    .fetch_one(&mut *tx)
    .await
    .expect("counters are kept");
    assert_eq!(scanned, 0, "nothing is read in sequence");
    assert!((10..40).contains(&fetched), "{fetched} rows for a log of 50,000");
}
