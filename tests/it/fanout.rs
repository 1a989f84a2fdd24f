//! Fan-out: relay, RabbitMQ, leases and workers, with real ones of each.

mod probe;
mod process;

use std::time::Duration;

use futures_util::StreamExt as _;
use jangbu::{
    broker::{self, Message},
    feed::{self, Context},
    leases::{Keeper, Lease},
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
    probe::{LEASE_TTL, PARTITIONS, PROBE, World, amqp_url, build, command, eventually, seen},
    process::{Process, Proxy},
};
use crate::database::{self, Database};

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
async fn queues_purged_and_deleted_in_mid_run_lose_nothing() {
    let world = World::create().await;
    let process = Process::start(context(&world, Some(amqp_url())), both_roles);
    world.append(20).await;
    world.wait_until_complete().await;
    let (connection, channel) = at_broker().await;
    for round in 0..30 {
        world.append(20).await;
        let queue: lapin::types::ShortString = broker::queue(world.log.log_id(), &build(), round % PARTITIONS).into();
        if round % 10 == 9 {
            channel
                .queue_delete(queue, QueueDeleteOptions::default())
                .await
                .expect("it is deleted");
        } else {
            // A queue that was deleted a moment ago may not be back yet.
            let purged = channel.queue_purge(queue, QueuePurgeOptions::default()).await;
            assert!(purged.is_ok() || round > 9, "{purged:?}");
        }
        if !channel.status().connected() {
            break;
        }
    }
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
    broker::declare_exchange(&channel, log)
        .await
        .expect("the exchange is declared");
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
        broker::declare_queue(&channel, log, &build(), partition)
            .await
            .expect("the queue is declared");
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
    let workers = Process::start(context(&world, Some(amqp_url())), worker_role);
    world.wait_until_complete().await;
    let left = async || {
        let mut left = 0;
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
            left += state.message_count();
        }
        left
    };
    eventually("the queues are empty", Duration::from_secs(10), async || {
        left().await == 0
    })
    .await;
    workers.stop().await;
    world.assert_each_once_in_order().await;
    // Stopped, nothing was left unacknowledged: it would be back in its queue.
    eventually("the queues stay empty", Duration::from_secs(10), async || {
        left().await == 0
    })
    .await;
    connection.close(200, "bye".into()).await.expect("it closes");
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
    sleep(Duration::from_millis(300)).await;
    assert!(positions().await[2] < stopped_at, "the unknown event was passed over");
    let driven = workers::drive_once(&world.database.pool, &[&PROBE], PARTITIONS, &database::surroundings()).await;
    let error = driven.expect_err("it cannot be driven either").to_string();
    assert!(error.contains(&stopped_at.to_string()), "{error}");
    workers.stop().await;
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

async fn keeper(database: &Database, name: &str) -> (Keeper, Lease) {
    let holder = database::surroundings().ids.uuid();
    let keeper = Keeper::start(
        database::pool(&database.options).await,
        holder,
        LEASE_TTL,
        [name.to_owned()],
    );
    let lease = keeper.lease(name).expect("it was asked for");
    (keeper, lease)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_has_one_holder_and_a_new_epoch_for_each() {
    let database = Database::create().await;
    let (first, mut first_lease) = keeper(&database, "a").await;
    let epoch = timeout(LEASE_TTL, first_lease.held())
        .await
        .expect("a free lease is taken at once");
    let (second, mut second_lease) = keeper(&database, "a").await;
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
    let (third, mut third_lease) = keeper(&database, "a").await;
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
        let keeper = Keeper::start(database::pool(&options).await, holder, LEASE_TTL, ["a".to_owned()]);
        let epoch = keeper.lease("a").expect("it was asked for").held().await;
        std::mem::forget(keeper);
        epoch
    });
    let epoch = held.await.expect("it is held");
    let (keeper, mut lease) = keeper(&database, "a").await;
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
    let pool = database::pool(&database.options).await;
    let holder = database::surroundings().ids.uuid();
    let keeper = Keeper::start(pool.clone(), holder, LEASE_TTL, ["a".to_owned()]);
    let mut lease = keeper.lease("a").expect("it was asked for");
    let epoch = lease.held().await;
    pool.close().await;
    timeout(LEASE_TTL * 2, lease.lost(epoch))
        .await
        .expect("it knows that its term has ended");
    keeper.close().await;
}
