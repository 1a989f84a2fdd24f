//! Somebody who listens to everything that a log sends through RabbitMQ.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt as _;
use jangbu::broker::{self, BuildName, ConnectError, Message};
use lapin::{
    Connection, Consumer,
    options::{BasicConsumeOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio::time::timeout;
use uuid::Uuid;

/// As `JANGBU_PARTITIONS` says when it says nothing.
const PARTITIONS: i16 = 4;

/// Where RabbitMQ is.
pub fn amqp_url() -> String {
    std::env::var("TEST_AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// A queue of its own, bound to everything. What the log has at the broker is deleted with it.
pub struct Listener {
    log: Uuid,
    messages: Consumer,
    _connection: Connection,
}

impl Listener {
    /// From now on, nothing is missed.
    pub async fn bind(log: Uuid) -> Self {
        let connection = broker::connect(&amqp_url(), "test").await.expect("RabbitMQ answers");
        let channel = connection.create_channel().await.expect("a channel opens");
        broker::declare_exchange(&channel, log)
            .await
            .expect("the exchange is declared");
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await;
        let queue = queue.expect("a queue").name().clone();
        let exchange = broker::exchange(log).into();
        let bound = channel.queue_bind(
            queue.clone(),
            exchange,
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.expect("it is bound");
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let messages = channel
            .basic_consume(queue, "".into(), options, FieldTable::default())
            .await
            .expect("it is consumed");
        Self {
            log,
            messages,
            _connection: connection,
        }
    }

    /// Everything that was sent until each partition was told of `head`: the bodies, and what is in them.
    pub async fn read_through(&mut self, head: i64) -> Vec<(Vec<u8>, Message)> {
        let mut through: BTreeMap<i16, i64> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        let mut all = Vec::new();
        while through.values().any(|position| *position < head) {
            let delivery = timeout(Duration::from_secs(30), self.messages.next()).await;
            let delivery = delivery.unwrap_or_else(|_| panic!("nothing came beyond {through:?} of {head}"));
            let body = delivery.expect("the queue is open").expect("it is delivered").data;
            let message = Message::parse(&body).expect("it is a message");
            let position = through.entry(message.partition).or_default();
            *position = message.through.max(*position);
            all.push((body, message));
        }
        all
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let log = self.log;
        // A thread of its own: the test's runtime is going away.
        let deleting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(delete(log))
        });
        // Left behind, queues expire by themselves.
        _ = deleting.join();
    }
}

async fn delete(log: Uuid) -> Result<(), ConnectError> {
    let connection = broker::connect(&amqp_url(), "test").await?;
    let channel = connection.create_channel().await?;
    for projection in jangbu_projections::all() {
        let build = BuildName {
            projection: projection.name.to_owned(),
            code_version: projection.code_version,
            build: 1,
        };
        for partition in 0..PARTITIONS {
            let queue = broker::queue(log, &build, partition).into();
            channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
        }
    }
    let exchange = broker::exchange(log).into();
    channel
        .exchange_delete(exchange, ExchangeDeleteOptions::default())
        .await?;
    Ok(connection.close(200, "bye".into()).await?)
}
