//! The outcome of an append is unknown: the connection breaks, the backend is killed, nothing is
//! heard. Callers get the truth all the same, and the log keeps each command once.

use sqlx::postgres::PgConnectOptions;

use super::*;
use crate::proxy::{Fault, Proxy};

async fn open_through(proxy: &Proxy, database: &Database) -> Log {
    Log::open(proxy.options(&database.options), database.pool.clone(), surroundings())
        .await
        .expect("the log opens")
}

async fn one_command_survives(fault: Fault) {
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let log = open_through(&proxy, &database).await;
    appended(log.append(renamed(1, 0, 2), DEADLINE).await);
    proxy.arm(fault);
    let command = renamed(1, 2, 2);
    let found = appended(log.append(command.clone(), DEADLINE).await);
    assert_eq!(proxy.cuts(), 1, "the reply was lost");
    assert_eq!((found.sequence, found.position), (4, 4));
    let row = &log.commands(&[command.command_id]).await.expect("commands are found")[&command.command_id];
    assert!(found.is(row), "{found:?} is what the log says: {row:?}");
    // A command without events leaves nothing but its row to be recognised by.
    proxy.arm(fault);
    let empty = appended(log.append(renamed(1, 4, 0), DEADLINE).await);
    assert_eq!((proxy.cuts(), empty.position), (2, 4));
    appended(log.append(renamed(1, 4, 1), DEADLINE).await);
    assert_eq!(
        invariants::check(&database.pool).await,
        invariants::Size { events: 5, commands: 4 }
    );
}

#[tokio::test]
async fn a_reply_cut_after_the_commit_is_found_in_the_log() {
    one_command_survives(Fault::AfterCommit).await;
}

#[tokio::test]
async fn a_request_cut_before_the_server_saw_it_is_sent_again() {
    one_command_survives(Fault::BeforeExecution).await;
}

#[tokio::test]
async fn a_reply_lost_while_another_process_goes_on_is_found_too() {
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let ours = open_through(&proxy, &database).await;
    let theirs = open(&database).await;
    // Both cannot tell each other's rows by their place alone.
    for fault in [Fault::AfterCommit, Fault::BeforeExecution] {
        let stream = u128::from(fault == Fault::AfterCommit);
        proxy.arm(fault);
        let cut = proxy.cuts();
        let command = renamed(stream, 0, 1);
        let (mine, ()) = tokio::join!(ours.append(command.clone(), DEADLINE), async {
            while proxy.cuts() == cut {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            for n in 0..3 {
                appended(theirs.append(renamed(stream + 10, n, 1), DEADLINE).await);
            }
        });
        let mine = appended(mine);
        let rows = ours.commands(&[command.command_id]).await.expect("commands are found");
        assert!(mine.is(&rows[&command.command_id]));
    }
    assert_eq!(
        invariants::check(&database.pool).await,
        invariants::Size { events: 8, commands: 8 }
    );
}

/// Clients append until `stop`; each keeps to its own stream, so every command must go in.
async fn load(log: &Log, clients: u128, stop: &std::sync::atomic::AtomicBool) -> i64 {
    let counts = join_all((0..clients).map(|stream| async move {
        let mut sequence = 0;
        while !stop.load(std::sync::atomic::Ordering::SeqCst) {
            let outcome = log.append(renamed(stream, sequence, 1), Duration::from_secs(20)).await;
            sequence = appended(outcome).sequence;
        }
        sequence
    }))
    .await;
    counts.iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_however_often_the_connection_breaks() {
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let log = open_through(&proxy, &database).await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (total, ()) = tokio::join!(load(&log, 16, &stop), async {
        for n in 0..20 {
            proxy.arm([Fault::AfterCommit, Fault::BeforeExecution][n % 2]);
            while proxy.cuts() <= n {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let size = invariants::check(&database.pool).await;
    assert_eq!(
        (size.events, size.commands),
        (total, total),
        "as many as clients were told of"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_the_backend_is_killed_in_mid_append() {
    let database = Database::create().await;
    let named: PgConnectOptions = database.options.clone().application_name("appender");
    let log = Log::open(named, pool(&database.options).await, surroundings())
        .await
        .expect("the log opens");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (total, ()) = tokio::join!(load(&log, 16, &stop), async {
        let mut killed = 0;
        while killed < 10 {
            // Only in the middle of its statement.
            let kills: i64 = sqlx::query_scalar(
                "select count(*) filter (where pg_terminate_backend(pid))
                from pg_stat_activity
                where datname = current_database() and application_name = 'appender' and state = 'active'
                    and query like '%from append(%'",
            )
            .fetch_one(&database.pool)
            .await
            .expect("backends can be listed");
            killed += kills;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let size = invariants::check(&database.pool).await;
    assert_eq!(
        (size.events, size.commands),
        (total, total),
        "as many as clients were told of"
    );
}

#[tokio::test]
async fn whoever_gave_up_waiting_learns_the_outcome_with_the_same_id() {
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let log = open_through(&proxy, &database).await;
    proxy.stall();
    let command = renamed(1, 0, 1);
    let outcome = log.append(command.clone(), Duration::from_millis(100)).await;
    assert!(matches!(outcome, Err(AppendError::OutcomeUnknown)), "{outcome:?}");
    proxy.resume();
    let Ok(Outcome::Duplicate(row)) = log.append(command, DEADLINE).await else {
        panic!("it was recorded after all")
    };
    assert_eq!((row.sequence, row.position), (1, 1));
    assert_eq!(
        invariants::check(&database.pool).await,
        invariants::Size { events: 1, commands: 1 }
    );
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up() {
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let log = open_through(&proxy, &database).await;
    appended(log.append(renamed(1, 0, 1), DEADLINE).await);
    proxy.silence();
    let outcome = log.append(renamed(1, 1, 1), Duration::from_secs(60)).await;
    assert_eq!(appended(outcome).position, 2);
    assert_eq!(
        invariants::check(&database.pool).await,
        invariants::Size { events: 2, commands: 2 }
    );
}

#[tokio::test]
async fn a_table_that_is_held_leaves_no_backends_waiting_for_it() {
    let database = Database::create().await;
    let named: PgConnectOptions = database.options.clone().application_name("appender");
    let log = Log::open(named, pool(&database.options).await, surroundings())
        .await
        .expect("the log opens");
    let holding = hold_inserts(&database.pool).await;
    let held_up = tokio::spawn(async move { log.append(renamed(1, 0, 1), Duration::from_secs(60)).await });
    until_blocked(&database.pool, "relation", 1).await;
    let waiting =
        "select pid from pg_stat_activity where datname = current_database() and application_name = 'appender'
        and wait_event_type = 'Lock'";
    let first: Vec<i32> = sqlx::query_scalar(waiting)
        .fetch_all(&database.pool)
        .await
        .expect("they are listed");
    let next = async {
        loop {
            let now: Vec<i32> = sqlx::query_scalar(waiting)
                .fetch_all(&database.pool)
                .await
                .expect("they are listed");
            if now.iter().any(|pid| !first.contains(pid)) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let next = tokio::time::timeout(2 * DEADLINE, next).await.expect("it tries again");
    assert_eq!((first.len(), next.len()), (1, 1), "the first backend has given up");
    holding.rollback().await.expect("it rolls back");
    appended(held_up.await.expect("the task ends"));
    assert_eq!(invariants::check(&database.pool).await.events, 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_nothing_with_it() {
    let database = Database::create().await;
    let log = open(&database).await;
    let command = renamed(1, 0, 1);
    let holding = hold_inserts(&database.pool).await;
    let caller = tokio::spawn({
        let (log, command) = (log.clone(), command.clone());
        async move { log.append(command, DEADLINE).await }
    });
    until_blocked(&database.pool, "relation", 1).await;
    caller.abort();
    holding.rollback().await.expect("it rolls back");
    assert!(matches!(log.append(command, DEADLINE).await, Ok(Outcome::Duplicate(_))));
    // Nor does the last handle of the log: what is queued still goes in.
    let holding = hold_inserts(&database.pool).await;
    let last = tokio::spawn(async move { log.append(renamed(1, 1, 1), DEADLINE).await });
    until_blocked(&database.pool, "relation", 1).await;
    last.abort();
    assert!(last.await.is_err(), "it was dropped, the log with it");
    holding.rollback().await.expect("it rolls back");
    tokio::time::timeout(DEADLINE, async {
        while invariants::check(&database.pool).await.events < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it goes in");
}
