//! Everything that can happen to relays and workers, at random, while a thousand events a second come.

use std::time::Duration;

use jangbu::clock::Surroundings;
use rustix::process::Signal;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};

use super::{dice, fleet::Fleet, queues, setting, without::control_broker};
use crate::{
    database::server,
    fanout::{probe::amqp_url, process::Proxy},
};

const EVENTS_PER_SECOND: u32 = 1_000;
const NAMES: [&str; 5] = ["relay 1", "relay 2", "project 1", "project 2", "project 3"];
/// Longer than a term: what it holds goes to others.
const STILL: Duration = Duration::from_millis(2_500);

/// How often each of them happened.
#[derive(Debug, Default)]
struct Torments {
    relays_killed: u32,
    workers_killed: u32,
    stood_still: u32,
    messages_purged: u32,
    broker_restarts: u32,
    backends_terminated: u32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tortured_at_random_nothing_is_lost_twice_or_out_of_order() {
    let proxy = Proxy::start(&amqp_url()).await;
    let mut fleet = Fleet::open(proxy.url.clone()).await;
    let dice = dice("torture");
    for name in NAMES {
        fleet.start(name);
    }
    for name in NAMES {
        fleet.running(name).await;
    }
    let span = Duration::from_secs(setting("JANGBU_TEST_TORTURE_SECONDS", 10));
    let mut torments = Torments::default();
    fleet
        .suffer(EVENTS_PER_SECOND, async |fleet| {
            // Before that there are no queues to purge.
            let (leader, _) = fleet.leader().await;
            let patience = Duration::from_secs(30);
            fleet.counts(leader, "jangbu_relay_messages_total", 1, patience).await;
            let until = Instant::now() + span;
            // Each once, then by chance.
            let mut due: Vec<u64> = (0..5).collect();
            while Instant::now() < until {
                let kind = if due.is_empty() {
                    dice.below(5)
                } else {
                    due.swap_remove(one_of(&dice, due.len()))
                };
                torment(fleet, &proxy, &dice, kind, &mut torments).await;
                sleep(Duration::from_millis(dice.below(600))).await;
            }
        })
        .await;
    println!("{torments:?} in {span:?}");
}

fn one_of(dice: &Surroundings, count: usize) -> usize {
    usize::try_from(dice.below(count as u64)).expect("few")
}

async fn torment(fleet: &mut Fleet, proxy: &Proxy, dice: &Surroundings, kind: u64, torments: &mut Torments) {
    match kind {
        0 | 1 => {
            let victims = if kind == 0 { &NAMES[..2] } else { &NAMES[2..] };
            let victim = victims[one_of(dice, victims.len())];
            fleet.kill(victim);
            sleep(Duration::from_millis(dice.below(1_500))).await;
            fleet.start(victim);
            let killed = if kind == 0 {
                &mut torments.relays_killed
            } else {
                &mut torments.workers_killed
            };
            *killed += 1;
        }
        2 => {
            let victim = NAMES[one_of(dice, NAMES.len())];
            fleet.signal(victim, Signal::STOP);
            sleep(STILL).await;
            fleet.signal(victim, Signal::CONT);
            torments.stood_still += 1;
        }
        3 => {
            torments.messages_purged += queues::purge(&fleet.database.pool).await;
            proxy.set_open(false);
            proxy.cut();
            control_broker("stop_app").await;
            sleep(Duration::from_millis(dice.below(1_500))).await;
            control_broker("start_app").await;
            proxy.set_open(true);
            torments.broker_restarts += 1;
        }
        // While it starts, a process may well give up: it is started again by whoever started it.
        _ if fleet.all_run() => torments.backends_terminated += terminate_backend(fleet, dice).await,
        _ => {}
    }
}

async fn terminate_backend(fleet: &Fleet, dice: &Surroundings) -> u32 {
    let mut admin = PgConnection::connect_with(&server()).await.expect("the server answers");
    let backends: Vec<i32> = sqlx::query_scalar(
        "select pid from pg_stat_activity where datname = $1 and application_name = 'jangbu' order by pid",
    )
    .bind(&fleet.database.name)
    .fetch_all(&mut admin)
    .await
    .expect("backends can be listed");
    let Some(victim) = backends.get(one_of(dice, backends.len().max(1))) else {
        return 0;
    };
    let hit: bool = sqlx::query_scalar("select pg_terminate_backend($1)")
        .bind(victim)
        .fetch_one(&mut admin)
        .await
        .expect("it can be terminated");
    u32::from(hit)
}
