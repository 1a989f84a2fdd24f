//! Leases: one holder at a time, whatever becomes of it.

use std::time::Duration;

use jangbu::leases::{Group, Keeper, Lease};
use tokio::time::{Instant, timeout};

use super::probe::LEASE_TTL;
use crate::{
    database::{self, Database},
    proxy::Proxy,
};

fn keeper(database: &Database, name: &str) -> (Keeper, Lease) {
    let holder = database::surroundings().ids.uuid();
    let keeper = Keeper::start(&database.pool, holder, LEASE_TTL, [Group::one(name)]);
    let lease = keeper.lease(name).expect("it was asked for");
    (keeper, lease)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_has_one_holder_and_a_new_epoch_for_each() {
    let database = Database::create().await;
    let (first, mut first_lease) = keeper(&database, "a");
    let epoch = timeout(LEASE_TTL, first_lease.held())
        .await
        .expect("a free lease is taken at once");
    let (second, mut second_lease) = keeper(&database, "a");
    assert!(
        timeout(LEASE_TTL * 2, second_lease.held()).await.is_err(),
        "it is renewed, so it stays"
    );
    assert_eq!(first_lease.epoch(), Some(epoch));
    // Released, it need not run out.
    let released_at = Instant::now();
    first.close().await;
    assert_eq!(
        timeout(LEASE_TTL, second_lease.held()).await.expect("it is taken"),
        epoch + 1
    );
    assert!(released_at.elapsed() < LEASE_TTL / 2, "{:?}", released_at.elapsed());
    // Given up, another gets it, and the first hears of it.
    let (third, mut third_lease) = keeper(&database, "a");
    second_lease.give_up(Duration::from_secs(60));
    timeout(LEASE_TTL, second_lease.lost(epoch + 1))
        .await
        .expect("it hears that it has lost it");
    assert_eq!(
        timeout(LEASE_TTL, third_lease.held()).await.expect("it is taken"),
        epoch + 2
    );
    third.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_holder_is_replaced_when_its_term_ends() {
    let database = Database::create().await;
    let doomed = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let options = database.options.clone();
    let held = doomed.spawn(async move {
        let holder = database::surroundings().ids.uuid();
        let keeper = Keeper::start(&database::pool(&options).await, holder, LEASE_TTL, [Group::one("a")]);
        let epoch = keeper.lease("a").expect("it was asked for").held().await;
        std::mem::forget(keeper);
        epoch
    });
    let epoch = held.await.expect("it is held");
    let (keeper, mut lease) = keeper(&database, "a");
    let killed_at = Instant::now();
    doomed.shutdown_background();
    assert_eq!(
        timeout(LEASE_TTL * 2, lease.held()).await.expect("it is taken over"),
        epoch + 1
    );
    assert!(
        killed_at.elapsed() < LEASE_TTL + Duration::from_millis(300),
        "{:?}",
        killed_at.elapsed()
    );
    keeper.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_cannot_reach_the_database_stops_by_itself() {
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let pool = database::pool(&proxy.options(&database.options)).await;
    let holder = database::surroundings().ids.uuid();
    let keeper = Keeper::start(&pool, holder, LEASE_TTL, [Group::one("a")]);
    let mut lease = keeper.lease("a").expect("it was asked for");
    let epoch = lease.held().await;
    let stalled_at = Instant::now();
    proxy.stall();
    timeout(LEASE_TTL * 2, lease.lost(epoch))
        .await
        .expect("it knows that its term has ended");
    // Even though it waits for an answer at that moment.
    assert!(stalled_at.elapsed() < LEASE_TTL, "{:?}", stalled_at.elapsed());
    proxy.resume();
    assert_eq!(
        timeout(LEASE_TTL * 2, lease.held())
            .await
            .expect("it comes back to the database"),
        epoch + 1
    );
    keeper.close().await;
}
