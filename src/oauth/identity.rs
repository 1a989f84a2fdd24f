//! Who logged in, as far as the provider says.

use std::fmt;

use jangbu_events::{Email, PersonName, Phone};

use super::Provider;
use crate::config::Secret;

/// A person at a provider. The key is (provider, subject); the rest is what the person chose to share just now.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who says so.
    pub provider: Provider,
    /// The provider's id of the person, as text: 1 to 255 characters. It never changes, whatever else does.
    pub subject: String,
    /// An account without one must work: people may refuse it.
    pub email: Option<ProviderEmail>,
    /// The name, else the nickname.
    pub name: Option<PersonName>,
    /// A Korean number. No provider's word is taken for whose it is.
    pub phone: Option<Phone>,
    /// For [`super::Client::unlink`]. Not for browsers.
    pub tokens: Tokens,
}

/// An e-mail that a provider has of a person.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderEmail {
    /// In lower case.
    pub address: Email,
    /// Whether the provider stands for it that the address is this person's today. Otherwise it may be somebody
    /// else's: nothing is linked by it, and nothing personal is sent to it, before it has been confirmed.
    pub vouched: bool,
}

/// What ends the link to the provider later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Lives an hour at Naver and Google, six at Kakao.
    pub access: Secret,
    /// Lives for months. A later login may bring none: then the one before still holds and must be kept.
    pub refresh: Option<Secret>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ProviderEmail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderEmail")
            .field("vouched", &self.vouched)
            .finish_non_exhaustive()
    }
}

/// What all three providers tell, before it is looked at.
pub(super) struct Told {
    pub subject: String,
    pub email: Option<String>,
    pub vouched: bool,
    /// The first one that is a name counts.
    pub names: [Option<String>; 2],
    pub phone: Option<String>,
}

impl Told {
    /// What does not look like what it should be is left out: nobody is kept from logging in by a foreign telephone.
    pub fn into_identity(self, provider: Provider, tokens: Tokens) -> Identity {
        let vouched = self.vouched;
        Identity {
            provider,
            subject: self.subject,
            email: self
                .email
                .and_then(|text| text.parse().ok())
                .map(|address| ProviderEmail { address, vouched }),
            name: self.names.into_iter().flatten().find_map(|text| text.parse().ok()),
            phone: self.phone.and_then(|text| text.parse().ok()),
            tokens,
        }
    }
}
