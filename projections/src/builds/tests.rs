use jangbu_events::{Event, OrderEvent, OrderId, RawEvent, Recorded, envelope::Stored, samples};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sqlx::PgPool;

use super::*;
use crate::testing::{History, PARTITIONS, now, of_partition, projection, random_history, with_database};

/// A build that no other way of telling the history touches.
async fn another(db: &PgPool, projection: &Registered) -> Build {
    another_of(db, projection, PARTITIONS).await
}

async fn hashes(db: &PgPool, build: &Build) -> Vec<String> {
    let mut hashes = Vec::new();
    for partition in 0..PARTITIONS {
        hashes.push(table_hash(db, build, partition).await.expect("a hash"));
    }
    hashes
}

/// As a worker tells it, in stretches of the log that end where `stretch` says.
async fn advanced(db: &PgPool, projection: &Registered, history: &History, mut stretch: impl FnMut() -> i64) -> Build {
    let build = another(db, projection).await;
    for partition in 0..PARTITIONS {
        let raw = history.raw(partition);
        let mut from = 0;
        while from < history.head() {
            let through = (from + stretch()).min(history.head());
            let events: Vec<RawEvent> = between(&raw, from, through);
            let moved = advance(db, projection, &build, partition, 0, from, through, &events, now()).await;
            assert_eq!(moved.expect("the stretch is applied"), Advanced::Moved);
            from = through;
        }
    }
    build
}

fn between(raw: &[RawEvent], from: i64, through: i64) -> Vec<RawEvent> {
    raw.iter()
        .filter(|event| event.position > from && event.position <= through)
        .cloned()
        .collect()
}

/// Without checkpoints: every batch begins with events that were told before, and is followed by
/// older ones alone, which must not bring anything back.
async fn repeated(db: &PgPool, projection: &Registered, history: &History, random: &mut StdRng) -> Build {
    let build = another(db, projection).await;
    for partition in 0..PARTITIONS {
        let events: Vec<_> = of_partition(&history.events, partition)
            .into_iter()
            .filter(|event| projection.event_types.contains(&event.payload.name()))
            .collect();
        let mut told = 0;
        while told < events.len() {
            let again = random.random_range(0..=told);
            told = (told + random.random_range(1..20)).min(events.len());
            apply(db, projection, &build, partition, &events[again..told]).await;
            for _ in 0..3 {
                let older = random.random_range(0..=told);
                let oldest = random.random_range(0..=older);
                apply(db, projection, &build, partition, &events[oldest..older]).await;
            }
        }
    }
    build
}

async fn apply(db: &PgPool, projection: &Registered, build: &Build, partition: i16, batch: &[Recorded<Event>]) {
    let mut tx = db.begin().await.expect("a transaction");
    choose_schema(&mut tx, &build.schema_name)
        .await
        .expect("the schema is there");
    projection
        .apply(&mut tx, partition, batch)
        .await
        .expect("the batch is applied");
    tx.commit().await.expect("the rows are kept");
}

async fn rows_depend_on_the_history_alone(db: PgPool, history: History, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for projection in all() {
        let at_once = advanced(&db, projection, &history, || i64::MAX / 2).await;
        let expected = hashes(&db, &at_once).await;
        assert!(expected.iter().any(|hash| !hash.contains("=0:0:0")), "{expected:?}");
        let one_by_one = advanced(&db, projection, &history, || 1).await;
        assert_eq!(
            hashes(&db, &one_by_one).await,
            expected,
            "{} one by one",
            projection.name
        );
        let batches = advanced(&db, projection, &history, || random.random_range(1..40)).await;
        assert_eq!(hashes(&db, &batches).await, expected, "{} in batches", projection.name);
        let repeated = repeated(&db, projection, &history, &mut random).await;
        assert_eq!(hashes(&db, &repeated).await, expected, "{} told again", projection.name);
    }
}

#[tokio::test]
async fn rows_of_any_history_depend_on_it_alone() {
    for seed in 1..=2 {
        with_database(async move |db| rows_depend_on_the_history_alone(db, random_history(seed, 300), seed).await)
            .await;
    }
}

/// The history as if neighbours of one stream had been stored as one event, which an upcaster parts.
fn parted(events: &[Recorded<Event>]) -> Vec<Vec<Recorded<Event>>> {
    let mut stored: Vec<Vec<Recorded<Event>>> = Vec::new();
    for event in events {
        match stored.last_mut() {
            Some(parts) if parts.len() < 3 && parts[0].aggregate_id == event.aggregate_id => {
                let payload = event.payload.clone();
                parts.push(parts[0].clone().with(payload));
            }
            _ => stored.push(vec![event.clone()]),
        }
    }
    stored
}

/// Whatever the cuts between stored events, and however often they are told.
async fn parts_are_told_once(db: PgPool, history: History, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for projection in all() {
        let (at_once, repeated) = (another(&db, projection).await, another(&db, projection).await);
        let mut several = 0;
        for partition in 0..PARTITIONS {
            let mut events = of_partition(&history.events, partition);
            events.retain(|event| projection.event_types.contains(&event.payload.name()));
            let stored = parted(&events);
            several += stored.iter().filter(|parts| parts.len() > 1).count();
            apply(&db, projection, &at_once, partition, &stored.concat()).await;
            let mut told = 0;
            while told < stored.len() {
                let again = random.random_range(0..=told);
                told = (told + random.random_range(1..20)).min(stored.len());
                apply(&db, projection, &repeated, partition, &stored[again..told].concat()).await;
            }
        }
        assert!(several > 0, "{}: nothing has parts", projection.name);
        assert_eq!(
            hashes(&db, &repeated).await,
            hashes(&db, &at_once).await,
            "{}",
            projection.name
        );
    }
}

#[tokio::test]
async fn what_one_stored_event_became_is_told_together_and_counts_once() {
    with_database(async |db| parts_are_told_once(db, random_history(3, 400), 3).await).await;
}

#[tokio::test]
async fn rows_of_every_sample_depend_on_it_alone() {
    let mut history = History::default();
    let cart = samples::cart_id();
    for event in samples::all() {
        match event {
            Event::Cart(event) => history.cart(cart, now(), event),
            Event::Customer(event) => history.customer(samples::customer_id(), now(), event),
            // Never of a stream that has other events.
            Event::Order(event @ OrderEvent::Imported { .. }) => {
                history.import(OrderId::imported("journey", "1"), now(), event);
            }
            Event::Order(event) => history.order(cart, samples::order_id(), now(), event),
            Event::Payment(event) => history.payment(cart, samples::payment_id(), now(), event),
            Event::Product(event) => history.product(&samples::sku(), now(), event),
            Event::Stock(event) => history.stock(&samples::sku(), now(), event),
        }
    }
    with_database(async move |db| rows_depend_on_the_history_alone(db, history, 0).await).await;
}

#[tokio::test]
async fn a_hash_tells_rows_apart() {
    with_database(async |db| {
        let projection = projection("stock_levels");
        let one = advanced(&db, projection, &random_history(1, 200), || 50).await;
        let other = advanced(&db, projection, &random_history(2, 200), || 50).await;
        assert_ne!(hashes(&db, &one).await, hashes(&db, &other).await);
    })
    .await;
}

#[tokio::test]
async fn whoever_knows_an_old_checkpoint_or_lease_changes_nothing() {
    with_database(async |db| {
        let projection = projection("sales");
        let history = random_history(7, 200);
        let build = ensure(&db, projection, PARTITIONS, now()).await.expect("a build");
        let raw = history.raw(0);
        let step = async |epoch, from, through| {
            let events = between(&raw, from, through);
            advance(&db, projection, &build, 0, epoch, from, through, &events, now())
                .await
                .expect("it is decided")
        };
        assert_eq!(step(0, 0, 100).await, Advanced::Moved);
        let before = table_hash(&db, &build, 0).await.expect("a hash");

        assert_eq!(step(0, 0, 100).await, Advanced::Stale, "the same again");
        assert_eq!(step(0, 50, 150).await, Advanced::Stale, "from an older position");
        assert_eq!(take_over(&db, &build, 0, 3, now()).await.expect("an answer"), Some(100));
        assert_eq!(
            take_over(&db, &build, 0, 2, now()).await.expect("an answer"),
            None,
            "an older lease"
        );
        assert_eq!(step(0, 100, 150).await, Advanced::Stale, "under the old lease");
        assert_eq!(table_hash(&db, &build, 0).await.expect("a hash"), before);

        assert_eq!(step(3, 100, 150).await, Advanced::Moved);
        let checkpoints = checkpoints(&db, &build).await.expect("checkpoints");
        let first = Checkpoint {
            partition: 0,
            position: 150,
            epoch: 3,
        };
        assert_eq!((checkpoints.len(), checkpoints[0]), (4, first));
    })
    .await;
}

#[tokio::test]
async fn an_unknown_event_stops_every_projection_before_it() {
    with_database(async |db| {
        let mut raw = random_history(1, 200).raw(0);
        let (third, position) = (raw[2].payload.clone(), raw[2].position);
        let newer = Stored {
            event_version: "2".to_owned(),
            ..third.clone()
        };
        let unheard = Stored {
            event_type: "gift.wrapped".to_owned(),
            ..third
        };
        for projection in all() {
            let build = ensure(&db, projection, PARTITIONS, now()).await.expect("a build");
            for unreadable in [&newer, &unheard] {
                raw[2].payload = unreadable.clone();
                let error = advance(&db, projection, &build, 0, 0, 0, 1_000, &raw, now()).await;
                let error = error.expect_err("it cannot be read");
                assert!(
                    matches!(error, AdvanceError::Undecodable { position: p, .. } if p == position),
                    "{error}"
                );
            }
            let checkpoints = checkpoints(&db, &build).await.expect("checkpoints");
            assert_eq!(checkpoints[0].position, 0, "{}", projection.name);
        }
    })
    .await;
}

#[tokio::test]
async fn a_payload_that_does_not_decode_stops_those_who_read_it_only() {
    with_database(async |db| {
        let mut history = History::default();
        let order = OrderId::imported("journey", "1");
        let Some(Event::Order(imported)) = samples::all()
            .into_iter()
            .find(|event| event.name() == "order.imported")
        else {
            unreachable!("every event has a sample");
        };
        history.import(order, now(), imported);
        let partition = i16::try_from(history.events[0].slot.partition(4)).expect("below four");
        let mut raw = history.raw(partition);
        raw[0].payload.payload = r#"{"type": "order.imported"}"#.to_owned();
        let step = async |name: &str| {
            let build = ensure(&db, projection(name), PARTITIONS, now()).await.expect("a build");
            advance(&db, projection(name), &build, partition, 0, 0, 1, &raw, now()).await
        };
        assert!(matches!(
            step("sales").await,
            Err(AdvanceError::Undecodable { position: 1, .. })
        ));
        assert!(matches!(step("catalog").await, Ok(Advanced::Moved)));
    })
    .await;
}

#[tokio::test]
async fn events_that_do_not_belong_to_a_step_are_refused() {
    with_database(async |db| {
        let projection = projection("catalog");
        let build = ensure(&db, projection, PARTITIONS, now()).await.expect("a build");
        let history = random_history(1, 100);
        let raw = history.raw(1);
        let mut backwards = raw.clone();
        backwards.reverse();
        let head = history.head();
        for (partition, from, through, events) in [
            (0, 0, head, &raw),
            (1, 0, head, &backwards),
            (1, 0, raw[3].position - 1, &raw),
            (1, raw[0].position, head, &raw),
        ] {
            let refused = advance(&db, projection, &build, partition, 0, from, through, events, now()).await;
            assert!(matches!(refused, Err(AdvanceError::Misplaced { .. })), "{refused:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn rows_that_cannot_be_written_leave_the_checkpoint_where_it_was() {
    with_database(async |db| {
        let projection = projection("sales");
        let build = ensure(&db, projection, PARTITIONS, now()).await.expect("a build");
        let drop_it = format!("drop table {}.sales_by_product", build.schema_name);
        sqlx::raw_sql(&drop_it).execute(&db).await.expect("the table is gone");
        let history = random_history(1, 200);
        let failed = advance(&db, projection, &build, 0, 0, 0, history.head(), &history.raw(0), now()).await;
        assert!(matches!(failed, Err(AdvanceError::Database(_))), "{failed:?}");
        assert_eq!(checkpoints(&db, &build).await.expect("checkpoints")[0].position, 0);
        // What was written before the failure is gone as well.
        let counted = format!("select count(*) from {}.sales_by_hour", build.schema_name);
        let rows: i64 = sqlx::query_scalar(&counted).fetch_one(&db).await.expect("a count");
        assert_eq!(rows, 0);
    })
    .await;
}

#[tokio::test]
async fn processes_that_start_at_once_make_one_build() {
    with_database(async |db| {
        let projection = projection("order_history");
        let starts = (0..8).map(|_| {
            let db = db.clone();
            tokio::spawn(async move { ensure(&db, projection, PARTITIONS, now()).await.expect("a build") })
        });
        for start in starts.collect::<Vec<_>>() {
            assert_eq!(start.await.expect("no panic").schema_name, "order_history_v1_b1");
        }
        let builds = sqlx::query_scalar!("select count(*) from builds")
            .fetch_one(&db)
            .await
            .expect("a count");
        assert_eq!(builds, Some(1));
    })
    .await;
}

async fn ready(db: &PgPool, to: &Build) -> Box<Switch> {
    match Switch::begin(db, projection(&to.projection), to, now())
        .await
        .expect("an answer")
    {
        Begun::Ready(switch) => switch,
        Begun::Active => panic!("{} is active", to.schema_name),
        Begun::NotReady => panic!("{} is not ready", to.schema_name),
    }
}

#[tokio::test]
async fn a_build_beside_takes_over_once_it_has_caught_up() {
    with_database(async |db| {
        let projection = projection("stock_levels");
        let history = random_history(1, 100);
        let old = ensure(&db, projection, PARTITIONS, now()).await.expect("a build");
        for partition in 0..PARTITIONS {
            let raw = history.raw(partition);
            let moved = advance(&db, projection, &old, partition, 0, 0, history.head(), &raw, now()).await;
            assert_eq!(moved.expect("applied"), Advanced::Moved);
        }
        let head = history.head();
        let at = async || positions(&db, &["stock_levels", "sales"]).await.expect("positions");
        assert_eq!(
            at().await,
            BTreeMap::from([("stock_levels".to_owned(), head), ("sales".to_owned(), 0)])
        );
        let path = async || active_search_path(&db).await.expect("a path");

        let new = begin_filling(&db, projection, 1, now()).await.expect("another build");
        assert_eq!((new.build, new.partitions), (2, 1));
        let again = ensure(&db, projection, 1, now()).await.expect("a build");
        assert_eq!(again, old, "what is read stays, whatever its partitions");
        let begun = Switch::begin(&db, projection, &new, now()).await.expect("an answer");
        assert!(matches!(begun, Begun::NotReady), "it lacks indexes");
        for _ in 0..2 {
            finish_indexes(&db, &new).await.expect("they are made");
        }
        let behind = ready(&db, &new).await;
        assert_eq!((behind.wanted(), behind.behind()), (head, vec![(0, 0)]));
        assert!(!behind.finish().await.expect("an answer"), "it is empty");
        assert_eq!(path().await, "stock_levels_v1_b1, public");

        let mut all: Vec<RawEvent> = (0..PARTITIONS).flat_map(|partition| history.raw(partition)).collect();
        all.sort_by_key(|event| event.position);
        let middle = all.len() / 2;
        let half = all[middle - 1].position;
        let moved = advance(&db, projection, &new, 0, 0, 0, half, &all[..middle], now()).await;
        assert_eq!(moved.expect("applied"), Advanced::Moved);
        let mut switch = ready(&db, &new).await;
        switch.tell(0, &all[middle..], Poison::Fail).await.expect("applied");
        assert!(switch.finish().await.expect("an answer"));
        assert_eq!(path().await, "stock_levels_v1_b2, public");
        assert_eq!(at().await["stock_levels"], head);
        let one = another_of(&db, projection, 1).await;
        let moved = advance(&db, projection, &one, 0, 0, 0, head, &all, now()).await;
        assert_eq!(moved.expect("applied"), Advanced::Moved);
        let (of_new, of_one) = (table_hash(&db, &new, 0).await, table_hash(&db, &one, 0).await);
        assert_eq!(of_new.expect("a hash"), of_one.expect("a hash"));

        let standings = standings(&db, Some("stock_levels")).await.expect("standings");
        let seen: Vec<_> = standings.iter().map(|one| (one.phase, one.active)).collect();
        let live = (Phase::Live, false);
        assert_eq!(seen, [(Phase::Retired, false), (Phase::Live, true), live]);
        // And back.
        assert!(ready(&db, &old).await.finish().await.expect("an answer"));
        assert_eq!(path().await, "stock_levels_v1_b1, public");
        assert!(!discard(&db, &old, false).await.expect("an answer"), "it is read");
        assert!(discard(&db, &new, false).await.expect("an answer"));
        assert!(!discard(&db, &new, false).await.expect("an answer"), "it is gone");
    })
    .await;
}

async fn another_of(db: &PgPool, projection: &Registered, partitions: i16) -> Build {
    let mut tx = db.begin().await.expect("a transaction");
    let build = create(&mut tx, projection, partitions, Phase::Live, now())
        .await
        .expect("a build");
    tx.commit().await.expect("the build is kept");
    build
}

#[test]
fn every_projection_reads_events_that_exist_into_tables_of_its_own() {
    let mut tables = std::collections::BTreeSet::new();
    for projection in all() {
        for event_type in projection.event_types {
            let known = jangbu_events::event::CURRENT_VERSIONS
                .iter()
                .any(|(known, _)| known == event_type);
            assert!(known, "{} reads {event_type}", projection.name);
        }
        for create in projection
            .schema
            .lines()
            .filter_map(|line| line.strip_prefix("create table "))
        {
            assert!(tables.insert(create.trim_end_matches(" (")), "{create} is there twice");
        }
    }
    assert!(tables.len() >= all().len());
}
