//! The shop's side of social login: Kakao, Naver and Google by the authorization code flow.
//!
//! Nothing here knows of members, sessions or tables. A caller makes an [`Attempt`], keeps it with the browser's session,
//! sends the browser to [`Client::authorize_url`], reads what comes back with [`Callback::parse`], and has the code turned
//! into an [`Identity`]. Four rules shape it.
//!
//! - **A person is (provider, subject).** The subject is text, whatever the provider sends. Never the e-mail, name or phone.
//! - **An e-mail is a claim.** [`ProviderEmail::vouched`] says whether the provider stands for it today, by a rule of its own
//!   for each; everything else is contact data that has to be confirmed first.
//! - **Whatever the person kept to herself is absent**, and so is what does not look like what it should be.
//! - **A code is spent by the first try.** It is never sent twice; the person presses the button again.
//!
//! Why the signature of an `id_token` is not checked, and the rest of the reasons: `docs/decisions/0024`.

mod attempt;
mod callback;
mod client;
mod error;
mod google;
mod id_token;
mod identity;
mod kakao;
mod naver;
mod transport;

#[cfg(test)]
mod tests;

pub use attempt::Attempt;
pub use callback::{BadCallback, Callback, Outcome};
pub use client::{Bases, Client, ClientConfig, ConfigError, Unlinked};
pub use error::{Error, IdTokenFault, Refusal, Unreachable};
pub use identity::{Identity, ProviderEmail, Tokens};

use std::fmt;

/// Who vouches for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provider {
    /// 카카오.
    Kakao,
    /// 네이버.
    Naver,
    /// 구글.
    Google,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kakao, Self::Naver, Self::Google];

    /// `kakao`, `naver` or `google`: in addresses and wherever it is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kakao => "kakao",
            Self::Naver => "naver",
            Self::Google => "google",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// Where the provider sends the browser back to, below the shop's public address. Has to be registered with the
    /// provider letter by letter.
    pub fn callback_path(self) -> &'static str {
        match self {
            Self::Kakao => "/api/v1/auth/kakao/callback",
            Self::Naver => "/api/v1/auth/naver/callback",
            Self::Google => "/api/v1/auth/google/callback",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
