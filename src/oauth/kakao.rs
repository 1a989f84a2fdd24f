//! Kakao's people. Any part of `kakao_account` may be absent.

use serde::Deserialize;

use super::client::{Client, Unlinked};
use super::error::Error;
use super::identity::{Tokens, Told};
use super::transport;
use crate::config::Secret;

/// "Not linked with this app": there is nothing to unlink.
const NOT_REGISTERED: i32 = -101;

#[derive(Deserialize)]
pub(super) struct User {
    /// A number of 64 bits. One that is not is refused: rounded, it would be somebody else.
    id: u64,
    #[serde(default)]
    properties: Option<Profile>,
    #[serde(default)]
    kakao_account: Option<Account>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Account {
    profile: Option<Profile>,
    name: Option<String>,
    email: Option<String>,
    is_email_valid: Option<bool>,
    is_email_verified: Option<bool>,
    phone_number: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Profile {
    nickname: Option<String>,
}

impl From<User> for Told {
    fn from(user: User) -> Self {
        let account = user.kakao_account.unwrap_or_default();
        let nickname = account.profile.or(user.properties).and_then(|profile| profile.nickname);
        Self {
            subject: user.id.to_string(),
            // Valid: not given to another account since. Verified: its owner answered a mail. Silence is a no.
            vouched: account.is_email_valid == Some(true) && account.is_email_verified == Some(true),
            email: account.email,
            names: [account.name, nickname],
            phone: account.phone_number,
        }
    }
}

/// By the admin key if there is one, which outlives all tokens.
pub(super) async fn unlink(client: &Client, subject: &str, tokens: &Tokens) -> Result<Unlinked, Error> {
    let url = format!("{}/v1/user/unlink", client.config.bases.people);
    let by_token = async |token: &Secret| {
        let request = client.transport.post(&url).bearer_auth(token.expose());
        transport::send(request).await
    };
    let done = if let Some(key) = &client.config.admin_key {
        let request = client
            .transport
            .post(&url)
            .header("Authorization", format!("KakaoAK {}", key.expose()))
            .form(&[("target_id_type", "user_id"), ("target_id", subject)]);
        transport::send(request).await
    } else {
        match (by_token(&tokens.access).await, &tokens.refresh) {
            (Err(Error::Refused(refusal)), Some(refresh)) if refusal.status == 401 => {
                let renewed = client.refresh(refresh).await?;
                by_token(&Secret::new(renewed.access)).await
            }
            (done, _) => done,
        }
    };
    match done {
        Ok(_) => Ok(Unlinked::Now),
        Err(error) if error.refusal().is_some_and(|no| no.detail == Some(NOT_REGISTERED)) => Ok(Unlinked::Before),
        Err(error) => Err(error),
    }
}
