//! The RabbitMQ that `TEST_AMQP_URL` names.

use jangbu::broker::{self, BuildName};
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use sqlx::PgPool;
use uuid::Uuid;

/// Where it is; `None` if the variable is empty, and then everything that needs a broker is left out.
pub fn url() -> Option<String> {
    let url = std::env::var("TEST_AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672".to_owned());
    Some(url).filter(|url| !url.is_empty())
}

/// Deletes the queues and the exchange of a log: nobody will ever read them.
pub async fn forget(url: &str, db: &PgPool) -> anyhow::Result<()> {
    let log: Uuid = sqlx::query_scalar("select log_id from log_identity")
        .fetch_one(db)
        .await?;
    let builds: Vec<(String, i32, i32, i16)> =
        sqlx::query_as("select projection, code_version, build, partitions from builds")
            .fetch_all(db)
            .await?;
    let connection = broker::connect(url, "bench").await?;
    let channel = connection.create_channel().await?;
    for (projection, code_version, build, partitions) in builds {
        let build = BuildName {
            projection,
            code_version,
            build,
        };
        for partition in 0..partitions {
            let queue = broker::queue(log, &build, partition);
            channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await?;
        }
    }
    let exchange = broker::exchange(log);
    channel
        .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
        .await?;
    connection.close(200, "bye".into()).await?;
    Ok(())
}
