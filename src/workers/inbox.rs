//! A worker's queue, as long as there is a broker.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use uuid::Uuid;

use crate::broker::{self, Backoff, BuildName, ConnectError};

/// Messages that the broker sends ahead of the acknowledgements.
const PREFETCH: u16 = 32;
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Consumes one queue, through whatever connection there is; between connections it is silent.
pub struct Inbox {
    link: Option<watch::Receiver<Option<Arc<Connection>>>>,
    queue: Queue,
    state: State,
    backoff: Backoff,
}

enum State {
    Closed {
        retry_at: Instant,
    },
    /// A task of its own: whoever waits for the next message may do other things in the meantime.
    Opening(JoinHandle<Result<Box<Open>, ConnectError>>),
    Open(Box<Open>),
}

#[derive(Clone)]
struct Queue {
    log: Uuid,
    build: BuildName,
    partition: i16,
}

struct Open {
    channel: Channel,
    consumer: Consumer,
    /// Handled, but not acknowledged yet.
    handled: Option<u64>,
}

impl Inbox {
    /// Of one partition of a build. Without a link it stays silent for ever.
    pub fn new(
        link: Option<watch::Receiver<Option<Arc<Connection>>>>,
        log: Uuid,
        build: BuildName,
        partition: i16,
    ) -> Self {
        Self {
            link,
            queue: Queue { log, build, partition },
            state: State::Closed {
                retry_at: Instant::now(),
            },
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(2)),
        }
    }

    /// Whether messages can come.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// The next message, or `None` when the inbox was opened or closed instead. Loses nothing if it
    /// is dropped before it is ready.
    pub async fn next(&mut self) -> Option<Delivery> {
        match &mut self.state {
            State::Open(open) => {
                match open.consumer.next().await {
                    Some(Ok(delivery)) => return Some(delivery),
                    Some(Err(error)) => {
                        tracing::debug!(queue.build = %self.queue.build, %error, "the queue is cut off");
                    }
                    None => {}
                }
                self.state = State::Closed {
                    retry_at: Instant::now() + self.backoff.pause(),
                };
            }
            State::Opening(task) => {
                self.state = match task.await {
                    Ok(Ok(open)) => State::Open(open),
                    Ok(Err(error)) => {
                        tracing::warn!(queue.build = %self.queue.build, %error, "cannot consume; reading the log");
                        State::Closed {
                            retry_at: Instant::now() + self.backoff.pause(),
                        }
                    }
                    Err(_) => State::Closed {
                        retry_at: Instant::now() + self.backoff.pause(),
                    },
                };
            }
            State::Closed { retry_at } => {
                let (Some(link), retry_at) = (&mut self.link, *retry_at) else {
                    return std::future::pending().await;
                };
                sleep_until(retry_at).await;
                let connection = match link.wait_for(Option::is_some).await {
                    Ok(connection) => connection.clone(),
                    Err(_) => None,
                };
                match connection {
                    Some(connection) => {
                        let queue = self.queue.clone();
                        let open = async move {
                            let opened = timeout(OPEN_TIMEOUT, queue.open(&connection)).await;
                            opened.map_err(|_| ConnectError::TimedOut)?.map_err(ConnectError::from)
                        };
                        self.state = State::Opening(tokio::spawn(open));
                    }
                    None => self.link = None,
                }
            }
        }
        None
    }

    /// A message that is there already.
    pub fn next_now(&mut self) -> Option<Delivery> {
        let State::Open(open) = &mut self.state else {
            return None;
        };
        // An error is followed by the end of the stream, which `next` then sees.
        open.consumer.next().now_or_never().flatten()?.ok()
    }

    /// Everything up to this delivery is dealt with as soon as [`Inbox::acknowledge`] says so.
    pub const fn handled(&mut self, delivery_tag: u64) {
        if let State::Open(open) = &mut self.state {
            open.handled = Some(delivery_tag);
        }
    }

    /// Acknowledges what was handled.
    pub async fn acknowledge(&mut self) {
        let State::Open(open) = &mut self.state else { return };
        let Some(tag) = open.handled.take() else { return };
        match open.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await {
            Ok(()) => self.backoff.reset(),
            Err(error) => {
                // They will come again, and will be known.
                tracing::debug!(queue.build = %self.queue.build, %error, "cannot acknowledge");
                self.state = State::Closed {
                    retry_at: Instant::now() + self.backoff.pause(),
                };
            }
        }
    }

    /// Gives unacknowledged messages back.
    pub async fn close(self) {
        match self.state {
            State::Closed { .. } => {}
            State::Opening(task) => task.abort(),
            // Without an answer the connection is broken, which gives them back as well.
            State::Open(open) => drop(timeout(CLOSE_TIMEOUT, open.channel.close(200, "bye".into())).await),
        }
    }
}

impl Queue {
    async fn open(&self, connection: &Connection) -> lapin::Result<Box<Open>> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        broker::declare_exchange(&channel, self.log).await?;
        broker::declare_queue(&channel, self.log, &self.build, self.partition).await?;
        let queue = broker::queue(self.log, &self.build, self.partition);
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await?;
        Ok(Box::new(Open {
            channel,
            consumer,
            handled: None,
        }))
    }
}
