//! What a log has at the broker.

use jangbu::{
    broker::{self, BuildName},
    feed,
};
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions, QueuePurgeOptions};
use sqlx::PgPool;

use super::shop::PARTITIONS;
use crate::fanout::probe::amqp_url;

/// Nothing of a log stays at the broker.
pub async fn delete(db: &PgPool) {
    let (connection, channel, log) = at_broker(db).await;
    for queue in queues(db, log).await {
        let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
        deleted.await.expect("the queue is deleted");
    }
    let exchange = broker::exchange(log).into();
    let deleted = channel.exchange_delete(exchange, ExchangeDeleteOptions::default());
    deleted.await.expect("the exchange is deleted");
    connection.close(200, "bye".into()).await.expect("it closes");
}

/// Throws away what waits in the queues; gives how many messages there were.
pub async fn purge(db: &PgPool) -> u32 {
    let (connection, channel, log) = at_broker(db).await;
    let mut purged = 0;
    for queue in queues(db, log).await {
        let options = QueuePurgeOptions::default();
        purged += channel.queue_purge(queue.into(), options).await.expect("it is purged");
    }
    connection.close(200, "bye".into()).await.expect("it closes");
    purged
}

async fn at_broker(db: &PgPool) -> (lapin::Connection, lapin::Channel, uuid::Uuid) {
    // Not through a proxy that may be closed.
    let connection = broker::connect(&amqp_url(), "test").await.expect("RabbitMQ answers");
    let channel = connection.create_channel().await.expect("a channel opens");
    let log = feed::log_id(db).await.expect("the log has an id");
    (connection, channel, log)
}

/// Of every partition of every build.
async fn queues(db: &PgPool, log: uuid::Uuid) -> Vec<String> {
    let builds: Vec<(String, i32, i32)> = sqlx::query_as("select projection, code_version, build from builds")
        .fetch_all(db)
        .await
        .expect("builds can be listed");
    let queues = builds.into_iter().flat_map(|(projection, code_version, build)| {
        let build = BuildName {
            projection,
            code_version,
            build,
        };
        (0..PARTITIONS).map(move |partition| broker::queue(log, &build, partition))
    });
    queues.collect()
}
