//! Commands that do not simply go in: duplicates, conflicts, taken keys, bad data, too many.

use jangbu::log::{CommandRow, NewPersonalKey, PasswordRow, UniqueKey};
use jangbu_events::Timestamp;

use super::*;
use crate::proxy::Proxy;

fn key(value: &str) -> UniqueKey {
    UniqueKey {
        scope: "order_number",
        value: value.to_owned(),
        owner: "ord_1".to_owned(),
    }
}

/// What a repeat is told: (sequence, position, when).
fn result_of(row: &CommandRow) -> (i64, i64, Timestamp) {
    (row.sequence, row.position, row.recorded_at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_command_sent_a_hundred_times_goes_in_once_and_all_hear_the_same() {
    let database = Database::create().await;
    let nodes = [open(&database).await, open(&database).await];
    for round in 0..5 {
        // Without events commands meet nowhere but at their ids.
        let command = renamed(round, 0, usize::from(round > 0));
        let outcomes = join_all((0..100).map(|n| {
            let (log, command) = (nodes[n % 2].clone(), command.clone());
            tokio::spawn(async move { log.append(command, DEADLINE).await })
        }))
        .await;
        let mut results = Vec::new();
        let mut first = 0;
        for outcome in outcomes {
            match outcome.expect("the task ends") {
                Ok(Outcome::Appended(appended)) => {
                    first += 1;
                    results.push((appended.sequence, appended.position, appended.recorded_at));
                }
                Ok(Outcome::Duplicate(row)) => {
                    assert_eq!(row.command_id, command.command_id);
                    results.push(result_of(&row));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(first, 1, "one of them appended it");
        results.dedup();
        assert_eq!(results.len(), 1, "all hear the same: {results:?}");
    }
    assert_eq!(
        invariants::check(&database.pool).await,
        invariants::Size { events: 4, commands: 5 }
    );
}

#[tokio::test]
async fn one_command_sent_thrice_in_a_batch_goes_in_once() {
    let database = Database::create().await;
    let log = open(&database).await;
    let command = renamed(1, 0, 1);
    let batch = vec![command.clone(), renamed(1, 1, 1), command.clone(), command];
    let outcomes = append_in_one_batch(&database, &log, batch).await;
    let [
        Ok(Outcome::Appended(first)),
        Ok(Outcome::Appended(_)),
        Ok(second),
        Ok(third),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!(second, third);
    assert!(matches!(second, Outcome::Duplicate(row) if first.is(row)), "{second:?}");
    assert_eq!(invariants::check(&database.pool).await.events, 3);
}

#[tokio::test]
async fn a_duplicate_is_told_the_first_result_after_the_stream_has_gone_on() {
    let database = Database::create().await;
    let log = open(&database).await;
    let mut command = renamed(1, 0, 2);
    command.body_hash = Some([7; 32]);
    let first = appended(log.append(command.clone(), DEADLINE).await);
    appended(log.append(renamed(1, 2, 1), DEADLINE).await);
    // Decided anew on the newer state, it still is the same command.
    command.expected_sequence = 3;
    let Ok(Outcome::Duplicate(row)) = log.append(command.clone(), DEADLINE).await else {
        panic!("it is a duplicate")
    };
    assert_eq!(result_of(&row), (first.sequence, first.position, first.recorded_at));
    assert_eq!((row.events, row.body_hash.as_deref()), (2, Some([7; 32].as_slice())));
    let found = log.commands(&[command.command_id]).await.expect("commands are found");
    assert_eq!(found[&command.command_id], row);
}

#[tokio::test]
async fn a_command_without_events_leaves_its_row() {
    let database = Database::create().await;
    let log = open(&database).await;
    let empty = appended(log.append(renamed(1, 0, 0), DEADLINE).await);
    assert_eq!((empty.sequence, empty.position), (0, 0));
    appended(log.append(renamed(1, 0, 3), DEADLINE).await);
    let command = renamed(1, 3, 0);
    let after = appended(log.append(command.clone(), DEADLINE).await);
    assert_eq!((after.sequence, after.position), (3, 3));
    let Ok(Outcome::Duplicate(row)) = log.append(command, DEADLINE).await else {
        panic!("it is a duplicate")
    };
    assert_eq!((row.events, row.sequence, row.position), (0, 3, 3));
    assert_eq!(
        invariants::check(&database.pool).await,
        invariants::Size { events: 3, commands: 3 }
    );
}

#[tokio::test]
async fn a_unique_key_has_one_owner() {
    let database = Database::create().await;
    let log = open(&database).await;
    let claiming = |stream, value: &str| {
        let mut command = renamed(stream, 0, 1);
        command.unique_keys = vec![key(value)];
        command
    };
    appended(log.append(claiming(1, "A"), DEADLINE).await);
    assert!(matches!(
        log.append(claiming(2, "A"), DEADLINE).await,
        Ok(Outcome::KeyTaken { scope: "order_number" })
    ));
    // Within a batch the first one has it, and the others are not held back.
    let batch = vec![claiming(3, "B"), claiming(4, "B"), renamed(5, 0, 1)];
    let outcomes = append_in_one_batch(&database, &log, batch).await;
    assert!(
        matches!(
            outcomes[..],
            [
                Ok(Outcome::Appended(_)),
                Ok(Outcome::KeyTaken { .. }),
                Ok(Outcome::Appended(_))
            ]
        ),
        "{outcomes:?}"
    );
    let owner = log.key_owner(StoreId::DEFAULT, "order_number", "A").await;
    assert_eq!(owner.expect("keys are found").as_deref(), Some("ord_1"));
    assert_eq!(invariants::check(&database.pool).await.events, 4);
}

#[tokio::test]
async fn personal_keys_are_written_with_their_command_or_not_at_all() {
    let database = Database::create().await;
    let log = open(&database).await;
    let key_id = surroundings().ids.uuid();
    let with_key = |expected| {
        let mut command = renamed(1, expected, 1);
        command.personal_keys = vec![NewPersonalKey {
            key_id,
            person_id: "ord_1".into(),
            retention_class: "RET_CONTRACT",
            live: vec![1],
            hold: vec![2],
            phone_hash: None,
        }];
        command
    };
    assert!(matches!(
        log.append(with_key(7), DEADLINE).await,
        Ok(Outcome::Conflict { current: 0 })
    ));
    appended(log.append(with_key(0), DEADLINE).await);
    // The same data key under another command is a mistake of ours, not a conflict.
    assert!(matches!(
        log.append(with_key(1), DEADLINE).await,
        Ok(Outcome::Rejected { .. })
    ));
    let wrapped: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "select live.wrapped_key, hold.wrapped_key
        from personal_keys live
        join personal_keys_hold hold using (key_id)",
    )
    .fetch_all(&database.pool)
    .await
    .expect("keys are read");
    assert_eq!(wrapped, [(vec![1], vec![2])]);
}

#[tokio::test]
async fn commands_of_one_stream_may_be_chained_in_a_batch() {
    let database = Database::create().await;
    let log = open(&database).await;
    let chain = (0..20).map(|n| renamed(1, n * 2, 2)).collect();
    let outcomes = append_in_one_batch(&database, &log, chain).await;
    let sequences: Vec<i64> = outcomes.into_iter().map(|outcome| appended(outcome).sequence).collect();
    assert_eq!(sequences, (1..=20).map(|n| n * 2).collect::<Vec<_>>());
    let batches: i64 = sqlx::query_scalar("select count(distinct recorded_at) from events")
        .fetch_one(&database.pool)
        .await
        .expect("a count");
    assert_eq!(batches, 2, "the chain shared one batch");
    invariants::check(&database.pool).await;
}

#[tokio::test]
async fn what_was_decided_on_a_refused_command_is_refused_too() {
    let database = Database::create().await;
    let log = open(&database).await;
    appended(log.append(renamed(1, 0, 1), DEADLINE).await);
    let mut poison = renamed(1, 1, 1);
    poison.events[0].payload = "not json".into();
    let outcomes = append_in_one_batch(&database, &log, vec![poison, renamed(1, 2, 1), renamed(2, 0, 1)]).await;
    assert!(
        matches!(
            outcomes[..],
            [
                Ok(Outcome::Rejected { .. }),
                Ok(Outcome::Conflict { current: 1 }),
                Ok(Outcome::Appended(_))
            ]
        ),
        "{outcomes:?}"
    );
    // In a batch of its own as well, with keys and without.
    for claims in [vec![], vec![key("A")]] {
        let mut command = renamed(1, 4, 1);
        command.unique_keys = claims;
        assert!(matches!(
            log.append(command, DEADLINE).await,
            Ok(Outcome::Conflict { current: 1 })
        ));
    }
    invariants::check(&database.pool).await;
}

#[tokio::test]
async fn bad_data_is_refused_alone() {
    let database = Database::create().await;
    let log = open(&database).await;
    let mut batch: Vec<NewCommand> = (10..50).map(|stream| renamed(stream, 0, 1)).collect();
    batch[7].events[0].payload = "{".into();
    batch[23].metadata = String::new();
    batch[24].aggregate_id.push('\0');
    batch[39].expected_sequence = -1;
    let outcomes = append_in_one_batch(&database, &log, batch).await;
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match index {
            7 | 23 | 24 => assert!(matches!(outcome, Ok(Outcome::Rejected { .. })), "{index}: {outcome:?}"),
            39 => assert!(
                matches!(outcome, Ok(Outcome::Rejected { .. } | Outcome::Conflict { .. })),
                "{index}: {outcome:?}"
            ),
            _ => _ = appended(outcome),
        }
    }
    assert_eq!(invariants::check(&database.pool).await.events, 37);
}

#[tokio::test]
async fn text_that_cannot_be_read_back_and_commands_too_large_are_refused() {
    let database = Database::create().await;
    let log = open(&database).await;
    let mut null = renamed(1, 0, 1);
    null.events[0].payload = r#"{"name":"a\u0000"}"#.into();
    assert!(matches!(log.append(null, DEADLINE).await, Ok(Outcome::Rejected { .. })));
    let mut large = renamed(1, 0, 1);
    large.events[0].payload = format!("\"{}\"", "x".repeat(8 << 20));
    assert!(matches!(
        log.append(large, DEADLINE).await,
        Ok(Outcome::Rejected { .. })
    ));
    // Larger than a batch should be, but not too large.
    let mut largest = renamed(1, 0, 1);
    largest.events[0].payload = format!("\"{}\"", "x".repeat(7 << 20));
    appended(log.append(largest, DEADLINE).await);
    assert_eq!(invariants::check(&database.pool).await.events, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_queue_is_full_callers_hear_busy_and_may_come_again() {
    const MANY: usize = 9_000;
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let log = Log::open(proxy.options(&database.options), database.pool.clone(), surroundings())
        .await
        .expect("the log opens");
    let commands: Vec<NewCommand> = (0..MANY).map(|n| renamed(n as u128, 0, 1)).collect();
    let send = |deadline| {
        join_all(
            commands
                .iter()
                .map(move |command| (command.clone(), deadline))
                .map(|(command, deadline)| log.append(command, deadline)),
        )
    };

    proxy.stall();
    let mut busy = 0;
    for outcome in send(Duration::from_millis(300)).await {
        match outcome {
            Err(AppendError::Busy) => busy += 1,
            Err(AppendError::OutcomeUnknown) => {}
            Ok(outcome) => panic!("nothing can be known, and yet: {outcome:?}"),
        }
    }
    assert!((1..MANY).contains(&busy), "{busy} of {MANY} heard that the log is busy");

    proxy.resume();
    let (mut went_in, mut were_in) = (0, 0);
    for outcome in send(Duration::from_secs(30)).await {
        match outcome {
            Ok(Outcome::Appended(_)) => went_in += 1,
            Ok(Outcome::Duplicate(_)) => were_in += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (went_in, were_in),
        (busy, MANY - busy),
        "busy means that nothing was recorded"
    );
    let size = invariants::check(&database.pool).await;
    assert_eq!(usize::try_from(size.events), Ok(MANY));
}

#[tokio::test]
async fn a_key_that_its_owner_gives_back_can_be_claimed() {
    let database = Database::create().await;
    let log = open(&database).await;
    let key_of = |value: &str, owner: &str| UniqueKey {
        owner: owner.to_owned(),
        ..key(value)
    };
    let claiming = |stream: u128, sequence, value: &str, owner: &str| {
        let mut command = renamed(stream, sequence, 1);
        command.unique_keys = vec![key_of(value, owner)];
        command
    };
    let releasing = |stream: u128, sequence, value: &str, owner: &str| {
        let mut command = renamed(stream, sequence, 1);
        command.beside.released_keys = vec![key_of(value, owner)];
        command
    };
    let owner = async |value: &str| {
        let owner = log.key_owner(StoreId::DEFAULT, "order_number", value).await;
        owner.expect("keys are found")
    };
    appended(log.append(claiming(1, 0, "A", "one"), DEADLINE).await);
    // Not by another.
    appended(log.append(releasing(2, 0, "A", "two"), DEADLINE).await);
    assert_eq!(owner("A").await.as_deref(), Some("one"));
    // Claimed before it is given back in the same moment, it is not free yet; afterwards it is. And what is
    // claimed and then given back is nobody's.
    let batch = vec![
        claiming(2, 1, "A", "two"),
        releasing(1, 1, "A", "one"),
        claiming(3, 0, "A", "three"),
        claiming(4, 0, "B", "four"),
        releasing(4, 1, "B", "four"),
    ];
    let outcomes = append_in_one_batch(&database, &log, batch).await;
    let taken = |outcome: &_| matches!(outcome, Ok(Outcome::KeyTaken { .. }));
    assert!(taken(&outcomes[0]), "{outcomes:?}");
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, Ok(Outcome::Appended(_))), "{outcomes:?}");
    }
    assert_eq!(owner("A").await.as_deref(), Some("three"));
    assert_eq!(owner("B").await, None);
    // One for the other, and nothing at all if the other is taken.
    let mut change = claiming(3, 1, "C", "three");
    change.beside.released_keys = vec![key_of("A", "three")];
    appended(log.append(change, DEADLINE).await);
    assert_eq!((owner("A").await, owner("C").await.as_deref()), (None, Some("three")));
    appended(log.append(claiming(5, 0, "A", "five"), DEADLINE).await);
    let mut refused = claiming(3, 2, "A", "three");
    refused.beside.released_keys = vec![key_of("C", "three")];
    assert!(taken(&log.append(refused, DEADLINE).await));
    assert_eq!(owner("C").await.as_deref(), Some("three"));
}

#[tokio::test]
async fn a_password_is_written_with_its_command_or_not_at_all() {
    let database = Database::create().await;
    let log = open(&database).await;
    let setting = |sequence, hash: Option<&str>| {
        let mut command = renamed(1, sequence, 1);
        command.beside.password = Some(PasswordRow {
            customer_id: "cus_1".to_owned(),
            hash: hash.map(str::to_owned),
        });
        command
    };
    let hash = async || -> Option<String> {
        sqlx::query_scalar("select password_hash from credentials where customer_id = 'cus_1'")
            .fetch_optional(&database.pool)
            .await
            .expect("a row or none")
    };
    appended(log.append(setting(0, Some("$argon2id$1")), DEADLINE).await);
    assert!(matches!(
        log.append(setting(0, Some("$argon2id$2")), DEADLINE).await,
        Ok(Outcome::Conflict { current: 1 })
    ));
    assert_eq!(hash().await.as_deref(), Some("$argon2id$1"));
    appended(log.append(setting(1, Some("$argon2id$3")), DEADLINE).await);
    assert_eq!(hash().await.as_deref(), Some("$argon2id$3"));
    // The database would not take it: the command is refused, and others go on.
    assert!(matches!(
        log.append(setting(2, Some("plain")), DEADLINE).await,
        Ok(Outcome::Rejected { .. })
    ));
    appended(log.append(setting(2, None), DEADLINE).await);
    assert_eq!(hash().await, None);
}
