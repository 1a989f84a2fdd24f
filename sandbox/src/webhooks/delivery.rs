//! Sending webhooks: a fixed number of workers, and one task that keeps what waits for its time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Delivery, EXECUTIONS_MAX, Inbox, Job, Later, Outcome, Webhook};
use crate::faults::FaultKind;
use crate::portone::Sandbox;

/// Delays before the second to sixth try; each is shortened by full jitter and by the time scale.
const RETRY_MINUTES: [u64; 5] = [1, 4, 16, 64, 256];
/// An answer's body is read, so that the connection can be used again, unless it says to be longer than this.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Starts the workers. They stop when the set is dropped.
pub(crate) fn run(sandbox: &Sandbox, inbox: Inbox) -> JoinSet<()> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(sandbox.config.webhook_timeout)
        .pool_max_idle_per_host(sandbox.config.webhook_concurrency)
        .build()
        .expect("a client without a proxy or certificates of its own can be built");
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_time(sandbox.clone(), inbox.later));
    let queue = Arc::new(Mutex::new(inbox.queue));
    for _ in 0..sandbox.config.webhook_concurrency {
        let (sandbox, queue, client) = (sandbox.clone(), Arc::clone(&queue), client.clone());
        tasks.spawn(async move {
            loop {
                let job = queue.lock().await.recv().await;
                let Some(job) = job else { return };
                deliver(&sandbox, &client, job).await;
            }
        });
    }
    tasks
}

/// Hands on each item when its time has come.
async fn keep_time(sandbox: Sandbox, mut incoming: mpsc::UnboundedReceiver<(Instant, Later)>) {
    let mut due: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    let mut waiting: BTreeMap<u64, Later> = BTreeMap::new();
    let mut next = 0;
    loop {
        let wake_at = due.peek().map(|Reverse((at, _))| *at);
        let sleep = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            item = incoming.recv() => {
                let Some((at, item)) = item else { return };
                due.push(Reverse((at, next)));
                waiting.insert(next, item);
                next += 1;
            }
            () = sleep => {
                let Some(Reverse((_, number))) = due.pop() else { continue };
                match waiting.remove(&number) {
                    Some(Later::Send(job)) => sandbox.outbox.enqueue(job, None),
                    Some(Later::Release(batch)) => sandbox.outbox.release(Some(batch), &sandbox.random),
                    None => {}
                }
            }
        }
    }
}

/// What goes into the headers of one try.
struct Headers {
    timestamp: i64,
    signature: String,
    /// For the log.
    note: &'static str,
}

/// Signs for this very moment, or spoils it as the faults want.
fn headers(sandbox: &Sandbox, webhook: &Webhook) -> Option<Headers> {
    let secret = sandbox.secrets.first()?;
    let strike = |kind| sandbox.faults.strike(kind, webhook.payment_id.as_deref(), None);
    let (mut timestamp, mut note) = (sandbox.config.clock.now().timestamp(), "valid");
    if let Some(fault) = strike(FaultKind::WebhookOldTimestamp) {
        (timestamp, note) = (timestamp - fault.seconds, "old_timestamp");
    } else if let Some(fault) = strike(FaultKind::WebhookFutureTimestamp) {
        (timestamp, note) = (timestamp + fault.seconds, "future_timestamp");
    }
    // A signature of other bytes: well formed, and wrong for this body.
    let wrong = || secret.sign(&webhook.id, timestamp, b"not this body");
    let right = secret.sign(&webhook.id, timestamp, &webhook.body);
    if strike(FaultKind::WebhookWrongSignature).is_some() {
        return Some(Headers {
            timestamp,
            signature: wrong(),
            note: "wrong",
        });
    }
    if strike(FaultKind::WebhookTwoSignatures).is_some() {
        let other = sandbox
            .secrets
            .get(1)
            .map_or_else(wrong, |old| old.sign(&webhook.id, timestamp, &webhook.body));
        return Some(Headers {
            timestamp,
            signature: format!("{other} {right}"),
            note: "two",
        });
    }
    Some(Headers {
        timestamp,
        signature: right,
        note,
    })
}

async fn deliver(sandbox: &Sandbox, client: &reqwest::Client, mut job: Job) {
    let webhook = Arc::clone(&job.webhook);
    let at = sandbox.config.clock.now();
    let Some(headers) = headers(sandbox, &webhook) else {
        return sandbox
            .outbox
            .drop_webhook(webhook, "there is no secret to sign with", at);
    };
    let request = client
        .post(&webhook.url)
        .header("content-type", webhook.content_type)
        .header("webhook-id", &webhook.id)
        .header("webhook-timestamp", headers.timestamp)
        .header("webhook-signature", headers.signature)
        .body(webhook.body.clone());
    let outcome = match request.send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            if response
                .content_length()
                .is_none_or(|length| length <= ANSWER_BYTES_MAX)
            {
                // Only to free the connection; the status is all that counts.
                let _ = response.bytes().await;
            }
            Outcome::Answered(status)
        }
        Err(error) => Outcome::Unreachable(error.without_url().to_string()),
    };
    let result = match outcome {
        Outcome::Answered(200) => "SUCCEEDED",
        Outcome::Answered(_) => "FAILED_NOT_OK_RESPONSE",
        Outcome::Unreachable(_) | Outcome::Dropped(_) => "FAILED_UNEXPECTED_ERROR",
    };
    let retries = result != "SUCCEEDED" && !job.is_duplicate && job.execution < EXECUTIONS_MAX;
    let retry_in = retries.then(|| retry_delay(sandbox, job.execution));
    if !job.is_duplicate
        && let Some(payment_id) = &webhook.payment_id
    {
        sandbox.store.with(payment_id, |payment| {
            if let Some(record) = payment
                .webhooks
                .iter_mut()
                .find(|record| record.webhook.id == webhook.id)
            {
                record.executions = record.executions.max(job.execution);
                record.result = Some(result);
            }
        });
    }
    sandbox.outbox.record(Delivery {
        webhook,
        execution: job.execution,
        is_duplicate: job.is_duplicate,
        signature: headers.note,
        at,
        outcome,
        retry_in,
    });
    if let Some(delay) = retry_in {
        job.execution += 1;
        sandbox.outbox.enqueue(job, Some(delay));
    }
}

/// Full jitter: anything from nothing to the whole delay.
fn retry_delay(sandbox: &Sandbox, execution: u32) -> Duration {
    let index = usize::try_from(execution.saturating_sub(1))
        .unwrap_or(usize::MAX)
        .min(RETRY_MINUTES.len() - 1);
    let whole = Duration::from_secs(60 * RETRY_MINUTES[index]) / sandbox.config.retry_time_scale;
    let most = u64::try_from(whole.as_micros()).expect("256 minutes fit into 64 bits of microseconds");
    Duration::from_micros(sandbox.random.up_to(most))
}
