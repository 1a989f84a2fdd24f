//! Several processes append to one log at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use super::*;

/// Streams that everyone writes to.
const SHARED: u128 = 8;

/// Appends `rounds` commands, in turn to a stream of its own and to one that all share; tells what
/// it was told.
async fn client(log: Log, number: u128, rounds: usize, shared: Arc<Vec<AtomicI64>>) -> HashMap<Uuid, Appended> {
    let mut answers = HashMap::new();
    let mut own = 0;
    for round in 0..rounds {
        let mine = round % 2 == 0;
        let stream = number % SHARED;
        let known = &shared[usize::try_from(stream).expect("it is small")];
        let mut command = if mine {
            renamed(1_000 + number, own, 1 + round % 3)
        } else {
            renamed(stream, known.load(Ordering::SeqCst), 1)
        };
        let appended = loop {
            match log.append(command.clone(), Duration::from_secs(20)).await {
                Ok(Outcome::Appended(appended)) => break appended,
                Ok(Outcome::Conflict { current }) => {
                    assert!(!mine, "nobody else writes to this stream");
                    assert_ne!(current, command.expected_sequence);
                    command.expected_sequence = current;
                }
                other => panic!("{other:?}"),
            }
        };
        if mine {
            own = appended.sequence;
        } else {
            known.fetch_max(appended.sequence, Ordering::SeqCst);
        }
        answers.insert(command.command_id, appended);
    }
    answers
}

async fn nodes_share_a_log(nodes: usize, rounds: usize) {
    const CLIENTS: usize = 32;
    let database = Database::create().await;
    // Kept until somebody queues for it, which shows that colliding processes do.
    let mut lock = database.pool.begin().await.expect("a transaction");
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(0x6a61_6e67_6275_i64)
        .execute(&mut *lock)
        .await
        .expect("the lock is free");

    let shared: Arc<Vec<AtomicI64>> = Arc::new((0..SHARED).map(|_| AtomicI64::new(0)).collect());
    let mut clients = Vec::new();
    for node in 0..nodes {
        let log = open(&database).await;
        for number in 0..CLIENTS {
            let number = (node * CLIENTS + number) as u128;
            clients.push(tokio::spawn(client(log.clone(), number, rounds, Arc::clone(&shared))));
        }
    }
    until_blocked(&database.pool, "advisory").await;
    lock.rollback().await.expect("it rolls back");

    let mut answers = HashMap::new();
    for client in clients {
        answers.extend(client.await.expect("the client ends"));
    }
    assert_eq!(answers.len(), nodes * CLIENTS * rounds, "every command had an answer");
    let size = invariants::check(&database.pool).await;
    assert_eq!(size.commands, answers.len() as i64);
    let ids: Vec<Uuid> = answers.keys().copied().collect();
    let rows = open(&database).await.commands(&ids).await.expect("commands are found");
    for (id, answer) in &answers {
        assert!(answer.is(&rows[id]), "{answer:?} is what the log says: {:?}", rows[id]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_append_to_one_log() {
    nodes_share_a_log(2, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_append_to_one_log() {
    nodes_share_a_log(4, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_a_gap_while_processes_append_and_roll_back() {
    let database = Database::create().await;
    let nodes = [open(&database).await, open(&database).await];
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // Somebody whose transactions take the next position and are rolled back.
    let spoiler = tokio::spawn({
        let (db, stop) = (database.pool.clone(), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::SeqCst) {
                let mut tx = db.begin().await.expect("a transaction");
                _ = super::hazards::insert_at_head(&mut tx, 999).await;
                tx.rollback().await.expect("it rolls back");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let shared: Arc<Vec<AtomicI64>> = Arc::new((0..SHARED).map(|_| AtomicI64::new(0)).collect());
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let log = nodes[number % 2].clone();
            tokio::spawn(client(log, number as u128, 40, Arc::clone(&shared)))
        })
        .collect();
    let reader = tokio::spawn({
        let (log, stop) = (nodes[0].clone(), Arc::clone(&stop));
        async move {
            let mut checkpoint = 0;
            let mut time = None;
            loop {
                let last_round = stop.load(Ordering::SeqCst);
                let events = log.read(checkpoint, 50).await.expect("the log reads");
                for event in &events {
                    assert_eq!(event.position, checkpoint + 1, "the reader sees a gap");
                    assert!(time <= Some(event.recorded_at), "the reader sees time run backwards");
                    checkpoint = event.position;
                    time = Some(event.recorded_at);
                }
                if last_round && events.is_empty() {
                    return checkpoint;
                }
            }
        }
    });
    for client in clients {
        client.await.expect("the client ends");
    }
    stop.store(true, Ordering::SeqCst);
    spoiler.await.expect("the spoiler ends");
    assert_eq!(
        reader.await.expect("the reader ends"),
        invariants::check(&database.pool).await.events
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_commands_without_events_in_opposite_order_do_not_deadlock() {
    let database = Database::create().await;
    let nodes = [open(&database).await, open(&database).await];
    for _ in 0..10 {
        let commands: Vec<NewCommand> = (0..200).map(|stream| renamed(stream, 0, 0)).collect();
        let backwards = commands.iter().rev().cloned().collect::<Vec<_>>();
        let outcomes = join_all([commands, backwards].into_iter().zip(&nodes).map(|(commands, log)| {
            let log = log.clone();
            tokio::spawn(async move { join_all(commands.into_iter().map(|c| log.append(c, DEADLINE))).await })
        }))
        .await;
        let outcomes = outcomes
            .into_iter()
            .flat_map(|outcomes| outcomes.expect("the task ends"));
        let first = outcomes
            .filter(|outcome| matches!(outcome, Ok(Outcome::Appended(_))))
            .count();
        assert_eq!(first, 200, "each of them went in once");
    }
    let deadlocks: i64 =
        sqlx::query_scalar("select deadlocks from pg_stat_database where datname = current_database()")
            .fetch_one(&database.pool)
            .await
            .expect("statistics are kept");
    assert_eq!(deadlocks, 0);
}
