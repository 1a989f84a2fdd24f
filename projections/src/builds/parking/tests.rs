use jangbu_events::{ProductEvent, RawEvent, Sku, StockEvent, TaxClass};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom as _};
use tokio::task::spawn_local;

use super::*;
use crate::{
    all,
    builds::{Fed, Phase, advance, advance_or_park, create, table_hash},
    testing::{History, PARTITIONS, now, projection, random_history, with_database},
};

async fn fresh(db: &PgPool, projection: &Registered) -> Build {
    let mut tx = db.begin().await.unwrap();
    let build = create(&mut tx, projection, PARTITIONS, Phase::Live, now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    build
}

async fn hashes(db: &PgPool, build: &Build) -> Vec<String> {
    let mut hashes = Vec::new();
    for partition in 0..PARTITIONS {
        hashes.push(table_hash(db, build, partition).await.unwrap());
    }
    hashes
}

/// Feeds one partition as a worker would, in stretches of up to `stretch`. Gives how many are parked then.
async fn feed(
    db: &PgPool,
    projection: &Registered,
    build: &Build,
    partition: i16,
    raw: &[RawEvent],
    (mut from, head): (i64, i64),
    mut stretch: impl FnMut() -> i64,
) -> Result<i32, AdvanceError> {
    let mut count = 0;
    while from < head {
        let through = (from + stretch()).min(head);
        let events: Vec<_> = raw
            .iter()
            .filter(|event| event.position > from && event.position <= through)
            .cloned()
            .collect();
        let fed = advance_or_park(db, projection, build, partition, 0, from, through, &events, now()).await?;
        let Fed::Moved { parked, newly } = fed else {
            panic!("{fed:?}")
        };
        assert!(i64::from(parked) >= i64::try_from(newly.len()).unwrap());
        (count, from) = (parked, through);
    }
    Ok(count)
}

/// Tells a parked aggregate the log's own events again.
async fn retry(db: &PgPool, projection: &'static Registered, parked: &ParkedAggregate, log: &[RawEvent]) -> Retried {
    let (kind, id) = (&parked.aggregate_type, &parked.aggregate_id);
    let mut retry = begin_retry(db, projection, parked.build, kind, id)
        .await
        .unwrap()
        .expect("it is parked");
    let missed: Vec<_> = log
        .iter()
        .filter(|event| (&event.aggregate_type, &event.aggregate_id) == (kind, id))
        .filter(|event| event.sequence >= retry.parked().sequence && event.position <= retry.through())
        .cloned()
        .collect();
    for events in missed.chunks(3) {
        if !retry.tell(events, now()).await.unwrap() {
            break;
        }
    }
    retry.finish(now()).await.unwrap()
}

fn log(history: &History) -> Vec<RawEvent> {
    (0..PARTITIONS).flat_map(|partition| history.raw(partition)).collect()
}

/// Whatever is parked, and whenever, and in whatever order it is told again: in the end the rows are
/// those of a build in which nothing ever failed. What a row owes to several streams must not depend
/// on which of them came first.
#[tokio::test]
async fn told_late_is_as_if_told_in_time() {
    for seed in 1..=2 {
        with_database(async move |db| {
            let mut random = StdRng::seed_from_u64(seed);
            let history = random_history(seed, 300);
            for projection in all() {
                let healthy = fresh(&db, projection).await;
                let poisoned = fresh(&db, projection).await;
                let read = |event: &&RawEvent| projection.event_types.contains(&event.payload.event_type.as_str());
                let bad: Vec<i64> = log(&history)
                    .iter()
                    .filter(read)
                    .map(|event| event.position)
                    .choose_multiple(&mut random, 6);
                for partition in 0..PARTITIONS {
                    let raw = history.raw(partition);
                    let whole = (0, history.head());
                    let none = feed(&db, projection, &healthy, partition, &raw, whole, || 1_000).await;
                    assert_eq!(none.unwrap(), 0);
                    let mut torn = raw.clone();
                    for event in torn.iter_mut().filter(|event| bad.contains(&event.position)) {
                        event.payload.payload = "{}".into();
                    }
                    let stretch = || random.random_range(1..60);
                    feed(&db, projection, &poisoned, partition, &torn, whole, stretch)
                        .await
                        .unwrap();
                }
                let name = projection.name;
                let mut parked = super::parked(&db, Some(name), None, None, 100).await.unwrap();
                assert!(!parked.is_empty(), "seed {seed}: {name} parked nothing");
                assert_ne!(
                    hashes(&db, &poisoned).await,
                    hashes(&db, &healthy).await,
                    "seed {seed}: {name}"
                );
                while !parked.is_empty() {
                    let one = parked.swap_remove(random.random_range(0..parked.len()));
                    assert!(bad.contains(&one.position), "seed {seed}: {one:?}");
                    let retried = retry(&db, projection, &one, &log(&history)).await;
                    assert!(matches!(retried, Retried::Applied { .. }), "seed {seed}: {one:?}");
                }
                let (healed, wanted) = (hashes(&db, &poisoned).await, hashes(&db, &healthy).await);
                assert_eq!(healed, wanted, "seed {seed}: {name}");
            }
        })
        .await;
    }
}

fn registered(sku: &Sku, name: &str) -> ProductEvent {
    ProductEvent::Registered {
        sku: sku.clone(),
        name: name.to_owned(),
        category: "드라이버".to_owned(),
        price: jangbu_events::Money::won(1_000),
        tax_class: TaxClass::Taxable,
        attributes: [].into(),
    }
}

fn renamed(name: &str) -> ProductEvent {
    ProductEvent::Renamed { name: name.to_owned() }
}

fn sku(n: usize) -> Sku {
    format!("SKU-{n}").parse().unwrap()
}

/// Twenty products, renamed in turns; one becomes a dragon half-way.
fn dragons() -> History {
    let mut history = History::default();
    for round in 0..4 {
        for n in 0..20 {
            let name = format!("{n}번 {round}");
            let event = match round {
                0 => registered(&sku(n), &name),
                2.. if n == 5 => renamed(&format!("용 홍길동 {round}")),
                _ => renamed(&name),
            };
            history.product(&sku(n), now(), event);
        }
    }
    history
}

async fn feed_all(db: &PgPool, projection: &Registered, build: &Build, history: &History) -> i32 {
    let mut parked = 0;
    for partition in 0..PARTITIONS {
        let raw = history.raw(partition);
        let whole = (0, history.head());
        parked += feed(db, projection, build, partition, &raw, whole, || 1_000)
            .await
            .unwrap();
    }
    parked
}

async fn name_of(db: &PgPool, build: &Build, n: usize) -> Option<String> {
    let statement = format!("select name from {}.catalog_products where sku = $1", build.schema_name);
    sqlx::query_scalar(&statement)
        .bind(sku(n).as_str())
        .fetch_one(db)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_a_table_refuses_parks_its_stream_alone() {
    with_database(async |db| {
        let (projection, history) = (projection("catalog"), dragons());
        let healthy = fresh(&db, projection).await;
        assert_eq!(feed_all(&db, projection, &healthy, &history).await, 0);
        let build = fresh(&db, projection).await;
        let table = format!("{}.catalog_products", build.schema_name);
        let forbid = format!("alter table {table} add constraint no_dragons check (name not like '용%')");
        sqlx::query(&forbid).execute(&db).await.unwrap();

        assert_eq!(feed_all(&db, projection, &build, &history).await, 1);
        let [parked] = &parked(&db, None, None, None, 10).await.unwrap()[..] else {
            panic!("one is parked")
        };
        assert_eq!((parked.position, parked.sequence, parked.attempts), (46, 3, 1));
        let wanted = format!(
            "a check refuses it (SQLSTATE 23514, table {}, constraint no_dragons)",
            "catalog_products"
        );
        assert_eq!(parked.error, wanted, "no value is told: it may name a person");
        assert_eq!(
            name_of(&db, &build, 5).await.as_deref(),
            Some("5번 1"),
            "as before the poison"
        );
        assert_eq!(
            name_of(&db, &build, 6).await.as_deref(),
            Some("6번 3"),
            "the others went on"
        );

        let still = retry(&db, projection, parked, &log(&history)).await;
        let Retried::Parked(still) = still else {
            panic!("{still:?}")
        };
        assert_eq!((still.position, still.attempts), (46, 2));
        assert_eq!(name_of(&db, &build, 5).await.as_deref(), Some("5번 1"));

        let allow = format!("alter table {table} drop constraint no_dragons");
        sqlx::query(&allow).execute(&db).await.unwrap();
        assert_eq!(
            retry(&db, projection, parked, &log(&history)).await,
            Retried::Applied { left: 0 }
        );
        assert_eq!(hashes(&db, &build).await, hashes(&db, &healthy).await);
        assert_eq!(super::parked(&db, None, None, None, 10).await.unwrap(), []);
        let again = begin_retry(
            &db,
            projection,
            build.build,
            &parked.aggregate_type,
            &parked.aggregate_id,
        )
        .await;
        assert!(again.unwrap().is_none(), "it is parked no more");
    })
    .await;
}

/// PostgreSQL keeps U+0000 in a payload and refuses it in a text.
#[tokio::test]
async fn a_text_that_no_table_keeps_is_poison_and_a_lost_table_is_not() {
    with_database(async |db| {
        let projection = projection("catalog");
        let mut history = History::default();
        history.product(&sku(1), now(), registered(&sku(1), "a\0b"));
        history.product(&sku(2), now(), registered(&sku(2), "b"));
        history.stock(
            &sku(1),
            now(),
            StockEvent::Received {
                sku: sku(1),
                quantity: 3,
                on_hand: 3,
                available: 3,
            },
        );
        let build = fresh(&db, projection).await;
        assert_eq!(feed_all(&db, projection, &build, &history).await, 1);
        let parked = &parked(&db, Some("catalog"), None, None, 1).await.unwrap()[0];
        assert!(parked.error.contains("SQLSTATE 22021"), "{}", parked.error);
        assert_eq!(super::parked(&db, Some("sales"), None, None, 1).await.unwrap(), []);
        let count = format!("select count(*) from {}.catalog_products", build.schema_name);
        let rows: i64 = sqlx::query_scalar(&count).fetch_one(&db).await.unwrap();
        assert_eq!(rows, 2, "the stock of the parked product is another stream");

        let lost = fresh(&db, projection).await;
        let drop = format!("drop table {}.catalog_products", lost.schema_name);
        sqlx::query(&drop).execute(&db).await.unwrap();
        let mut failures = 0;
        for partition in 0..PARTITIONS {
            let raw = history.raw(partition);
            let fed = feed(&db, projection, &lost, partition, &raw, (0, 3), || 3).await;
            failures += i32::from(matches!(fed, Err(AdvanceError::Database(_))));
        }
        assert!(failures > 0, "it stops, and parks nothing");
        assert_eq!(super::parked(&db, None, None, None, 10).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn too_many_at_once_are_no_poison_and_building_parks_none() {
    with_database(async |db| {
        let projection = projection("stock_levels");
        let mut history = History::default();
        for n in 0..600 {
            let (on_hand, available) = (1, 1);
            history.stock(
                &sku(n),
                now(),
                StockEvent::Received {
                    sku: sku(n),
                    quantity: 1,
                    on_hand,
                    available,
                },
            );
        }
        let build = fresh(&db, projection).await;
        let table = format!("{}.stock_levels", build.schema_name);
        let forbid = format!("alter table {table} add constraint nothing check (on_hand < 1)");
        sqlx::query(&forbid).execute(&db).await.unwrap();
        let raw = history.raw(0);
        let head = history.head();
        let all_fail = feed(&db, projection, &build, 0, &raw, (0, head), || 600).await;
        let Err(AdvanceError::TooManyParked {
            limit: PARKED_MAX,
            error,
            ..
        }) = all_fail
        else {
            panic!("{all_fail:?}")
        };
        assert!(error.contains("nothing"), "{error}");
        assert_eq!(
            parked(&db, None, None, None, 1_000).await.unwrap(),
            [],
            "nothing was changed"
        );
        let first = raw[0].position;
        let strict = advance(&db, projection, &build, 0, 0, 0, first, &raw[..1], now()).await;
        assert!(matches!(strict, Err(AdvanceError::Database(_))), "{strict:?}");
        assert_eq!(
            feed(&db, projection, &build, 0, &raw, (0, first), || 600)
                .await
                .unwrap(),
            1
        );
        let next = &raw[1..2];
        let (from, through) = (first, next[0].position);
        let beside = advance(&db, projection, &build, 0, 0, from, through, next, now()).await;
        assert!(
            matches!(beside, Err(AdvanceError::HasParked { parked: 1, .. })),
            "{beside:?}"
        );
    })
    .await;
}

/// A worker that steps while an aggregate is told again waits, and both count.
#[tokio::test]
async fn a_worker_waits_for_a_retry() {
    with_database(async |db| {
        let (projection, history) = (projection("catalog"), dragons());
        let healthy = fresh(&db, projection).await;
        feed_all(&db, projection, &healthy, &history).await;
        let build = fresh(&db, projection).await;
        let dragon = history.events.iter().find(|event| event.position == 46).unwrap();
        let partition = i16::try_from(dragon.slot.partition(PARTITIONS.unsigned_abs())).unwrap();
        for other in (0..PARTITIONS).filter(|other| *other != partition) {
            let whole = (0, history.head());
            feed(&db, projection, &build, other, &history.raw(other), whole, || 1_000)
                .await
                .unwrap();
        }
        let mut torn = history.raw(partition);
        torn.retain(|event| event.position <= 50);
        let bad = torn.iter_mut().find(|event| event.position == 46).unwrap();
        bad.payload.payload = "{}".into();
        assert_eq!(
            feed(&db, projection, &build, partition, &torn, (0, 50), || 50)
                .await
                .unwrap(),
            1
        );

        let (kind, id) = (&dragon.aggregate_type, &dragon.aggregate_id);
        let mut retry = begin_retry(&db, projection, build.build, kind, id)
            .await
            .unwrap()
            .unwrap();
        let (db2, build2, raw, head) = (db.clone(), build.clone(), history.raw(partition), history.head());
        let worker =
            spawn_local(async move { feed(&db2, projection, &build2, partition, &raw, (50, head), || 50).await });
        let waiting =
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&db).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(retry.through(), 50);
        let missed: Vec<_> = history
            .raw(partition)
            .into_iter()
            .filter(|event| event.aggregate_id == *id && (46..=50).contains(&event.position))
            .collect();
        assert!(retry.tell(&missed, now()).await.unwrap());
        assert_eq!(retry.finish(now()).await.unwrap(), Retried::Applied { left: 0 });
        assert_eq!(worker.await.unwrap().unwrap(), 0, "it finds nothing parked any more");
        assert_eq!(hashes(&db, &build).await, hashes(&db, &healthy).await);
    })
    .await;
}
