//! Who asks: the holder of a guest cart's token, a member, an admin, or nobody.
//!
//! A cart's token is an HMAC over the cart's id, so that a repeated `POST /carts` hands out the same one;
//! the log keeps only its SHA-256. Members and admins carry a JWT (HS256, audience `jangbu`).

use std::str::FromStr;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use jangbu_events::{AggregateId, CartId, CustomerId, Owner, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    App,
    context::RequestContext,
    problem::{Code, Problem},
};
use crate::{
    accounts::jwt::{AccessTokens, Refused},
    hex::hex,
};

/// Whom tokens are for.
const AUDIENCE: &str = "jangbu";
/// Longer tokens are not looked at.
const TOKEN_BYTES_MAX: usize = 4_096;
/// How far the clock of whoever signed a token may be ahead of ours, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// What a token lets its holder be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A registered customer; the subject is a customer id.
    Customer,
    /// Runs the shop.
    Admin,
}

impl FromStr for Role {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        match text {
            "customer" => Ok(Self::Customer),
            "admin" => Ok(Self::Admin),
            _ => Err(TokenError::Role),
        }
    }
}

/// Why a token cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There are two roles.
    #[error("a role is customer or admin")]
    Role,
    /// A customer goes by an id; an admin by 1 to 64 characters of `A-Z a-z 0-9 . _ - @`.
    #[error("the subject of a customer is a customer id, that of an admin 1 to 64 of A-Z a-z 0-9 . _ - @")]
    Subject,
    /// It must end after it begins.
    #[error("a token lives at least a second and at most ten years")]
    Lifetime,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: String,
    role: Role,
    aud: String,
    iat: i64,
    exp: i64,
}

/// Makes a token for a member or an admin. `secret` is that of the configuration, as it is.
pub fn mint_token(
    secret: &str,
    role: Role,
    subject: &str,
    lifetime: chrono::TimeDelta,
    now: Timestamp,
) -> Result<String, TokenError> {
    let fits = match role {
        Role::Customer => subject.parse::<CustomerId>().is_ok(),
        Role::Admin => is_admin_name(subject),
    };
    if !fits {
        return Err(TokenError::Subject);
    }
    if !(1..=10 * 366 * 86_400).contains(&lifetime.num_seconds()) {
        return Err(TokenError::Lifetime);
    }
    let claims = Claims {
        sub: subject.to_owned(),
        role,
        aud: AUDIENCE.to_owned(),
        iat: now.timestamp(),
        exp: now.timestamp() + lifetime.num_seconds(),
    };
    let key = EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("plain claims can be signed"))
}

fn is_admin_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// Makes cart tokens and checks tokens of every kind.
#[derive(Clone)]
pub struct Tokens {
    carts: Hmac<Sha256>,
    jwt: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens([redacted])")
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// There was no token.
    Nobody,
    /// Somebody with the token of a guest cart.
    Guest(CartToken),
    /// A registered customer.
    Member(CustomerId),
    /// Whoever runs the shop, by the subject of the token.
    Admin(String),
}

/// What a guest showed. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct CartToken {
    mac: [u8; 32],
    hash: String,
}

impl std::fmt::Debug for CartToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CartToken([redacted])")
    }
}

impl Tokens {
    /// Derives what is needed from `JANGBU_JWT_SECRET`.
    pub fn new(secret: &str) -> Self {
        let derived = Hkdf::<Sha256>::new(None, secret.as_bytes());
        let derive = |purpose: &str| {
            let mut key = [0; 32];
            derived
                .expand(purpose.as_bytes(), &mut key)
                .expect("32 bytes can be derived");
            <Hmac<Sha256> as Mac>::new_from_slice(&key).expect("any key length will do")
        };
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["sub", "aud", "exp"]);
        // That check reads the machine's clock; ours is injected.
        validation.validate_exp = false;
        Self {
            carts: derive("jangbu cart token v1"),
            jwt: DecodingKey::from_secret(secret.as_bytes()),
            validation,
        }
    }

    /// The token of a guest's cart: 43 characters of base64url.
    pub fn cart_token(&self, cart: CartId) -> String {
        URL_SAFE_NO_PAD.encode(self.cart_mac(cart))
    }

    /// What the log keeps of that token.
    pub fn guest(&self, cart: CartId) -> Owner {
        Owner::Guest {
            token_hash: hash(&self.cart_token(cart)),
        }
    }

    /// Whether a token was made for this cart; no read is needed to know. One that was made under an
    /// earlier secret is not recognised here, but still by its hash in the log.
    pub fn is_for(&self, token: &CartToken, cart: CartId) -> bool {
        token.mac.ct_eq(&self.cart_mac(cart)).into()
    }

    fn cart_mac(&self, cart: CartId) -> [u8; 32] {
        let mut mac = self.carts.clone();
        mac.update(cart.uuid().as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Who shows these headers.
    pub fn caller(&self, headers: &HeaderMap, now: Timestamp) -> Result<Caller, Problem> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(Caller::Nobody);
        };
        let token = bearer(value).ok_or_else(|| unauthorized(Code::TokenInvalid))?;
        if token.contains('.') {
            return self.jwt_caller(token, now);
        }
        let mac = URL_SAFE_NO_PAD.decode(token).ok().and_then(|mac| mac.try_into().ok());
        mac.map(|mac| Caller::Guest(CartToken { mac, hash: hash(token) }))
            .ok_or_else(|| unauthorized(Code::TokenInvalid))
    }

    /// When the member's or admin's token of these headers ends, if that is what they show.
    pub fn ends_at(&self, headers: &HeaderMap) -> Option<Timestamp> {
        let token = headers.get(header::AUTHORIZATION).and_then(bearer)?;
        Timestamp::from_timestamp(self.claims(token)?.exp, 0)
    }

    fn claims(&self, token: &str) -> Option<Claims> {
        let token = jsonwebtoken::decode::<Claims>(token, &self.jwt, &self.validation);
        token.ok().map(|token| token.claims)
    }

    fn jwt_caller(&self, token: &str, now: Timestamp) -> Result<Caller, Problem> {
        let invalid = || unauthorized(Code::TokenInvalid);
        let claims = self.claims(token).ok_or_else(invalid)?;
        if claims.exp <= now.timestamp() {
            return Err(unauthorized(Code::TokenExpired));
        }
        if claims.iat > now.timestamp() + CLOCK_SKEW_SECONDS {
            return Err(invalid());
        }
        match claims.role {
            Role::Customer => claims.sub.parse().map(Caller::Member).map_err(|_| invalid()),
            Role::Admin if is_admin_name(&claims.sub) => Ok(Caller::Admin(claims.sub)),
            Role::Admin => Err(invalid()),
        }
    }
}

impl Caller {
    /// Whether something of `owner` is the caller's.
    pub fn is(&self, owner: &Owner) -> bool {
        match (self, owner) {
            (Self::Guest(token), Owner::Guest { token_hash }) => {
                token.hash.as_bytes().ct_eq(token_hash.as_bytes()).into()
            }
            (Self::Member(caller), Owner::Member { customer_id }) => caller == customer_id,
            (Self::Nobody | Self::Admin(_) | Self::Guest(_) | Self::Member(_), _) => false,
        }
    }

    /// The first part of a command id: who sends it.
    pub fn principal(&self) -> String {
        match self {
            Self::Nobody => "nobody".to_owned(),
            Self::Guest(token) => format!("guest:{}", token.hash),
            Self::Member(customer) => format!("member:{customer}"),
            Self::Admin(subject) => format!("admin:{subject}"),
        }
    }

    /// For metadata: kind and id of the actor.
    pub fn actor(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Nobody => ("guest", None),
            // Enough to tell guests apart, and of no use to anybody.
            Self::Guest(token) => ("guest", Some(token.hash[..16].to_owned())),
            Self::Member(customer) => ("member", Some(customer.to_string())),
            Self::Admin(subject) => ("admin", Some(subject.clone())),
        }
    }

    /// SHA-256 of a guest's token, 64 hex digits.
    pub fn guest_token_hash(&self) -> Option<&str> {
        match self {
            Self::Guest(token) => Some(&token.hash),
            Self::Nobody | Self::Member(_) | Self::Admin(_) => None,
        }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let caller = match access_token(&parts.headers) {
            Some(token) => member(parts, app, &token).await?,
            None => app.tokens.caller(&parts.headers, app.surroundings.now())?,
        };
        parts.extensions.insert(caller.clone());
        Ok(caller)
    }
}

/// The token of somebody who signed in, as opposed to one of `jangbu token` or a cart's.
fn access_token(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && AccessTokens::is_of_this_kind(token)).then(|| token.to_owned())
}

/// Who signed in, if the session goes on. A token that ends soon is followed by another.
async fn member(parts: &mut Parts, app: &App, token: &str) -> Result<Caller, Problem> {
    let now = app.surroundings.now();
    let bearer = app.gate.access().verify(token, now).map_err(|refused| {
        unauthorized(match refused {
            Refused::Expired => Code::TokenExpired,
            Refused::Invalid | Refused::NotYet => Code::TokenInvalid,
        })
    })?;
    if !app.gate.is_open(bearer.session).await? {
        return Err(unauthorized(Code::SessionEnded));
    }
    if bearer.expires_at - now < app.gate.renewed_within()
        && let Some(context) = parts.extensions.get::<RequestContext>().cloned()
        && let Some(token) = app.gate.renew(bearer.customer, bearer.session).await?
    {
        context.set_new_token(token);
    }
    let is_admin = bearer.grants.iter().any(|grant| grant.role == "admin");
    let customer = bearer.customer;
    parts.extensions.insert(bearer);
    Ok(if is_admin {
        Caller::Admin(customer.to_string())
    } else {
        Caller::Member(customer)
    })
}

/// Somebody who runs the shop; anybody else is turned away.
#[derive(Debug, Clone)]
pub struct Admin(pub String);

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, app).await? {
            Caller::Admin(subject) => Ok(Self(subject)),
            Caller::Nobody => Err(unauthorized(Code::Unauthenticated)),
            Caller::Guest(_) | Caller::Member(_) => Err(Code::Forbidden.into()),
        }
    }
}

/// The token of an `Authorization` header.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = Some(token.trim()).filter(|token| token.len() <= TOKEN_BYTES_MAX);
    token.filter(|_| scheme.eq_ignore_ascii_case("bearer"))
}

/// A 401 names the scheme that would do (RFC 9110, 11.6.1).
pub fn unauthorized(code: Code) -> Problem {
    Problem::new(code).header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

fn hash(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn cart(n: u128) -> CartId {
        CartId::from_uuid(Uuid::from_u128(n))
    }

    fn now() -> Timestamp {
        "2026-03-02T04:05:06Z".parse().expect("a time")
    }

    fn day() -> chrono::TimeDelta {
        chrono::TimeDelta::days(1)
    }

    fn caller(tokens: &Tokens, token: &str, now: Timestamp) -> Result<Caller, Code> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::AUTHORIZATION,
            format!("Bearer {token}").parse().expect("a value"),
        );
        tokens.caller(&headers, now).map_err(|problem| problem.code())
    }

    #[test]
    fn a_cart_s_token_opens_that_cart_alone() {
        let tokens = Tokens::new(SECRET);
        let token = tokens.cart_token(cart(1));
        assert_eq!(token.len(), 43);
        let guest = caller(&tokens, &token, now()).expect("a guest");
        assert!(guest.is(&tokens.guest(cart(1))));
        assert!(!guest.is(&tokens.guest(cart(2))));
        let Caller::Guest(shown) = &guest else {
            panic!("a guest")
        };
        assert!(tokens.is_for(shown, cart(1)) && !tokens.is_for(shown, cart(2)));
        let Owner::Guest { token_hash } = tokens.guest(cart(1)) else {
            panic!("a guest")
        };
        assert!(!token_hash.contains(&token));
    }

    #[test]
    fn a_token_of_an_earlier_secret_is_still_known_by_its_hash() {
        let owner = Tokens::new(SECRET).guest(cart(1));
        let token = Tokens::new(SECRET).cart_token(cart(1));
        let tokens = Tokens::new("another secret of at least 32 bytes");
        let guest = caller(&tokens, &token, now()).expect("a guest");
        assert!(guest.is(&owner));
        let Caller::Guest(shown) = &guest else {
            panic!("a guest")
        };
        assert!(!tokens.is_for(shown, cart(1)));
    }

    #[test]
    fn a_minted_token_is_its_role_until_it_ends() {
        let tokens = Tokens::new(SECRET);
        let token = mint_token(SECRET, Role::Admin, "kim", day(), now()).expect("a token");
        assert_eq!(caller(&tokens, &token, now()), Ok(Caller::Admin("kim".into())));
        assert_eq!(caller(&tokens, &token, now() + day()), Err(Code::TokenExpired));
        assert_eq!(
            caller(&tokens, &token, now() - day()),
            Err(Code::TokenInvalid),
            "from the future"
        );
        assert_eq!(
            caller(&Tokens::new("another secret of at least 32 bytes"), &token, now()),
            Err(Code::TokenInvalid)
        );
    }

    #[test]
    fn a_customer_goes_by_an_id() {
        let id = CustomerId::from_uuid(Uuid::from_u128(7));
        let tokens = Tokens::new(SECRET);
        let token = mint_token(SECRET, Role::Customer, &id.to_string(), day(), now()).expect("a token");
        let member = caller(&tokens, &token, now()).expect("a member");
        assert_eq!(member, Caller::Member(id));
        assert!(member.is(&Owner::Member { customer_id: id }));
        assert_eq!(
            mint_token(SECRET, Role::Customer, "kim", day(), now()),
            Err(TokenError::Subject)
        );
        assert_eq!(
            mint_token(SECRET, Role::Admin, "김", day(), now()),
            Err(TokenError::Subject)
        );
        assert_eq!(
            mint_token(SECRET, Role::Admin, "kim", chrono::TimeDelta::zero(), now()),
            Err(TokenError::Lifetime)
        );
    }

    #[test]
    fn forged_tokens_are_refused() {
        let tokens = Tokens::new(SECRET);
        let claims = |aud: &str| {
            serde_json::json!({"sub": "kim", "role": "admin", "aud": aud, "iat": now().timestamp(),
                "exp": now().timestamp() + 60})
        };
        let sign = |algorithm, claims: &serde_json::Value| {
            jsonwebtoken::encode(
                &Header::new(algorithm),
                claims,
                &EncodingKey::from_secret(SECRET.as_bytes()),
            )
            .expect("it signs")
        };
        assert!(caller(&tokens, &sign(Algorithm::HS256, &claims("jangbu")), now()).is_ok());
        assert!(caller(&tokens, &sign(Algorithm::HS256, &claims("others")), now()).is_err());
        assert!(caller(&tokens, &sign(Algorithm::HS512, &claims("jangbu")), now()).is_err());
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let unsigned = format!(
            "{}.{}.",
            encode(r#"{"alg":"none","typ":"JWT"}"#),
            encode(&claims("jangbu").to_string())
        );
        assert!(caller(&tokens, &unsigned, now()).is_err());
        let mut endless = claims("jangbu");
        endless.as_object_mut().expect("an object").remove("exp");
        assert!(caller(&tokens, &sign(Algorithm::HS256, &endless), now()).is_err());
        for junk in ["", "x", "a.b.c", &"x".repeat(5_000)] {
            assert_eq!(caller(&tokens, junk, now()), Err(Code::TokenInvalid), "{junk}");
        }
    }

    #[test]
    fn nothing_secret_prints() {
        let tokens = Tokens::new(SECRET);
        let token = tokens.cart_token(cart(1));
        let guest = caller(&tokens, &token, now()).expect("a guest");
        let shown = format!("{tokens:?} {guest:?}");
        assert!(!shown.contains(&token) && !shown.contains(SECRET), "{shown}");
    }
}
