//! Codes and tokens: what a person agreed to, and who may act on it for how long.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use super::{Item, Provider};

/// Codes, and tokens of a kind, alive at once; beyond it the one that ends first is forgotten.
const ALIVE_MAX: usize = 10_000;
/// A code is for the request that follows at once.
pub(super) const CODE_LIFETIME: TimeDelta = TimeDelta::minutes(5);

/// What a person agreed to.
#[derive(Debug)]
pub(super) struct Consent {
    pub(super) provider: Provider,
    pub(super) subject: String,
    pub(super) shared: Vec<Item>,
    pub(super) scopes: Vec<String>,
    pub(super) nonce: Option<String>,
    /// Google: a refresh token was asked for, and this is a first consent or one that was asked for anew.
    pub(super) offline: bool,
    pub(super) at: DateTime<Utc>,
}

impl Consent {
    pub(super) fn shares(&self, item: Item) -> bool {
        self.shared.contains(&item)
    }

    pub(super) fn has_scope(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope == name)
    }
}

/// What a code was given out for.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) consent: Arc<Consent>,
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
    pub(super) challenge: Option<String>,
}

impl Code {
    /// RFC 7636: a challenge needs its verifier, and a verifier a challenge.
    pub(super) fn is_proven_by(&self, verifier: Option<&str>) -> bool {
        match (&self.challenge, verifier) {
            (None, None) => true,
            (Some(challenge), Some(verifier)) => URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == *challenge,
            _ => false,
        }
    }
}

/// Texts that open something until they end.
#[derive(Debug)]
struct Keys<T>(HashMap<String, (T, DateTime<Utc>)>);

impl<T> Default for Keys<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Keys<T> {
    fn give(&mut self, text: String, what: T, now: DateTime<Utc>, lifetime: TimeDelta) {
        if self.0.len() >= ALIVE_MAX {
            self.0.retain(|_, (_, ends)| *ends > now);
        }
        if self.0.len() >= ALIVE_MAX {
            let first = self.0.iter().min_by_key(|(_, (_, ends))| *ends);
            let first = first.map(|(text, _)| text.clone());
            first.and_then(|text| self.0.remove(&text));
        }
        self.0.insert(text, (what, now + lifetime));
    }

    fn get(&self, text: &str, now: DateTime<Utc>) -> Option<(&T, DateTime<Utc>)> {
        let (what, ends) = self.0.get(text)?;
        (*ends > now).then_some((what, *ends))
    }
}

/// All codes and tokens, and who is linked with the shop.
#[derive(Debug, Default)]
pub(super) struct Grants {
    codes: Keys<Code>,
    access: Keys<Arc<Consent>>,
    refresh: Keys<Arc<Consent>>,
    links: BTreeSet<(Provider, String)>,
}

impl Grants {
    pub(super) fn give_code(&mut self, text: String, code: Code, now: DateTime<Utc>) {
        self.links.insert((code.consent.provider, code.consent.subject.clone()));
        self.codes.give(text, code, now, CODE_LIFETIME);
    }

    /// The code is spent by being looked at, whatever comes of it.
    pub(super) fn spend(&mut self, provider: Provider, text: &str, now: DateTime<Utc>) -> Option<Code> {
        self.codes
            .0
            .get(text)
            .filter(|(code, _)| code.consent.provider == provider)?;
        let (code, ends) = self.codes.0.remove(text)?;
        (ends > now).then_some(code)
    }

    pub(super) fn give_access(&mut self, text: String, to: &Arc<Consent>, now: DateTime<Utc>, lifetime: TimeDelta) {
        self.access.give(text, Arc::clone(to), now, lifetime);
    }

    pub(super) fn give_refresh(&mut self, text: String, to: &Arc<Consent>, now: DateTime<Utc>, lifetime: TimeDelta) {
        self.refresh.give(text, Arc::clone(to), now, lifetime);
    }

    pub(super) fn by_access(&self, provider: Provider, text: &str, now: DateTime<Utc>) -> Option<Arc<Consent>> {
        let (consent, _) = self.access.get(text, now)?;
        (consent.provider == provider).then(|| Arc::clone(consent))
    }

    /// With the time at which the refresh token ends.
    pub(super) fn by_refresh(
        &self,
        provider: Provider,
        text: &str,
        now: DateTime<Utc>,
    ) -> Option<(Arc<Consent>, DateTime<Utc>)> {
        let (consent, ends) = self.refresh.get(text, now)?;
        (consent.provider == provider).then(|| (Arc::clone(consent), ends))
    }

    pub(super) fn is_linked(&self, provider: Provider, subject: &str) -> bool {
        self.links.contains(&(provider, subject.to_owned()))
    }

    /// Ends the link with all its codes and tokens; false if there was none.
    pub(super) fn unlink(&mut self, provider: Provider, subject: &str) -> bool {
        let is_other = |consent: &Consent| consent.provider != provider || consent.subject != subject;
        self.codes.0.retain(|_, (code, _)| is_other(&code.consent));
        self.access.0.retain(|_, (consent, _)| is_other(consent));
        self.refresh.0.retain(|_, (consent, _)| is_other(consent));
        self.links.remove(&(provider, subject.to_owned()))
    }
}
