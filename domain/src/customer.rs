//! A registered customer: how they sign in, where they are delivered to, what they agreed to, what they
//! may do, and how they leave.
//!
//! Nothing here can read who that is. What is personal arrives sealed, what must be compared arrives
//! hashed, and both under one data key for each customer ([`CustomerError::AnotherKey`]): destroying it
//! takes all of them at once. Passwords do not arrive at all, only the word that there is one.
//!
//! What must be unique among all customers (e-mail address, phone, account elsewhere) cannot be seen
//! from one stream. Whoever sends a command that brings a new value claims it in the same append, under
//! the scopes [`EMAIL_SCOPE`], [`PHONE_SCOPE`] and [`SOCIAL_SCOPE`], with the customer's id as owner.

mod account;
mod commands;
mod decide;
mod register;
#[cfg(test)]
mod tests;

use cqrs_es::{Aggregate, event_sink::EventSink};
use jangbu_events::{
    AddressId, AggregateId, ConsentKind, CustomerEvent, CustomerId, Role, SocialProvider, SuspendReason, Timestamp,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    account::{Account, Addresses, Contact},
    commands::{CancellablePeriod, CancellablePeriodError, CustomerCommand, ProofOfBoth, Register},
};
use crate::Decide;

/// Of `unique_keys`: one customer for an e-mail address.
pub const EMAIL_SCOPE: &str = "customer_email";
/// Of `unique_keys`: one customer for a phone.
pub const PHONE_SCOPE: &str = "customer_phone";
/// Of `unique_keys`: one customer for a provider with its id of a person.
pub const SOCIAL_SCOPE: &str = "customer_social";

/// Where a customer stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Customer {
    /// Nobody has registered.
    #[default]
    NotRegistered,
    /// They are a customer, perhaps suspended, perhaps about to leave.
    Registered(Box<Account>),
    /// They have left, for ever: who comes back is another customer.
    Withdrawn,
}

/// Why a customer was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CustomerError {
    /// There is no such customer.
    #[error("the customer is not registered")]
    NotRegistered,
    /// They are, and with other facts than these.
    #[error("the customer is registered already")]
    AlreadyRegistered,
    /// They have left for ever.
    #[error("the customer has left")]
    Withdrawn,
    /// Nobody under 14 is registered without a guardian (KOREA U1).
    #[error("whoever registers must assert to be 14 or older")]
    UnderFourteen,
    /// Without it nobody can be a customer.
    #[error("the consent {kind:?} is required")]
    ConsentMissing {
        /// To what.
        kind: ConsentKind,
    },
    /// One consent is one fact.
    #[error("the consent {kind:?} is given twice")]
    ConsentTwice {
        /// To what.
        kind: ConsentKind,
    },
    /// It ends when the customer leaves, and not before.
    #[error("the consent {kind:?} cannot be withdrawn without leaving")]
    ConsentRequired {
        /// To what.
        kind: ConsentKind,
    },
    /// A password goes with an e-mail address.
    #[error("who signs in with a password needs an e-mail address")]
    EmailRequired,
    /// What was verified is not what the profile has now.
    #[error("the profile has another one than was verified")]
    ContactChanged,
    /// [`Addresses::COUNT_MAX`].
    #[error("a customer keeps at most {max} addresses")]
    TooManyAddresses {
        /// The most there may be.
        max: usize,
    },
    /// The customer keeps no such address.
    #[error("there is no address {address_id}")]
    UnknownAddress {
        /// Which.
        address_id: AddressId,
    },
    /// Another address has this id.
    #[error("there is an address {address_id} already")]
    AddressExists {
        /// Which.
        address_id: AddressId,
    },
    /// It would not be the first one.
    #[error("there is a password already")]
    PasswordExists,
    /// There is none that could be changed.
    #[error("there is no password")]
    NoPassword,
    /// [`Account::SOCIAL_ACCOUNTS_MAX`].
    #[error("a customer signs in with at most {max} accounts elsewhere")]
    TooManySocialAccounts {
        /// The most there may be.
        max: usize,
    },
    /// It was not shown just now that both accounts belong to one person (KOREA U6).
    #[error("both accounts must have been signed in to within the last {minutes} minutes")]
    NotProved {
        /// How old a proof may be, in minutes.
        minutes: i64,
    },
    /// Without it the customer could not sign in any more.
    #[error("the {provider:?} account is the last way to sign in")]
    LastWayToSignIn {
        /// Where.
        provider: SocialProvider,
    },
    /// Not for now.
    #[error("the customer is suspended: {reason:?}")]
    Suspended {
        /// Why.
        reason: SuspendReason,
    },
    /// The customer is about to leave; they can change their mind first.
    #[error("the customer has asked to leave")]
    WithdrawalRequested {
        /// When it will be carried out.
        executes_at: Timestamp,
    },
    /// It is too late to stay.
    #[error("the withdrawal was due at {executes_at}")]
    WithdrawalDue {
        /// Since when.
        executes_at: Timestamp,
    },
    /// The customer may still change their mind.
    #[error("the withdrawal is not due before {executes_at}")]
    WithdrawalNotDue {
        /// From when on.
        executes_at: Timestamp,
    },
    /// Every customer has it.
    #[error("the role of a customer cannot be revoked")]
    CustomerRole,
    /// [`Account::ROLES_MAX`].
    #[error("a customer has at most {max} roles")]
    TooManyRoles {
        /// The most there may be.
        max: usize,
    },
    /// All that a stream holds is sealed and hashed under one key: a defect of whoever sealed.
    #[error("something is sealed under another key than the customer's")]
    AnotherKey,
}

impl Customer {
    /// What is known of them while they are a customer.
    pub fn account(&self) -> Option<&Account> {
        match self {
            Self::Registered(account) => Some(account),
            Self::NotRegistered | Self::Withdrawn => None,
        }
    }

    /// Whether they may do this now. Whoever is suspended or about to leave may sign in to see and to
    /// leave or stay, and has no role at all.
    pub fn has_role(&self, role: Role) -> bool {
        self.account()
            .is_some_and(|account| account.in_good_standing().is_ok() && account.roles.contains(&role))
    }

    fn registered(&self) -> Result<&Account, CustomerError> {
        match self {
            Self::NotRegistered => Err(CustomerError::NotRegistered),
            Self::Registered(account) => Ok(account),
            Self::Withdrawn => Err(CustomerError::Withdrawn),
        }
    }
}

impl Aggregate for Customer {
    const TYPE: &'static str = "customer";
    type Command = CustomerCommand;
    type Event = CustomerEvent;
    type Error = CustomerError;
    type Services = ();

    async fn handle(&mut self, command: CustomerCommand, (): &(), sink: &EventSink<Self>) -> Result<(), CustomerError> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: CustomerEvent) {
        match (self, event) {
            (
                state,
                CustomerEvent::Registered {
                    profile,
                    email,
                    phone,
                    fourteen_or_older_asserted_at: _,
                    consents,
                    sign_up,
                },
            ) => *state = Self::Registered(Box::new(Account::new(profile, email, phone, consents, sign_up))),
            (state, CustomerEvent::WithdrawalCompleted {}) => *state = Self::Withdrawn,
            (Self::Registered(account), event) => account.apply(event),
            (Self::NotRegistered | Self::Withdrawn, _) => {}
        }
    }
}

impl Decide for Customer {
    type Id = CustomerId;

    fn decide(&self, command: &CustomerCommand) -> Result<Vec<CustomerEvent>, CustomerError> {
        match command {
            CustomerCommand::Register(register) => register.decide(self),
            CustomerCommand::CompleteWithdrawal { .. } if *self == Self::Withdrawn => Ok(Vec::new()),
            command => self.registered()?.decide(command),
        }
    }

    fn happened_at(event: &CustomerEvent) -> Option<Timestamp> {
        event.happened_at()
    }

    fn partition_key(id: CustomerId, _: &CustomerCommand) -> Uuid {
        id.uuid()
    }
}
