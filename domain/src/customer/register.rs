//! How somebody becomes a customer.

use std::collections::BTreeSet;

use jangbu_events::{Consent, ConsentKind, CustomerEvent, SignUp};

use super::{Customer, CustomerError, Register, account::REQUIRED_CONSENTS};

impl Register {
    pub(super) fn decide(&self, state: &Customer) -> Result<Vec<CustomerEvent>, CustomerError> {
        // First of all: of a child not even the rest of the form is looked at.
        let Some(asserted_at) = self.fourteen_or_older_asserted_at else {
            return Err(CustomerError::UnderFourteen);
        };
        match state {
            Customer::NotRegistered => {}
            // Sealing never gives the same twice, so this is the same registration.
            Customer::Registered(account) if account.profile == self.profile => return Ok(Vec::new()),
            Customer::Registered(_) => return Err(CustomerError::AlreadyRegistered),
            Customer::Withdrawn => return Err(CustomerError::Withdrawn),
        }
        check_consents(&self.consents)?;
        if self.sign_up == SignUp::Local && self.email.is_none() {
            return Err(CustomerError::EmailRequired);
        }
        if !self.has_one_key() {
            return Err(CustomerError::AnotherKey);
        }
        Ok(vec![CustomerEvent::Registered {
            profile: self.profile.clone(),
            email: self.email.clone(),
            phone: self.phone.clone(),
            fourteen_or_older_asserted_at: asserted_at,
            consents: self.consents.clone(),
            sign_up: self.sign_up.clone(),
        }])
    }

    fn has_one_key(&self) -> bool {
        let account = match &self.sign_up {
            SignUp::Local => None,
            SignUp::Social { account } => Some(account),
        };
        let email = self.email.as_ref().map(|email| email.key_id);
        let phone = self.phone.as_ref().map(|phone| phone.key_id);
        let elsewhere = account
            .into_iter()
            .flat_map(|a| [a.subject.key_id, a.subject_hash.key_id]);
        email
            .into_iter()
            .chain(phone)
            .chain(elsewhere)
            .all(|key_id| key_id == self.profile.key_id)
    }
}

fn check_consents(consents: &[Consent]) -> Result<(), CustomerError> {
    let mut given: BTreeSet<ConsentKind> = BTreeSet::new();
    for Consent { kind, .. } in consents {
        if !given.insert(*kind) {
            return Err(CustomerError::ConsentTwice { kind: *kind });
        }
    }
    match REQUIRED_CONSENTS.into_iter().find(|kind| !given.contains(kind)) {
        Some(kind) => Err(CustomerError::ConsentMissing { kind }),
        None => Ok(()),
    }
}
