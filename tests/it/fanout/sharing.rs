//! Processes that feed the same builds share the partitions, whoever comes and goes.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    both_roles, context,
    probe::{LEASE_TTL, PARTITIONS, World, amqp_url, build, eventually},
    process::Process,
    worker_role,
};

/// How many partitions each of the processes holds, the least first.
async fn shares(world: &World) -> Vec<i64> {
    let names: Vec<String> = (0..PARTITIONS).map(|partition| build().lease(partition)).collect();
    sqlx::query_scalar(
        "select count(leases.name)
         from lease_members
         left join leases on leases.holder = lease_members.holder
             and leases.name = any($1)
             and leases.expires_at > now()
         where lease_members.group_name = $2 and lease_members.expires_at > now()
         group by lease_members.holder
         order by 1",
    )
    .bind(names)
    .bind(build().to_string())
    .fetch_all(&world.database.pool)
    .await
    .expect("the shares read")
}

/// Appends while the processes come to hold so many partitions each; says how long it took.
async fn until_shared(world: &World, wanted: &[i64]) -> Duration {
    let started = Instant::now();
    eventually(&format!("{wanted:?} partitions"), Duration::from_secs(10), async || {
        world.append(6).await;
        shares(world).await == wanted
    })
    .await;
    started.elapsed()
}

async fn epochs(world: &World) -> Vec<i64> {
    sqlx::query_scalar("select epoch from checkpoints where projection = 'probe' order by partition")
        .fetch_all(&world.database.pool)
        .await
        .expect("the epochs read")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_joins_gets_a_share_and_what_a_leaver_had_is_shared_out() {
    let world = World::create().await;
    let start = || Process::start(context(&world, Some(amqp_url())), worker_role);
    let first = Process::start(context(&world, Some(amqp_url())), both_roles);
    until_shared(&world, &[4]).await;
    let second = start();
    println!(
        "of one, a second has its share after {:?}",
        until_shared(&world, &[2, 2]).await
    );
    let third = start();
    println!(
        "of two, a third has its share after {:?}",
        until_shared(&world, &[1, 1, 2]).await
    );
    world.wait_until_complete().await;

    // While nobody comes or goes, no partition changes hands.
    let before = epochs(&world).await;
    let started = Instant::now();
    while started.elapsed() < LEASE_TTL * 2 {
        world.append(6).await;
    }
    world.wait_until_complete().await;
    assert_eq!(epochs(&world).await, before);

    second.stop().await;
    let after = until_shared(&world, &[2, 2]).await;
    println!("what one leaves is shared out after {after:?}");
    assert!(after < LEASE_TTL, "a leaver's share need not run out: {after:?}");
    third.kill();
    println!("what a killed one had, after {:?}", until_shared(&world, &[4]).await);
    world.wait_until_complete().await;
    first.stop().await;
    assert_eq!(shares(&world).await, Vec::<i64>::new(), "whoever stops is no member");
    world.assert_each_once_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_far_behind_gives_its_partition_up_between_two_batches() {
    let world = World::create().await;
    world.append(3_000).await;
    let first = Process::start(context(&world, None), worker_role);
    until_shared(&world, &[4]).await;
    let second = Process::start(context(&world, None), worker_role);
    until_shared(&world, &[2, 2]).await;
    world.wait_until_complete().await;
    first.stop().await;
    second.stop().await;
    world.assert_each_once_in_order().await;
}
