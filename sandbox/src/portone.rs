//! PortOne V2: the payments, the API over them, and the state that all parts of the simulator share.

pub(crate) mod api;
pub(crate) mod attempt;
mod auth;
pub(crate) mod banks;
pub(crate) mod cancel;
pub(crate) mod errors;
pub(crate) mod gate;
mod idempotency;
mod list;
pub(crate) mod method;
pub(crate) mod payment;
mod store;
pub(crate) mod view;

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::Router;

use self::attempt::{Happening, HappeningKind, Moment, Status};
use self::auth::Tokens;
use self::idempotency::IdempotencyStore;
use self::payment::Payment;
use self::store::Store;
use crate::config::{ClosedAccount, ConfigError, SandboxConfig, check_webhook_urls};
use crate::faults::Faults;
use crate::oauth::OAuth;
use crate::random::Random;
use crate::webhooks::signature::Secret;
use crate::webhooks::{Inbox, Outbox, Webhook, WebhookRecord, compose};

/// Webhooks remembered with each payment.
const PAYMENT_WEBHOOKS_MAX: usize = 50;

/// The simulator: a cheap handle that all its parts share.
#[derive(Clone)]
pub struct Sandbox(Arc<Shared>);

/// What the handle points to; its fields are the crate's own.
pub struct Shared {
    pub(crate) config: SandboxConfig,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) webhook_urls: RwLock<Arc<[String]>>,
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) oauth: OAuth,
    pub(crate) random: Random,
    pub(crate) outbox: Outbox,
    idempotency: Arc<IdempotencyStore>,
    tokens: Mutex<Tokens>,
}

impl Deref for Sandbox {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Sandbox {
    /// The simulator, and the webhooks' end that its workers take.
    pub(crate) fn new(config: SandboxConfig) -> Result<(Self, Inbox), ConfigError> {
        let secrets = config.validate()?;
        let (outbox, inbox) = Outbox::new(config.webhooks_pending_max, config.deliveries_max);
        let shared = Shared {
            secrets,
            webhook_urls: RwLock::new(Arc::from(config.webhook_urls.clone())),
            store: Store::new(config.payments_max),
            faults: Faults::default(),
            oauth: OAuth::new(&config.oauth),
            random: Random::new(config.seed),
            outbox,
            idempotency: Arc::new(IdempotencyStore::new(config.payments_max)),
            tokens: Mutex::default(),
            config,
        };
        Ok((Self(Arc::new(shared)), inbox))
    }

    /// All routes: PortOne's own, the control surface, the payment window and social login.
    pub(crate) fn router(&self) -> Router {
        let routes = Router::new()
            .merge(gate::routes())
            .merge(crate::control::routes())
            .merge(crate::window::routes())
            .merge(crate::oauth::routes());
        routes
            .fallback(gate::unknown)
            .method_not_allowed_fallback(gate::unknown)
            .with_state(self.clone())
    }

    /// Sends the webhooks of payments without `noticeUrls` to these addresses from now on. Fails if one is not an
    /// `http(s)` address, or if there is no secret to sign with.
    pub fn set_webhook_urls(&self, urls: Vec<String>) -> Result<(), ConfigError> {
        check_webhook_urls(&urls, &self.secrets)?;
        *self.webhook_urls.write().unwrap_or_else(PoisonError::into_inner) = Arc::from(urls);
        Ok(())
    }

    /// Waits until no webhook is queued, held back, delayed, on its way or waiting for its next try.
    pub async fn webhooks_idle(&self) {
        self.outbox.idle().await;
    }

    pub(crate) fn moment(&self) -> Moment<'_> {
        Moment {
            now: self.config.clock.now(),
            random: &self.random,
        }
    }

    pub(crate) fn closed_account_status(&self) -> Status {
        match self.config.closed_account {
            ClosedAccount::Cancelled => Status::Cancelled,
            ClosedAccount::Failed => Status::Failed,
        }
    }

    /// Writes the webhooks of what happened and lists them with the payment. To be sent by [`Self::send`] once the
    /// payment's lock is gone.
    pub(crate) fn announce(&self, payment: &mut Payment, happenings: &[Happening]) -> Vec<Arc<Webhook>> {
        let mut webhooks = Vec::new();
        for happening in happenings {
            if happening.kind == HappeningKind::Ready && !self.config.ready_webhooks {
                continue;
            }
            let composed = compose(self.config.webhook_version, &payment.id, &payment.store_id, happening);
            let Some((content_type, body)) = composed else { continue };
            let attempt = payment
                .attempts
                .iter()
                .find(|attempt| attempt.transaction_id == happening.transaction_id);
            let noticed = attempt
                .map(|attempt| attempt.opening.notice_urls.clone())
                .filter(|urls| !urls.is_empty());
            let urls: Arc<[String]> = noticed.map_or_else(
                || Arc::clone(&self.webhook_urls.read().unwrap_or_else(PoisonError::into_inner)),
                Arc::from,
            );
            let payment_status = attempt.map(|attempt| attempt.status.name());
            for url in urls.iter() {
                let webhook = Arc::new(Webhook {
                    id: format!("wh_{}", self.random.uuid()),
                    kind: format!("Transaction.{}", happening.kind.name()),
                    payment_id: Some(payment.id.clone()),
                    transaction_id: happening.transaction_id.clone(),
                    payment_status,
                    url: url.clone(),
                    content_type,
                    body: body.clone(),
                    at: happening.at,
                });
                if payment.webhooks.len() == PAYMENT_WEBHOOKS_MAX {
                    payment.webhooks.pop_front();
                }
                payment.webhooks.push_back(WebhookRecord::new(Arc::clone(&webhook)));
                webhooks.push(webhook);
            }
        }
        webhooks
    }

    pub(crate) fn send(&self, webhooks: Vec<Arc<Webhook>>) {
        let now = self.config.clock.now();
        for webhook in webhooks {
            self.outbox.send(webhook, &self.faults, &self.random, now);
        }
    }
}
