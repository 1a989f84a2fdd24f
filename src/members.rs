//! Members: people who registered with the shop. What is personal of them is sealed here before it reaches
//! a command, what must be unique is claimed, and the hash of a password goes beside the events that say
//! there is one (docs/decisions/0023).

pub mod sign_in;

use jangbu_domain::{
    Customer, CustomerCommand, CustomerError,
    customer::{Account, EMAIL_SCOPE, PHONE_SCOPE, Register},
};
use jangbu_events::{
    AggregateId, AgreedText, Consent, ConsentKind, CustomerId, Email, PasswordChange, SignUp, StoreId, Timestamp,
    personal::{Mobile, Profile},
};

use crate::{
    accounts::{
        digests::Digester,
        password::{Busy, NewPassword, Passwords},
        sessions::SessionId,
    },
    consent,
    executor::{CommandEnvelope, Committed, ExecuteError, Executor},
    hex::hex,
    log::{EndedSessions, PasswordRow, UniqueKey},
    sealing::{DataKey, SealError, Sealer},
};

/// Of the data key of a member: it ends when the member leaves, and nothing is held.
const CLASS: &str = "RET_MEMBER";
/// The field under which a profile is sealed.
const PROFILE: &str = "profile";

/// Knows members.
#[derive(Clone)]
pub struct Members {
    executor: Executor,
    sealer: Sealer,
    digester: Digester,
    passwords: Passwords,
}

/// Somebody who wants to be one.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// Name and e-mail address; perhaps a phone.
    pub name: jangbu_events::PersonName,
    /// To sign in with.
    pub email: Email,
    /// For notices.
    pub phone: Option<Mobile>,
    /// Whether they say that they are 14 or older.
    pub is_fourteen_or_older: bool,
    /// What they agree to.
    pub consents: Vec<ConsentKind>,
}

/// What a member changes of the profile; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct ProfileChange {
    /// Another name.
    pub name: Option<jangbu_events::PersonName>,
    /// Another address, which is not verified then.
    pub email: Option<Email>,
    /// Another phone, or none.
    pub phone: Option<Option<Mobile>>,
}

/// Why a member was refused.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// By the domain or the log.
    #[error(transparent)]
    Execute(#[from] ExecuteError<CustomerError>),
    /// Too many passwords are hashed at the moment.
    #[error("too many passwords are checked at the moment")]
    Busy(Busy),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Personal data cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The member has left, and with them all that was known.
    #[error("the member's personal data was destroyed")]
    Gone,
}

impl Members {
    /// Over an executor. `digester` hashes what is looked up across members.
    pub const fn new(executor: Executor, sealer: Sealer, digester: Digester, passwords: Passwords) -> Self {
        Self {
            executor,
            sealer,
            digester,
            passwords,
        }
    }

    /// Registers somebody under an id that no other has. An address or a phone of somebody else is refused as
    /// [`ExecuteError::KeyTaken`].
    pub async fn register(
        &self,
        id: CustomerId,
        new: NewMember,
        password: &NewPassword,
        mut envelope: CommandEnvelope,
    ) -> Result<Committed<Customer>, MemberError> {
        // Nothing of a child is hashed or sealed, let alone stored (KOREA U1).
        if !new.is_fourteen_or_older {
            return Err(ExecuteError::Refused(CustomerError::UnderFourteen).into());
        }
        let surroundings = self.executor.log().surroundings();
        let hash = self
            .passwords
            .hash(surroundings, password)
            .await
            .map_err(MemberError::Busy)?;
        let (key, row) = self.sealer.new_key(surroundings, id.to_string(), CLASS, None);
        let now = envelope.occurred_at;
        let profile = Profile {
            name: Some(new.name),
            email: Some(new.email),
            phone: new.phone,
        };
        envelope.unique_keys = self.keys_of(id, &profile);
        envelope.personal_keys = vec![row];
        envelope.beside.password = Some(PasswordRow {
            customer_id: id.to_string(),
            hash: Some(hash),
        });
        let register = Register {
            email: profile.email.as_ref().map(|email| key.hash("email", email.as_str())),
            phone: profile
                .phone
                .as_ref()
                .map(|phone| key.hash("phone", phone.phone().as_str())),
            profile: key.seal(surroundings, PROFILE, &profile),
            fourteen_or_older_asserted_at: Some(now),
            consents: new.consents.into_iter().map(|kind| agreed(kind, now)).collect(),
            sign_up: SignUp::Local,
        };
        let command = CustomerCommand::Register(Box::new(register));
        Ok(self.executor.execute::<Customer>(id, command, envelope).await?)
    }

    /// Under which value of `unique_keys` an address is claimed: 64 hex digits.
    pub fn email_digest(&self, email: &Email) -> String {
        self.digest(EMAIL_SCOPE, email.as_str())
    }

    /// Name, address and phone in clear.
    pub async fn profile(&self, account: &Account) -> Result<Profile, MemberError> {
        Ok(self.key(account).await?.open(PROFILE, &account.profile)?)
    }

    /// Changes the profile. What is as it was changes nothing.
    pub async fn change_profile(
        &self,
        id: CustomerId,
        change: ProfileChange,
        mut envelope: CommandEnvelope,
    ) -> Result<Committed<Customer>, MemberError> {
        let loaded = self.executor.load::<Customer>(id).await.map_err(ExecuteError::from)?;
        let Customer::Registered(account) = &*loaded.state else {
            return Err(ExecuteError::Refused(CustomerError::NotRegistered).into());
        };
        let key = self.key(account).await?;
        let old: Profile = key.open(PROFILE, &account.profile)?;
        let new = Profile {
            name: change.name.or_else(|| old.name.clone()),
            email: change.email.or_else(|| old.email.clone()),
            phone: change.phone.unwrap_or_else(|| old.phone.clone()),
        };
        let (had, has) = (self.keys_of(id, &old), self.keys_of(id, &new));
        // Sealing never gives the same twice, so the old ciphertext stands for an unchanged profile.
        let profile = if new == old {
            account.profile.clone()
        } else {
            key.seal(self.executor.log().surroundings(), PROFILE, &new)
        };
        envelope.beside.released_keys = had.iter().filter(|key| !has.contains(key)).cloned().collect();
        envelope.unique_keys = has.into_iter().filter(|key| !had.contains(key)).collect();
        // What is claimed and given back follows from the profile that was opened just now.
        envelope.expected_sequence = envelope.expected_sequence.or(Some(loaded.sequence));
        let command = CustomerCommand::ChangeProfile {
            email: new.email.as_ref().map(|email| key.hash("email", email.as_str())),
            phone: new
                .phone
                .as_ref()
                .map(|phone| key.hash("phone", phone.phone().as_str())),
            profile,
        };
        Ok(self.executor.execute::<Customer>(id, command, envelope).await?)
    }

    /// Puts another password in the place of the old one, which was checked, and ends all sessions but
    /// `except` with it.
    pub async fn change_password(
        &self,
        id: CustomerId,
        password: &NewPassword,
        except: Option<SessionId>,
        mut envelope: CommandEnvelope,
    ) -> Result<Committed<Customer>, MemberError> {
        let surroundings = self.executor.log().surroundings();
        let hash = self
            .passwords
            .hash(surroundings, password)
            .await
            .map_err(MemberError::Busy)?;
        envelope.beside.password = Some(PasswordRow {
            customer_id: id.to_string(),
            hash: Some(hash),
        });
        envelope.beside.ended_sessions = Some(EndedSessions {
            customer_id: id.to_string(),
            except: except.map(SessionId::uuid),
            reason: "password_changed",
        });
        let command = CustomerCommand::ChangePassword {
            reason: PasswordChange::Changed,
        };
        Ok(self.executor.execute::<Customer>(id, command, envelope).await?)
    }

    async fn key(&self, account: &Account) -> Result<DataKey, MemberError> {
        let key = self
            .sealer
            .key(self.executor.log().pool(), account.profile.key_id)
            .await?;
        key.ok_or(MemberError::Gone)
    }

    /// What nobody else may have.
    fn keys_of(&self, id: CustomerId, profile: &Profile) -> Vec<UniqueKey> {
        let email = profile.email.as_ref().map(|email| (EMAIL_SCOPE, email.as_str()));
        let phone = profile
            .phone
            .as_ref()
            .map(|phone| (PHONE_SCOPE, phone.phone().as_str()));
        let values = email.into_iter().chain(phone);
        values
            .map(|(scope, value)| UniqueKey {
                scope,
                value: self.digest(scope, value),
                owner: id.to_string(),
            })
            .collect()
    }

    /// Keyed by the shop, since it is looked for before anybody is known.
    fn digest(&self, scope: &str, value: &str) -> String {
        let store = StoreId::DEFAULT.uuid();
        hex(&self.digester.digest(scope, &[store.as_bytes(), value.as_bytes()]))
    }
}

/// What somebody agrees to now, in today's wording.
fn agreed(kind: ConsentKind, now: Timestamp) -> Consent {
    let wording = consent::of(kind);
    Consent {
        kind,
        text: AgreedText {
            version: wording.version.to_owned(),
            sha256: wording.sha256(),
        },
        given_at: now,
    }
}
