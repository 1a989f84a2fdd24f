//! Naver's people. Their e-mail is what they wrote there themselves.

use serde::Deserialize;

use super::client::{Client, Unlinked, decode};
use super::error::Error;
use super::identity::{Tokens, Told};
use super::transport;
use crate::config::Secret;

#[derive(Deserialize)]
pub(super) struct User {
    response: Person,
}

/// Anything but a `resultcode` of `00` was sorted out before.
#[derive(Deserialize)]
struct Person {
    /// Applications from before May 2021 get numbers, as text too.
    id: String,
    name: Option<String>,
    nickname: Option<String>,
    email: Option<String>,
    mobile: Option<String>,
}

impl From<User> for Told {
    fn from(user: User) -> Self {
        let person = user.response;
        Self {
            subject: person.id,
            email: person.email,
            vouched: false,
            names: [person.name, person.nickname],
            phone: person.mobile,
        }
    }
}

/// Needs a living access token, which lives an hour, so it is renewed first.
pub(super) async fn unlink(client: &Client, tokens: &Tokens) -> Result<Unlinked, Error> {
    #[derive(Deserialize)]
    struct Answer {
        result: String,
    }

    let access = match &tokens.refresh {
        Some(refresh) => Secret::new(client.refresh(refresh).await?.access),
        None => tokens.access.clone(),
    };
    let form = client.signed(vec![
        ("grant_type", "delete"),
        ("access_token", access.expose()),
        ("service_provider", "NAVER"),
    ]);
    let url = format!("{}/oauth2.0/token", client.config.bases.tokens);
    let body = transport::send(client.transport.post(&url).form(&form)).await?;
    if decode::<Answer>("unlinking", &body)?.result == "success" {
        Ok(Unlinked::Now)
    } else {
        Err(Error::Unreadable("unlinking"))
    }
}
