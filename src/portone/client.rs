//! The REST client.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Secret;
use super::cancel::{CancelBody, CancelError, CancelRequest};
use super::changes::{Changes, ChangesPage, PAGE_SIZE};
use super::error::{Error, Refusal};
use super::payment::{Cancellation, Payment, PaymentStatus};
use super::transport::{Call, Fault, Transport, encode};

/// How to reach `PortOne`.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `https://api.portone.io`, or a simulator's address.
    pub base_url: String,
    /// The V2 API secret.
    pub api_secret: Secret,
    /// The shop's `store-…` id, sent with every call.
    pub store_id: String,
    /// Seeds the spreading of pauses between attempts; from the injected source of randomness.
    pub jitter_seed: u64,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long one attempt at changing something may take. Below 60 s a slow card company is mistaken for a dead one.
    pub read_timeout: Duration,
    /// How long one attempt at reading may take. Reading is harmless to repeat, so a stuck attempt is given up early.
    pub lookup_timeout: Duration,
    /// The first pause between attempts; doubles with each.
    pub backoff_first: Duration,
    /// The longest pause between attempts.
    pub backoff_max: Duration,
}

impl ClientConfig {
    /// A configuration with the timeouts that fit the real service.
    pub fn new(base_url: impl Into<String>, api_secret: Secret, store_id: impl Into<String>, jitter_seed: u64) -> Self {
        Self {
            base_url: base_url.into(),
            api_secret,
            store_id: store_id.into(),
            jitter_seed,
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(60),
            lookup_timeout: Duration::from_secs(3),
            backoff_first: Duration::from_millis(200),
            backoff_max: Duration::from_secs(5),
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not an absolute `http` or `https` address without query and fragment.
    #[error("the PortOne address must be an http or https URL without a query")]
    BaseUrl,
    /// Empty, or not sendable in a header.
    #[error("the PortOne API secret must be plain ASCII text and not empty")]
    ApiSecret,
    /// Empty.
    #[error("the PortOne store id must not be empty")]
    StoreId,
    /// The TLS set-up failed.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

/// Speaks to `PortOne`. Cheap to clone; clones share their connections.
///
/// Every call takes `within`, the time for all its attempts together. Transient failures (5xx, 429, timeouts, lost
/// connections) are retried with growing pauses until then.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Transport,
    store_id: String,
    read_timeout: Duration,
    lookup_timeout: Duration,
}

/// What became of a virtual account that the shop wanted closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VirtualAccountClosure {
    /// Closed: no money can come any more.
    Closed(DateTime<Utc>),
    /// Nothing to close. Re-read the payment: the money may just have come.
    NotWaiting,
}

impl Client {
    /// Checks `config` and prepares connections; connects to nothing yet.
    pub fn try_new(config: &ClientConfig) -> Result<Self, ConfigError> {
        let base = reqwest::Url::parse(&config.base_url).map_err(|_| ConfigError::BaseUrl)?;
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() || base.fragment().is_some() {
            return Err(ConfigError::BaseUrl);
        }
        if config.store_id.is_empty() {
            return Err(ConfigError::StoreId);
        }
        let secret = config.api_secret.expose();
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::ApiSecret);
        }
        let mut authorization =
            HeaderValue::from_str(&format!("PortOne {secret}")).map_err(|_| ConfigError::ApiSecret)?;
        authorization.set_sensitive(true);
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("jangbu/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            // The API never redirects; whatever does must not be sent the secret.
            .redirect(reqwest::redirect::Policy::none());
        if matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(ConfigError::Http)?;
        Ok(Self {
            transport: Transport::new(http, authorization, config),
            store_id: config.store_id.clone(),
            read_timeout: config.read_timeout,
            lookup_timeout: config.lookup_timeout,
        })
    }

    /// Reads a payment's current state. `None`: `PortOne` has no payment of that id (its window was never opened, or
    /// the id is from a test call).
    pub async fn payment(&self, id: &str, within: Duration) -> Result<Option<Payment>, Error> {
        let path = format!("{}?storeId={}", payment_path(id)?, encode(&self.store_id));
        match self.transport.send(&self.lookup(path), within).await {
            Ok(body) => {
                let payment: Payment = decode("payment", &body)?;
                if payment.id == id {
                    Ok(Some(payment))
                } else {
                    Err(Error::Unreadable("another payment".to_owned()))
                }
            }
            Err(Fault {
                error:
                    Error::Refused(Refusal {
                        kind: "PAYMENT_NOT_FOUND",
                        ..
                    }),
                ..
            }) => Ok(None),
            Err(fault) => Err(fault.error),
        }
    }

    /// Asks for a refund. The same request, key included, is sent again until an answer comes or `within` is over.
    ///
    /// `Ok` is not yet money returned: look at [`Cancellation::status`], which may be `Requested` or `Failed`.
    pub async fn cancel(
        &self,
        id: &str,
        request: &CancelRequest,
        within: Duration,
    ) -> Result<Cancellation, CancelError> {
        #[derive(Deserialize)]
        struct Answer {
            cancellation: Cancellation,
        }

        let path = payment_path(id).map_err(CancelError::OutcomeUnknown)?;
        let call = Call {
            idempotency_key: Some(&request.idempotency_key),
            ..self.change(
                format!("{path}/cancel"),
                Some(&CancelBody::new(&self.store_id, request)),
            )
        };
        match self.transport.send(&call, within).await {
            Ok(body) => match decode::<Answer>("cancellation", &body) {
                Ok(answer) => Ok(answer.cancellation),
                Err(error) => Err(CancelError::OutcomeUnknown(error)),
            },
            // Being turned away at the door says nothing about an earlier attempt that was let in.
            Err(Fault {
                error: Error::Refused(refusal),
                uncertain,
            }) if refusal.status != 403 || !uncertain => Err(CancelError::Refused(refusal)),
            Err(Fault {
                error: Error::Unauthorized,
                uncertain: false,
            }) => Err(CancelError::Unauthorized),
            Err(fault) => Err(CancelError::OutcomeUnknown(fault.error)),
        }
    }

    /// Tells `PortOne` the amount before the window opens, so that a shopper who alters it is stopped there.
    /// Amounts are in the smallest unit. Call again when the order changed; `ALREADY_PAID` is a refusal.
    pub async fn pre_register(
        &self,
        id: &str,
        total: i64,
        tax_free: i64,
        currency: &str,
        within: Duration,
    ) -> Result<(), Error> {
        let body = json!({
            "storeId": self.store_id, "totalAmount": total, "taxFreeAmount": tax_free, "currency": currency,
        });
        let call = self.change(format!("{}/pre-register", payment_path(id)?), Some(&body));
        self.transport
            .send(&call, within)
            .await
            .map(drop)
            .map_err(|fault| fault.error)
    }

    /// Closes an account number that is still waiting for its deposit.
    pub async fn close_virtual_account(&self, id: &str, within: Duration) -> Result<VirtualAccountClosure, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            closed_at: DateTime<Utc>,
        }

        let path = format!(
            "{}/virtual-account/close?storeId={}",
            payment_path(id)?,
            encode(&self.store_id)
        );
        match self.transport.send(&self.change(path, None::<&()>), within).await {
            Ok(body) => Ok(VirtualAccountClosure::Closed(
                decode::<Answer>("closing", &body)?.closed_at,
            )),
            Err(Fault {
                error:
                    Error::Refused(Refusal {
                        kind: "PAYMENT_NOT_WAITING_FOR_DEPOSIT",
                        ..
                    }),
                ..
            }) => Ok(VirtualAccountClosure::NotWaiting),
            Err(fault) => Err(fault.error),
        }
    }

    /// One page (of 100, counted from 0) of the payments whose status changed from `from` until `until`, oldest change
    /// first. No `statuses`: all of them. To walk a whole range use [`Self::changes`], which loses none at the seams.
    pub async fn list(
        &self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        statuses: &[PaymentStatus],
        page: u32,
        within: Duration,
    ) -> Result<ChangesPage, Error> {
        #[derive(Deserialize)]
        struct Answer {
            items: Vec<Value>,
        }

        let mut filter = json!({
            "storeId": self.store_id,
            "from": from.to_rfc3339_opts(SecondsFormat::Millis, true),
            "until": until.to_rfc3339_opts(SecondsFormat::Millis, true),
            "timestampType": "STATUS_CHANGED_AT", "sortBy": "STATUS_CHANGED_AT", "sortOrder": "ASC",
        });
        if !statuses.is_empty() {
            filter["status"] = statuses.iter().map(PaymentStatus::filter_name).collect();
        }
        let body = json!({"page": {"number": page, "size": PAGE_SIZE}, "filter": filter});
        let call = self.lookup(format!("/payments?requestBody={}", encode(&body.to_string())));
        let answer = self.transport.send(&call, within).await.map_err(|fault| fault.error)?;
        Ok(ChangesPage::from_items(decode::<Answer>("list", &answer)?.items))
    }

    /// Walks all payments whose status changed from `from` until `until`, oldest change first; `within` is per page.
    pub fn changes(
        &self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        statuses: Vec<PaymentStatus>,
        within: Duration,
    ) -> Changes<'_> {
        Changes::new(self, from, until, statuses, within)
    }

    fn lookup(&self, path: String) -> Call<'static> {
        let attempt_timeout = self.lookup_timeout;
        Call {
            method: Method::GET,
            path,
            body: None,
            idempotency_key: None,
            attempt_timeout,
        }
    }

    fn change(&self, path: String, body: Option<&impl serde::Serialize>) -> Call<'static> {
        let body = body.map(|body| serde_json::to_vec(body).expect("request bodies are plain JSON"));
        Call {
            method: Method::POST,
            path,
            body,
            idempotency_key: None,
            attempt_timeout: self.read_timeout,
        }
    }
}

/// The address of a payment. Dot segments would name its parent, and no id at all the list of all payments.
fn payment_path(id: &str) -> Result<String, Error> {
    if matches!(id, "" | "." | "..") {
        Err(Error::BadPaymentId)
    } else {
        Ok(format!("/payments/{}", encode(id)))
    }
}

fn decode<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::unreadable(what, &error))
}
