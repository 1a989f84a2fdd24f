//! Processes that are killed while the shop sells.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    dice, guests, setting,
    shop::{Role, Shop},
};

/// How often each role is killed at least.
const KILLS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_every_role_goes_on_where_it_was() {
    let shop = Shop::open(1).await;
    let baskets = usize::try_from(setting("JANGBU_TEST_BASKETS", 60)).expect("609 at most");
    let dice = dice("kills");
    let mut kills = 0;
    guests::sell(&shop, baskets, Duration::from_secs(8), async |done: &AtomicBool| {
        let mut rounds = 0;
        while rounds < KILLS || !done.load(Ordering::Relaxed) {
            let mut roles = vec![Role::Serve(0), Role::Relay, Role::Project];
            while !roles.is_empty() {
                sleep(Duration::from_millis(dice.below(900))).await;
                let victim = usize::try_from(dice.below(roles.len() as u64)).expect("below three");
                let victim = roles.swap_remove(victim);
                shop.kill(victim);
                kills += 1;
                sleep(Duration::from_millis(500)).await;
                shop.start(victim);
                // Half of them have long started when the next one is killed, half are just at it.
                if dice.below(2) == 0 {
                    shop.ready(victim).await;
                }
            }
            rounds += 1;
        }
    })
    .await;
    println!("{kills} processes were killed");
    shop.close().await;
}
