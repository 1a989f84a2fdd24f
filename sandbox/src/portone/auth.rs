//! Who may call: the API secret, or an access token that was issued for it.

use std::collections::HashMap;
use std::sync::PoisonError;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::Sandbox;
use super::errors::ApiError;

const ACCESS_LIFETIME: TimeDelta = TimeDelta::minutes(30);
const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(1);
/// Access tokens alive at once; a client that logs in for every call loses its oldest.
const ACCESS_TOKENS_MAX: usize = 10_000;

/// Issued tokens with the time they end.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    access: HashMap<String, DateTime<Utc>>,
    /// Each login or refresh kills the one before.
    refresh: Option<(String, DateTime<Utc>)>,
}

impl Sandbox {
    /// `PortOne <secret>` or `Bearer <access token>`; everything else is 401.
    pub(crate) fn authorize(&self, header: Option<&[u8]>) -> Result<(), ApiError> {
        let header = header
            .and_then(|value| std::str::from_utf8(value).ok())
            .ok_or(ApiError::Unauthorized)?;
        let (scheme, credential) = header.split_once(' ').ok_or(ApiError::Unauthorized)?;
        let is_allowed = if scheme.eq_ignore_ascii_case("PortOne") {
            self.is_secret(credential)
        } else if scheme.eq_ignore_ascii_case("Bearer") {
            let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens
                .access
                .get(credential)
                .is_some_and(|ends| *ends > self.config.clock.now())
        } else {
            false
        };
        if is_allowed {
            Ok(())
        } else {
            Err(ApiError::Unauthorized)
        }
    }

    fn is_secret(&self, text: &str) -> bool {
        text.as_bytes().ct_eq(self.config.api_secret.as_bytes()).into()
    }

    /// `POST /login/api-secret`.
    pub(crate) fn login(&self, body: &Value) -> Result<Value, ApiError> {
        match body["apiSecret"].as_str() {
            None => Err(ApiError::InvalidRequest("apiSecret must be a string".to_owned())),
            Some(secret) if self.is_secret(secret) => Ok(self.issue_tokens()),
            Some(_) => Err(ApiError::Unauthorized),
        }
    }

    /// `POST /token/refresh`.
    pub(crate) fn refresh(&self, body: &Value) -> Result<Value, ApiError> {
        let Some(given) = body["refreshToken"].as_str() else {
            return Err(ApiError::InvalidRequest("refreshToken must be a string".to_owned()));
        };
        let taken = {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens
                .refresh
                .take_if(|(token, ends)| token == given && *ends > self.config.clock.now())
        };
        if taken.is_some() {
            Ok(self.issue_tokens())
        } else {
            Err(ApiError::Unauthorized)
        }
    }

    fn issue_tokens(&self) -> Value {
        let now = self.config.clock.now();
        let (access, refresh) = (self.random.token(), self.random.token());
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.access.retain(|_, ends| *ends > now);
        if tokens.access.len() >= ACCESS_TOKENS_MAX {
            let oldest = tokens
                .access
                .iter()
                .min_by_key(|(_, ends)| **ends)
                .map(|(token, _)| token.clone());
            oldest.and_then(|token| tokens.access.remove(&token));
        }
        tokens.access.insert(access.clone(), now + ACCESS_LIFETIME);
        tokens.refresh = Some((refresh.clone(), now + REFRESH_LIFETIME));
        json!({"accessToken": access, "refreshToken": refresh})
    }
}
