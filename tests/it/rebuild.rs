//! Read tables made again beside live traffic: nobody notices, whatever is killed on the way.

mod broker;
mod faults;
mod kill;
mod live;
mod poison;
mod proof;
mod version;
mod words;

use jangbu::{
    import::{self, Options, Silent},
    rebuild::{self, Goal, Order, RebuildError, Rebuilt, Site, list},
};
use jangbu_projections::{Registered, builds};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    database::{Database, surroundings},
    import::files::journey,
};

const PARTITIONS: i16 = 4;

fn site(db: &PgPool) -> Site {
    Site {
        db: db.clone(),
        surroundings: surroundings(),
        stop: CancellationToken::new(),
    }
}

fn projection(name: &str) -> &'static Registered {
    let mut all = jangbu_projections::all().iter();
    all.find(|known| known.name == name).expect("it is registered")
}

async fn rebuild(db: &PgPool, projection: &'static Registered, goal: Goal) -> Result<Rebuilt, RebuildError> {
    let order = Order {
        projection,
        goal,
        events_per_second_max: None,
    };
    let rebuilt = rebuild::run(&site(db), &order, |_| {}).await?;
    Ok(rebuilt.expect("nobody stopped it"))
}

const fn again(partitions: i16) -> Goal {
    Goal::Rebuild { partitions }
}

/// What operators see of one build.
async fn entry(db: &PgPool, schema: &str) -> list::Entry {
    let entries = list::list(db).await.expect("a list");
    let entry = entries.into_iter().find(|entry| entry.schema == schema);
    entry.unwrap_or_else(|| panic!("there is no {schema}"))
}

/// The hash of every partition of a build.
async fn hashes(db: &PgPool, schema: &str, partitions: i16) -> Vec<String> {
    let mut hashes = Vec::new();
    for partition in 0..partitions {
        let mut tx = db.begin().await.expect("a transaction");
        let hash = builds::proof::hash_in(&mut tx, schema, partition).await;
        hashes.push(hash.expect("a hash"));
    }
    hashes
}

/// 7,259 events: products, and 609 past orders.
async fn imported() -> Database {
    let database = Database::create().await;
    let executor = database.executor(surroundings()).await;
    let options = Options::default();
    import::products(&executor, &journey("products.csv"), &options, &Silent)
        .await
        .expect("products");
    import::orders(&executor, &journey("baskets.csv"), &options, &Silent)
        .await
        .expect("orders");
    database
}

/// The same, and every projection is at its end.
async fn fed() -> Database {
    let database = imported().await;
    let all: Vec<&'static Registered> = jangbu_projections::all().iter().collect();
    jangbu::workers::drive_once(&database.pool, &all, PARTITIONS, &surroundings())
        .await
        .expect("it is fed");
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn every_projection_is_the_same_when_it_is_made_again() {
    let database = fed().await;
    let db = &database.pool;
    for projection in jangbu_projections::all() {
        let live = format!("{}_v1_b1", projection.name);
        let was = hashes(db, &live, PARTITIONS).await;
        let rebuilt = rebuild(db, projection, again(PARTITIONS)).await.expect("it is made");
        let made = format!("{}_v1_b2", projection.name);
        assert_eq!((rebuilt.schema.as_str(), rebuilt.position), (made.as_str(), 7_259));
        assert_eq!(
            (rebuilt.replaced.as_deref(), rebuilt.resumed),
            (Some(live.as_str()), false)
        );
        assert_eq!(hashes(db, &made, PARTITIONS).await, was, "{}", projection.name);
        assert_eq!(indexes(db, &made).await, indexes(db, &live).await);
        let (old, new) = (entry(db, &live).await, entry(db, &made).await);
        assert_eq!(
            (old.phase, old.active, new.phase, new.active),
            ("retired", false, "live", true)
        );
        assert_eq!((new.lag, new.parked), (0, 0));
    }
    // Cut in another way, and back to the first cut.
    let sales = projection("sales");
    let rebuilt = rebuild(db, sales, again(8)).await.expect("it is made");
    assert_eq!((rebuilt.schema.as_str(), rebuilt.partitions), ("sales_v1_b3", 8));
    let total = "select sum(gross)::bigint from";
    let of = async |schema: &str| -> i64 {
        let query = format!("{total} {schema}.sales_by_hour");
        sqlx::query_scalar(&query).fetch_one(db).await.expect("a sum")
    };
    assert_eq!(of("sales_v1_b3").await, of("sales_v1_b2").await);
    let back = rebuild(db, sales, Goal::RollBack).await.expect("it goes back");
    assert_eq!((back.schema.as_str(), back.partitions), ("sales_v1_b2", 4));
}

/// By their definitions, without the schema that they are in.
async fn indexes(db: &PgPool, schema: &str) -> Vec<String> {
    sqlx::query_scalar("select replace(indexdef, $1 || '.', '') from pg_indexes where schemaname = $1 order by 1")
        .bind(schema)
        .fetch_all(db)
        .await
        .expect("indexes")
}
