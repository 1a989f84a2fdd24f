//! Members: how they register, sign in and out, and what they see and change of themselves.

use axum::{
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use jangbu_domain::{Customer, customer::Account};
use jangbu_events::{AggregateId, ConsentKind, CustomerId, Email, personal::Mobile};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    App,
    auth::{Caller, unauthorized},
    checks::Checks,
    context::RequestContext,
    extract::{Path, json, read_body, require_json},
    keys::{Command, Nothing, json_body},
    problem::{Code, Problem},
    views::{Answer, time, word},
};
use crate::{
    accounts::{
        jwt::Bearer,
        password::{self, About, NewPassword},
        sessions::{Mode, SessionId, user_agent_class},
    },
    members::{
        NewMember, ProfileChange,
        sign_in::{Place, SignedIn},
    },
};

/// Somebody who registers.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "hong.gildong@example.com", "password": "여덟 마리 파란 고래", "name": "홍길동",
    "phone": "010-1234-5678", "fourteen_or_older": true,
    "consents": {"terms": true, "privacy": true, "marketing_email": false}}))]
pub struct SignUp {
    /// To sign in with.
    email: String,
    /// 10 to 128 characters, and none of those that everybody takes.
    password: String,
    /// At most 50 characters.
    name: String,
    /// A Korean mobile number in any spelling.
    phone: Option<String>,
    /// Must be true: nothing of anybody younger is stored.
    #[serde(default)]
    fourteen_or_older: bool,
    /// What they agree to.
    #[serde(default)]
    consents: SignUpConsents,
}

/// Each consent is given on its own; what is left out is not given.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "boxes on a form, none of which implies another"
)]
struct SignUpConsents {
    /// Must be true.
    terms: bool,
    /// Must be true.
    privacy: bool,
    /// Advertising by e-mail.
    marketing_email: bool,
    /// Advertising by SMS.
    marketing_sms: bool,
    /// Advertising between 21:00 and 08:00.
    marketing_night: bool,
    /// Passing personal data on.
    third_party: bool,
}

impl SignUpConsents {
    fn given(&self) -> Vec<ConsentKind> {
        [
            (self.terms, ConsentKind::Terms),
            (self.privacy, ConsentKind::Privacy),
            (self.marketing_email, ConsentKind::MarketingEmail),
            (self.marketing_sms, ConsentKind::MarketingSms),
            (self.marketing_night, ConsentKind::MarketingNight),
            (self.third_party, ConsentKind::ThirdParty),
        ]
        .into_iter()
        .filter_map(|(given, kind)| given.then_some(kind))
        .collect()
    }
}

/// Another name, address or phone; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"phone": "010-8765-4321"}))]
pub struct ChangeMe {
    /// At most 50 characters.
    name: Option<String>,
    /// To sign in with from now on.
    email: Option<String>,
    /// A Korean mobile number; `""` takes it away.
    phone: Option<String>,
}

/// Another password. It ends all other sessions.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"password": "여덟 마리 파란 고래", "new_password": "아홉 마리 하얀 고래"}))]
pub struct ChangePassword {
    /// The present one.
    password: String,
    /// 10 to 128 characters, and none of those that everybody takes.
    new_password: String,
}

json_body!(SignUp, ChangeMe);
json_body!(ChangePassword);

/// Who signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "hong.gildong@example.com", "password": "여덟 마리 파란 고래"}))]
pub struct SignIn {
    /// As registered, in upper or lower case.
    email: String,
    /// As registered.
    password: String,
}

/// What an access token is renewed with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"refresh_token": "3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}))]
pub struct Refresh {
    /// From signing in, or from the last renewal; each is good for one renewal.
    refresh_token: String,
}

macro_rules! unlogged {
    ($($name:ident),+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "([personal])"))
            }
        }
    )+};
}
unlogged!(SignUp, ChangeMe, ChangePassword, SignIn, Refresh);

/// A body that is no command of the log: what it does is not kept under a key.
macro_rules! plain_body {
    ($($name:ident),+) => {$(
        impl FromRequest<App> for $name {
            type Rejection = Problem;
            async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
                let (parts, body) = request.into_parts();
                let bytes = read_body(&parts.headers, body).await?;
                require_json(&parts.headers)?;
                json(&bytes)
            }
        }
    )+};
}
plain_body!(SignIn, Refresh);

/// A member, as they see themselves.
#[derive(Serialize, ToSchema)]
pub struct MeView {
    /// `cus_…`.
    id: String,
    /// Full name.
    name: Option<String>,
    /// To sign in with.
    email: Option<String>,
    /// Whether it was shown to be theirs.
    email_verified: bool,
    /// As it is written in Korea.
    phone: Option<String>,
    /// Whether it was shown to be theirs.
    phone_verified: bool,
    /// What they have agreed to.
    consents: Vec<String>,
    /// When they will have left, if they asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaves_at: Option<String>,
}

/// Somebody has registered.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignedUpView {
    /// `cus_…`.
    id: String,
}

/// What a client goes on with.
#[derive(Serialize, ToSchema)]
pub struct TokensView {
    /// Always `Bearer`.
    token_type: &'static str,
    /// For `Authorization`.
    access_token: String,
    /// Seconds until it ends. Shortly before, answers bring another in `X-New-Token`.
    expires_in: u64,
    /// For `POST /api/v1/users/token`, once.
    refresh_token: String,
    /// Until when, if it is not used before.
    refresh_token_expires_at: String,
    /// `cus_…`.
    customer_id: String,
}

/// A place where the member is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// `ses_…`.
    id: String,
    /// Browser and system.
    device: String,
    /// When somebody signed in.
    signed_in_at: String,
    /// The latest renewal.
    last_seen_at: String,
    /// Whether this request comes from there.
    current: bool,
}

/// Where the member is signed in, the latest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionsView {
    /// All that are open.
    sessions: Vec<SessionView>,
}

impl std::fmt::Debug for MeView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MeView({})", self.id)
    }
}

impl std::fmt::Debug for TokensView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokensView([redacted])")
    }
}

/// A member who is signed in; anybody else is turned away.
#[derive(Debug, Clone)]
pub struct Member {
    /// Who.
    pub id: CustomerId,
    /// In which session; none with a token that `jangbu token` made.
    pub session: Option<SessionId>,
}

impl FromRequestParts<App> for Member {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match Caller::from_request_parts(parts, app).await? {
            Caller::Member(id) => Ok(Self {
                id,
                session: parts.extensions.get::<Bearer>().map(|bearer| bearer.session),
            }),
            Caller::Nobody => Err(unauthorized(Code::Unauthenticated)),
            Caller::Guest(_) | Caller::Admin(_) => Err(Code::Forbidden.into()),
        }
    }
}

/// Registers a member. Whoever is not 14 or does not agree to terms and privacy is refused before anything is
/// stored. An address or phone of somebody else is refused.
#[utoipa::path(post, path = "/api/v1/users/sign-up", tag = "users", request_body = SignUp,
    responses((status = 201, body = SignedUpView), (status = 409, description = "email_taken, phone_taken"),
        (status = 422, description = "validation_failed, under_fourteen, consent_missing"),
        (status = 429, description = "rate_limited"), (status = 503, description = "busy")))]
pub async fn sign_up(State(app): State<App>, command: Command<SignUp>) -> Result<Answer<SignedUpView>, Problem> {
    let body = &command.body;
    // Before anything else of the form is looked at (KOREA U1).
    if !body.fourteen_or_older {
        return Err(Code::UnderFourteen.into());
    }
    let mut checks = Checks::default();
    let name = checks.parse("/name", &body.name);
    let email = checks.parse::<Email>("/email", &body.email);
    let phone = checks.parse_if_given::<Mobile>("/phone", body.phone.as_deref());
    let about = About {
        email: Some(&body.email),
        phone: body.phone.as_deref(),
    };
    let password = new_password(&mut checks, "/password", &body.password, about);
    let new = (|| {
        let new = NewMember {
            name: name?,
            email: email?,
            phone,
            is_fourteen_or_older: body.fourteen_or_older,
            consents: body.consents.given(),
        };
        Some((new, password?))
    })();
    let (new, password) = checks.finish(new)?;
    // Derived, so that a repeat names the same member.
    let id = CustomerId::from_uuid(Uuid::new_v5(&command.id, b"customer"));
    let envelope = command.envelope(&app);
    let committed = app.members.register(id, new, &password, envelope).await?;
    Ok(Answer::to(&committed, SignedUpView { id: id.to_string() }).created("/api/v1/users/me"))
}

/// Opens a session. A wrong password and an unknown address are answered alike; after five wrong ones each
/// further one has to wait longer.
#[utoipa::path(post, path = "/api/v1/users/sign-in", tag = "users", request_body = SignIn,
    responses((status = 200, body = TokensView), (status = 401, description = "credentials_wrong"),
        (status = 403, description = "customer_suspended"), (status = 422, description = "validation_failed"),
        (status = 429, description = "rate_limited"), (status = 503, description = "busy")))]
pub async fn sign_in(
    State(app): State<App>,
    context: RequestContext,
    headers: HeaderMap,
    body: SignIn,
) -> Result<Answer<TokensView>, Problem> {
    let mut checks = Checks::default();
    let email = checks.parse::<Email>("/email", &body.email);
    let email = checks.finish(email)?;
    let place = place(&app, &context, &headers).await?;
    let signed_in = app.gate.sign_in(&email, &body.password, Mode::Bearer, place).await?;
    Ok(Answer::ok(TokensView::of(signed_in)))
}

/// Renews the access token. The refresh token is good for one renewal and brings the next; one that comes back
/// later has been stolen, or was stolen from, and ends its session.
#[utoipa::path(post, path = "/api/v1/users/token", tag = "users", request_body = Refresh,
    responses((status = 200, body = TokensView), (status = 401, description = "session_ended"),
        (status = 403, description = "customer_suspended")))]
pub async fn refresh(
    State(app): State<App>,
    context: RequestContext,
    headers: HeaderMap,
    body: Refresh,
) -> Result<Answer<TokensView>, Problem> {
    let place = place(&app, &context, &headers).await?;
    let refreshed = app
        .gate
        .refresh(&body.refresh_token, Mode::Bearer, &place.ip_hash)
        .await?;
    Ok(Answer::ok(TokensView::of(refreshed)))
}

/// Ends the session, on every server at once.
#[utoipa::path(post, path = "/api/v1/users/sign-out", tag = "users", security(("member" = [])),
    responses((status = 204), (status = 401, description = "unauthenticated, token_invalid, token_expired")))]
pub async fn sign_out(State(app): State<App>, member: Member) -> Result<StatusCode, Problem> {
    if let Some(session) = member.session {
        app.gate.sign_out(member.id, session).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The member's own data.
#[utoipa::path(get, path = "/api/v1/users/me", tag = "users", security(("member" = [])),
    responses((status = 200, body = MeView), (status = 404, description = "customer_not_found")))]
pub async fn me(State(app): State<App>, member: Member) -> Result<Answer<MeView>, Problem> {
    let loaded = app.executor.load::<Customer>(member.id).await?;
    let view = view(&app, member.id, &loaded.state).await?;
    Ok(Answer::ok(view).at(loaded.position).version(loaded.sequence))
}

/// Changes name, address or phone. Another address or phone is not verified.
#[utoipa::path(patch, path = "/api/v1/users/me", tag = "users", security(("member" = [])), request_body = ChangeMe,
    responses((status = 200, body = MeView), (status = 404, description = "customer_not_found"),
        (status = 409, description = "email_taken, phone_taken, withdrawal_requested"),
        (status = 422, description = "validation_failed")))]
pub async fn change_me(
    State(app): State<App>,
    member: Member,
    command: Command<ChangeMe>,
) -> Result<Answer<MeView>, Problem> {
    let body = &command.body;
    let mut checks = Checks::default();
    let name = checks.parse_if_given("/name", body.name.as_deref());
    let email = checks.parse_if_given("/email", body.email.as_deref());
    let phone = match body.phone.as_deref().map(str::trim) {
        Some("") => Some(None),
        given => checks.parse_if_given("/phone", given).map(Some),
    };
    checks.done()?;
    let change = ProfileChange { name, email, phone };
    let envelope = command.envelope(&app);
    let committed = app.members.change_profile(member.id, change, envelope).await?;
    let view = view(&app, member.id, &committed.state).await?;
    Ok(Answer::to(&committed, view).version(committed.sequence))
}

/// Changes the password, and ends all other sessions.
#[utoipa::path(post, path = "/api/v1/users/me/password", tag = "users", security(("member" = [])),
    request_body = ChangePassword,
    responses((status = 204), (status = 401, description = "credentials_wrong"),
        (status = 409, description = "password_missing"), (status = 422, description = "validation_failed"),
        (status = 429, description = "rate_limited"), (status = 503, description = "busy")))]
pub async fn change_password(
    State(app): State<App>,
    context: RequestContext,
    member: Member,
    command: Command<ChangePassword>,
) -> Result<StatusCode, Problem> {
    if command.done_before(&app).await?.is_some() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let loaded = app.executor.load::<Customer>(member.id).await?;
    let Customer::Registered(account) = &*loaded.state else {
        return Err(Code::CustomerNotFound.into());
    };
    let profile = app.members.profile(account).await?;
    let about = About {
        email: profile.email.as_ref().map(Email::as_str),
        phone: profile.phone.as_ref().map(|phone| phone.phone().as_str()),
    };
    let mut checks = Checks::default();
    let password = new_password(&mut checks, "/new_password", &command.body.new_password, about);
    let password = checks.finish(password)?;
    app.gate
        .check_password(member.id, &command.body.password, context.ip())
        .await?;
    let envelope = command.envelope(&app);
    app.members
        .change_password(member.id, &password, member.session, envelope)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where the member is signed in.
#[utoipa::path(get, path = "/api/v1/users/me/sessions", tag = "users", security(("member" = [])),
    responses((status = 200, body = SessionsView)))]
pub async fn sessions(State(app): State<App>, member: Member) -> Result<Answer<SessionsView>, Problem> {
    let open = app.gate.sessions_of(member.id).await?;
    let sessions = open.into_iter().map(|session| SessionView {
        id: session.session.to_string(),
        device: session.user_agent_class,
        signed_in_at: time(session.created_at),
        last_seen_at: time(session.last_seen_at),
        current: Some(session.session) == member.session,
    });
    Ok(Answer::ok(SessionsView {
        sessions: sessions.collect(),
    }))
}

/// Signs the member out somewhere else.
#[utoipa::path(delete, path = "/api/v1/users/me/sessions/{session_id}", tag = "users", security(("member" = [])),
    params(("session_id" = String, Path, description = "`ses_…`")),
    responses((status = 204), (status = 404, description = "session_not_found")))]
pub async fn end_session(
    State(app): State<App>,
    member: Member,
    Path(session): Path<SessionId>,
    _: Command<Nothing>,
) -> Result<StatusCode, Problem> {
    if app.gate.revoke(member.id, session).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Code::SessionNotFound.into())
    }
}

impl TokensView {
    fn of(signed_in: SignedIn) -> Self {
        Self {
            token_type: "Bearer",
            access_token: signed_in.access.token,
            expires_in: signed_in.access.expires_in_seconds,
            refresh_token: signed_in.session.refresh_token.expose().to_owned(),
            refresh_token_expires_at: time(signed_in.session.expires_at),
            customer_id: signed_in.customer.to_string(),
        }
    }
}

async fn view(app: &App, id: CustomerId, state: &Customer) -> Result<MeView, Problem> {
    let Customer::Registered(account) = state else {
        return Err(Code::CustomerNotFound.into());
    };
    let account: &Account = account;
    let profile = app.members.profile(account).await?;
    Ok(MeView {
        id: id.to_string(),
        name: profile.name.map(|name| name.as_str().to_owned()),
        email: profile.email.map(|email| email.as_str().to_owned()),
        email_verified: account.email.as_ref().is_some_and(|email| email.verified),
        phone: profile.phone.map(|phone| phone.phone().national()),
        phone_verified: account.phone.as_ref().is_some_and(|phone| phone.verified),
        consents: account.consents.keys().map(|kind| word(*kind)).collect(),
        leaves_at: account.withdrawal.map(time),
    })
}

fn new_password(checks: &mut Checks, pointer: &str, text: &str, about: About<'_>) -> Option<NewPassword> {
    password::check(text, about)
        .map_err(|weakness| checks.refuse_weak(pointer, weakness))
        .ok()
}

async fn place(app: &App, context: &RequestContext, headers: &HeaderMap) -> Result<Place, Problem> {
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    Ok(Place {
        address: context.ip(),
        ip_hash: context.ip_hash(app).await?,
        user_agent_class: user_agent_class(user_agent),
    })
}
