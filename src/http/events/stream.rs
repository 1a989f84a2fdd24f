//! The stream: server-sent events, as long as both sides like.
//!
//! A stream is pulled: the connection asks for the next batch when the one before is written, so a slow
//! client costs one batch of memory, no task, and nobody else's time. Streams share two places for
//! reading the log, so that many of them cannot take the database's connections from those who buy.

use std::{convert::Infallible, fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use jangbu_events::Timestamp;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::super::{
    App,
    problem::{Code, Problem},
};
use crate::feed::{
    pages::{self, Cursor, Page, PageError, Types},
    public::PublicEvent,
};

/// A stream says something at least this often: proxies close what is silent, and clients know the
/// server to be gone when it is.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often a stream looks for itself, should no word of news have come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events of one batch: what a slow client makes us keep.
const BATCH: i64 = 100;
/// A stream ends after so long at the latest, and is asked for again: with a token that still opens one.
const AGE_MAX: Duration = Duration::from_secs(3_600);
/// Streams that read the log at the same time.
const READERS: usize = 2;
/// A peer that takes nothing for so long is gone, or as good as gone.
#[cfg(target_os = "linux")]
const SILENT_MAX: Duration = Duration::from_secs(60);

/// The streams of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams {
    places: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    closed: CancellationToken,
}

impl Streams {
    /// At most `max` at a time.
    pub fn new(max: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(usize::try_from(max).unwrap_or(Semaphore::MAX_PERMITS))),
            readers: Arc::new(Semaphore::new(READERS)),
            closed: CancellationToken::new(),
        }
    }

    /// Ends them all: the process is about to.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

/// Has the kernel close connections whose peer takes nothing any more, with whatever waits to be sent:
/// such a client would keep its place in the streams for ever.
pub fn give_up_on_the_silent(connection: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        let milliseconds = u32::try_from(SILENT_MAX.as_millis()).expect("a minute is not long");
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(connection, milliseconds) {
            tracing::debug!(%error, "a connection stays without a limit of silence");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = connection;
}

/// Answers with a stream from `after` on, which ends no later than the token that it was opened with.
pub async fn open(
    app: App,
    after: Cursor,
    types: Types,
    token_ends_at: Option<Timestamp>,
) -> Result<Response, Problem> {
    // Once, here: nothing that is read or written later moves it.
    let age = token_ends_at.map_or(AGE_MAX, |at| (at - app.surroundings.now()).to_std().unwrap_or_default());
    let ends_at = Instant::now() + age.min(AGE_MAX);
    let place = app.streams.places.clone().try_acquire_owned().map_err(|_| {
        let max = app.config.event_streams_max;
        Problem::new(Code::TooManyStreams).fact("max", max).retry_after(5)
    })?;
    // What is wrong with the cursor is told while there is a status to tell it with.
    let mut stream = Stream {
        head: app.log.watch(),
        told_at: Instant::now(),
        told: after.position,
        after,
        types,
        begun: false,
        ends_at,
        _counted: Counted::new(),
        _place: place,
        app,
    };
    let first = stream.page().await?;
    stream.after = Cursor::new(first.log, stream.after.position);
    let body = Body::from_stream(stream::unfold(stream, |mut stream| async move {
        let batch = stream.next().await?;
        Some((Ok::<_, Infallible>(batch), stream))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // nginx would gather the events otherwise.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, body).into_response())
}

/// One client's.
struct Stream {
    app: App,
    /// Up to here the log was looked at.
    after: Cursor,
    /// Up to here the client knows.
    told: i64,
    told_at: Instant,
    types: Types,
    head: watch::Receiver<i64>,
    begun: bool,
    ends_at: Instant,
    _counted: Counted,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    async fn page(&self) -> Result<Page, PageError> {
        // Nobody closes it.
        let _turn = self.app.streams.readers.acquire().await;
        pages::page(self.app.log.pool(), self.after, &self.types, BATCH).await
    }

    /// The next bytes; `None` ends the stream, and the client comes again.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begun = true;
            // At once: whoever waits for the first event knows that it may come.
            return Some(Bytes::from_static(b"retry: 2000\n\n"));
        }
        let (closed, ends_at) = (self.app.streams.closed.clone(), self.ends_at);
        tokio::select! {
            biased;
            () = closed.cancelled() => None,
            () = sleep_until(ends_at) => None,
            batch = self.batch() => batch,
        }
    }

    async fn batch(&mut self) -> Option<Bytes> {
        loop {
            // From here on: what comes while the log is read is news.
            self.head.borrow_and_update();
            let page = match self.page().await {
                Ok(page) => page,
                Err(error) => {
                    // Also where the log became another one: asked again, the client is told so.
                    tracing::debug!(%error, "a stream of events ends");
                    return None;
                }
            };
            let more = page.through < page.head;
            self.after.position = page.through;
            if !page.events.is_empty() {
                self.told(page.through);
                return self.write(&page);
            }
            if self.told_at.elapsed() >= HEARTBEAT {
                // An id without data moves the client's place on and shows it nothing.
                let is_news = self.told < page.through;
                self.told(page.through);
                let text = if is_news {
                    format!("id: {}\n\n", self.after)
                } else {
                    ": still here\n\n".to_owned()
                };
                return Some(text.into());
            }
            if !more {
                tokio::select! {
                    Ok(()) = self.head.changed() => {}
                    () = sleep_until(self.told_at + HEARTBEAT) => {}
                    () = sleep(LOOK_EVERY) => {}
                }
            }
        }
    }

    fn told(&mut self, position: i64) {
        self.told = position;
        self.told_at = Instant::now();
    }

    fn write(&self, page: &Page) -> Option<Bytes> {
        let mut text = String::new();
        let through = page.through;
        let last = page.events.last().map(|event| event.position);
        for event in &page.events {
            let id = Cursor::new(page.log, event.position);
            let json = PublicEvent::of(event).and_then(|event| serde_json::to_string(&event));
            let Ok(json) = json else {
                tracing::error!(position = id.position, "an event is no JSON; a stream ends before it");
                return None;
            };
            write!(text, "id: {id}\ndata: {json}\n\n").expect("a string takes whatever is written");
        }
        if last.is_some_and(|last| last < through) {
            write!(text, "id: {}\n\n", self.after).expect("a string takes whatever is written");
        }
        Some(text.into())
    }
}

/// How many streams are open, for the metrics.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("jangbu_event_streams").increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("jangbu_event_streams").decrement(1);
    }
}
