//! RabbitMQ: names, topology, and connections that come back.
//!
//! The broker moves events and is never trusted for order or for not losing them. Nothing here is
//! newer than RabbitMQ 3.10.

pub mod message;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use jangbu_projections::builds::Build;
use lapin::{
    Channel, Connection, ConnectionProperties, Event, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
    uri::AMQPUri,
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use uuid::Uuid;

pub use self::message::Message;

/// A build of a projection, as queues and leases name it. The code version is part of the name:
/// while two versions of the program run side by side, each numbers its builds from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildName {
    /// `sales`.
    pub projection: String,
    /// Of the code that reads it.
    pub code_version: i32,
    /// Number of the build within the code version.
    pub build: i32,
}

impl BuildName {
    /// Of a build.
    pub fn of(build: &Build) -> Self {
        Self {
            projection: build.projection.clone(),
            code_version: build.code_version,
            build: build.build,
        }
    }

    /// The lease of whoever feeds one partition of it: `sales.v1.b1.p00`.
    pub fn lease(&self, partition: i16) -> String {
        format!("{self}.{}", routing_key(partition))
    }
}

impl fmt::Display for BuildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.v{}.b{}", self.projection, self.code_version, self.build)
    }
}

/// The exchange of a log: `jangbu.<log>.events`.
pub fn exchange(log: Uuid) -> String {
    format!("jangbu.{log}.events")
}

/// The routing key of a partition: `p00`.
pub fn routing_key(partition: i16) -> String {
    format!("p{partition:02}")
}

/// The queue of one partition of a build: `jangbu.<log>.sales.v1.b1.p00`.
pub fn queue(log: Uuid, build: &BuildName, partition: i16) -> String {
    format!("jangbu.{log}.{build}.{}", routing_key(partition))
}

/// Messages that a queue keeps at most. What falls out is read from the log instead.
const QUEUE_MESSAGES_MAX: i64 = 4_096;
/// The same in bytes.
const QUEUE_BYTES_MAX: i64 = 64 * 1024 * 1024;
/// How often a message may come back before the broker drops it.
const DELIVERIES_MAX: i64 = 20;
/// A queue that nobody consumed for so long is of a build or a log that is gone.
const QUEUE_EXPIRES_MS: i64 = 24 * 60 * 60 * 1_000;

/// Declares the exchange of a log; harmless if it is there.
pub async fn declare_exchange(channel: &Channel, log: Uuid) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(
            exchange(log).into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        )
        .await
}

/// Declares and binds the queue of one partition of a build; harmless if it is there. The exchange
/// must be there.
pub async fn declare_queue(channel: &Channel, log: Uuid, build: &BuildName, partition: i16) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    let mut set = |key: &str, value| {
        arguments.insert(key.into(), value);
    };
    set("x-queue-type", AMQPValue::LongString("quorum".into()));
    set("x-single-active-consumer", AMQPValue::Boolean(true));
    set("x-delivery-limit", AMQPValue::LongLongInt(DELIVERIES_MAX));
    set("x-max-length", AMQPValue::LongLongInt(QUEUE_MESSAGES_MAX));
    set("x-max-length-bytes", AMQPValue::LongLongInt(QUEUE_BYTES_MAX));
    set("x-overflow", AMQPValue::LongString("drop-head".into()));
    set("x-expires", AMQPValue::LongLongInt(QUEUE_EXPIRES_MS));
    let name: ShortString = queue(log, build, partition).into();
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare(name.clone(), options, arguments).await?;
    let key = routing_key(partition).into();
    channel
        .queue_bind(
            name,
            exchange(log).into(),
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not an AMQP URL.
    #[error("AMQP_URL is not an AMQP URL: {0}")]
    Url(String),
    /// The broker refuses or cannot be reached.
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    /// The broker does not answer.
    #[error("the broker does not answer")]
    TimedOut,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects once. `name` is shown in the broker's management pages.
pub async fn connect(url: &str, name: &str) -> Result<Connection, ConnectError> {
    let mut uri: AMQPUri = url.parse().map_err(ConnectError::Url)?;
    // A broker that vanishes without a word is noticed within about two of these.
    uri.query.heartbeat.get_or_insert(10);
    let properties = ConnectionProperties::default().with_connection_name(format!("jangbu {name}").into());
    tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect_uri(uri, properties))
        .await
        .map_err(|_| ConnectError::TimedOut)?
        .map_err(ConnectError::from)
}

/// Waits longer after every failure in a row.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    last: Duration,
}

impl Backoff {
    /// From `first`, doubling, up to `last`.
    pub const fn new(first: Duration, last: Duration) -> Self {
        Self {
            next: first,
            first,
            last,
        }
    }

    /// How long to wait now.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.last);
        pause
    }

    /// After a success.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A connection that is rebuilt whenever it breaks; its users build their channels anew. Dropped,
/// it closes.
#[derive(Debug)]
pub struct Link {
    connection: watch::Receiver<Option<Arc<Connection>>>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts to connect, and goes on for ever.
    pub fn start(url: String, name: &'static str) -> Self {
        let (sender, connection) = watch::channel(None);
        Self {
            connection,
            task: tokio::spawn(keep_connected(url, name, sender)),
        }
    }

    /// The connection of the moment; `None` while there is none.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Connection>>> {
        self.connection.clone()
    }

    /// Says good-bye to the broker.
    pub async fn close(self) {
        self.task.abort();
        let connection = self.connection.borrow().clone();
        if let Some(connection) = connection {
            // It may be broken already; either way it is gone.
            let _ = tokio::time::timeout(CONNECT_TIMEOUT, connection.close(200, "bye".into())).await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_connected(url: String, name: &'static str, sender: watch::Sender<Option<Arc<Connection>>>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        match connect(&url, name).await {
            Ok(connection) => {
                backoff.reset();
                tracing::info!(connection.name = name, "connected to the broker");
                let connection = Arc::new(connection);
                sender.send_replace(Some(connection.clone()));
                let why = broken(&connection).await;
                sender.send_replace(None);
                tracing::warn!(connection.name = name, why, "lost the broker; reading the log instead");
            }
            Err(error) => tracing::warn!(connection.name = name, %error, "cannot reach the broker; reading the log"),
        }
        sleep(backoff.pause()).await;
    }
}

/// Waits until a connection is of no use any more, and says why.
pub async fn broken(connection: &Connection) -> String {
    let mut events = Box::pin(connection.events_listener());
    let mut look = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Error(error)) => return error.to_string(),
                Some(Event::ConnectionBlocked(why)) => tracing::warn!(why, "the broker takes no messages"),
                Some(_) => {}
                None => return "closed".to_owned(),
            },
            // An error before the listener was there is heard of only in this way.
            _ = look.tick() => if !connection.status().connected() {
                return "closed".to_owned();
            }
        }
    }
}
