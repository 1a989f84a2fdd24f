//! One endpoint that is served: its core, and what the core does not need to know.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jangbu_events::{RawEvent, Timestamp};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    super::{
        EndpointId,
        core::{Core, Lane, Outcome},
        keeping::{self, AttemptRow, Fence},
        send::Sent,
    },
    LOOK_EVERY, PAUSE,
    letter::{About, Secrets},
};
use crate::feed::pages::{Page, PageError, Types};

/// Bytes of payloads that are kept for one endpoint; what is beyond is read again when its turn comes.
/// Of a hundred endpoints together as much as a small machine can spare.
const WINDOW_BYTES: usize = 1 << 20;

/// Events that were read and may be sent soon.
#[derive(Default)]
pub struct Window {
    events: BTreeMap<i64, Arc<RawEvent>>,
    bytes: usize,
}

impl Window {
    /// One of them, if it is kept.
    pub fn get(&self, position: i64) -> Option<Arc<RawEvent>> {
        self.events.get(&position).cloned()
    }

    /// Keeps it, where there is room.
    fn keep(&mut self, event: RawEvent) {
        let bytes = event.payload.payload.len();
        if self.bytes + bytes <= WINDOW_BYTES && !self.events.contains_key(&event.position) {
            self.bytes += bytes;
            self.events.insert(event.position, Arc::new(event));
        }
    }

    fn retain(&mut self, wanted: impl Fn(i64) -> bool) {
        let bytes = &mut self.bytes;
        self.events.retain(|position, event| {
            let stays = wanted(*position);
            if !stays {
                *bytes -= event.payload.payload.len();
            }
            stays
        });
    }
}

/// One that is served.
pub struct Endpoint {
    pub core: Core,
    pub revision: i64,
    pub url: Arc<str>,
    pub types: Types,
    pub secrets: Arc<Secrets>,
    /// Events of the core's window.
    pub events: Window,
    /// What the core wants read.
    pub read: Option<(i64, i64)>,
    pub look_at: Instant,
    pub attempts: Vec<AttemptRow>,
    /// Tasks that are under way.
    pub busy: usize,
    /// It was changed: nothing more is begun, and once nothing is under way it is read anew.
    pub ending: bool,
}

impl Endpoint {
    pub fn read(&mut self, page: Result<Page, PageError>) {
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                if matches!(error, PageError::Database(_)) {
                    tracing::warn!(%error, "the log cannot be read for webhooks yet");
                } else {
                    tracing::error!(%error, "webhooks stand still; after a restore, run `jangbu log fence`");
                }
                self.look_at = Instant::now() + LOOK_EVERY + PAUSE;
                return self.core.not_fed();
            }
        };
        // At once, where there is more.
        let at_end = page.through >= page.head;
        self.look_at = Instant::now() + if at_end { LOOK_EVERY } else { Duration::ZERO };
        let lane = |event: &RawEvent| Lane {
            aggregate_type: event.aggregate_type.clone(),
            aggregate_id: event.aggregate_id.clone(),
        };
        let fed: Vec<(i64, Lane)> = page.events.iter().map(|event| (event.position, lane(event))).collect();
        self.core.fed(fed, page.through);
        // What waits behind a held event is not to take the room of what is sent.
        for event in page.events {
            if self.core.wants(event.position) {
                self.events.keep(event);
            }
        }
    }

    pub fn sent(&mut self, position: i64, sent: Sent, about: Option<About>, now: Timestamp, chance: u64) {
        let (word, error) = match &sent.outcome {
            Outcome::Delivered => ("delivered", None),
            Outcome::Failed { error, .. } => ("failed", Some(error.clone())),
            Outcome::Gone => ("gone", Some("status 410".to_owned())),
        };
        metrics::counter!("jangbu_webhook_deliveries_total", "outcome" => word).increment(1);
        metrics::histogram!("jangbu_webhook_delivery_seconds", "outcome" => word).record(sent.took);
        if let Some((event_id, event_type)) = about {
            self.attempts.push(AttemptRow {
                position,
                event_id,
                event_type,
                tried_at: now,
                milliseconds: i32::try_from(sent.took.as_millis()).unwrap_or(i32::MAX),
                status: sent.status.and_then(|status| i16::try_from(status).ok()),
                error,
            });
        }
        let parked = self.core.parked();
        self.core.sent(position, sent.outcome, now, chance);
        if self.core.parked() > parked {
            metrics::counter!("jangbu_webhook_parked_total").increment(1);
            tracing::error!(
                position,
                "an event was not taken for 72 hours: its aggregate is parked for that endpoint"
            );
        }
        self.forget();
    }

    /// Of what is settled nothing is needed any more.
    fn forget(&mut self) {
        let core = &self.core;
        self.events.retain(|position| core.wants(position));
    }

    pub async fn save(&mut self, db: &PgPool, fence: Fence) -> sqlx::Result<bool> {
        let snapshot = self.core.snapshot();
        if snapshot.is_none() && self.attempts.is_empty() {
            return Ok(true);
        }
        if !keeping::save(db, fence, snapshot.as_ref(), &self.attempts).await? {
            return Ok(false);
        }
        self.attempts.clear();
        if let Some(snapshot) = snapshot {
            self.core.saved(&snapshot);
        }
        Ok(true)
    }

    pub fn measure(&self, id: Uuid, over: bool) {
        let id = EndpointId(id).to_string();
        let count = |number: usize| {
            if over {
                0
            } else {
                u32::try_from(number).unwrap_or(u32::MAX)
            }
        };
        metrics::gauge!("jangbu_webhook_parked", "endpoint" => id.clone()).set(count(self.core.parked()));
        metrics::gauge!("jangbu_webhook_retrying", "endpoint" => id).set(count(self.core.failing()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::testing;

    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_let_go_of() {
        let mut window = Window::default();
        let payload = format!(
            r#"{{"type":"cart.cleared","filler":"{}"}}"#,
            "x".repeat(WINDOW_BYTES / 4)
        );
        for position in 1..=100 {
            window.keep(testing::event(position, 3, &payload));
        }
        let kept: Vec<i64> = window.events.keys().copied().collect();
        assert_eq!(kept, [1, 2, 3], "the next ones to be sent");
        assert!(window.bytes <= WINDOW_BYTES);
        let one = window.get(1).expect("it is kept");
        assert!(Arc::ptr_eq(&one, &window.get(1).expect("it is kept")), "no copy");
        assert!(window.get(4).is_none());
        // Read again, it counts once.
        window.keep(testing::event(1, 3, &payload));
        window.retain(|position| position > 3);
        assert_eq!((window.events.len(), window.bytes), (0, 0));
        window.keep(testing::event(4, 3, &payload));
        assert!(window.get(4).is_some());
    }
}
