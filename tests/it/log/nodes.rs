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
const SHARED: u128 = 32;

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
    until_blocked(&database.pool, "advisory", 1).await;
    lock.rollback().await.expect("it rolls back");

    let mut answers = HashMap::new();
    for client in clients {
        answers.extend(client.await.expect("the client ends"));
    }
    assert_eq!(answers.len(), nodes * CLIENTS * rounds, "every command had an answer");
    let size = invariants::check(&database.pool).await;
    assert_eq!(usize::try_from(size.commands), Ok(answers.len()));
    let ids: Vec<Uuid> = answers.keys().copied().collect();
    let rows = open(&database).await.commands(&ids).await.expect("commands are found");
    for (id, answer) in &answers {
        assert!(answer.is(&rows[id]), "{answer:?} is what the log says: {:?}", rows[id]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_append_to_one_log() {
    nodes_share_a_log(2, 32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_append_to_one_log() {
    nodes_share_a_log(4, 16).await;
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

#[tokio::test]
async fn the_same_commands_in_opposite_orders_do_not_deadlock() {
    let database = Database::create().await;
    // Here a deadlock is for ever.
    let patient = database.options.clone().options([("deadlock_timeout", "1h")]);
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let log = Log::open(patient.clone(), pool(&patient).await, surroundings()).await;
        nodes.push(log.expect("the log opens"));
    }
    // Without events, since batches with events meet at the next position before anything else.
    let mut commands: Vec<NewCommand> = (0..3).map(|stream| renamed(stream, 0, 0)).collect();
    commands.sort_by_key(|command| command.command_id);
    let backwards = commands.iter().rev().cloned().collect();

    // Somebody has the middle one for as long as it takes both to come there.
    let mut middle = database.pool.begin().await.expect("a transaction");
    sqlx::query(
        "insert into commands (command_id, store_id, aggregate_type, aggregate_id, sequence, position, events,
            recorded_at)
        values ($1, $1, 'product', '', 0, 0, 0, now())",
    )
    .bind(commands[1].command_id)
    .execute(&mut *middle)
    .await
    .expect("it is free");
    let batches = vec![(&nodes[0], commands), (&nodes[1], backwards)];
    let outcomes = append_in_batches(&database, batches, async {
        until_blocked(&database.pool, "transactionid", 2).await;
        middle.rollback().await.expect("it rolls back");
    })
    .await;
    let first = outcomes
        .iter()
        .flatten()
        .filter(|outcome| matches!(outcome, Ok(Outcome::Appended(_))));
    assert_eq!(first.count(), 3, "each of them went in once: {outcomes:?}");
    invariants::check(&database.pool).await;
}

/// Appends to a stream of its own until it is told to stop; gives how many commands went in.
async fn busy_client(log: Log, number: u128, stop: Arc<std::sync::atomic::AtomicBool>) -> i64 {
    let mut sequence = 0;
    while !stop.load(Ordering::SeqCst) {
        let command = renamed(number, sequence, 1);
        loop {
            match log.append(command.clone(), Duration::from_secs(20)).await {
                Ok(Outcome::Appended(_) | Outcome::Duplicate(_)) => break,
                Err(AppendError::OutcomeUnknown) => {}
                other => panic!("nobody else writes to this stream: {other:?}"),
            }
        }
        sequence += 1;
    }
    sequence
}

/// Two processes append for a while, sixteen clients each; gives how many commands each got in.
async fn two_busy_processes(database: &Database, meanwhile: impl Future<Output = ()>) -> [i64; 2] {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut processes = Vec::new();
    for node in 0..2 {
        let log = open(database).await;
        let clients = (0..16).map(|n| tokio::spawn(busy_client(log.clone(), 100 * (node + 1) + n, Arc::clone(&stop))));
        processes.push(clients.collect::<Vec<_>>());
    }
    meanwhile.await;
    stop.store(true, Ordering::SeqCst);
    let mut done = [0, 0];
    for (clients, done) in std::iter::zip(processes, &mut done) {
        for client in clients {
            *done += client.await.expect("the client ends");
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colliding_processes_get_their_fair_share() {
    let database = Database::create().await;
    let [first, second] = two_busy_processes(&database, tokio::time::sleep(Duration::from_secs(2))).await;
    assert!(
        first.min(second) * 3 > first.max(second),
        "one process was starved: {first} and {second}"
    );
    let size = invariants::check(&database.pool).await;
    assert_eq!(size.commands, first + second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colliding_processes_lose_nothing_when_their_backends_are_killed() {
    let database = Database::create().await;
    let killing = async {
        let mut killed = 0;
        while killed < 40 {
            let ended: i64 = sqlx::query_scalar(
                "select count(*) filter (where pg_terminate_backend(pid))
                from (
                    select pid from pg_stat_activity
                    where datname = current_database() and state = 'active' and query like '%from append(%'
                        and pid <> pg_backend_pid()
                    limit 1
                ) as one",
            )
            .fetch_one(&database.pool)
            .await
            .expect("backends can be ended");
            killed += ended;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let [first, second] = two_busy_processes(&database, killing).await;
    let size = invariants::check(&database.pool).await;
    assert_eq!(size.commands, first + second);
}
