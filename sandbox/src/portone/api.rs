//! The operations of the API. They are synchronous: nothing here waits, so nothing can be cut in the middle.

use axum::body::Bytes;
use axum::http::Method;
use serde_json::{Map, Value, json};

use super::attempt::{ACCOUNT_LIFETIME, Refusal, Status};
use super::cancel::{CancelOrder, CancellationStatus, PgOutcome, Trigger, integer};
use super::errors::ApiError;
use super::method::PayMethod;
use super::payment::{Payment, PreRegistered};
use super::view::{self, time};
use super::{Sandbox, banks};
use crate::faults::FaultKind;
use crate::webhooks::EXECUTIONS_MAX;

/// How often one webhook may be sent again by hand.
const RESENDS_MAX: u32 = 10;

/// The simulated calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Get,
    Cancel,
    PreRegister,
    Confirm,
    CloseVirtualAccount,
    Transactions,
    ResendWebhook,
    List,
    ListByCursor,
    Login,
    Refresh,
    Banks,
}

impl Operation {
    pub(crate) const ALL: [Self; 12] = [
        Self::Get,
        Self::Cancel,
        Self::PreRegister,
        Self::Confirm,
        Self::CloseVirtualAccount,
        Self::Transactions,
        Self::ResendWebhook,
        Self::List,
        Self::ListByCursor,
        Self::Login,
        Self::Refresh,
        Self::Banks,
    ];

    /// The name by which faults and the record of calls speak of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Cancel => "cancel",
            Self::PreRegister => "pre_register",
            Self::Confirm => "confirm",
            Self::CloseVirtualAccount => "close_virtual_account",
            Self::Transactions => "transactions",
            Self::ResendWebhook => "resend_webhook",
            Self::List => "list",
            Self::ListByCursor => "list_by_cursor",
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Banks => "banks",
        }
    }

    pub(crate) fn address(self) -> (Method, &'static str) {
        match self {
            Self::Get => (Method::GET, "/payments/{paymentId}"),
            Self::Cancel => (Method::POST, "/payments/{paymentId}/cancel"),
            Self::PreRegister => (Method::POST, "/payments/{paymentId}/pre-register"),
            Self::Confirm => (Method::POST, "/payments/{paymentId}/confirm"),
            Self::CloseVirtualAccount => (Method::POST, "/payments/{paymentId}/virtual-account/close"),
            Self::Transactions => (Method::GET, "/payments/{paymentId}/transactions"),
            Self::ResendWebhook => (Method::POST, "/payments/{paymentId}/resend-webhook"),
            Self::List => (Method::GET, "/payments"),
            Self::ListByCursor => (Method::GET, "/payments-by-cursor"),
            Self::Login => (Method::POST, "/login/api-secret"),
            Self::Refresh => (Method::POST, "/token/refresh"),
            Self::Banks => (Method::GET, "/banks"),
        }
    }

    pub(crate) fn needs_credentials(self) -> bool {
        !matches!(self, Self::Login | Self::Refresh | Self::Banks)
    }
}

/// A call as it came in.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) payment_id: Option<String>,
    /// Still percent-encoded.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Bytes,
    pub(crate) idempotency_key: Option<Vec<u8>>,
}

impl Call {
    fn id(&self) -> Result<&str, ApiError> {
        let id = self.payment_id.as_deref();
        id.ok_or_else(|| ApiError::InvalidRequest("the payment id in the path is not UTF-8".to_owned()))
    }

    /// The body as JSON, whatever its content type says.
    fn json(&self) -> Result<Value, ApiError> {
        serde_json::from_slice(&self.body).map_err(|_| ApiError::InvalidRequest("the body is not JSON".to_owned()))
    }

    fn object(&self) -> Result<Map<String, Value>, ApiError> {
        match self.json()? {
            Value::Object(fields) => Ok(fields),
            _ => Err(ApiError::InvalidRequest("the body must be an object".to_owned())),
        }
    }

    /// A field of the query string.
    fn query(&self, name: &str) -> Result<Option<String>, ApiError> {
        let fields: Vec<(String, String)> = serde_urlencoded::from_str(&self.query)
            .map_err(|_| ApiError::InvalidRequest("the query string is malformed".to_owned()))?;
        Ok(fields
            .into_iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value))
    }

    /// The body of a GET: in the query field `requestBody`, or in the body after all.
    fn request_body(&self) -> Result<Value, ApiError> {
        match self.query("requestBody")? {
            Some(text) => {
                serde_json::from_str(&text).map_err(|_| ApiError::InvalidRequest("requestBody is not JSON".to_owned()))
            }
            None if self.body.is_empty() => Ok(json!({})),
            None => self.json(),
        }
    }
}

/// An optional string; `null` counts as absent.
fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, ApiError> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ApiError::InvalidRequest(format!("{name} must be a string"))),
    }
}

impl Sandbox {
    pub(crate) fn perform(&self, call: &Call) -> Result<Value, ApiError> {
        match call.operation {
            Operation::Get => {
                self.own_store(call.query("storeId")?.as_deref())?;
                self.shown(call.id()?).ok_or(ApiError::PaymentNotFound)
            }
            Operation::Transactions => {
                self.own_store(call.query("storeId")?.as_deref())?;
                self.visible(call.id()?, |payment| {
                    let items: Vec<Value> = payment
                        .attempts
                        .iter()
                        .map(|attempt| view::transaction(payment, attempt))
                        .collect();
                    json!({"items": items})
                })
            }
            Operation::Cancel => self.cancel(call.id()?, &call.json()?),
            Operation::PreRegister => self.pre_register(call.id()?, &call.object()?),
            Operation::Confirm => self.confirm(call.id()?, &call.object()?),
            Operation::CloseVirtualAccount => {
                self.own_store(call.query("storeId")?.as_deref())?;
                self.close_virtual_account(call.id()?)
            }
            Operation::ResendWebhook => self.resend_webhook(call.id()?, &call.object()?),
            Operation::List => self.list(call.request_body()?),
            Operation::ListByCursor => self.list_by_cursor(call.request_body()?),
            Operation::Login => self.login(&call.json()?),
            Operation::Refresh => self.refresh(&call.json()?),
            Operation::Banks => Ok(banks::view()),
        }
    }

    /// The secret belongs to one store; naming another is forbidden.
    pub(super) fn own_store(&self, named: Option<&str>) -> Result<(), ApiError> {
        match named {
            Some(store) if store != self.config.store_id => Err(ApiError::Forbidden),
            _ => Ok(()),
        }
    }

    /// Works on a payment that readers of this store can see: opened at least once, and of this store.
    pub(super) fn visible<T>(&self, id: &str, work: impl FnOnce(&mut Payment) -> T) -> Result<T, ApiError> {
        let found = self.store.with(id, |payment| {
            (payment.store_id == self.config.store_id && !payment.attempts.is_empty()).then(|| work(payment))
        });
        found.flatten().ok_or(ApiError::PaymentNotFound)
    }

    /// The payment as readers see it.
    pub(super) fn shown(&self, id: &str) -> Option<Value> {
        self.visible(id, |payment| view::payment(payment)).ok().flatten()
    }

    /// The fault that makes the PG refuse, if one is armed.
    fn pg_refusal(&self, id: &str, operation: Operation) -> Option<(String, String)> {
        let fault = self
            .faults
            .strike(FaultKind::PgProvider, Some(id), Some(operation.name()))?;
        Some((fault.pg_code, fault.pg_message))
    }

    fn cancel(&self, id: &str, body: &Value) -> Result<Value, ApiError> {
        let order = CancelOrder::parse(body)?;
        self.own_store(body["storeId"].as_str())?;
        let ask_pg = || {
            let strike = |kind| {
                self.faults
                    .strike(kind, Some(id), Some(Operation::Cancel.name()))
                    .is_some()
            };
            if let Some((code, message)) = self.pg_refusal(id, Operation::Cancel) {
                PgOutcome::Refuses { code, message }
            } else if strike(FaultKind::CancelFailed) {
                PgOutcome::Becomes(CancellationStatus::Failed)
            } else if strike(FaultKind::CancelRequested) {
                PgOutcome::Becomes(CancellationStatus::Requested)
            } else {
                PgOutcome::Becomes(CancellationStatus::Succeeded)
            }
        };
        let needs_account = self.config.refund_account_required;
        let (answer, webhooks) = self.visible(id, |payment| {
            let (cancellation, happening) =
                payment.cancel(&order, Trigger::Api, needs_account, self.moment(), ask_pg)?;
            let happenings: Vec<_> = happening.filter(|_| !order.skip_webhook).into_iter().collect();
            let answer = json!({"cancellation": view::cancellation(&cancellation)});
            Ok((answer, self.announce(payment, &happenings)))
        })??;
        self.send(webhooks);
        Ok(answer)
    }

    fn pre_register(&self, id: &str, body: &Map<String, Value>) -> Result<Value, ApiError> {
        let fixed = PreRegistered {
            total: integer(body, "totalAmount")?,
            tax_free: integer(body, "taxFreeAmount")?,
            currency: text(body, "currency")?.map(str::to_owned),
        };
        if fixed.total.is_some_and(|total| total <= 0) || fixed.tax_free.is_some_and(|part| part < 0) {
            return Err(ApiError::InvalidRequest(
                "amounts must not be negative, nor the total 0".to_owned(),
            ));
        }
        self.own_store(text(body, "storeId")?)?;
        self.store.with_or_new(id, &self.config.store_id, |payment| {
            if payment.settled().is_some() {
                return Err(ApiError::AlreadyPaid);
            }
            payment.pre_registered = Some(fixed);
            Ok(json!({}))
        })
    }

    /// Manual approval: charges what the shopper agreed to, or issues the virtual account they chose.
    fn confirm(&self, id: &str, body: &Map<String, Value>) -> Result<Value, ApiError> {
        let token = text(body, "paymentToken")?
            .ok_or_else(|| ApiError::InvalidRequest("paymentToken must be a string".to_owned()))?;
        let (total, tax_free) = (integer(body, "totalAmount")?, integer(body, "taxFreeAmount")?);
        let (currency, tx_id) = (text(body, "currency")?, text(body, "txId")?);
        let is_test = body.get("isTest").and_then(Value::as_bool);
        let skip_webhook = body.get("skipWebhook").and_then(Value::as_bool) == Some(true);
        self.own_store(text(body, "storeId")?)?;
        let moment = self.moment();
        let (answer, webhooks) = self.visible(id, |payment| {
            if payment.settled().is_some() {
                return Err(ApiError::AlreadyPaid);
            }
            let attempt = payment
                .open_attempt()
                .filter(|attempt| attempt.payment_token.as_deref() == Some(token))
                .ok_or(ApiError::InvalidPaymentToken)?;
            let opening = &attempt.opening;
            let is_test_channel = opening.channel_type == crate::config::ChannelType::Test;
            let differences = [
                ("totalAmount", total.is_some_and(|given| given != opening.total)),
                ("taxFreeAmount", tax_free.is_some_and(|given| given != opening.tax_free)),
                ("currency", currency.is_some_and(|given| given != opening.currency)),
                ("txId", tx_id.is_some_and(|given| given != attempt.transaction_id)),
                ("isTest", is_test.is_some_and(|given| given != is_test_channel)),
            ];
            if let Some((field, _)) = differences.into_iter().find(|(_, differs)| *differs) {
                return Err(ApiError::InformationMismatch(field));
            }
            if let Some((code, message)) = self.pg_refusal(id, Operation::Confirm) {
                return Err(ApiError::PgProvider { code, message });
            }
            let expiry = opening.account_expiry.unwrap_or(moment.now + ACCOUNT_LIFETIME);
            let happening = if opening.method == PayMethod::VirtualAccount {
                payment.issue("SHINHAN", expiry, moment)
            } else {
                payment.pay(None, 0, moment)
            };
            let happening = happening.map_err(|Refusal { message, .. }| ApiError::InvalidRequest(message))?;
            let attempt = payment.attempts.last().expect("an attempt was open above");
            let answer = json!({"pgTxId": attempt.pg_tx_id, "paidAt": time(moment.now)});
            let happenings = if skip_webhook { vec![] } else { vec![happening] };
            Ok((answer, self.announce(payment, &happenings)))
        })??;
        self.send(webhooks);
        Ok(answer)
    }

    fn close_virtual_account(&self, id: &str) -> Result<Value, ApiError> {
        let moment = self.moment();
        self.visible(id, |payment| {
            if payment
                .current()
                .is_none_or(|attempt| attempt.status != Status::VirtualAccountIssued)
            {
                return Err(ApiError::PaymentNotWaitingForDeposit);
            }
            if let Some((code, message)) = self.pg_refusal(id, Operation::CloseVirtualAccount) {
                return Err(ApiError::PgProvider { code, message });
            }
            payment.close_account(self.closed_account_status(), moment);
            Ok(json!({"closedAt": time(moment.now)}))
        })?
    }

    /// Sends a webhook again under its old id: the named one, else the latest.
    fn resend_webhook(&self, id: &str, body: &Map<String, Value>) -> Result<Value, ApiError> {
        let webhook_id = text(body, "webhookId")?;
        self.own_store(text(body, "storeId")?)?;
        let (answer, webhook) = self.visible(id, |payment| {
            let mut records = payment.webhooks.iter_mut().rev();
            let record = records
                .find(|record| webhook_id.is_none_or(|wanted| wanted == record.webhook.id))
                .ok_or(ApiError::WebhookNotFound)?;
            if record.resends >= RESENDS_MAX {
                return Err(ApiError::MaxWebhookRetryCountReached);
            }
            record.resends += 1;
            record.executions = (record.executions + 1).min(EXECUTIONS_MAX);
            Ok((
                json!({"webhook": record.view()}),
                std::sync::Arc::clone(&record.webhook),
            ))
        })??;
        self.send(vec![webhook]);
        Ok(answer)
    }
}
