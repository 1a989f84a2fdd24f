//! Signing in, going on, and signing out. What is wrong is never said apart from what is unknown: not in
//! words, not in time, not by a limit.

use std::net::IpAddr;

use chrono::TimeDelta;
use jangbu_domain::{Customer, customer::Account, customer::EMAIL_SCOPE};
use jangbu_events::{AggregateId, CustomerId, Email, Role, StoreId};
use sqlx::PgPool;

use super::Members;
use crate::{
    accounts::{
        codes, credentials,
        jwt::{AccessTokens, Grant, Scope, Signed},
        password::{Busy, Verdict},
        sessions::{
            self, EndReason, EndedSessions, Granted, Mode, NewSession, RefreshError, Refused, Session, SessionId,
            Sessions,
        },
        throttle::{Blocked, Purpose, Throttle, ThrottleError},
    },
    config::Secret,
    executor::LoadError,
};

/// Lets members in and out.
#[derive(Clone)]
pub struct Gate {
    members: Members,
    access: AccessTokens,
    sessions: Sessions,
    ended: EndedSessions,
    throttle: Throttle,
}

/// From where somebody comes.
#[derive(Debug, Clone)]
pub struct Place {
    /// For limits.
    pub address: IpAddr,
    /// What is kept of it.
    pub ip_hash: String,
    /// What is kept of the browser.
    pub user_agent_class: String,
}

/// Somebody is in.
#[derive(Debug)]
pub struct SignedIn {
    /// Who.
    pub customer: CustomerId,
    /// For requests.
    pub access: Signed,
    /// To go on when that has ended.
    pub session: Granted,
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The password is wrong, or nobody has the address.
    #[error("the address or the password is wrong")]
    Wrong,
    /// Too many attempts.
    #[error(transparent)]
    Blocked(Blocked),
    /// Too many passwords are checked at the moment.
    #[error("too many passwords are checked at the moment")]
    Busy(Busy),
    /// The password is right, and the shop has closed the account for now.
    #[error("the account is suspended")]
    Suspended,
    /// The refresh token brings nothing.
    #[error(transparent)]
    Refused(Refused),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The member's stream cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl From<ThrottleError> for SignInError {
    fn from(error: ThrottleError) -> Self {
        match error {
            ThrottleError::Blocked(blocked) => Self::Blocked(blocked),
            ThrottleError::Database(error) => Self::Database(error),
        }
    }
}

impl From<RefreshError> for SignInError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Refused(refused) => Self::Refused(refused),
            RefreshError::Database(error) => Self::Database(error),
        }
    }
}

impl Gate {
    /// Over what it is made of.
    pub const fn new(
        members: Members,
        access: AccessTokens,
        sessions: Sessions,
        ended: EndedSessions,
        throttle: Throttle,
    ) -> Self {
        Self {
            members,
            access,
            sessions,
            ended,
            throttle,
        }
    }

    /// Opens a session for whoever knows the password of an address.
    pub async fn sign_in(
        &self,
        email: &Email,
        password: &str,
        mode: Mode,
        place: Place,
    ) -> Result<SignedIn, SignInError> {
        let (db, surroundings) = (self.db(), self.members.executor.log().surroundings());
        let attempt = self
            .throttle
            .attempt(Purpose::SignIn, email.as_str(), place.address, surroundings.now())
            .await?;
        let known = self.password_of(email).await?;
        let stored = known.as_ref().map(|(_, hash)| hash.clone());
        let verdict = self
            .members
            .passwords
            .verify(password, stored)
            .await
            .map_err(SignInError::Busy)?;
        let (Verdict::Right { outdated }, Some((customer, hash))) = (verdict, known) else {
            return Err(SignInError::Wrong);
        };
        self.throttle.succeeded(attempt).await?;
        let account = self.account(customer).await?.ok_or(SignInError::Wrong)?;
        let mut hash = hash;
        if outdated && let Ok(new) = self.members.passwords.hash_again(surroundings, password).await {
            let mut db = db.acquire().await?;
            if credentials::replace_hash(&mut db, customer, &hash, &new).await? {
                hash = new;
            }
        }
        let new = NewSession {
            customer,
            mode,
            user_agent_class: place.user_agent_class,
            ip_hash: place.ip_hash,
        };
        let mut tx = db.begin().await?;
        let session = self.sessions.open(&mut tx, surroundings, new).await?;
        // Whoever changes the password waits for this lock and then ends the session too, or is waited for.
        if credentials::lock(&mut tx, customer).await? != Some(hash) {
            return Err(SignInError::Wrong);
        }
        tx.commit().await?;
        Ok(self.let_in(customer, &account, session))
    }

    /// Goes on with a session.
    pub async fn refresh(&self, token: &str, mode: Mode, ip_hash: &str) -> Result<SignedIn, SignInError> {
        let surroundings = self.members.executor.log().surroundings();
        let session = self
            .sessions
            .refresh(self.db(), surroundings, token, mode, ip_hash)
            .await;
        if let Err(RefreshError::Refused(Refused::Reused(session))) = &session {
            self.ended.note([*session]);
        }
        let session = session?;
        let customer = session.customer;
        let account = self
            .account(customer)
            .await?
            .ok_or(SignInError::Refused(Refused::Ended))?;
        Ok(self.let_in(customer, &account, session))
    }

    /// Ends a session, on every node at once.
    pub async fn sign_out(&self, customer: CustomerId, session: SessionId) -> sqlx::Result<bool> {
        self.end(customer, session, EndReason::SignedOut).await
    }

    /// The same, of another session of the same member.
    pub async fn revoke(&self, customer: CustomerId, session: SessionId) -> sqlx::Result<bool> {
        self.end(customer, session, EndReason::Revoked).await
    }

    /// Whether requests of a session are answered.
    pub async fn is_open(&self, session: SessionId) -> sqlx::Result<bool> {
        self.ended.is_open(session).await
    }

    /// Checks the present password of a member who is signed in, within the same limits.
    pub async fn check_password(&self, customer: CustomerId, password: &str, from: IpAddr) -> Result<(), SignInError> {
        let now = self.members.executor.log().surroundings().now();
        let attempt = self
            .throttle
            .attempt(Purpose::SignIn, &customer.to_string(), from, now)
            .await?;
        let stored = credentials::password_hash(&mut *self.db().acquire().await?, customer).await?;
        match self
            .members
            .passwords
            .verify(password, stored)
            .await
            .map_err(SignInError::Busy)?
        {
            Verdict::Right { .. } => Ok(self.throttle.succeeded(attempt).await?),
            Verdict::Wrong => Err(SignInError::Wrong),
        }
    }

    /// The open sessions of a member, the latest first.
    pub async fn sessions_of(&self, customer: CustomerId) -> sqlx::Result<Vec<Session>> {
        let now = self.members.executor.log().surroundings().now();
        sessions::list(
            &mut *self.db().acquire().await?,
            customer,
            self.sessions.lifetimes(),
            now,
        )
        .await
    }

    /// Deletes some of what ended or was forgotten long ago.
    pub async fn sweep(&self) -> sqlx::Result<()> {
        let now = self.members.executor.log().surroundings().now();
        sessions::sweep(self.db(), self.sessions.lifetimes(), now).await?;
        self.throttle.sweep(now).await?;
        codes::sweep(self.db(), now).await?;
        Ok(())
    }

    /// A token that has less than this left is followed by another.
    pub fn renewed_within(&self) -> TimeDelta {
        TimeDelta::from_std(self.access.lifetime() / 3).unwrap_or(TimeDelta::zero())
    }

    /// For checking tokens.
    pub const fn access(&self) -> &AccessTokens {
        &self.access
    }

    /// Another access token for a session that goes on; `None` if the member may not go on.
    pub async fn renew(&self, customer: CustomerId, session: SessionId) -> Result<Option<Secret>, SignInError> {
        if !self.is_open(session).await? {
            return Ok(None);
        }
        let Some(account) = self.account(customer).await.or_else(|error| match error {
            SignInError::Suspended => Ok(None),
            error => Err(error),
        })?
        else {
            return Ok(None);
        };
        let surroundings = self.members.executor.log().surroundings();
        let signed = self.access.sign(surroundings, customer, session, grants(&account));
        Ok(Some(Secret::new(signed.token)))
    }

    async fn end(&self, customer: CustomerId, session: SessionId, reason: EndReason) -> sqlx::Result<bool> {
        let now = self.members.executor.log().surroundings().now();
        let mut db = self.db().acquire().await?;
        let ended = sessions::end(&mut db, customer, session, reason, now).await?;
        if ended {
            self.ended.note([session]);
        }
        Ok(ended)
    }

    fn let_in(&self, customer: CustomerId, account: &Account, session: Granted) -> SignedIn {
        let surroundings = self.members.executor.log().surroundings();
        let access = self
            .access
            .sign(surroundings, customer, session.session, grants(account));
        SignedIn {
            customer,
            access,
            session,
        }
    }

    /// A member who may sign in; `None` for who has left.
    async fn account(&self, customer: CustomerId) -> Result<Option<Box<Account>>, SignInError> {
        let loaded = self.members.executor.load::<Customer>(customer).await?;
        match &*loaded.state {
            Customer::Registered(account) if account.suspended.is_some() => Err(SignInError::Suspended),
            Customer::Registered(account) => Ok(Some(account.clone())),
            Customer::NotRegistered | Customer::Withdrawn => Ok(None),
        }
    }

    /// Who has an address, and the hash of their password: one look, whether or not there is anybody.
    async fn password_of(&self, email: &Email) -> sqlx::Result<Option<(CustomerId, String)>> {
        let row = sqlx::query!(
            "select c.customer_id, c.password_hash
             from unique_keys k
             join credentials c on c.customer_id = k.owner
             where k.store_id = $1 and k.scope = $2 and k.value = $3",
            StoreId::DEFAULT.uuid(),
            EMAIL_SCOPE,
            self.members.email_digest(email)
        )
        .fetch_optional(self.db())
        .await?;
        row.map(|row| {
            let customer = row
                .customer_id
                .parse()
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            Ok((customer, row.password_hash))
        })
        .transpose()
    }

    fn db(&self) -> &PgPool {
        self.members.executor.log().pool()
    }
}

/// What a token says that a member may do; to buy goes without saying.
fn grants(account: &Account) -> Vec<Grant> {
    let grant = |role: &Role| {
        let (role, store) = match *role {
            Role::Customer => return None,
            Role::Seller { store_id } => ("seller", Scope::One(store_id)),
            Role::Staff { store_id } => ("staff", Scope::One(store_id)),
            Role::Admin => ("admin", Scope::Every),
        };
        Some(Grant {
            role: role.to_owned(),
            store,
        })
    };
    account.roles.iter().filter_map(grant).collect()
}
