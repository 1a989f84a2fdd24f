//! What a process did goes on soon when it is killed, and does it no more when it only stood still.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::fleet::Fleet;
use crate::fanout::probe::{amqp_url, eventually};

const EVENTS_PER_SECOND: u32 = 300;
/// From `kill -9` until somebody else goes on with the work.
const GOAL: Duration = Duration::from_secs(2);
/// For a busy machine, once.
const PATIENCE: Duration = Duration::from_secs(10);

async fn two_of_each() -> Fleet {
    let mut fleet = Fleet::open(amqp_url()).await;
    let names = ["relay 1", "relay 2", "project 1", "project 2"];
    for name in names {
        fleet.start(name);
    }
    for name in names {
        fleet.running(name).await;
    }
    fleet.until_shared(2).await;
    fleet
}

/// Until every partition has gone beyond what there was when it began.
async fn workers_go_on(fleet: &Fleet, since: Instant) -> Duration {
    let head = fleet.head().await;
    fleet.beyond(head, PATIENCE).await;
    since.elapsed()
}

/// Until another relay has published something that there was not before.
async fn relay_goes_on(fleet: &Fleet, successor: &str, since: Instant) -> Duration {
    fleet.counts(successor, "jangbu_relay_events_total", 1, PATIENCE).await;
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_seconds_after_a_kill_somebody_else_goes_on() {
    let fleet = two_of_each().await;
    let (mut of_workers, mut of_relays) = (Vec::new(), Vec::new());
    fleet
        .suffer(EVENTS_PER_SECOND, async |fleet| {
            for _ in 0..3 {
                let (leader, successor) = fleet.leader().await;
                let killed = Instant::now();
                fleet.kill("project 1");
                fleet.kill(leader);
                let (workers, relay) =
                    tokio::join!(workers_go_on(fleet, killed), relay_goes_on(fleet, successor, killed));
                of_workers.push(workers);
                of_relays.push(relay);
                fleet.start("project 1");
                fleet.start(leader);
                fleet.running("project 1").await;
                fleet.running(leader).await;
                fleet.until_shared(2).await;
                // What the successor has counted so far is no sign of its next turn.
                fleet.kill(successor);
                fleet.start(successor);
                fleet.running(successor).await;
            }
        })
        .await;
    for (who, mut times) in [("workers", of_workers), ("relays", of_relays)] {
        times.sort_unstable();
        println!("after kill -9 of {who} somebody else went on within {times:?}");
        assert!(times[1] <= GOAL, "{who}: {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stood_still_for_longer_than_its_term_changes_nothing() {
    let fleet = two_of_each().await;
    fleet
        .suffer(EVENTS_PER_SECOND, async |fleet| {
            for _ in 0..2 {
                let (leader, successor) = fleet.leader().await;
                let lost_before = fleet
                    .metric("project 2", "jangbu_leases_lost_total")
                    .await
                    .expect("it answers");
                fleet.signal("project 2", Signal::STOP);
                fleet.signal(leader, Signal::STOP);
                let stopped = Instant::now();
                let published = fleet.metric(successor, "jangbu_relay_events_total").await;
                let published = published.expect("it answers");
                let relayed = async {
                    let more = published + 1;
                    fleet
                        .counts(successor, "jangbu_relay_events_total", more, PATIENCE)
                        .await;
                };
                // Even if it stands still in mid-transaction and holds the row of a checkpoint.
                let (workers, ()) = tokio::join!(workers_go_on(fleet, stopped), relayed);
                println!("of one that stands still, the work went on after {workers:?}");
                sleep(Duration::from_millis(300)).await;
                fleet.signal("project 2", Signal::CONT);
                fleet.signal(leader, Signal::CONT);
                // About half of them; how many it held just then depends on the moment.
                fleet
                    .counts("project 2", "jangbu_leases_lost_total", lost_before + 1, PATIENCE)
                    .await;
                eventually("one relay leads", PATIENCE, async || {
                    fleet.metric(leader, "jangbu_leases_held").await == Some(0)
                })
                .await;
                fleet.until_shared(2).await;
            }
        })
        .await;
}
