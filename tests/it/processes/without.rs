//! Without its broker, without its messages, and with a database that hangs up.

use std::{process::Stdio, sync::atomic::AtomicBool, time::Duration};

use jangbu::feed;
use sqlx::{Connection as _, PgConnection};
use tokio::{
    process::Command,
    time::{Instant, sleep, sleep_until},
};

use super::{
    dice, guests, queues, setting,
    shop::{Role, Shop},
};
use crate::{
    database::server,
    fanout::{
        probe::{amqp_url, eventually},
        process::Proxy,
    },
};

/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_queues_that_are_purged_and_backends_that_die_lose_nothing() {
    let proxy = Proxy::start(&amqp_url()).await;
    let shop = Shop::open_at(1, proxy.url.clone()).await;
    let baskets = usize::try_from(setting("JANGBU_TEST_BASKETS", 60)).expect("609 at most");
    let dice = dice("without");
    guests::sell(&shop, baskets, Duration::from_secs(14), async |_: &AtomicBool| {
        // With nobody to take them, messages wait in the queues; then they are lost.
        shop.kill(Role::Project);
        let mut purged = 0;
        eventually("messages are lost on purpose", Duration::from_secs(30), async || {
            sleep(Duration::from_millis(200)).await;
            purged += queues::purge(&shop.database.pool).await;
            purged >= 10
        })
        .await;
        println!("{purged} messages were purged");
        shop.start(Role::Project);
        shop.ready(Role::Project).await;

        let back = Instant::now() + AWAY;
        proxy.set_open(false);
        proxy.cut();
        control_broker("stop_app").await;
        let mut killed = 0;
        let mut admin = PgConnection::connect_with(&server()).await.expect("the server answers");
        for _ in 0..20 {
            let backends: Vec<i32> = sqlx::query_scalar(
                "select pid from pg_stat_activity
                where datname = $1 and application_name = 'jangbu' order by pid",
            )
            .bind(&shop.database.name)
            .fetch_all(&mut admin)
            .await
            .expect("backends can be listed");
            assert!(!backends.is_empty());
            let victim = backends[usize::try_from(dice.below(backends.len() as u64)).expect("few")];
            let hit: bool = sqlx::query_scalar("select pg_terminate_backend($1)")
                .bind(victim)
                .fetch_one(&mut admin)
                .await
                .expect("it can be terminated");
            killed += u32::from(hit);
            sleep(Duration::from_millis(200)).await;
        }
        println!("{killed} backends were terminated");

        // The lists go on without a broker.
        let head = feed::head(&shop.database.pool).await.expect("a head");
        let asked = Instant::now();
        eventually("the lists see what happened", Duration::from_secs(10), async || {
            sleep(Duration::from_millis(10)).await;
            let least: i64 = sqlx::query_scalar("select min(position) from checkpoints")
                .fetch_one(&shop.database.pool)
                .await
                .expect("checkpoints read");
            least >= head
        })
        .await;
        println!(
            "without a broker the lists were at the head after {:?}",
            asked.elapsed()
        );
        sleep_until(back).await;
        control_broker("start_app").await;
        proxy.set_open(true);
    })
    .await;
    shop.close().await;
}

/// Tells the broker itself, where a run may: others who use the same broker are cut off as well.
pub async fn control_broker(order: &str) {
    let Ok(program) = std::env::var("JANGBU_TEST_BROKER_CONTROL") else {
        return;
    };
    let status = Command::new(program).arg(order).stdout(Stdio::null()).status().await;
    assert!(status.expect("the broker's control runs").success());
}
