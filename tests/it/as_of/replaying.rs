//! A schema of a moment of the past holds what the live tables held then, to the last row.

use jangbu::{
    as_of::AsOf,
    clock::Surroundings,
    import::{self, Options, Silent},
    log::reading,
    replay::{self, Order, ReplayError, Replayed, Workshop},
};
use jangbu_events::{PaymentId, RawEvent, Timestamp};
use jangbu_projections::{
    all,
    builds::{self, Advanced, Build},
};
use serde_json::{Value, json};
use sqlx::{Executor as _, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{
        JWT_SECRET,
        process::{Ended, Place, jangbu},
        servers,
    },
    database::{Database, surroundings},
    import::files::journey,
    shop::Shop,
};

const PARTITIONS: i16 = 4;

fn order(projection: &str, as_of: AsOf, into: &str) -> Order {
    Order {
        projection: projection.to_owned(),
        as_of,
        into: into.parse().expect("a name"),
        grant: Vec::new(),
        replace: true,
        partitions: PARTITIONS,
    }
}

fn workshop(db: &PgPool) -> Workshop {
    Workshop {
        db: db.clone(),
        surroundings: surroundings(),
        stop: CancellationToken::new(),
    }
}

async fn replay(db: &PgPool, order: &Order) -> Result<Replayed, ReplayError> {
    let made = replay::replay(&workshop(db), order, |_, _| {}).await?;
    Ok(made.expect("nobody stopped it"))
}

async fn hashes(db: &PgPool, build: &Build) -> Vec<String> {
    let mut hashes = Vec::new();
    for partition in 0..PARTITIONS {
        hashes.push(builds::table_hash(db, build, partition).await.expect("a hash"));
    }
    hashes
}

/// As workers feed a build: each partition for itself, from where it is to a position.
async fn feed(db: &PgPool, build: &Build, from: i64, through: i64) {
    let projection = all().iter().find(|known| known.name == build.projection);
    let projection = projection.expect("it is registered");
    let events = reading::read(db, from, through - from).await.expect("the log reads");
    for partition in 0..PARTITIONS {
        let here = |event: &&RawEvent| i32::from(event.slot.partition(4)) == i32::from(partition);
        let events: Vec<RawEvent> = events.iter().filter(here).cloned().collect();
        let now = surroundings().now();
        let moved = builds::advance(db, projection, build, partition, 0, from, through, &events, now).await;
        assert_eq!(moved.expect("it is applied"), Advanced::Moved);
    }
}

/// Stops the live tables of every projection at each of these positions, and makes them once more.
async fn replays_are_what_was_live(db: &PgPool, positions: &[i64]) {
    for projection in all() {
        let live = builds::ensure(db, projection, PARTITIONS, surroundings().now()).await;
        let live = live.expect("a build");
        let replayed = Build {
            schema_name: "audit".to_owned(),
            ..live.clone()
        };
        let mut from = 0;
        let (mut seen, mut wanted) = (Vec::new(), 0);
        for &position in positions {
            feed(db, &live, from, position).await;
            from = position;
            let was = hashes(db, &live).await;
            let made = replay(db, &order(projection.name, AsOf::Position(position), "audit")).await;
            let made = made.expect("it is made");
            assert_eq!(made.as_of.position, position);
            assert_eq!(hashes(db, &replayed).await, was, "{} at {position}", projection.name);
            seen.push(was);
            wanted = made.events;
        }
        seen.dedup();
        // An import brings no stock.
        assert_eq!(seen.len() > 1, wanted > 0, "{} changes on the way", projection.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_an_import_is_what_was_live() {
    let database = Database::create().await;
    let executor = database.executor(surroundings()).await;
    let options = Options::default();
    import::products(&executor, &journey("products.csv"), &options, &Silent)
        .await
        .expect("products");
    import::orders(&executor, &journey("baskets.csv"), &options, &Silent)
        .await
        .expect("orders");
    let head = executor.log().head().await.expect("a head").position;
    assert_eq!(head, 7_259);
    replays_are_what_was_live(&database.pool, &[3_000, 6_700, head]).await;
    // Business time is another matter: all of it was learnt today.
    let before: Timestamp = "2020-01-01T00:00:00Z".parse().expect("a time");
    let made = replay(&database.pool, &order("sales", AsOf::Time(before), "audit")).await;
    let made = made.expect("it is made");
    assert_eq!((made.as_of.position, made.events), (0, 0));
    assert!(made.rows.values().all(|rows| *rows == 0), "{:?}", made.rows);
}

/// A shop in which most things happened that can.
async fn eventful() -> Shop {
    let shop = Shop::open().await;
    shop.product("A", 39_000, 10).await;
    shop.product("B", 1_000, 1).await;
    let bought = shop.cart(&[("A", 2), ("B", 1)]).await;
    let bought = shop.check_out(bought).await.expect("it is placed");
    let refused = shop.cart(&[("A", 1), ("B", 1)]).await;
    shop.check_out(refused).await.expect_err("B is sold out");
    let payment = PaymentId::of(bought.order_id, 1);
    shop.at_portone(payment, "pay", json!({})).await;
    shop.settle(payment).await;
    shop.run().await;
    let expired = shop.cart(&[("A", 3)]).await;
    shop.check_out(expired).await.expect("it is placed");
    shop.clock.advance(chrono::TimeDelta::hours(2));
    shop.run().await;
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_a_shop_is_what_was_live() {
    let shop = eventful().await;
    let types = shop.event_types().await;
    for expected in [
        "order.confirmed",
        "order.refused",
        "order.expired",
        "stock.released",
        "stock.committed",
    ] {
        assert!(types.iter().any(|known| known == expected), "{expected} of {types:?}");
    }
    let head = i64::try_from(types.len()).expect("few");
    let positions: Vec<i64> = (1..head).step_by(5).chain([head]).collect();
    replays_are_what_was_live(&shop.database.pool, &positions).await;

    replay(
        &shop.database.pool,
        &order("order_history", AsOf::Position(head), "audit"),
    )
    .await
    .expect("it is made");
    let people: Vec<String> = sqlx::query_scalar("select orderer::text || recipient::text from audit.order_history")
        .fetch_all(&shop.database.pool)
        .await
        .expect("rows");
    assert_eq!(people.len(), 3);
    for person in people {
        assert!(
            person.contains("ciphertext") && !person.contains("홍길동") && !person.contains("9876"),
            "{person}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_stopped_leaves_nothing() {
    let database = Database::create().await;
    let executor = database.executor(surroundings()).await;
    let options = Options::default();
    import::products(&executor, &journey("products.csv"), &options, &Silent)
        .await
        .expect("products");
    let db = &database.pool;
    let stopped = order("catalog", AsOf::Position(6_650), "audit");
    let workshop = workshop(db);
    let made = replay::replay(&workshop, &stopped, |_, all| {
        assert_eq!(all, 6_650);
        workshop.stop.cancel();
    })
    .await
    .expect("it stops in order");
    assert_eq!(made, None);
    let left = "select count(*) from pg_namespace where nspname like 'replaying%' or nspname = 'audit'";
    let left: i64 = sqlx::query_scalar(left)
        .fetch_one(db)
        .await
        .expect("schemas are listed");
    assert_eq!(left, 0);
    // As one that was killed leaves it.
    db.execute("create schema replaying_audit; create table replaying_audit.catalog_products (half integer)")
        .await
        .expect("a schema");
    let made = replay(db, &stopped).await.expect("nothing is in the way");
    assert_eq!((made.rows["catalog_products"], made.replaced), (3_325, false));

    let mut other = db.begin().await.expect("a transaction");
    other
        .execute("select pg_advisory_xact_lock(hashtextextended('jangbu replay audit', 0))")
        .await
        .expect("as if another replay ran");
    let refused = replay(db, &stopped).await;
    assert!(matches!(refused, Err(ReplayError::UnderWay(_))), "{refused:?}");
}

/// The command, in a place and on a database.
struct Analyst {
    place: Place,
    database: Database,
    url: String,
}

impl Analyst {
    async fn new() -> Self {
        let database = Database::create().await;
        let url = servers::url(&database);
        Self {
            place: Place::new(),
            database,
            url,
        }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let environment = [("DATABASE_URL", self.url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
        jangbu(&self.place, arguments, &environment).await
    }

    async fn replay(&self, into: &str, more: &[&str]) -> Ended {
        let mut arguments = vec!["replay", "stock_levels", "--as-of", "3", "--into", into];
        arguments.extend(more);
        self.run(&arguments).await
    }

    async fn is_true(&self, question: &str) -> bool {
        let asked = sqlx::query_scalar(question).fetch_one(&self.database.pool).await;
        asked.unwrap_or_else(|error| panic!("{question}: {error}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analyst_is_given_a_schema_to_read() {
    let analyst = Analyst::new().await;
    let executor = analyst.database.executor(Surroundings::system()).await;
    let products = analyst.place.path().join("products.csv");
    analyst.place.write(
        "products.csv",
        "sku,name,category,price_krw\nA,Apple,FRUIT,1000\nB,Bread,BAKERY,250\n",
    );
    import::products(&executor, &products, &Options::default(), &Silent)
        .await
        .expect("products");
    let arguments = [
        "replay",
        "catalog",
        "--as-of",
        "3",
        "--into",
        "audit",
        "--grant",
        "pg_monitor",
        "--json",
    ];
    let made = analyst.run(&arguments).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let told: Value = serde_json::from_str(&made.stdout).expect("JSON");
    assert_eq!(
        (
            &told["schema"],
            &told["as_of"]["position"],
            &told["rows"],
            &told["events"]
        ),
        (&json!("audit"), &json!(3), &json!({"catalog_products": 2}), &json!(3))
    );
    assert!(
        analyst
            .is_true("select has_schema_privilege('pg_monitor', 'audit', 'usage')")
            .await
    );
    for (privilege, may) in [
        ("select", true),
        ("insert", false),
        ("update", false),
        ("delete", false),
    ] {
        let question = format!("select has_table_privilege('pg_monitor', 'audit.catalog_products', '{privilege}')");
        assert_eq!(analyst.is_true(&question).await, may, "{privilege}");
    }
    assert!(
        !analyst
            .is_true("select has_table_privilege('pg_monitor', 'public.personal_keys', 'select')")
            .await
    );
    assert!(
        analyst
            .is_true("select projection = 'catalog' and position = 3 and recorded_at < now() from audit.jangbu_replay")
            .await
    );

    let again = analyst.replay("audit", &[]).await;
    assert_eq!((again.code, again.stdout.as_str()), (1, ""));
    assert_eq!(
        again.stderr.trim(),
        "jangbu: the schema audit holds catalog as of position 3; --replace makes it anew"
    );
    let replaced = analyst.replay("audit", &["--replace"]).await;
    assert_eq!(replaced.code, 0, "{}", replaced.stderr);
    assert!(
        replaced.stdout.contains("stock_levels as of position 3"),
        "{}",
        replaced.stdout
    );
    assert!(
        analyst
            .is_true("select to_regclass('audit.catalog_products') is null")
            .await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_made_is_left_alone() {
    let analyst = Analyst::new().await;
    let executor = analyst.database.executor(Surroundings::system()).await;
    analyst.place.write(
        "products.csv",
        "sku,name,category,price_krw\nA,Apple,FRUIT,1000\nB,Bread,BAKERY,250\n",
    );
    let products = analyst.place.path().join("products.csv");
    import::products(&executor, &products, &Options::default(), &Silent)
        .await
        .expect("products");
    let pool = &analyst.database.pool;
    // Whatever the schema holds, and whatever it calls its view.
    pool.execute(
        "create schema mine; create table mine.kept (n integer);
         create schema feigned; create view feigned.jangbu_replay as select 1 as something",
    )
    .await
    .expect("schemas");
    for schema in ["mine", "feigned"] {
        let refused = analyst.replay(schema, &["--replace"]).await;
        assert_eq!(
            (refused.code, refused.stderr.trim()),
            (
                1,
                &*format!(
                    "jangbu: the schema {schema} is there and was not made by `jangbu replay`; choose another name"
                )
            )
        );
    }
    assert_eq!(analyst.replay("audit", &[]).await.code, 0);
    for (build, unbuild) in [
        ("create table audit.notes (text text)", "drop table audit.notes"),
        (
            "create view public.low as select * from audit.stock_levels",
            "drop view public.low",
        ),
    ] {
        pool.execute(build).await.expect("it is built");
        let refused = analyst.replay("audit", &["--replace"]).await;
        assert_eq!(refused.code, 1, "{build}");
        assert!(refused.stderr.contains("cannot be replaced"), "{}", refused.stderr);
        assert!(
            analyst.is_true("select count(*) = 1 from audit.jangbu_replay").await,
            "it is still there"
        );
        pool.execute(unbuild).await.expect("it is taken down");
    }
    assert_eq!(analyst.replay("audit", &["--replace"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_make_no_sense_are_refused_in_a_line() {
    let analyst = Analyst::new().await;
    for (arguments, says) in [
        (
            ["sale", "3", "audit", "pg_monitor"],
            "there is no projection sale; there are catalog, order_history",
        ),
        (["sales", "3", "audit", "pg_monitor"], "the log ends at position 0"),
        (
            ["sales", "2999-01-01", "audit", "pg_monitor"],
            "that time has not come yet",
        ),
        (["sales", "-3", "audit", "pg_monitor"], "a position is 0 or more"),
        (
            ["sales", "2026-07-31T12:00:00", "audit", "pg_monitor"],
            "how far it is from UTC",
        ),
        (
            ["sales", "last week", "audit", "pg_monitor"],
            "a position of the log (1234), a time",
        ),
        (["sales", "0", "public", "pg_monitor"], "PostgreSQL's or Jangbu's own"),
        (
            ["sales", "0", "sales_v2_b1", "pg_monitor"],
            "PostgreSQL's or Jangbu's own",
        ),
        (
            ["sales", "0", "Audit\"; drop table events; --", "pg_monitor"],
            "a schema is called by",
        ),
        (
            ["sales", "0", "audit", "nobody\" with grant option; --"],
            "the database has no role",
        ),
        (["sales", "0", "audit", "public"], "the database has no role \"public\""),
    ] {
        let [projection, as_of, into, role] = arguments;
        let refused = analyst
            .run(&["replay", projection, "--as-of", as_of, "--into", into, "--grant", role])
            .await;
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{}", refused.stderr);
        assert!(refused.stderr.contains(says), "{arguments:?}: {}", refused.stderr);
    }
    assert!(
        analyst
            .is_true(
                "select not exists (select from pg_namespace where nspname like 'replaying%' or nspname = 'audit')"
            )
            .await
    );
}
