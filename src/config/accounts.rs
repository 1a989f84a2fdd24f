//! What signing in and mails are configured by.

use std::time::Duration;

use chrono::TimeDelta;

use super::{ConfigError, Secret, vars::Vars};
use crate::accounts::{
    jwt::{KeyError, TokenKey, refuse_twins},
    sessions::Lifetimes,
};

/// Signing in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// `JANGBU_TOKEN_KEYS`: the first signs access tokens, all verify. Without any, one is derived from the JWT
    /// secret ([`TokenKey::derived`]).
    pub token_keys: Vec<TokenKey>,
    /// `JANGBU_ACCESS_TOKEN_MINUTES`: how long an access token lives. 15 minutes.
    pub access_token: Duration,
    /// `JANGBU_SESSION_IDLE_DAYS`, 30, and `JANGBU_SESSION_DAYS`, 180.
    pub sessions: Lifetimes,
    /// `JANGBU_PASSWORD_THREADS`: passwords that this process hashes at once, 19 MiB and a core each. 2.
    pub password_threads: usize,
}

impl Accounts {
    /// The longest life that any process can be told to give an access token, for whoever has to remember what ended
    /// meanwhile: others may be configured otherwise.
    pub const ACCESS_TOKEN_MAX: Duration = Duration::from_secs(60 * 60);
}

/// A server that takes mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// `JANGBU_SMTP_URL`: `smtps://`, or `smtp://` that goes over to TLS; without it on this machine alone.
    pub url: Secret,
    /// `JANGBU_MAIL_FROM`: an address, with a name or without.
    pub from: String,
}

impl Vars<'_> {
    pub fn accounts(&self) -> Result<Accounts, ConfigError> {
        let minutes = self.number("JANGBU_ACCESS_TOKEN_MINUTES", 15, 1, 60)?;
        let idle = self.number("JANGBU_SESSION_IDLE_DAYS", 30, 1, 365)?;
        let total = self.number("JANGBU_SESSION_DAYS", 180.max(idle), 1, 3_650)?;
        if total < idle {
            return Err(ConfigError::new(
                "JANGBU_SESSION_DAYS",
                "must not be less than JANGBU_SESSION_IDLE_DAYS",
            ));
        }
        Ok(Accounts {
            token_keys: self.token_keys()?,
            access_token: Duration::from_secs(60 * u64::from(minutes)),
            sessions: Lifetimes {
                idle: TimeDelta::days(idle.into()),
                total: TimeDelta::days(total.into()),
            },
            password_threads: usize::try_from(self.number("JANGBU_PASSWORD_THREADS", 2, 1, 64)?).expect("64 is a size"),
        })
    }

    fn token_keys(&self) -> Result<Vec<TokenKey>, ConfigError> {
        const NAME: &str = "JANGBU_TOKEN_KEYS";
        let Some(list) = self.get(NAME) else {
            return Ok(Vec::new());
        };
        let keys: Result<Vec<_>, KeyError> = list.split(',').map(TokenKey::parse).collect();
        keys.and_then(|keys| refuse_twins(&keys).map(|()| keys))
            .map_err(|error| ConfigError::new(NAME, format!("cannot be used: {error}")))
    }

    pub fn mail_server(&self) -> Result<Option<MailServer>, ConfigError> {
        const URL: &str = "JANGBU_SMTP_URL";
        const FROM: &str = "JANGBU_MAIL_FROM";
        let Some(url) = self.url(URL, &["smtp", "smtps"])? else {
            return Ok(None);
        };
        if !url.has_host() || url.query().is_some() || url.fragment().is_some() || !matches!(url.path(), "" | "/") {
            return Err(ConfigError::new(
                URL,
                "must be a server and nothing else: no path, no ?query and no #fragment",
            ));
        }
        let from = self
            .get(FROM)
            .ok_or_else(|| ConfigError::new(FROM, "is required when JANGBU_SMTP_URL is set"))?;
        if from.parse::<lettre::message::Mailbox>().is_err() {
            return Err(ConfigError::new(
                FROM,
                "must be an e-mail address, with a name before it in < > or without",
            ));
        }
        let url = self.secret(URL).expect("it was there a moment ago");
        Ok(Some(MailServer { url, from }))
    }
}
