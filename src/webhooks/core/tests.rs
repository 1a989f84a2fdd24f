//! Single steps of the core.

use jangbu_events::samples;

use super::*;

fn lane(number: i64) -> Lane {
    Lane {
        aggregate_type: "order".into(),
        aggregate_id: format!("ord_{number}"),
    }
}

fn failed() -> Outcome {
    Outcome::Failed {
        error: "status 500".into(),
        retry_after: None,
    }
}

/// Positions that it wants sent now.
fn sends(core: &mut Core, now: Timestamp) -> Vec<i64> {
    let positions = core.actions(now).into_iter().filter_map(|action| match action {
        Action::Send { position, .. } => Some(position),
        Action::Read { .. } | Action::Find { .. } => None,
    });
    positions.collect()
}

fn seconds(seconds: i64) -> Timestamp {
    samples::moment() + TimeDelta::seconds(seconds)
}

#[test]
fn a_failing_aggregate_holds_back_itself_alone() {
    let now = samples::moment();
    let mut core = Core::restore(0, []);
    assert_eq!(core.actions(now), [Action::Read { after: 0, limit: 256 }]);
    core.fed([(1, lane(1)), (2, lane(2)), (3, lane(1)), (5, lane(2))], 6);
    assert_eq!(sends(&mut core, now), [1, 2], "one of each lane");
    core.sent(1, failed(), now, 0);
    core.sent(2, Outcome::Delivered, now, 0);
    assert_eq!(sends(&mut core, now), [5]);
    core.sent(5, Outcome::Delivered, now, 0);
    let snapshot = core.snapshot().expect("it has changed");
    assert_eq!(snapshot.cursor, 6, "what is held is not in the way");
    let [(held_lane, Some(held))] = &snapshot.lanes[..] else {
        panic!("{snapshot:?}")
    };
    assert_eq!((held_lane, held.position, held.attempts), (&lane(1), 1, 1));
    core.saved(&snapshot);
    assert_eq!(core.snapshot(), None);

    // Half of five seconds to five.
    assert_eq!(core.wake_at(), Some(now + TimeDelta::milliseconds(2_500)));
    assert!(sends(&mut core, seconds(2)).is_empty());
    assert_eq!(sends(&mut core, seconds(3)), [1]);
    core.sent(1, Outcome::Delivered, seconds(3), 0);
    let find = Action::Find {
        lane: lane(1),
        after: 1,
        through: 6,
    };
    assert!(core.actions(seconds(3)).contains(&find));
    core.found(&lane(1), Some(3), seconds(3));
    assert_eq!(sends(&mut core, seconds(3)), [3]);
    core.sent(3, Outcome::Delivered, seconds(3), 0);
    assert_eq!(core.snapshot().expect("changed").lanes, [(lane(1), None)]);
}

#[test]
fn pauses_grow_to_an_hour_and_end_after_three_days() {
    let mut core = Core::restore(0, []);
    let mut now = samples::moment();
    core.actions(now);
    core.fed([(1, lane(1))], 1);
    let mut pauses = Vec::new();
    while core.parked() == 0 {
        assert_eq!(sends(&mut core, now), [1]);
        core.sent(1, failed(), now, u64::MAX - 1);
        let next = core.wake_at().unwrap_or(now);
        pauses.push((next - now).num_seconds());
        now = next;
    }
    assert!(pauses[..4].windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 3_600));
    let days = (now - samples::moment()).num_hours();
    assert!((72..74).contains(&days), "{days}");
    assert!(sends(&mut core, now + TimeDelta::days(30)).is_empty(), "it is given up");
}

#[test]
fn the_receiver_may_ask_for_a_pause_and_a_clock_may_be_set_back() {
    let now = samples::moment();
    let mut core = Core::restore(0, []);
    core.actions(now);
    core.fed([(1, lane(1))], 1);
    core.actions(now);
    let busy = Outcome::Failed {
        error: "status 429".into(),
        retry_after: Some(120),
    };
    core.sent(1, busy, now, 0);
    assert_eq!(core.wake_at(), Some(seconds(120)));
    // A week back: it is tried within the hour, not within the week.
    let past = now - TimeDelta::days(7);
    assert!(sends(&mut core, past).is_empty());
    assert_eq!(core.wake_at(), Some(past + TimeDelta::hours(1)));
}

#[test]
fn an_endpoint_that_takes_nothing_is_left_alone_and_comes_back_quickly() {
    let now = samples::moment();
    let mut core = Core::restore(0, []);
    core.actions(now);
    core.fed((1..=256).map(|position| (position, lane(position))), 256);
    let mut tried = 0;
    loop {
        let sent = sends(&mut core, now);
        if sent.is_empty() {
            break;
        }
        for position in sent {
            tried += 1;
            core.sent(position, failed(), now, 0);
        }
    }
    assert!((FAILING_MAX..FAILING_MAX + IN_FLIGHT).contains(&tried), "{tried}");
    assert!(core.cursor() < 256, "the log keeps the rest");
    // One is taken, and the next follows at once: nobody waits for its own pause.
    let at = core.wake_at().expect("something is tried again");
    let mut taken = 0;
    loop {
        let sent = sends(&mut core, at);
        if sent.is_empty() {
            break;
        }
        for position in sent {
            taken += 1;
            core.sent(position, Outcome::Delivered, at, 0);
        }
    }
    assert!(taken > 150, "{taken}");
}

#[test]
fn gone_is_gone() {
    let now = samples::moment();
    let mut core = Core::restore(0, []);
    core.actions(now);
    core.fed([(1, lane(1)), (2, lane(2))], 2);
    assert_eq!(sends(&mut core, now), [1, 2]);
    core.sent(1, Outcome::Gone, now, 0);
    assert!(core.is_gone());
    core.sent(2, Outcome::Delivered, now, 0);
    assert_eq!(core.actions(now), []);
    assert_eq!(core.cursor(), 0, "enabled again, it gets what it refused");
}
