//! Configuration: one struct, read from the environment and `./.env` once at start, validated as a whole.
//!
//! Every variable is documented in `.env.example`. A value that makes no sense stops the program with one line that
//! names the variable and never shows its value, because half of them are secrets.

mod accounts;
mod dotenv;
mod keys;
mod logins;
mod secret;
mod vars;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use vars::Vars;

use crate::{analysts, oauth};

pub use accounts::{Accounts, MailServer};
pub use keys::{Keys, ensure_data_dir};
pub use secret::{MasterKey, Secret, WebhookSecret};

/// Every environment variable that [`Config`] reads, in the order of `.env.example`.
pub const VARIABLES: &[&str] = &[
    "DATABASE_URL",
    "AMQP_URL",
    "JANGBU_BIND",
    "JANGBU_METRICS_BIND",
    "JANGBU_PUBLIC_URL",
    "JANGBU_DATA_DIR",
    "JANGBU_JWT_SECRET",
    "JANGBU_MASTER_KEY",
    "JANGBU_TOKEN_KEYS",
    "JANGBU_LIVE",
    "PORTONE_API_BASE",
    "PORTONE_API_SECRET",
    "PORTONE_STORE_ID",
    "PORTONE_CHANNEL_KEY",
    "PORTONE_WEBHOOK_SECRETS",
    "JANGBU_ACCESS_TOKEN_MINUTES",
    "JANGBU_SESSION_IDLE_DAYS",
    "JANGBU_SESSION_DAYS",
    "JANGBU_PASSWORD_THREADS",
    "JANGBU_SMTP_URL",
    "JANGBU_MAIL_FROM",
    "JANGBU_KAKAO_CLIENT_ID",
    "JANGBU_KAKAO_CLIENT_SECRET",
    "JANGBU_KAKAO_ADMIN_KEY",
    "JANGBU_KAKAO_SCOPES",
    "JANGBU_KAKAO_BASE",
    "JANGBU_NAVER_CLIENT_ID",
    "JANGBU_NAVER_CLIENT_SECRET",
    "JANGBU_NAVER_BASE",
    "JANGBU_GOOGLE_CLIENT_ID",
    "JANGBU_GOOGLE_CLIENT_SECRET",
    "JANGBU_GOOGLE_BASE",
    "JANGBU_PAYMENT_DEADLINE_MINUTES",
    "JANGBU_PARTITIONS",
    "JANGBU_DB_POOL_MAX",
    "JANGBU_READY_LAG_MAX_SECONDS",
    "JANGBU_SQL_PROJECTIONS",
    "JANGBU_RATE_REQUESTS_PER_MINUTE",
    "JANGBU_RATE_SIGN_INS_PER_MINUTE",
    "JANGBU_RATE_LOOKUPS_PER_MINUTE",
    "JANGBU_EVENT_STREAMS_MAX",
    "JANGBU_LOG",
];

/// The fewest bytes that `JANGBU_JWT_SECRET` may have: the output size of the HMAC-SHA256 it keys (RFC 7518, 3.2).
pub const JWT_SECRET_BYTES_MIN: usize = 32;

/// One line that names the variable and says what is wrong with it. Never holds the value. `main` exits with code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    /// The environment variable at fault, or the file `.env` with a line number.
    pub variable: String,
    /// What is wrong, and what would be right; reads on from the variable's name.
    pub problem: String,
}

impl ConfigError {
    fn new(variable: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            variable: variable.into(),
            problem: problem.into(),
        }
    }
}

/// Where the events live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// No `DATABASE_URL`: a private PostgreSQL below the data directory (`crate::embedded`).
    Embedded,
    /// `DATABASE_URL`, a `postgres://` URL; secret because it usually holds a password.
    Url(Secret),
}

/// How log lines are written to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Requests a minute that one client may make; `None` is without limit (the variable is 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Any request, per IP address. `JANGBU_RATE_REQUESTS_PER_MINUTE`, 1200.
    pub requests_per_minute: Option<u32>,
    /// Sign-in attempts, per IP address. `JANGBU_RATE_SIGN_INS_PER_MINUTE`, 10.
    pub sign_ins_per_minute: Option<u32>,
    /// Look-ups of a guest order by number and phone, per IP address. `JANGBU_RATE_LOOKUPS_PER_MINUTE`, 10.
    pub lookups_per_minute: Option<u32>,
}

/// What is needed to call PortOne. There is one only when all of it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortoneApi {
    /// `PORTONE_API_BASE`, without a slash at its end.
    pub base: String,
    /// `PORTONE_API_SECRET`, the V2 API secret: sent as `Authorization: PortOne <secret>`.
    pub secret: Secret,
    /// `PORTONE_STORE_ID`.
    pub store_id: String,
    /// `PORTONE_CHANNEL_KEY`, the channel that the payment window opens.
    pub channel_key: String,
}

/// The payment side. Any part may be absent unless the shop is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portone {
    /// `None` as long as [`Portone::missing`] names anything: checkout then answers 503 `payments_not_configured`.
    pub api: Option<PortoneApi>,
    /// The variables that [`Portone::api`] lacks; empty when it is there.
    pub missing: Vec<&'static str>,
    /// `PORTONE_API_SECRET` by itself, for the sandbox, which needs neither store nor channel.
    pub api_secret: Option<Secret>,
    /// `PORTONE_STORE_ID` by itself, for the sandbox too.
    pub store_id: Option<String>,
    /// `PORTONE_WEBHOOK_SECRETS`: a signature by any of them is accepted, so that they can be rotated. May be empty.
    pub webhook_secrets: Vec<WebhookSecret>,
}

/// The whole configuration. `Debug` shows secrets as `[redacted]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `DATABASE_URL`.
    pub database: Database,
    /// `AMQP_URL`; without it there is no broker and the workers poll the log.
    pub amqp_url: Option<Secret>,
    /// `JANGBU_BIND`, where HTTP listens: `127.0.0.1:8080`.
    pub bind: SocketAddr,
    /// `JANGBU_METRICS_BIND`, where a relay or a worker of its own answers `/livez` and `/metrics`; off by default.
    pub metrics_bind: Option<SocketAddr>,
    /// `JANGBU_PUBLIC_URL`, how browsers and PortOne reach us, without a slash at its end; made from `bind` by default.
    pub public_url: String,
    /// `JANGBU_DATA_DIR`, for the private PostgreSQL and generated keys: `./.jangbu`. Absent until someone needs it.
    pub data_dir: PathBuf,
    /// `JANGBU_JWT_SECRET` if set; [`Config::keys`] has the one to use.
    pub jwt_secret: Option<Secret>,
    /// `JANGBU_MASTER_KEY` if set; [`Config::keys`] has the one to use.
    pub master_key: Option<MasterKey>,
    /// Signing in.
    pub accounts: Accounts,
    /// `JANGBU_SMTP_URL` and `JANGBU_MAIL_FROM`; without them mails are written into the log, unless live.
    pub mail_server: Option<MailServer>,
    /// `JANGBU_LIVE`: real money. TEST-channel payments are refused and nothing may be left to defaults.
    pub live: bool,
    /// `PORTONE_*`.
    pub portone: Portone,
    /// `JANGBU_KAKAO_*`, `JANGBU_NAVER_*`, `JANGBU_GOOGLE_*`: the providers that the shop is registered with, in the order
    /// of [`oauth::Provider::ALL`].
    pub logins: Vec<oauth::ClientConfig>,
    /// `JANGBU_PAYMENT_DEADLINE_MINUTES`: how long an order waits for its payment. 30 minutes.
    pub payment_deadline: Duration,
    /// `JANGBU_PARTITIONS`: into how many ranges the 256 slots are cut for projections. A power of two, 1 to 64; 4.
    pub partitions: u16,
    /// `JANGBU_DB_POOL_MAX`: connections of this process's pool, beside the appender's and the leases' own. 16.
    pub db_pool_max: u32,
    /// `JANGBU_READY_LAG_MAX_SECONDS`: `/readyz` fails when a projection is further behind. 30 s.
    pub ready_lag_max: Duration,
    /// `JANGBU_SQL_PROJECTIONS`: a directory of projections in SQL beside the shipped ones, or `none` of any.
    pub sql_projections: analysts::Source,
    /// `JANGBU_RATE_*`.
    pub rate_limits: RateLimits,
    /// `JANGBU_EVENT_STREAMS_MAX`: streams of events (`text/event-stream`) that this process serves at once. 64.
    pub event_streams_max: u32,
    /// `JANGBU_LOG`: `text` or `json`; what is logged is decided by `RUST_LOG`.
    pub log: LogFormat,
}

impl Config {
    /// Reads `./.env`, if there is one, and the environment, which wins, and validates the whole.
    pub fn load() -> Result<Self, ConfigError> {
        let file = dotenv::read(Path::new(".env"))?;
        if let Some((name, _)) = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .find(|(name, value)| VARIABLES.contains(&name.as_str()) && value.to_str().is_none())
        {
            return Err(ConfigError::new(name, "is not valid UTF-8"));
        }
        Self::from_vars(|name| match std::env::var(name) {
            // Set but empty hides the file's value: it is how a caller says "without".
            Ok(value) => Some(value),
            Err(_) => file.get(name).cloned(),
        })
    }

    /// Validates the variables that `lookup` gives; a pure function, so that tests need no process environment.
    /// An empty value, or one of white space only, counts as unset.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let vars = Vars::new(&lookup);
        let live = vars.boolean("JANGBU_LIVE")?;
        let database = match vars.secret_url("DATABASE_URL", &["postgres", "postgresql"])? {
            Some(url) => Database::Url(url),
            None => Database::Embedded,
        };
        let amqp_url = vars.secret_url("AMQP_URL", &["amqp", "amqps"])?;
        let bind = vars.parse(
            "JANGBU_BIND",
            SocketAddr::from(([127, 0, 0, 1], 8080)),
            "an address with a port",
        )?;
        let public_url = match vars.http_url("JANGBU_PUBLIC_URL")? {
            Some(url) => url,
            None => format!("http://{}", reachable(bind)),
        };

        let config = Self {
            jwt_secret: vars.jwt_secret(&database)?,
            master_key: vars.master_key()?,
            accounts: vars.accounts()?,
            mail_server: vars.mail_server()?,
            database,
            amqp_url,
            logins: vars.logins(&public_url, live)?,
            bind,
            metrics_bind: vars.address("JANGBU_METRICS_BIND")?,
            public_url,
            data_dir: vars
                .get("JANGBU_DATA_DIR")
                .map_or_else(|| PathBuf::from("./.jangbu"), PathBuf::from),
            live,
            portone: vars.portone()?,
            payment_deadline: Duration::from_secs(
                60 * u64::from(vars.number("JANGBU_PAYMENT_DEADLINE_MINUTES", 30, 1, 10_080)?),
            ),
            partitions: vars.partitions()?,
            db_pool_max: vars.number("JANGBU_DB_POOL_MAX", 16, 2, 1_000)?,
            ready_lag_max: Duration::from_secs(vars.number("JANGBU_READY_LAG_MAX_SECONDS", 30, 1, 86_400)?.into()),
            sql_projections: match vars.get("JANGBU_SQL_PROJECTIONS").as_deref() {
                None => analysts::Source::Shipped,
                Some("none") => analysts::Source::Nothing,
                Some(directory) => analysts::Source::Directory(PathBuf::from(directory)),
            },
            rate_limits: RateLimits {
                requests_per_minute: vars.rate("JANGBU_RATE_REQUESTS_PER_MINUTE", 1_200)?,
                sign_ins_per_minute: vars.rate("JANGBU_RATE_SIGN_INS_PER_MINUTE", 10)?,
                lookups_per_minute: vars.rate("JANGBU_RATE_LOOKUPS_PER_MINUTE", 10)?,
            },
            event_streams_max: vars.number("JANGBU_EVENT_STREAMS_MAX", 64, 1, 10_000)?,
            log: match vars.get("JANGBU_LOG").as_deref() {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(_) => return Err(ConfigError::new("JANGBU_LOG", "must be text or json")),
            },
        };
        if live {
            config.refuse_unless_complete()
        } else {
            Ok(config)
        }
    }

    /// A live shop leaves nothing to defaults: a missing secret would only be noticed by the first buyer.
    fn refuse_unless_complete(self) -> Result<Self, ConfigError> {
        let required = "is required when JANGBU_LIVE is true";
        if let Some(variable) = self.portone.missing.first() {
            return Err(ConfigError::new(*variable, required));
        }
        if self.portone.webhook_secrets.is_empty() {
            return Err(ConfigError::new("PORTONE_WEBHOOK_SECRETS", required));
        }
        if self.master_key.is_none() {
            return Err(ConfigError::new("JANGBU_MASTER_KEY", required));
        }
        Ok(self)
    }
}

/// An address that a browser on this machine can open: a wildcard address is not one.
fn reachable(bind: SocketAddr) -> SocketAddr {
    match bind.ip() {
        ip if !ip.is_unspecified() => bind,
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bind.port()),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), bind.port()),
    }
}

#[cfg(test)]
mod tests;
