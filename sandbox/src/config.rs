//! What the simulator is started with.

use std::fmt;
use std::time::Duration;

use crate::clock::Clock;
use crate::oauth::OAuthApps;
use crate::webhooks::signature::Secret;

/// Whether a payment ran over a live or a test channel (`channel.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelType {
    /// Real money.
    Live,
    /// The public test channel; a live shop must refuse it.
    Test,
}

impl ChannelType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Test => "TEST",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Live, Self::Test].into_iter().find(|kind| kind.name() == name)
    }
}

/// The form of the webhook's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookVersion {
    /// `{type, timestamp, data}`, the form for new shops.
    V20240425,
    /// `{payment_id, tx_id, status}` as JSON, the form of older shops. It knows no disputes.
    V20240101,
    /// The same three fields, form-encoded.
    V20240101Form,
}

/// What becomes of a virtual account's payment when the account is closed; PortOne does not document it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedAccount {
    /// `CANCELLED`, with no cancellation in it.
    Cancelled,
    /// `FAILED`.
    Failed,
}

/// Everything the simulator can be told at start. [`SandboxConfig::new`] fills in sensible values.
#[derive(Clone)]
pub struct SandboxConfig {
    /// The V2 API secret that `Authorization: PortOne …` must carry.
    pub api_secret: String,
    /// The one store that the secret belongs to.
    pub store_id: String,
    /// Where webhooks go, unless a payment names `noticeUrls` of its own. May be set later.
    pub webhook_urls: Vec<String>,
    /// `whsec_…` secrets; the first one signs, a second one serves for the "two signatures" fault.
    pub webhook_secrets: Vec<String>,
    /// Form of the webhook body.
    pub webhook_version: WebhookVersion,
    /// Whether opening a window sends `Transaction.Ready`, as PortOne does.
    pub ready_webhooks: bool,
    /// How many webhooks are on their way at once.
    pub webhook_concurrency: usize,
    /// How long a shop may take to answer a webhook.
    pub webhook_timeout: Duration,
    /// Divides the retry delays of 1, 4, 16, 64 and 256 minutes; 60 turns minutes into seconds.
    pub retry_time_scale: u32,
    /// The channel of payments that do not say `channelType`.
    pub channel_type: ChannelType,
    /// Whether cancelling a paid virtual account without `refundAccount` is refused, as real PGs do.
    pub refund_account_required: bool,
    /// Status of a payment whose virtual account was closed.
    pub closed_account: ClosedAccount,
    /// Payments kept; beyond it the oldest is forgotten.
    pub payments_max: usize,
    /// Webhook deliveries remembered for `GET /_sim/webhooks`.
    pub deliveries_max: usize,
    /// Webhooks waiting to be sent; beyond it new ones are thrown away.
    pub webhooks_pending_max: usize,
    /// How the shop is registered with Kakao, Naver and Google.
    pub oauth: OAuthApps,
    /// The source of time.
    pub clock: Clock,
    /// Seed of ids, shuffles and jitter; without one every start is another, so that ids do not come again.
    pub seed: Option<u64>,
}

impl SandboxConfig {
    /// A configuration with no webhook address, the LIVE channel and the real clock.
    pub fn new(api_secret: impl Into<String>, store_id: impl Into<String>) -> Self {
        Self {
            api_secret: api_secret.into(),
            store_id: store_id.into(),
            webhook_urls: Vec::new(),
            webhook_secrets: Vec::new(),
            webhook_version: WebhookVersion::V20240425,
            ready_webhooks: true,
            webhook_concurrency: 64,
            webhook_timeout: Duration::from_secs(30),
            retry_time_scale: 1,
            channel_type: ChannelType::Live,
            refund_account_required: true,
            closed_account: ClosedAccount::Cancelled,
            payments_max: 100_000,
            deliveries_max: 10_000,
            webhooks_pending_max: 100_000,
            oauth: OAuthApps::default(),
            clock: Clock::System,
            seed: None,
        }
    }

    /// Refuses what cannot work, and decodes the webhook secrets.
    pub(crate) fn validate(&self) -> Result<Vec<Secret>, ConfigError> {
        if self.api_secret.is_empty() {
            return Err(ConfigError("the API secret is empty".into()));
        }
        if self.store_id.is_empty() {
            return Err(ConfigError("the store id is empty".into()));
        }
        let positive = [
            ("retry_time_scale", self.retry_time_scale == 0),
            ("webhook_concurrency", self.webhook_concurrency == 0),
            ("payments_max", self.payments_max == 0),
            ("deliveries_max", self.deliveries_max == 0),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError(format!("{name} must be at least 1")));
        }
        let secrets = self
            .webhook_secrets
            .iter()
            .map(|text| Secret::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        check_webhook_urls(&self.webhook_urls, &secrets)?;
        self.oauth.validate()?;
        Ok(secrets)
    }
}

/// Webhooks are always signed, so an address without a secret is a mistake, as is one that is not HTTP.
pub(crate) fn check_webhook_urls(urls: &[String], secrets: &[Secret]) -> Result<(), ConfigError> {
    if !urls.is_empty() && secrets.is_empty() {
        return Err(ConfigError(
            "a webhook address needs at least one whsec_ secret to sign with".into(),
        ));
    }
    match urls.iter().find(|url| !is_http_url(url)) {
        Some(url) => Err(ConfigError(format!(
            "the webhook address {url:?} is not an http(s) address"
        ))),
        None => Ok(()),
    }
}

/// Whether this is an absolute `http` or `https` address.
pub(crate) fn is_http_url(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

impl fmt::Debug for SandboxConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxConfig")
            .field("api_secret", &"[redacted]")
            .field("store_id", &self.store_id)
            .field("webhook_urls", &self.webhook_urls)
            .field(
                "webhook_secrets",
                &format_args!("[{} redacted]", self.webhook_secrets.len()),
            )
            .field("webhook_version", &self.webhook_version)
            .field("channel_type", &self.channel_type)
            .field("oauth", &self.oauth)
            .field("retry_time_scale", &self.retry_time_scale)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// A configuration that cannot work, in one line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub(crate) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn senseless_configurations_are_refused_with_the_reason() {
        type Spoil = fn(&mut SandboxConfig);
        let good = SandboxConfig::new("secret", "store-1");
        assert!(good.validate().is_ok());
        let cases: [(&str, Spoil); 8] = [
            ("API secret", |c| c.api_secret.clear()),
            ("store id", |c| c.store_id.clear()),
            ("retry_time_scale", |c| c.retry_time_scale = 0),
            ("whsec_", |c| c.webhook_urls = vec!["http://127.0.0.1/".into()]),
            ("naver's client", |c| c.oauth.naver.client_secret.clear()),
            ("without a fragment", |c| {
                c.oauth.google.redirect_uris = vec!["https://shop.example/#back".into()];
            }),
            ("empty", |c| c.webhook_secrets = vec!["whsec_".into()]),
            ("not an http", |c| {
                c.webhook_secrets = vec![SECRET.into()];
                c.webhook_urls = vec!["ftp://127.0.0.1/".into()];
            }),
        ];
        for (expected, spoil) in cases {
            let mut config = good.clone();
            spoil(&mut config);
            let error = config.validate().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error} should name {expected}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let mut config = SandboxConfig::new("very-secret", "store-1");
        config.webhook_secrets = vec![SECRET.into()];
        let text = format!("{config:?}");
        assert!(!text.contains("very-secret") && !text.contains("MDEy"), "{text}");
    }
}
