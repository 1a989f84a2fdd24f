//! Workers that read the log themselves, and what stops them.

use std::time::Duration;

use jangbu::{
    feed::{self, Context},
    workers,
};

use super::{
    both_roles, context, latency_ms,
    probe::{PARTITIONS, PROBE, World, amqp_url, command, eventually, seen},
    process::Process,
    worker_role,
};
use crate::database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_workers_read_the_log() {
    let world = World::create().await;
    world.append(700).await;
    let workers = Process::start(context(&world, None), worker_role);
    world.append(200).await;
    world.wait_until_complete().await;
    let (median, worst) = latency_ms(&world, 40).await;
    println!("commit to visible without a broker: median {median} ms, worst {worst} ms");
    workers.stop().await;
    world.assert_each_once_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_word_from_anyone_workers_look_for_themselves() {
    let world = World::create().await;
    let context = context(&world, None);
    let workers = Process::start(
        async move {
            Context {
                head: None,
                ..context.await
            }
        },
        worker_role,
    );
    world.append(50).await;
    world.wait_until_complete().await;
    workers.stop().await;
    world.assert_each_once_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_event_stops_its_partition_and_no_other() {
    let world = World::create().await;
    world.append(40).await;
    let mut unknown = command("product.teleported", 1);
    unknown.slot = jangbu_events::Slot::from_column(130).expect("a slot");
    world
        .log
        .append(unknown, Duration::from_secs(10))
        .await
        .expect("it is appended");
    let stopped_at = feed::head(&world.database.pool).await.expect("a head");
    world.append(40).await;
    let head = feed::head(&world.database.pool).await.expect("a head");
    let workers = Process::start(context(&world, None), worker_role);
    let positions = async || -> Vec<i64> {
        sqlx::query_scalar("select position from checkpoints where projection = 'probe' order by partition")
            .fetch_all(&world.database.pool)
            .await
            .expect("checkpoints read")
    };
    eventually("the others are at the head", Duration::from_secs(20), async || {
        let positions = positions().await;
        positions.len() == 4 && [0, 1, 3].iter().all(|partition| positions[*partition] == head)
    })
    .await;
    let driven = workers::drive_once(&world.database.pool, &[&PROBE], PARTITIONS, &database::surroundings()).await;
    let error = driven.expect_err("it cannot be driven either").to_string();
    assert!(error.contains(&stopped_at.to_string()), "{error}");
    eventually(
        "why it stands still is noted down",
        Duration::from_secs(20),
        async || {
            let noted = "select stopped from checkpoints where projection = 'probe' and partition = 2";
            let noted: Option<String> = sqlx::query_scalar(noted)
                .fetch_one(&world.database.pool)
                .await
                .expect("the checkpoint reads");
            noted
                .is_some_and(|reason| reason.contains("product.teleported") && reason.contains(&stopped_at.to_string()))
        },
    )
    .await;
    workers.stop().await;
    assert!(positions().await[2] < stopped_at, "the unknown event was passed over");
    let noted: i64 = sqlx::query_scalar("select count(*) from checkpoints where stopped is not null")
        .fetch_one(&world.database.pool)
        .await
        .expect("checkpoints read");
    assert_eq!(noted, 1, "the others do not stand still");
    let parked: i64 = sqlx::query_scalar("select count(*) from parked_aggregates")
        .fetch_one(&world.database.pool)
        .await
        .expect("parked aggregates read");
    assert_eq!(parked, 0, "what nobody knows is not the fault of one aggregate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_another_history_is_not_gone_on_from() {
    let world = World::create().await;
    workers::drive_once(&world.database.pool, &[&PROBE], PARTITIONS, &database::surroundings())
        .await
        .expect("a build");
    sqlx::query("update checkpoints set position = 1000 where partition = 1")
        .execute(&world.database.pool)
        .await
        .expect("a restored database");
    sqlx::query("update relay_checkpoint set position = 1000")
        .execute(&world.database.pool)
        .await
        .expect("the same");
    let process = Process::start(context(&world, Some(amqp_url())), both_roles);
    world.append(100).await;
    eventually("the others are fed", Duration::from_secs(20), async || {
        let behind = "select count(*) from checkpoints where partition <> 1 and position < 100";
        sqlx::query_scalar::<_, i64>(behind)
            .fetch_one(&world.database.pool)
            .await
            .expect("a count")
            == 0
    })
    .await;
    assert_eq!(seen(&world.database.pool, 1).await, Vec::<i64>::new());
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drive_once_brings_everything_to_the_head_and_bears_company() {
    let world = World::create().await;
    world.append(400).await;
    let surroundings = database::surroundings();
    let drive = async || workers::drive_once(&world.database.pool, &[&PROBE], PARTITIONS, &surroundings).await;
    let (a, b, c) = tokio::join!(drive(), drive(), drive());
    a.and(b).and(c).expect("all of them arrive");
    world.assert_each_once_in_order().await;
    let workers = Process::start(context(&world, None), worker_role);
    for _ in 0..10 {
        world.append(20).await;
        drive().await.expect("it arrives beside a running worker");
    }
    world.wait_until_complete().await;
    workers.stop().await;
    world.assert_each_once_in_order().await;
}
