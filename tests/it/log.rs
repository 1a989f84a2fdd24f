//! The log: order, conflicts, duplicates, lost replies.

mod hazards;
mod lost_replies;
mod nodes;
mod refusals;

use std::time::Duration;

use futures_util::future::join_all;
use jangbu::{
    clock::Surroundings,
    log::{AppendError, Appended, Log, NewCommand, NewEvent, Outcome},
};
use jangbu_events::{AggregateId, ProductId, Slot, StoreId};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::{
    database::{Database, pool, surroundings, surroundings_at},
    invariants,
};

const DEADLINE: Duration = Duration::from_secs(10);

/// A command of so many events at its expected place in a stream.
fn renamed(stream: u128, expected: i64, events: usize) -> NewCommand {
    let id = ProductId::from_uuid(Uuid::from_u128(stream));
    let surroundings = surroundings();
    NewCommand {
        command_id: surroundings.ids.uuid(),
        store_id: StoreId::DEFAULT,
        aggregate_type: "product",
        aggregate_id: id.to_string(),
        slot: Slot::of(id.uuid()),
        expected_sequence: expected,
        events: (0..events)
            .map(|n| NewEvent {
                occurred_at: None,
                event_type: "product.renamed".into(),
                event_version: "1".into(),
                payload: format!(r#"{{"type":"product.renamed","name":"{n}"}}"#),
            })
            .collect(),
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

async fn open(database: &Database) -> Log {
    open_with(database, surroundings()).await
}

async fn open_with(database: &Database, surroundings: Surroundings) -> Log {
    Log::open(database.options.clone(), pool(&database.options).await, surroundings)
        .await
        .expect("the log opens")
}

/// What a command that went in says.
fn appended(outcome: Result<Outcome, AppendError>) -> Appended {
    match outcome {
        Ok(Outcome::Appended(appended)) => appended,
        other => panic!("expected it to be appended, not {other:?}"),
    }
}

/// Keeps every appender from inserting until it is rolled back.
async fn hold_inserts(db: &PgPool) -> Transaction<'static, Postgres> {
    let mut holding = db.begin().await.expect("a transaction");
    sqlx::query("lock table events in exclusive mode")
        .execute(&mut *holding)
        .await
        .expect("the table can be locked");
    holding
}

/// Waits until so many backends of this database wait for a lock of this kind.
async fn until_blocked(db: &PgPool, kind: &str, backends: usize) {
    let blocked = async {
        loop {
            let blocked: i64 = sqlx::query_scalar(
                "select count(distinct l.pid)
                from pg_locks l
                join pg_stat_activity a on a.pid = l.pid and a.datname = current_database()
                where not l.granted and l.locktype = $1",
            )
            .bind(kind)
            .fetch_one(db)
            .await
            .expect("locks can be listed");
            if usize::try_from(blocked).is_ok_and(|blocked| blocked >= backends) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(2 * DEADLINE, blocked)
        .await
        .expect("they come to wait");
}

/// Appends commands to each log so that they share one batch there: they queue while another command
/// is held up. Then `meanwhile` happens.
async fn append_in_batches(
    database: &Database,
    batches: Vec<(&Log, Vec<NewCommand>)>,
    meanwhile: impl Future<Output = ()>,
) -> Vec<Vec<Result<Outcome, AppendError>>> {
    let holding = hold_inserts(&database.pool).await;
    let first: Vec<_> = batches
        .iter()
        .map(|(log, _)| {
            let log = (*log).clone();
            let command = renamed(surroundings().ids.uuid().as_u128(), 0, 1);
            tokio::spawn(async move { log.append(command, DEADLINE).await })
        })
        .collect();
    until_blocked(&database.pool, "relation", first.len()).await;
    // `join!` polls in order: all of them are in the queue before the first may go on.
    let (outcomes, ()) = tokio::join!(
        join_all(batches.into_iter().map(|(log, commands)| {
            join_all(commands.into_iter().map(move |command| log.append(command, DEADLINE)))
        })),
        async {
            holding.rollback().await.expect("it rolls back");
            meanwhile.await;
        }
    );
    for first in first {
        appended(first.await.expect("the task ends"));
    }
    outcomes
}

/// Appends commands so that they share one batch.
async fn append_in_one_batch(
    database: &Database,
    log: &Log,
    commands: Vec<NewCommand>,
) -> Vec<Result<Outcome, AppendError>> {
    let mut outcomes = append_in_batches(database, vec![(log, commands)], async {}).await;
    outcomes.pop().expect("there was one batch")
}

#[tokio::test]
async fn commands_get_dense_positions_and_sequences() {
    let database = Database::create().await;
    let log = open(&database).await;
    let first = appended(log.append(renamed(1, 0, 2), DEADLINE).await);
    let second = appended(log.append(renamed(1, 2, 3), DEADLINE).await);
    assert_eq!((first.sequence, first.position), (2, 2));
    assert_eq!((second.sequence, second.position), (5, 5));
    let events = log.read(0, 100).await.expect("the log reads");
    assert_eq!(
        events.iter().map(|e| (e.position, e.sequence)).collect::<Vec<_>>(),
        (1..=5).map(|n| (n, n)).collect::<Vec<_>>()
    );
    assert!(matches!(
        log.append(renamed(1, 4, 1), DEADLINE).await,
        Ok(Outcome::Conflict { current: 5 })
    ));
    invariants::check(&database.pool).await;
}

#[tokio::test]
async fn the_log_is_insert_only() {
    let database = Database::create().await;
    let log = open(&database).await;
    appended(log.append(renamed(1, 0, 1), DEADLINE).await);
    for change in [
        "update events set payload = '{}'",
        "delete from events",
        "truncate events",
        "update commands set sequence = 2",
        "delete from commands",
        "truncate commands",
        "update commands set body_hash = null, events = 2",
        "update commands set body_hash = sha256('')",
    ] {
        let refused = sqlx::query(change).execute(&database.pool).await;
        let error = refused.expect_err(change);
        let code = error
            .as_database_error()
            .and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("23001"), "{change}: {error}");
    }
    assert_eq!(invariants::check(&database.pool).await.events, 1);
}

#[tokio::test]
async fn recorded_at_never_runs_backwards_though_clocks_do() {
    let database = Database::create().await;
    let noon = jangbu_events::samples::moment();
    let (ours, our_clock) = surroundings_at(noon);
    // Another process, an hour behind.
    let (theirs, _) = surroundings_at(noon - chrono::TimeDelta::hours(1));
    let a = open_with(&database, ours).await;
    let b = open_with(&database, theirs).await;

    let first = appended(a.append(renamed(1, 0, 1), DEADLINE).await);
    assert_eq!(first.recorded_at, noon);
    our_clock.set(noon - chrono::TimeDelta::days(1));
    assert_eq!(appended(a.append(renamed(1, 1, 1), DEADLINE).await).recorded_at, noon);
    assert_eq!(appended(b.append(renamed(1, 2, 1), DEADLINE).await).recorded_at, noon);
    our_clock.set(noon + chrono::TimeDelta::seconds(1));
    let later = appended(a.append(renamed(1, 3, 1), DEADLINE).await);
    assert_eq!(later.recorded_at, noon + chrono::TimeDelta::seconds(1));
    assert_eq!(
        appended(b.append(renamed(1, 4, 0), DEADLINE).await).recorded_at,
        later.recorded_at
    );
    // A process that starts anew learns the time from the log.
    let (restarted, _) = surroundings_at(noon - chrono::TimeDelta::hours(2));
    let c = open_with(&database, restarted).await;
    assert_eq!(
        appended(c.append(renamed(1, 4, 1), DEADLINE).await).recorded_at,
        later.recorded_at
    );
    invariants::check(&database.pool).await;
}

#[tokio::test]
async fn another_process_hears_that_the_log_has_grown() {
    let database = Database::create().await;
    let a = open(&database).await;
    let b = open(&database).await;
    let mut heard = b.watch();
    // The first word may be spoken before the other listens; later ones are not.
    let mut sequence = 0;
    tokio::time::timeout(DEADLINE, async {
        loop {
            sequence = appended(a.append(renamed(1, sequence, 1), DEADLINE).await).sequence;
            let wait = tokio::time::timeout(Duration::from_millis(100), heard.wait_for(|head| *head > 0));
            if let Ok(heard) = wait.await {
                return *heard.expect("the log is open");
            }
        }
    })
    .await
    .expect("it hears in time");
}

#[tokio::test]
async fn appending_never_scans_a_table() {
    let database = Database::create().await;
    let log = open(&database).await;
    // More than it takes PostgreSQL to settle on a plan, on tables that it knows to be small.
    for n in 0..20 {
        if n == 3 {
            let taken = sqlx::query("vacuum analyze events, commands")
                .execute(&database.pool)
                .await;
            taken.expect("statistics are taken");
        }
        appended(log.append(renamed(1, n, 1), DEADLINE).await);
    }
    assert!(matches!(
        log.append(renamed(1, 7, 1), DEADLINE).await,
        Ok(Outcome::Conflict { current: 20 })
    ));
    drop(log);
    // A backend counts when it has nothing else to do, at the latest when it ends.
    tokio::time::timeout(DEADLINE, async {
        loop {
            let (by_index, scans): (i64, i64) = sqlx::query_as(
                "select sum(idx_scan)::bigint, sum(seq_scan)::bigint
                from pg_stat_user_tables
                where relname in ('events', 'commands')",
            )
            .fetch_one(&database.pool)
            .await
            .expect("statistics are kept");
            assert_eq!(scans, 0);
            if by_index > 20 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("they are counted");
}
