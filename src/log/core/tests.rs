mod simulation;

use std::iter::zip;

use chrono::{DateTime, TimeDelta};
use jangbu_events::{Slot, StoreId};

use super::*;
use crate::log::{Beside, NewEvent, UniqueKey};

/// So many seconds into the test.
fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid moment")
}

fn command(id: u128, stream: &str, expected: i64, events: usize) -> NewCommand {
    NewCommand {
        command_id: Uuid::from_u128(id),
        store_id: StoreId::DEFAULT,
        aggregate_type: "order",
        aggregate_id: stream.to_owned(),
        slot: Slot::of(Uuid::nil()),
        expected_sequence: expected,
        events: vec![
            NewEvent {
                event_type: "order.expired".to_owned(),
                event_version: "1".to_owned(),
                payload: "{}".to_owned(),
                occurred_at: None,
            };
            events
        ],
        metadata: "{}".to_owned(),
        causation_id: None,
        correlation_id: None,
        occurred_at: at(0),
        body_hash: None,
        unique_keys: Vec::new(),
        personal_keys: Vec::new(),
        beside: Beside::default(),
    }
}

fn claiming(mut command: NewCommand, value: &str) -> NewCommand {
    command.unique_keys.push(UniqueKey {
        scope: "order_number",
        value: value.to_owned(),
        owner: command.aggregate_id.clone(),
    });
    command
}

fn row(command: &NewCommand, sequence: i64, position: i64, recorded_at: Timestamp) -> CommandRow {
    CommandRow {
        command_id: command.command_id,
        aggregate_type: command.aggregate_type.to_owned(),
        aggregate_id: command.aggregate_id.clone(),
        sequence,
        position,
        events: i32::try_from(command.events.len()).expect("it is small"),
        body_hash: None,
        recorded_at,
    }
}

fn findings(rows: &[CommandRow], sequences: &[(&str, i64)], taken: &[&str]) -> Findings {
    Findings {
        commands: rows.iter().map(|row| (row.command_id, row.clone())).collect(),
        sequences: sequences
            .iter()
            .map(|(stream, sequence)| (("order".to_owned(), (*stream).to_owned()), *sequence))
            .collect(),
        taken: taken
            .iter()
            .map(|value| (("order_number".to_owned(), (*value).to_owned()), "a".to_owned()))
            .collect(),
    }
}

fn verdicts(commands: &[NewCommand], findings: &Findings, sent_at: Option<Place>) -> Vec<Verdict> {
    judge(&commands.iter().collect::<Vec<_>>(), findings, sent_at)
}

fn conflict(current: i64) -> Verdict {
    Verdict::Answer(Outcome::Conflict { current })
}

const KEY_TAKEN: Verdict = Verdict::Answer(Outcome::KeyTaken { scope: "order_number" });

#[test]
fn a_duplicate_is_one_whatever_else_is_wrong_with_it() {
    let repeat = claiming(command(1, "a", 7, 1), "taken");
    let first = row(&repeat, 1, 1, at(0));
    let found = findings(std::slice::from_ref(&first), &[("a", 3)], &["taken"]);
    assert_eq!(
        verdicts(&[repeat], &found, None),
        [Verdict::Answer(Outcome::Duplicate(first))]
    );
}

#[test]
fn a_stream_must_stand_exactly_where_the_decision_was_made() {
    let found = findings(&[], &[("a", 3)], &[]);
    for (expected, verdict) in [(2, conflict(3)), (3, Verdict::Keep), (4, conflict(3))] {
        assert_eq!(verdicts(&[command(1, "a", expected, 1)], &found, None), [verdict]);
    }
    assert_eq!(verdicts(&[command(1, "new", 1, 1)], &found, None), [conflict(0)]);
    // A command without events continues nothing.
    assert_eq!(verdicts(&[command(1, "a", 2, 0)], &found, None), [Verdict::Keep]);
}

#[test]
fn commands_of_one_stream_follow_each_other_in_a_batch() {
    let found = findings(&[], &[("a", 3)], &["taken"]);
    let batch = [
        command(1, "a", 3, 2),
        command(2, "b", 0, 1),
        command(3, "a", 5, 1),
        // Decided on the same as the one before.
        command(4, "a", 5, 1),
        claiming(command(5, "a", 6, 1), "taken"),
        // Decided on one that is refused.
        command(6, "a", 7, 1),
        command(7, "a", 6, 1),
    ];
    assert_eq!(
        verdicts(&batch, &found, None),
        [
            Verdict::Keep,
            Verdict::Keep,
            Verdict::Keep,
            conflict(6),
            KEY_TAKEN,
            conflict(6),
            Verdict::Keep
        ]
    );
}

#[test]
fn a_duplicate_in_front_of_a_chain_counts_as_the_log_says() {
    let first = command(1, "a", 0, 2);
    let found = findings(&[row(&first, 2, 9, at(0))], &[("a", 2)], &[]);
    let chain = [first, command(2, "a", 2, 1), command(3, "a", 3, 1)];
    assert_eq!(verdicts(&chain, &found, None)[1..], [Verdict::Keep, Verdict::Keep]);
}

#[test]
fn a_key_goes_to_the_first_in_the_batch_that_may_have_it() {
    let batch = [
        claiming(command(1, "a", 7, 1), "x"),
        claiming(command(2, "b", 0, 1), "x"),
        claiming(command(3, "c", 0, 1), "x"),
    ];
    assert_eq!(
        verdicts(&batch, &Findings::default(), None),
        [conflict(0), Verdict::Keep, KEY_TAKEN]
    );
}

#[test]
fn what_a_lost_send_left_in_the_log_is_its_own() {
    let batch = [command(1, "a", 0, 2), command(2, "b", 4, 0), command(3, "c", 0, 1)];
    let place = Place {
        after: 10,
        recorded_at: at(5),
    };
    let rows = [
        row(&batch[0], 2, 12, at(5)),
        row(&batch[1], 4, 12, at(5)),
        row(&batch[2], 1, 13, at(5)),
    ];
    let found = findings(&rows, &[("a", 2), ("b", 4), ("c", 1)], &[]);
    let own = appended(&batch.iter().collect::<Vec<_>>(), place);
    for (row, own) in zip(&rows, &own) {
        assert!(own.is(row));
    }
    let expected: Vec<_> = own
        .into_iter()
        .map(|own| Verdict::Answer(Outcome::Appended(own)))
        .collect();
    assert_eq!(verdicts(&batch, &found, Some(place)), expected);
    let expected: Vec<_> = rows
        .iter()
        .map(|row| Verdict::Answer(Outcome::Duplicate(row.clone())))
        .collect();
    assert_eq!(verdicts(&batch, &found, None), expected);
}

#[test]
fn what_another_process_recorded_at_the_same_place_is_not_ours() {
    let mine = command(1, "a", 0, 1);
    let place = Place {
        after: 10,
        recorded_at: at(5),
    };
    for theirs in [
        row(&mine, 1, 11, at(6)),
        row(&mine, 1, 12, at(5)),
        row(&mine, 2, 11, at(5)),
        // The same id at the same place and moment, but for something else.
        row(&command(1, "b", 0, 1), 1, 11, at(5)),
        row(&command(1, "a", 1, 0), 1, 11, at(5)),
    ] {
        let found = findings(std::slice::from_ref(&theirs), &[("a", theirs.sequence)], &[]);
        assert_eq!(
            verdicts(std::slice::from_ref(&mine), &found, Some(place)),
            [Verdict::Answer(Outcome::Duplicate(theirs))]
        );
    }
}

#[test]
fn time_stands_still_rather_than_run_backwards() {
    let mut core = Core::new(Head {
        position: 0,
        recorded_at: None,
    });
    let first = core.place(at(10));
    assert_eq!((first.after, first.recorded_at), (0, at(10)));
    core.committed(first, 2);
    let back = core.place(at(10) - TimeDelta::hours(1));
    assert_eq!((back.after, back.recorded_at), (2, at(10)));
    // Nothing was added, so nothing moves.
    core.committed(core.place(at(20)), 0);
    assert_eq!(core.head().recorded_at, Some(at(10)));
    core.lost_race(Head {
        position: 5,
        recorded_at: Some(at(30)),
    });
    let after = core.place(at(20));
    assert_eq!((after.after, after.recorded_at), (5, at(30)));
}

#[test]
fn who_keeps_losing_queues_for_a_while() {
    let head = |position| Head {
        position,
        recorded_at: Some(at(0)),
    };
    let mut core = Core::new(head(0));
    core.lost_race(head(1));
    assert!(core.turn(None) == Turn::Race, "one lost race is bad luck");
    core.committed(core.place(at(0)), 1);
    core.lost_race(head(3));
    assert!(core.turn(None) == Turn::Race, "a win in between starts the count anew");
    core.lost_race(head(4));
    assert!(core.turn(None) == Turn::Queue);
    let mut batches = 0;
    while core.turn(None) == Turn::Queue {
        core.stands_at(head(10 + batches));
        core.committed(core.place(at(0)), 1);
        batches += 1;
    }
    assert_eq!(batches, i64::from(QUEUED_BATCHES));
}

#[test]
fn what_its_owner_gives_back_can_be_claimed() {
    let giving_back = |mut command: NewCommand, value: &str| {
        command.beside.released_keys.push(UniqueKey {
            scope: "order_number",
            value: value.to_owned(),
            owner: command.aggregate_id.clone(),
        });
        command
    };
    let found = findings(&[], &[], &["mine", "yours"]);
    // "a" has both.
    let commands = [
        giving_back(command(1, "a", 0, 1), "mine"),
        claiming(command(2, "b", 0, 1), "mine"),
        claiming(command(3, "c", 0, 1), "mine"),
        giving_back(command(4, "d", 0, 1), "yours"),
        claiming(command(5, "e", 0, 1), "yours"),
    ];
    let taken = || Verdict::Answer(Outcome::KeyTaken { scope: "order_number" });
    let expected = [Verdict::Keep, Verdict::Keep, taken(), Verdict::Keep, taken()];
    assert_eq!(verdicts(&commands, &found, None), expected);
    // In one command, the one for the other.
    let swap = claiming(giving_back(command(6, "a", 0, 1), "mine"), "mine");
    assert_eq!(verdicts(&[swap], &found, None), [Verdict::Keep]);
}
