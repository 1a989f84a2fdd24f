//! An event on its way to an endpoint: read if need be, signed, posted.

use std::{sync::Arc, time::Duration};

use jangbu_events::{RawEvent, Timestamp};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    super::{
        core::Outcome,
        message,
        send::{Outgoing, Sender, Sent},
    },
    Context,
};
use crate::{log::reading, standard_webhooks};

/// The id and the type of an event.
pub type About = (Uuid, String);

/// In clear, in memory alone.
pub struct Secrets {
    pub present: Option<String>,
    pub former: Option<(String, Timestamp)>,
}

/// An event on its way to an endpoint.
pub struct Letter {
    pub ctx: Context,
    pub sender: Sender,
    pub url: Arc<str>,
    pub secrets: Arc<Secrets>,
    pub readers: Arc<Semaphore>,
}

impl Letter {
    pub async fn send(self, position: i64, event: Option<Arc<RawEvent>>) -> (Sent, Option<About>) {
        let event = if event.is_some() {
            Ok(event)
        } else {
            // Of a lane that was held, or of a window that was full: it is in the log alone.
            let _turn = self.readers.acquire().await;
            let read = reading::read(&self.ctx.db, position - 1, 1).await;
            read.map(|mut events| events.pop().filter(|event| event.position == position).map(Arc::new))
        };
        let unsent = |error: String| Sent {
            outcome: Outcome::Failed {
                error,
                retry_after: None,
            },
            status: None,
            took: Duration::ZERO,
        };
        let event = match event {
            Ok(Some(event)) => event,
            Ok(None) => return (unsent("the event is not in the log".to_owned()), None),
            Err(_) => return (unsent("the log could not be read".to_owned()), None),
        };
        let about = (event.event_id, event.payload.event_type.clone());
        let Ok((id, body)) = message(&event) else {
            return (unsent("the event is no JSON".to_owned()), Some(about));
        };
        let sent = self.sender.send(self.signed(id, body)).await;
        (sent, Some(about))
    }

    /// Signed now, by every secret that is valid now.
    fn signed(&self, id: String, body: Vec<u8>) -> Option<Outgoing> {
        let now = self.ctx.surroundings.now();
        let timestamp = now.timestamp();
        let former = self.secrets.former.as_ref().filter(|(_, until)| now < *until);
        let secrets = [
            self.secrets.present.as_deref(),
            former.map(|(secret, _)| secret.as_str()),
        ];
        let entries: Vec<String> = secrets
            .into_iter()
            .flatten()
            .filter_map(|secret| standard_webhooks::sign(secret, &id, timestamp, &body).ok())
            .collect();
        // What only the former secret signs would be refused as soon as its time is over.
        self.secrets.present.as_ref()?;
        Some(Outgoing {
            url: self.url.to_string(),
            signature: entries.join(" "),
            id,
            timestamp,
            body,
        })
    }
}
