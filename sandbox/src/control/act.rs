//! The body of an action: read leniently, checked strictly, and turned into what a window is opened with.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{ChannelType, is_http_url};
use crate::portone::Sandbox;
use crate::portone::attempt::{ACCOUNT_LIFETIME, Failure, Opening, Refusal};
use crate::portone::cancel::CancellationStatus;
use crate::portone::method::{PayMethod, customer};
use crate::portone::payment::Payment;

/// Larger amounts are surely a mistake, and would overflow sums.
const AMOUNT_MAX: i64 = 1_000_000_000_000_000;
const LIFETIME_MAX_HOURS: i64 = 400 * 24;
const LIFETIME_MAX_SECONDS: i64 = LIFETIME_MAX_HOURS * 3600;
/// Korea has no summer time.
const KOREA_AHEAD: TimeDelta = TimeDelta::hours(9);

/// The body of an action; everything is optional, and the fields of `requestPayment` can be handed over as they are.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Act {
    // Opening a window: the fields of requestPayment, and the channel's type.
    pub(crate) store_id: Option<String>,
    pub(crate) channel_key: Option<String>,
    channel_type: Option<String>,
    is_test: Option<bool>,
    pub(crate) order_name: Option<String>,
    #[serde(alias = "amount")]
    pub(crate) total_amount: Option<i64>,
    pub(super) tax_free_amount: Option<i64>,
    pub(super) vat_amount: Option<i64>,
    pub(crate) currency: Option<String>,
    pub(crate) pay_method: Option<String>,
    pub(crate) customer: Option<Value>,
    custom_data: Option<Value>,
    pub(crate) notice_urls: Option<Vec<String>>,
    platform_type: Option<String>,
    virtual_account: Option<Value>,
    // Paying.
    pub(super) discount: Option<i64>,
    // Failing.
    pub(crate) pg_code: Option<String>,
    pub(crate) pg_message: Option<String>,
    // Failing, cancelling, disputing.
    pub(crate) reason: Option<String>,
    // Virtual account.
    pub(super) bank: Option<String>,
    expires_in_seconds: Option<i64>,
    expires_at: Option<DateTime<Utc>>,
    // Cancelling.
    pub(super) cancellation_id: Option<String>,
    status: Option<String>,
    pub(super) trigger: Option<String>,
    // All of them.
    pub(super) skip_webhook: bool,
}

pub(super) fn wrong<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new("RequestParseFailed", why))
}

impl Act {
    /// Refuses nonsense before anything is touched.
    pub(super) fn validate(&self) -> Result<(), Refusal> {
        if self
            .total_amount
            .is_some_and(|total| !(1..=AMOUNT_MAX).contains(&total))
        {
            return wrong(format!("totalAmount must be from 1 to {AMOUNT_MAX}"));
        }
        let parts = [self.tax_free_amount, self.vat_amount];
        if parts
            .into_iter()
            .flatten()
            .any(|part| !(0..=AMOUNT_MAX).contains(&part))
        {
            return wrong("taxFreeAmount and vatAmount must not be negative");
        }
        if let Some(currency) = self.currency()
            && (currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return wrong("currency must be three capital letters");
        }
        if self.notice_urls.iter().flatten().any(|url| !is_http_url(url)) {
            return wrong("noticeUrls must be http(s) addresses");
        }
        match &self.platform_type {
            Some(name) if !["PC", "MOBILE", "API"].contains(&name.as_str()) => {
                wrong("platformType is PC, MOBILE or API")
            }
            _ => Ok(()),
        }
    }

    /// The browser SDK also takes `CURRENCY_KRW`.
    fn currency(&self) -> Option<&str> {
        self.currency
            .as_deref()
            .map(|currency| currency.strip_prefix("CURRENCY_").unwrap_or(currency))
    }

    pub(super) fn channel_type(&self) -> Result<Option<ChannelType>, Refusal> {
        match (&self.channel_type, self.is_test) {
            (Some(name), _) => ChannelType::parse(name)
                .map(Some)
                .map_or_else(|| wrong("channelType is LIVE or TEST"), Ok),
            (None, Some(true)) => Ok(Some(ChannelType::Test)),
            (None, Some(false)) => Ok(Some(ChannelType::Live)),
            (None, None) => Ok(None),
        }
    }

    pub(super) fn method(&self) -> Result<Option<PayMethod>, Refusal> {
        let parse = |name: &String| {
            PayMethod::parse(name).map_or_else(
                || wrong(format!("payMethod {name:?} is unknown")),
                |method| Ok(Some(method)),
            )
        };
        self.pay_method.as_ref().map_or(Ok(None), parse)
    }

    /// What the window is opened with: what the body says, else what was pre-registered, else what the attempt before
    /// it said, else a default.
    pub(super) fn opening(&self, payment: &Payment, sandbox: &Sandbox) -> Result<Opening, Refusal> {
        let before = payment.attempts.last().map(|attempt| &attempt.opening);
        let fixed = payment.pre_registered.as_ref();
        let total = self
            .total_amount
            .or_else(|| fixed.and_then(|fixed| fixed.total))
            .or(before.map(|old| old.total));
        let Some(total) = total else {
            return wrong("totalAmount is missing, and nothing was pre-registered under this payment id");
        };
        let tax_free = match self.tax_free_amount {
            Some(part) => part,
            None => fixed
                .and_then(|fixed| fixed.tax_free)
                .or(before.map(|old| old.tax_free))
                .unwrap_or(0)
                .min(total),
        };
        if tax_free.saturating_add(self.vat_amount.unwrap_or(0)) > total {
            return wrong("taxFreeAmount and vatAmount exceed totalAmount");
        }
        let currency = self
            .currency
            .clone()
            .or_else(|| fixed.and_then(|fixed| fixed.currency.clone()));
        let custom_data = self
            .custom_data
            .as_ref()
            .map(|data| data.as_str().map_or_else(|| data.to_string(), str::to_owned));
        let platform = match self.platform_type.as_deref() {
            Some("MOBILE") => "MOBILE",
            Some("API") => "API",
            _ => before.map_or("PC", |old| old.platform),
        };
        Ok(Opening {
            channel_type: self
                .channel_type()?
                .or(before.map(|old| old.channel_type))
                .unwrap_or(sandbox.config.channel_type),
            channel_key: self
                .channel_key
                .clone()
                .or_else(|| before.map(|old| old.channel_key.clone()))
                .unwrap_or_else(|| "channel-key-jangbu-sandbox".to_owned()),
            order_name: self
                .order_name
                .clone()
                .or_else(|| before.map(|old| old.order_name.clone()))
                .unwrap_or_else(|| "샌드박스 주문".to_owned()),
            total,
            tax_free,
            vat: self.vat_amount,
            currency: currency
                .or_else(|| before.map(|old| old.currency.clone()))
                .unwrap_or_else(|| "KRW".to_owned()),
            method: self
                .method()?
                .or(before.map(|old| old.method))
                .unwrap_or(PayMethod::Card),
            customer: match &self.customer {
                Some(given) => customer(given),
                None => before.map_or_else(|| json!({}), |old| old.customer.clone()),
            },
            custom_data: custom_data.or_else(|| before.and_then(|old| old.custom_data.clone())),
            notice_urls: self
                .notice_urls
                .clone()
                .or_else(|| before.map(|old| old.notice_urls.clone()))
                .unwrap_or_default(),
            platform,
            account_expiry: self.account_expiry(sandbox.config.clock.now())?,
        })
    }

    /// `virtualAccount.accountExpiry`: hours, or a Korean date and time.
    fn account_expiry(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Refusal> {
        let Some(expiry) = self.virtual_account.as_ref().map(|account| &account["accountExpiry"]) else {
            return Ok(None);
        };
        let due_date = || {
            let due = NaiveDateTime::parse_from_str(expiry["dueDate"].as_str()?, "%Y-%m-%d %H:%M:%S").ok()?;
            Some((due - KOREA_AHEAD).and_utc())
        };
        match (expiry["validHours"].as_i64(), due_date()) {
            (Some(hours), None) if (1..=LIFETIME_MAX_HOURS).contains(&hours) => Ok(Some(now + TimeDelta::hours(hours))),
            (None, Some(due)) => Ok(Some(due)),
            _ if expiry.is_null() => Ok(None),
            _ => wrong("accountExpiry is {validHours} or {dueDate: \"YYYY-MM-DD HH:mm:ss\"}"),
        }
    }

    pub(super) fn failure(&self) -> Failure {
        let or = |given: &Option<String>, default: &str| given.clone().unwrap_or_else(|| default.to_owned());
        Failure {
            reason: or(&self.reason, "카드 한도 초과"),
            pg_code: or(&self.pg_code, "REJECT_CARD_COMPANY"),
            pg_message: or(&self.pg_message, "결제 승인이 거절되었습니다"),
        }
    }

    /// When the account that is issued now ends: as this body says, as the window was opened with, else in 72 hours.
    pub(super) fn expiry(
        &self,
        opened_with: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, Refusal> {
        let expiry = match (self.expires_at, self.expires_in_seconds) {
            (Some(at), _) => at,
            (None, Some(seconds)) if (1..=LIFETIME_MAX_SECONDS).contains(&seconds) => now + TimeDelta::seconds(seconds),
            (None, Some(_)) => return wrong(format!("expiresInSeconds must be from 1 to {LIFETIME_MAX_SECONDS}")),
            (None, None) => opened_with.unwrap_or(now + ACCOUNT_LIFETIME),
        };
        if expiry > now {
            Ok(expiry)
        } else {
            wrong("the account would already have expired")
        }
    }

    pub(super) fn cancellation_status(&self) -> Result<CancellationStatus, Refusal> {
        let name = self.status.as_deref().unwrap_or("SUCCEEDED");
        CancellationStatus::parse(name).map_or_else(|| wrong("status is SUCCEEDED, REQUESTED or FAILED"), Ok)
    }
}
