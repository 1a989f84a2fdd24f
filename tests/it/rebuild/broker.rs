//! A switch while events come through RabbitMQ: the probe has no key, so an event that is applied twice
//! is two rows.

use std::{sync::Arc, time::Duration};

use jangbu::{feed, relay, workers};
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{again, entry, rebuild};
use crate::fanout::probe::{PARTITIONS, PROBE, World, amqp_url, eventually};

async fn each_once_in_order(db: &PgPool, schema: &str, head: i64) {
    for partition in 0..PARTITIONS {
        let slots = feed::slots(partition, PARTITIONS);
        let wanted: Vec<i64> = sqlx::query_scalar(
            "select position from events
             where event_type = 'product.renamed' and slot between $1 and $2 and position <= $3 order by position",
        )
        .bind(*slots.start())
        .bind(*slots.end())
        .bind(head)
        .fetch_all(db)
        .await
        .expect("the log reads");
        let seen: Vec<i64> = sqlx::query_scalar(&format!(
            "select position from {schema}.seen where partition = $1 order by n"
        ))
        .bind(partition)
        .fetch_all(db)
        .await
        .expect("the probe's table reads");
        assert_eq!(seen, wanted, "partition {partition} of {schema}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_go_over_to_the_new_build_and_lose_and_repeat_nothing() {
    let world = Arc::new(World::create().await);
    let db = &world.database.pool;
    let (stop, mut roles) = (CancellationToken::new(), JoinSet::new());
    for _ in 0..2 {
        let context = world.process(Some(amqp_url())).await;
        roles.spawn(workers::run(context.clone(), vec![&PROBE], stop.clone()));
        roles.spawn(relay::run(context, stop.clone()));
    }
    world.append(200).await;
    world.wait_until_complete().await;
    for build in 2..=3 {
        let writing = world.clone();
        let writer = tokio::spawn(async move {
            for _ in 0..20 {
                writing.append(20).await;
            }
        });
        let rebuilt = rebuild(db, &PROBE, again(PARTITIONS)).await.expect("it is made");
        assert_eq!(rebuilt.build, build);
        println!(
            "a switch of {:.1} ms, {} events in it",
            rebuilt.switch_ms, rebuilt.switch_events
        );
        writer.await.expect("it writes");
        let head = feed::head(db).await.expect("a head");
        let schema = format!("probe_v1_b{build}");
        eventually("the new build is fed", Duration::from_secs(20), async || {
            entry(db, &schema).await.position >= head
        })
        .await;
        each_once_in_order(db, &schema, head).await;
    }
    // Through the broker: its queues are there, and those of the builds before are not.
    let connection = jangbu::broker::connect(&amqp_url(), "test")
        .await
        .expect("RabbitMQ answers");
    for (build, wanted) in [(3, true), (2, false), (1, false)] {
        let mut name = crate::fanout::probe::build();
        name.build = build;
        eventually("queues come and go", Duration::from_secs(10), async || {
            let channel = connection.create_channel().await.expect("a channel opens");
            let options = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let queue = jangbu::broker::queue(world.log.log_id(), &name, 0);
            channel
                .queue_declare(queue.into(), options, FieldTable::default())
                .await
                .is_ok()
                == wanted
        })
        .await;
    }
    // What is retired stands still.
    let retired = entry(db, "probe_v1_b2").await;
    let position = world.append_one().await;
    eventually("the live build is fed", Duration::from_secs(10), async || {
        entry(db, "probe_v1_b3").await.position >= position
    })
    .await;
    assert_eq!(entry(db, "probe_v1_b2").await, retired_beside(&retired, position));
    stop.cancel();
    while let Some(ended) = roles.join_next().await {
        ended.expect("it ends in order");
    }
}

fn retired_beside(retired: &jangbu::rebuild::list::Entry, head: i64) -> jangbu::rebuild::list::Entry {
    jangbu::rebuild::list::Entry {
        lag: head - retired.position,
        ..retired.clone()
    }
}
