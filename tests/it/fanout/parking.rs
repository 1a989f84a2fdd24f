//! Poison: one aggregate is set aside, everything else goes on, and a retry tells it what it missed.

use std::time::Duration;

use jangbu::{
    clock::Surroundings,
    feed::Context,
    log::Outcome,
    parking::{self, ParkedOutcome, Which},
    workers,
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::{
    both_roles, context,
    probe::{PARTITIONS, PROBE, World, amqp_url, command, seen},
    process::Process,
    worker_role,
};
use crate::database;

/// A role of [`Process::start`].
async fn roles(ctx: Context, shutdown: CancellationToken) {
    if ctx.amqp_url.is_some() {
        both_roles(ctx, shutdown).await;
    } else {
        worker_role(ctx, shutdown).await;
    }
}

async fn execute(world: &World, statement: &str) {
    sqlx::raw_sql(statement)
        .execute(&world.database.pool)
        .await
        .expect("the statement runs");
}

/// Positions of one stream that the probe was told, and of the stream.
async fn stream(world: &World, id: &str) -> (Vec<i64>, Vec<i64>) {
    let read = async |statement: &str| -> Vec<i64> {
        sqlx::query_scalar(statement)
            .bind(id)
            .fetch_all(&world.database.pool)
            .await
            .expect("positions read")
    };
    let told = "select s.position from probe_v1_b1.seen as s join events as e using (position)
        where e.aggregate_id = $1 order by s.n";
    let logged = "select position from events where aggregate_id = $1 order by sequence";
    (read(told).await, read(logged).await)
}

async fn one_is_parked_and_told_again(amqp: Option<String>) {
    let world = World::create().await;
    let surroundings = database::surroundings();
    workers::drive_once(&world.database.pool, &[&PROBE], PARTITIONS, &surroundings)
        .await
        .expect("a build");
    world.append(30).await;
    let poisoned = command("product.renamed", 3);
    let id = poisoned.aggregate_id.clone();
    let mut more = poisoned.clone();
    let outcome = world.log.append(poisoned, Duration::from_secs(10)).await;
    let Ok(Outcome::Appended(appended)) = outcome else {
        panic!("{outcome:?}")
    };
    let second = appended.position - 1;
    let forbid = format!("alter table probe_v1_b1.seen add constraint poison check (position <> {second})");
    execute(&world, &forbid).await;

    let process = Process::start(context(&world, amqp), roles);
    world.append(100).await;
    world.wait_until_complete().await;
    let (told, logged) = stream(&world, &id).await;
    assert_eq!(told, logged[..1], "what comes before the poison is applied");

    // What comes to the stream later waits with it, and nobody else does.
    more.command_id = surroundings.ids.uuid();
    more.expected_sequence = 3;
    world
        .log
        .append(more, Duration::from_secs(10))
        .await
        .expect("it is appended");
    world.append(100).await;
    world.wait_until_complete().await;
    let db = &world.database.pool;
    let parked = parking::list(db, &Which::default(), 10).await.expect("a list");
    let [entry] = &parked[..] else { panic!("{parked:?}") };
    assert_eq!((entry.position, &entry.aggregate_id), (second, &id));
    assert_eq!(
        entry.error,
        "a check refuses it (SQLSTATE 23514, table seen, constraint poison)"
    );
    let (told, logged) = stream(&world, &id).await;
    assert_eq!((told.len(), logged.len()), (1, 6));
    let others: i64 = sqlx::query_scalar(
        "select count(*) from events
         where event_type = 'product.renamed' and aggregate_id <> $1
           and position not in (select position from probe_v1_b1.seen)",
    )
    .bind(&id)
    .fetch_one(db)
    .await
    .expect("a count");
    assert_eq!(others, 0, "others wait for the parked one");

    let system = Surroundings::system();
    let retry = async |which| {
        parking::retry(db, [&PROBE], &which, &system)
            .await
            .expect("it is tried")
    };
    let still = retry(Which::default()).await;
    assert_eq!(
        (still.len(), still[0].outcome, still[0].entry.attempts),
        (1, ParkedOutcome::Parked, 2)
    );
    let nobody = Which {
        aggregate_id: Some("prd_nobody".into()),
        ..Which::default()
    };
    assert_eq!(retry(nobody).await, []);
    let foreign = async |which| parking::retry(db, [], &which, &system).await.expect("it is tried");
    let named = Which {
        aggregate_id: Some(id.clone()),
        ..Which::default()
    };
    assert_eq!(foreign(named).await[0].outcome, ParkedOutcome::OtherVersion);
    assert_eq!(
        foreign(Which::default()).await,
        [],
        "of many, what is another version's does not take the place of ours"
    );

    execute(&world, "alter table probe_v1_b1.seen drop constraint poison").await;
    let which = Which {
        aggregate_id: Some(id.clone()),
        projection: Some("probe".into()),
    };
    let well = retry(which.clone()).await;
    assert_eq!(well[0].outcome, ParkedOutcome::Applied);
    assert_eq!(retry(which).await, [], "a second retry finds nothing to do");
    world.append(100).await;
    world.wait_until_complete().await;
    process.stop().await;
    let (told, logged) = stream(&world, &id).await;
    assert_eq!(told, logged, "in its order, and each once");
    everything_is_told_once(db).await;
}

/// Whatever the log has, the probe has seen, and nothing twice.
async fn everything_is_told_once(db: &PgPool) {
    for partition in 0..PARTITIONS {
        let mut told = seen(db, partition).await;
        told.sort_unstable();
        let once = told.len();
        told.dedup();
        assert_eq!(told.len(), once, "twice in partition {partition}");
    }
    let missing: i64 = sqlx::query_scalar(
        "select count(*) from events
         where event_type = 'product.renamed' and position not in (select position from probe_v1_b1.seen)",
    )
    .fetch_one(db)
    .await
    .expect("a count");
    assert_eq!(missing, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_one_aggregate_is_parked_and_told_again() {
    one_is_parked_and_told_again(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_broker_one_aggregate_is_parked_and_told_again() {
    one_is_parked_and_told_again(Some(amqp_url())).await;
}
