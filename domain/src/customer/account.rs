//! What is known of a customer.

use std::collections::{BTreeMap, BTreeSet};

use jangbu_events::{
    AddressId, AgreedText, Consent, ConsentKind, CustomerEvent, Email, Hashed, Role, Sealed, SignUp, SocialAccount,
    SuspendReason, Timestamp,
    personal::{Mobile, Profile, SavedAddress},
};
use serde::{Deserialize, Serialize};

use super::CustomerError;

/// Nobody is a customer without these (KOREA U3).
pub(super) const REQUIRED_CONSENTS: [ConsentKind; 2] = [ConsentKind::Terms, ConsentKind::Privacy];

/// What is known of somebody who is a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Who it is.
    pub profile: Sealed<Profile>,
    /// The e-mail address in `profile`.
    pub email: Option<Contact<Email>>,
    /// The phone in `profile`.
    pub phone: Option<Contact<Mobile>>,
    /// Where goods can go.
    pub addresses: Addresses,
    /// What is agreed to now, in which wording.
    pub consents: BTreeMap<ConsentKind, AgreedText>,
    /// Whether there is a password to sign in with.
    pub has_password: bool,
    /// With which accounts elsewhere they sign in, in the order in which they were linked.
    pub social_accounts: Vec<SocialAccount>,
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// Why they may not sign in or order, if so.
    pub suspended: Option<SuspendReason>,
    /// When they will have left, if they asked for it.
    pub withdrawal: Option<Timestamp>,
}

/// Where a customer is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Contact<T> {
    /// Of the value, which is in the profile.
    pub hash: Hashed<T>,
    /// Whether it was shown to be theirs.
    pub verified: bool,
}

/// The addresses that a customer keeps, one of them the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// In the order in which they were added.
    pub kept: Vec<(AddressId, Sealed<SavedAddress>)>,
    /// One of `kept`, if there is any.
    pub default: Option<AddressId>,
}

impl Addresses {
    /// The most addresses that a customer keeps.
    pub const COUNT_MAX: usize = 20;

    /// The address of that id.
    pub fn get(&self, address_id: AddressId) -> Option<&Sealed<SavedAddress>> {
        self.kept
            .iter()
            .find_map(|(id, address)| (*id == address_id).then_some(address))
    }
}

impl Account {
    /// The most accounts elsewhere.
    pub const SOCIAL_ACCOUNTS_MAX: usize = 10;
    /// The most roles, that of a customer included.
    pub const ROLES_MAX: usize = 100;

    /// Of somebody who has just registered.
    pub(super) fn new(
        profile: Sealed<Profile>,
        email: Option<Hashed<Email>>,
        phone: Option<Hashed<Mobile>>,
        consents: Vec<Consent>,
        sign_up: SignUp,
    ) -> Self {
        let (has_password, social_accounts) = match sign_up {
            SignUp::Local => (true, Vec::new()),
            SignUp::Social { account } => (false, vec![account]),
        };
        Self {
            profile,
            email: email.map(Contact::new),
            phone: phone.map(Contact::new),
            addresses: Addresses::default(),
            consents: consents
                .into_iter()
                .map(|consent| (consent.kind, consent.text))
                .collect(),
            has_password,
            social_accounts,
            roles: BTreeSet::from([Role::Customer]),
            suspended: None,
            withdrawal: None,
        }
    }

    /// Whether they may do what customers do.
    pub fn in_good_standing(&self) -> Result<(), CustomerError> {
        if let Some(reason) = self.suspended {
            return Err(CustomerError::Suspended { reason });
        }
        match self.withdrawal {
            Some(executes_at) => Err(CustomerError::WithdrawalRequested { executes_at }),
            None => Ok(()),
        }
    }

    pub(super) fn apply(&mut self, event: CustomerEvent) {
        match event {
            // Of the whole customer: see `Customer::apply`.
            CustomerEvent::Registered { .. } | CustomerEvent::WithdrawalCompleted {} => {}
            CustomerEvent::EmailVerified { email, .. } => Contact::verify(&mut self.email, &email),
            CustomerEvent::PhoneVerified { phone, .. } => Contact::verify(&mut self.phone, &phone),
            CustomerEvent::ProfileChanged { profile, email, phone } => {
                self.profile = profile;
                Contact::become_hash(&mut self.email, email);
                Contact::become_hash(&mut self.phone, phone);
            }
            CustomerEvent::AddressAdded {
                address_id,
                address,
                is_default,
            } => {
                self.addresses.kept.push((address_id, address));
                if is_default {
                    self.addresses.default = Some(address_id);
                }
            }
            CustomerEvent::AddressChanged { address_id, address } => {
                if let Some((_, kept)) = self.addresses.kept.iter_mut().find(|(id, _)| *id == address_id) {
                    *kept = address;
                }
            }
            CustomerEvent::AddressRemoved {
                address_id,
                default_address_id,
            } => {
                self.addresses.kept.retain(|(id, _)| *id != address_id);
                self.addresses.default = default_address_id;
            }
            CustomerEvent::DefaultAddressChosen { address_id } => self.addresses.default = Some(address_id),
            CustomerEvent::ConsentChanged {
                kind,
                given: true,
                text,
                ..
            } => {
                self.consents.insert(kind, text);
            }
            CustomerEvent::ConsentChanged { kind, given: false, .. } => {
                self.consents.remove(&kind);
            }
            CustomerEvent::PasswordChanged { .. } => self.has_password = true,
            CustomerEvent::SocialLinked { account } => self.social_accounts.push(account),
            CustomerEvent::SocialUnlinked { provider, subject_hash } => self
                .social_accounts
                .retain(|account| account.provider != provider || account.subject_hash != subject_hash),
            CustomerEvent::Suspended { reason } => self.suspended = Some(reason),
            CustomerEvent::Reinstated {} => self.suspended = None,
            CustomerEvent::WithdrawalRequested { executes_at } => self.withdrawal = Some(executes_at),
            CustomerEvent::WithdrawalCancelled {} => self.withdrawal = None,
            CustomerEvent::RoleGranted { role } => {
                self.roles.insert(role);
            }
            CustomerEvent::RoleRevoked { role } => {
                self.roles.remove(&role);
            }
        }
    }
}

impl<T> Contact<T> {
    const fn new(hash: Hashed<T>) -> Self {
        Self { hash, verified: false }
    }

    fn verify(contact: &mut Option<Self>, hash: &Hashed<T>) {
        if let Some(contact) = contact.as_mut().filter(|contact| contact.hash == *hash) {
            contact.verified = true;
        }
    }

    /// What is another than before has to be verified anew.
    fn become_hash(contact: &mut Option<Self>, hash: Option<Hashed<T>>) {
        if contact.as_ref().map(|contact| &contact.hash) != hash.as_ref() {
            *contact = hash.map(Self::new);
        }
    }
}
