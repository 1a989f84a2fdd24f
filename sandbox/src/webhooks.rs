//! Webhooks: what is told, to whom, and what became of it. Sending itself is in [`delivery`].
//!
//! The API never waits for a webhook: it puts a job into the outbox and answers. The outbox counts what is still to be
//! sent and throws new webhooks away beyond a limit, so that a dead shop cannot fill the memory.

pub(crate) mod delivery;
pub(crate) mod signature;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::config::WebhookVersion;
use crate::faults::{FaultKind, Faults};
use crate::portone::attempt::{Happening, HappeningKind};
use crate::portone::view::time;
use crate::random::Random;

/// The first try and five more.
pub(crate) const EXECUTIONS_MAX: u32 = 6;

/// A webhook as it goes out; the same id and body on every try.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) id: String,
    /// `Transaction.Paid` and the like; for webhooks made by hand, whatever their body says.
    pub(crate) kind: String,
    pub(crate) payment_id: Option<String>,
    pub(crate) transaction_id: String,
    pub(crate) payment_status: Option<&'static str>,
    pub(crate) url: String,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    pub(crate) at: DateTime<Utc>,
}

/// A webhook in the payment's own list.
#[derive(Debug, Clone)]
pub(crate) struct WebhookRecord {
    pub(crate) webhook: Arc<Webhook>,
    pub(crate) executions: u32,
    pub(crate) resends: u32,
    pub(crate) result: Option<&'static str>,
}

impl WebhookRecord {
    pub(crate) fn new(webhook: Arc<Webhook>) -> Self {
        Self {
            webhook,
            executions: 0,
            resends: 0,
            result: None,
        }
    }

    /// The webhook as the API shows it.
    pub(crate) fn view(&self) -> Value {
        let mut view = json!({
            "id": self.webhook.id,
            "url": self.webhook.url,
            "isAsync": true,
            "currentExecutionCount": self.executions,
            "maxExecutionCount": EXECUTIONS_MAX,
            "triggeredAt": time(self.webhook.at),
        });
        if let Some(status) = self.webhook.payment_status {
            view["paymentStatus"] = status.into();
        }
        if let Some(result) = self.result {
            view["status"] = result.into();
        }
        if self.resends > 0 {
            view["trigger"] = "MANUAL".into();
        }
        view
    }
}

/// Version 2024-04-25; the order of the fields is the documented one.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are PortOne's")]
struct Data<'a> {
    payment_id: &'a str,
    store_id: &'a str,
    transaction_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancellation_id: Option<&'a str>,
}

/// Version 2024-01-01.
#[derive(Serialize)]
struct OldBody<'a> {
    payment_id: &'a str,
    tx_id: &'a str,
    status: &'a str,
}

/// The body and its content type, or nothing where the version does not know the happening.
pub(crate) fn compose(
    version: WebhookVersion,
    payment_id: &str,
    store_id: &str,
    happening: &Happening,
) -> Option<(&'static str, Bytes)> {
    const PLAIN: &str = "structs of strings can be serialized";
    let json_type = "application/json";
    let is_dispute = matches!(
        happening.kind,
        HappeningKind::DisputeCreated | HappeningKind::DisputeResolved
    );
    let transaction_id = happening.transaction_id.as_str();
    let old = OldBody {
        payment_id,
        tx_id: transaction_id,
        status: happening.kind.name(),
    };
    match version {
        WebhookVersion::V20240425 => {
            let cancellation_id = happening.cancellation_id.as_deref();
            let body = Body {
                r#type: format!("Transaction.{}", happening.kind.name()),
                timestamp: time(happening.at),
                data: Data {
                    payment_id,
                    store_id,
                    transaction_id,
                    cancellation_id,
                },
            };
            Some((json_type, Bytes::from(serde_json::to_vec(&body).expect(PLAIN))))
        }
        _ if is_dispute => None,
        WebhookVersion::V20240101 => Some((json_type, Bytes::from(serde_json::to_vec(&old).expect(PLAIN)))),
        WebhookVersion::V20240101Form => {
            let form = serde_urlencoded::to_string(&old).expect(PLAIN);
            Some(("application/x-www-form-urlencoded", Bytes::from(form)))
        }
    }
}

/// One try of one webhook. While it lives it counts as pending.
#[derive(Debug)]
pub(crate) struct Job {
    webhook: Arc<Webhook>,
    /// From 1; beyond [`EXECUTIONS_MAX`] it is given up.
    execution: u32,
    /// Duplicates are sent once; only the original is repeated until the shop answers 200.
    is_duplicate: bool,
    _pending: Pending,
}

#[derive(Debug)]
struct Pending(watch::Sender<usize>);

impl Pending {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// What waits for its time.
#[derive(Debug)]
pub(crate) enum Later {
    Send(Job),
    /// Lets go of the held batch with this number, full or not.
    Release(u64),
}

/// One line of the delivery log.
#[derive(Debug)]
pub(crate) struct Delivery {
    webhook: Arc<Webhook>,
    execution: u32,
    is_duplicate: bool,
    signature: &'static str,
    at: DateTime<Utc>,
    outcome: Outcome,
    retry_in: Option<Duration>,
}

/// What became of one try.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(u16),
    Unreachable(String),
    /// Never sent: a fault swallowed it, or too much was pending.
    Dropped(&'static str),
}

impl Delivery {
    fn view(&self) -> Value {
        let (outcome, status, error) = match &self.outcome {
            Outcome::Answered(200) => ("succeeded", Some(200), None),
            Outcome::Answered(status) => ("refused", Some(*status), None),
            Outcome::Unreachable(why) => ("unreachable", None, Some(why.as_str())),
            Outcome::Dropped(why) => ("dropped", None, Some(*why)),
        };
        json!({
            "webhookId": self.webhook.id,
            "type": self.webhook.kind,
            "paymentId": self.webhook.payment_id,
            "url": self.webhook.url,
            "body": String::from_utf8_lossy(&self.webhook.body),
            "execution": self.execution,
            "duplicate": self.is_duplicate,
            "signature": self.signature,
            "sentAt": time(self.at),
            "outcome": outcome,
            "status": status,
            "error": error,
            "retryInMs": self.retry_in.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

/// Webhooks held back so that they can be sent in another order.
#[derive(Debug, Default)]
struct Held {
    jobs: Vec<Job>,
    target: usize,
    batch: u64,
    payment_id: Option<String>,
}

/// Where webhooks are put to be sent.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::UnboundedSender<Job>,
    later: mpsc::UnboundedSender<(Instant, Later)>,
    pending: watch::Sender<usize>,
    pending_max: usize,
    held: Mutex<Held>,
    log: Mutex<VecDeque<Delivery>>,
    log_max: usize,
}

/// The other end, for [`delivery::run`].
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) queue: mpsc::UnboundedReceiver<Job>,
    pub(crate) later: mpsc::UnboundedReceiver<(Instant, Later)>,
}

impl Outbox {
    pub(crate) fn new(pending_max: usize, log_max: usize) -> (Self, Inbox) {
        let (queue, queued) = mpsc::unbounded_channel();
        let (later, delayed) = mpsc::unbounded_channel();
        let outbox = Self {
            queue,
            later,
            pending: watch::Sender::new(0),
            pending_max,
            held: Mutex::default(),
            log: Mutex::default(),
            log_max,
        };
        (
            outbox,
            Inbox {
                queue: queued,
                later: delayed,
            },
        )
    }

    /// Puts a webhook on its way, with whatever the faults do to it.
    pub(crate) fn send(&self, webhook: Arc<Webhook>, faults: &Faults, random: &Random, now: DateTime<Utc>) {
        let payment = webhook.payment_id.as_deref();
        let strike = |kind| faults.strike(kind, payment, None);
        if strike(FaultKind::WebhookDrop).is_some() {
            return self.drop_webhook(webhook, "dropped by a fault", now);
        }
        let copies = strike(FaultKind::WebhookDuplicate).map_or(1, |fault| fault.copies);
        let delay = strike(FaultKind::WebhookDelay).map(|fault| fault.delay());
        for copy in 0..copies {
            if *self.pending.borrow() >= self.pending_max {
                tracing::warn!(
                    pending_max = self.pending_max,
                    "too many webhooks are pending; this one is thrown away"
                );
                return self.drop_webhook(webhook, "too many webhooks are pending", now);
            }
            let job = Job {
                webhook: Arc::clone(&webhook),
                execution: 1,
                is_duplicate: copy > 0,
                _pending: Pending::new(&self.pending),
            };
            if let Some(job) = self.hold(job, faults, random) {
                self.enqueue(job, delay);
            }
        }
    }

    /// Keeps the job if a reorder fault is at work; gives it back otherwise.
    fn hold(&self, job: Job, faults: &Faults, random: &Random) -> Option<Job> {
        let payment = job.webhook.payment_id.as_deref();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.jobs.is_empty() {
            let Some(fault) = faults.strike(FaultKind::WebhookReorder, payment, None) else {
                return Some(job);
            };
            held.target = fault.hold;
            held.batch += 1;
            let _ = self
                .later
                .send((Instant::now() + fault.delay(), Later::Release(held.batch)));
            held.payment_id = fault.payment_id;
        } else if held.payment_id.as_deref().is_some_and(|wanted| payment != Some(wanted)) {
            return Some(job);
        }
        held.jobs.push(job);
        if held.jobs.len() >= held.target {
            self.let_go(&mut held, random);
        }
        None
    }

    /// Sends what is held, shuffled; with a number, only if it is still that batch.
    pub(crate) fn release(&self, batch: Option<u64>, random: &Random) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.is_none_or(|batch| batch == held.batch) {
            self.let_go(&mut held, random);
        }
    }

    fn let_go(&self, held: &mut Held, random: &Random) {
        let mut jobs = std::mem::take(&mut held.jobs);
        random.shuffle(&mut jobs);
        for job in jobs {
            self.enqueue(job, None);
        }
    }

    /// Sending fails only after the workers stopped; then nobody waits for the webhook any more.
    fn enqueue(&self, job: Job, delay: Option<Duration>) {
        let _ = match delay {
            None => self.queue.send(job).map_err(drop),
            Some(delay) => self
                .later
                .send((Instant::now() + delay, Later::Send(job)))
                .map_err(drop),
        };
    }

    fn drop_webhook(&self, webhook: Arc<Webhook>, why: &'static str, at: DateTime<Utc>) {
        let outcome = Outcome::Dropped(why);
        let delivery = Delivery {
            webhook,
            execution: 0,
            is_duplicate: false,
            signature: "none",
            at,
            outcome,
            retry_in: None,
        };
        self.record(delivery);
    }

    fn record(&self, delivery: Delivery) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() == self.log_max {
            log.pop_front();
        }
        log.push_back(delivery);
    }

    /// The last `limit` deliveries, oldest first, of one payment if one is named; and how many webhooks are pending.
    pub(crate) fn log(&self, payment_id: Option<&str>, limit: usize) -> Value {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |line: &&Delivery| payment_id.is_none_or(|id| line.webhook.payment_id.as_deref() == Some(id));
        let mut items: Vec<Value> = log.iter().rev().filter(fits).take(limit).map(Delivery::view).collect();
        items.reverse();
        json!({"pending": *self.pending.borrow(), "items": items})
    }

    pub(crate) fn clear_log(&self) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until nothing is queued, held, delayed, on its way or waiting to be repeated.
    pub(crate) async fn idle(&self) {
        let mut pending = self.pending.subscribe();
        // The sender lives in self, so waiting cannot fail.
        let _ = pending.wait_for(|count| *count == 0).await;
    }
}
