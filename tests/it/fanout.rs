//! Fan-out: relay, RabbitMQ, leases and workers, with real ones of each.

mod leases;
mod parking;
pub mod probe;
pub mod process;
mod sharing;
mod without_broker;

use std::time::Duration;

use futures_util::StreamExt as _;
use jangbu::{
    broker::{self, Message},
    feed::{self, Context},
    relay, workers,
};
use lapin::{
    BasicProperties, Channel, Connection,
    options::{
        BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
        QueuePurgeOptions,
    },
    types::FieldTable,
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::{
    probe::{LEASE_TTL, PARTITIONS, PROBE, World, amqp_url, build, eventually},
    process::{Process, Proxy},
};
use crate::database;

async fn relay_role(ctx: Context, shutdown: CancellationToken) {
    relay::run(ctx, shutdown).await;
}

async fn worker_role(ctx: Context, shutdown: CancellationToken) {
    workers::run(ctx, vec![&PROBE], shutdown).await;
}

async fn both_roles(ctx: Context, shutdown: CancellationToken) {
    tokio::join!(
        relay::run(ctx.clone(), shutdown.clone()),
        workers::run(ctx, vec![&PROBE], shutdown)
    );
}

/// What a process started in another runtime needs to know.
fn context(world: &World, amqp_url: Option<String>) -> impl Future<Output = Context> + Send + 'static {
    let (options, head) = (world.database.options.clone(), world.log.watch());
    async move {
        Context {
            db: database::pool(&options).await,
            surroundings: database::surroundings(),
            amqp_url,
            partitions: PARTITIONS,
            head: Some(head),
            lease_ttl: LEASE_TTL,
        }
    }
}

async fn at_broker() -> (Connection, Channel) {
    let connection = broker::connect(&amqp_url(), "test").await.expect("RabbitMQ answers");
    let channel = connection.create_channel().await.expect("a channel opens");
    (connection, channel)
}

async fn declare(channel: &Channel, log: uuid::Uuid) {
    broker::declare_exchange(channel, log)
        .await
        .expect("the exchange is declared");
    for partition in 0..PARTITIONS {
        broker::declare_queue(channel, log, &build(), partition)
            .await
            .expect("the queue is declared");
    }
}

/// How many messages each queue has ready, and given to nobody.
async fn waiting(channel: &Channel, log: uuid::Uuid) -> Vec<u32> {
    let mut waiting = Vec::new();
    for partition in 0..PARTITIONS {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = broker::queue(log, &build(), partition).into();
        let state = channel
            .queue_declare(queue, options, FieldTable::default())
            .await
            .expect("it is there");
        waiting.push(state.message_count());
    }
    waiting
}

/// Milliseconds from an append's answer until its row is there: the median and the worst of `count`.
async fn latency_ms(world: &World, count: usize) -> (u128, u128) {
    let mut latencies = Vec::new();
    for _ in 0..count {
        let position = world.append_one().await;
        let started = Instant::now();
        eventually("the event is visible", Duration::from_secs(10), async || {
            sqlx::query_scalar::<_, i64>("select position from probe_v1_b1.seen where position = $1")
                .bind(position)
                .fetch_optional(&world.database.pool)
                .await
                .expect("the probe's table reads")
                .is_some()
        })
        .await;
        latencies.push(started.elapsed().as_millis());
        sleep(Duration::from_millis(20)).await;
    }
    latencies.sort_unstable();
    (latencies[count / 2], latencies[count - 1])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_is_seen_once_and_in_order_through_the_broker() {
    let world = World::create().await;
    // Nothing tells the workers of the head: what comes quickly, comes through the broker.
    let workers = {
        let context = context(&world, Some(amqp_url()));
        Process::start(
            async move {
                Context {
                    head: None,
                    ..context.await
                }
            },
            worker_role,
        )
    };
    let relay = Process::start(context(&world, Some(amqp_url())), relay_role);
    world.append(600).await;
    world.wait_until_complete().await;
    let (median, worst) = latency_ms(&world, 40).await;
    println!("commit to visible through RabbitMQ: median {median} ms, worst {worst} ms");
    assert!(median < 100, "the broker is not what brings events: {median} ms");
    let head = feed::head(&world.database.pool).await.expect("a head");
    eventually(
        "the relay's checkpoint is at the head",
        Duration::from_secs(5),
        async || {
            let position = sqlx::query_scalar::<_, i64>("select position from relay_checkpoint");
            position.fetch_one(&world.database.pool).await.expect("a checkpoint") == head
        },
    )
    .await;
    workers.stop().await;
    relay.stop().await;
    world.assert_each_once_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_purged_and_deleted_in_mid_run_lose_nothing() {
    let world = World::create().await;
    let process = Process::start(context(&world, Some(amqp_url())), both_roles);
    world.append(20).await;
    world.wait_until_complete().await;
    let (connection, channel) = at_broker().await;
    let (log, mut purged) = (world.log.log_id(), 0);
    declare(&channel, log).await;
    for round in 0..3 {
        // Workers that cannot commit take no more than their prefetch: the rest waits in the queues.
        let mut blocking = world.database.pool.begin().await.expect("a transaction");
        sqlx::query("select from checkpoints for update")
            .execute(&mut *blocking)
            .await
            .expect("the rows are locked");
        eventually(
            "every queue has messages waiting",
            Duration::from_secs(30),
            async || {
                world.append(8).await;
                waiting(&channel, log).await.iter().all(|count| *count > 0)
            },
        )
        .await;
        for partition in 0..PARTITIONS {
            let queue = broker::queue(log, &build(), partition).into();
            let options = QueueDeleteOptions::default();
            purged += match round {
                2 => channel.queue_delete(queue, options).await.expect("it is deleted"),
                _ => channel
                    .queue_purge(queue, QueuePurgeOptions::default())
                    .await
                    .expect("it is purged"),
            };
        }
        blocking.commit().await.expect("the rows are free again");
        world.append(8).await;
        world.wait_until_complete().await;
    }
    assert!(purged >= 12, "only {purged} messages were lost on purpose");
    world.append(20).await;
    world.wait_until_complete().await;
    process.stop().await;
    world.assert_each_once_in_order().await;
    connection.close(200, "bye".into()).await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_to_the_broker_that_is_cut_again_and_again_loses_nothing() {
    let world = World::create().await;
    let proxy = Proxy::start(&amqp_url()).await;
    let process = Process::start(context(&world, Some(proxy.url.clone())), both_roles);
    world.append(20).await;
    world.wait_until_complete().await;
    for round in 0..12 {
        world.append(30).await;
        proxy.cut();
        // In half of the rounds the broker is away for a while, and the log brings the events.
        proxy.set_open(round % 2 == 0);
        world.append(30).await;
        if round % 2 == 1 {
            world.wait_until_complete().await;
        }
        proxy.set_open(true);
    }
    // Now through the broker again.
    let head = feed::head(&world.database.pool).await.expect("a head");
    eventually("the relay caught up", Duration::from_secs(30), async || {
        let position = sqlx::query_scalar::<_, i64>("select position from relay_checkpoint");
        position.fetch_one(&world.database.pool).await.expect("a checkpoint") >= head
    })
    .await;
    world.wait_until_complete().await;
    process.stop().await;
    world.assert_each_once_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_each_role_and_one_after_the_other_killed() {
    let world = World::create().await;
    let start = || Process::start(context(&world, Some(amqp_url())), both_roles);
    let mut processes = vec![start(), start()];
    for _ in 0..4 {
        world.append(60).await;
        processes.remove(0).kill();
        world.append(60).await;
        processes.push(start());
        // The survivor takes over: the partitions of the killed one go on.
        world.wait_until_complete().await;
    }
    for process in processes {
        process.stop().await;
    }
    world.assert_each_once_in_order().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_relays_one_publishes_until_it_dies() {
    let world = World::create().await;
    // The probe's build is there, its workers are not; we listen in their place.
    workers::drive_once(&world.database.pool, &[&PROBE], PARTITIONS, &database::surroundings())
        .await
        .expect("a build");
    let (connection, channel) = at_broker().await;
    broker::declare_exchange(&channel, world.log.log_id())
        .await
        .expect("the exchange is declared");
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await
        .expect("a queue");
    let exchange: lapin::types::ShortString = broker::exchange(world.log.log_id()).into();
    let options = QueueBindOptions::default();
    channel
        .queue_bind(
            queue.name().clone(),
            exchange,
            "p02".into(),
            options,
            FieldTable::default(),
        )
        .await
        .expect("it is bound");
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut messages = channel
        .basic_consume(queue.name().clone(), "".into(), options, FieldTable::default())
        .await
        .expect("it is consumed");

    let start = || Process::start(context(&world, Some(amqp_url())), relay_role);
    let first = start();
    world.append(30).await;
    let mut through = 0;
    let mut next = async |head: i64, overlap: bool| {
        let mut positions = Vec::new();
        while through < head {
            let delivery = timeout(Duration::from_secs(10), messages.next())
                .await
                .expect("a message comes in time");
            let delivery = delivery.expect("the queue is open").expect("it is delivered");
            let message = Message::parse(&delivery.data).expect("it is a message");
            assert!(
                message.prev == through || overlap && message.prev < through,
                "{} {through}",
                message.prev
            );
            positions.extend(
                message
                    .events
                    .iter()
                    .map(|event| event.position)
                    .filter(|p| *p > through),
            );
            through = through.max(message.through);
        }
        positions
    };
    let head = async || feed::head(&world.database.pool).await.expect("a head");
    let mut positions = next(head().await, false).await;
    let second = start();
    for _ in 0..20 {
        world.append(10).await;
        sleep(Duration::from_millis(20)).await;
    }
    // Not one message twice, although two relays run.
    positions.extend(next(head().await, false).await);
    let killed_at = Instant::now();
    first.kill();
    world.append(30).await;
    positions.extend(next(head().await, true).await);
    println!(
        "the second relay published {} ms after the first was killed",
        killed_at.elapsed().as_millis()
    );
    assert!(killed_at.elapsed() < LEASE_TTL * 3, "{:?}", killed_at.elapsed());
    second.stop().await;
    let slots = feed::slots(2, PARTITIONS);
    let all = feed::read_slots(&world.database.pool, 0, i64::MAX, slots, 10_000)
        .await
        .expect("the log reads");
    assert_eq!(positions, all.iter().map(|event| event.position).collect::<Vec<_>>());
    connection.close(200, "bye".into()).await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_others_and_nonsense_are_acknowledged_and_change_nothing() {
    let world = World::create().await;
    let ctx = world.process(Some(amqp_url())).await;
    let log = world.log.log_id();
    world.append(20).await;
    let (connection, channel) = at_broker().await;
    declare(&channel, log).await;
    let events = feed::read(&ctx.db, 0, 5).await.expect("the log reads");
    let foreign = Message {
        log: uuid::Uuid::nil(),
        partition: 0,
        partitions: PARTITIONS,
        prev: 0,
        through: 1_000,
        events,
    };
    let others = Message {
        log,
        partitions: 8,
        ..foreign.clone()
    };
    for partition in 0..PARTITIONS {
        let bodies = [
            foreign.to_json().expect("JSON"),
            others.to_json().expect("JSON"),
            b"nonsense".to_vec(),
        ];
        for body in bodies {
            let exchange = broker::exchange(log).into();
            let key = broker::routing_key(partition).into();
            let properties = BasicProperties::default();
            let published = channel.basic_publish(exchange, key, BasicPublishOptions::default(), &body, properties);
            published.await.expect("it is published").await.expect("it is sent");
        }
    }
    eventually("the messages are in the queues", Duration::from_secs(10), async || {
        waiting(&channel, log).await == [3; 4]
    })
    .await;
    // A worker that is stopped with a message in its hands gives it back, so it may take several.
    eventually(
        "nothing is left in any queue, acknowledged or not",
        Duration::from_secs(30),
        async || {
            let workers = Process::start(context(&world, Some(amqp_url())), worker_role);
            world.wait_until_complete().await;
            eventually("everything is delivered", Duration::from_secs(10), async || {
                waiting(&channel, log).await == [0; 4]
            })
            .await;
            workers.stop().await;
            waiting(&channel, log).await == [0; 4]
        },
    )
    .await;
    world.assert_each_once_in_order().await;
    connection.close(200, "bye".into()).await.expect("it closes");
}
