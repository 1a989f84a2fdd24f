//! What follows from a command to somebody who is a customer.

use jangbu_events::{
    AddressId, AgreedText, Consent, ConsentKind, CustomerEvent, Email, Hashed, PasswordChange, Role, Sealed,
    SocialAccount, SocialProvider, Timestamp, VerifiedBy,
    personal::{Mobile, Profile, SavedAddress, SocialSubject},
};
use uuid::Uuid;

use super::{Account, Addresses, Contact, CustomerCommand, CustomerError, ProofOfBoth, account::REQUIRED_CONSENTS};

type Decided = Result<Vec<CustomerEvent>, CustomerError>;

impl Account {
    pub(super) fn decide(&self, command: &CustomerCommand) -> Decided {
        match command {
            CustomerCommand::Register(_) => Err(CustomerError::AlreadyRegistered),
            CustomerCommand::VerifyEmail { email, by } => self.verify_email(email, *by),
            CustomerCommand::VerifyPhone { phone, by } => self.verify_phone(phone, *by),
            CustomerCommand::ChangeProfile { profile, email, phone } => {
                self.change_profile(profile, email.as_ref(), phone.as_ref())
            }
            CustomerCommand::AddAddress {
                address_id,
                address,
                is_default,
            } => self.add_address(*address_id, address, *is_default),
            CustomerCommand::ChangeAddress { address_id, address } => self.change_address(*address_id, address),
            CustomerCommand::RemoveAddress { address_id } => self.remove_address(*address_id),
            CustomerCommand::ChooseDefaultAddress { address_id } => self.choose_default(*address_id),
            CustomerCommand::GiveConsent(consent) => self.give_consent(consent),
            CustomerCommand::WithdrawConsent { kind, at } => self.withdraw_consent(*kind, *at),
            CustomerCommand::ChangePassword { reason } => self.change_password(*reason),
            CustomerCommand::LinkSocial { account, proof, at } => self.link(account, *proof, *at),
            CustomerCommand::UnlinkSocial { provider, subject_hash } => self.unlink(*provider, subject_hash),
            CustomerCommand::Suspend { reason } => Ok(event_if(
                self.suspended.is_none(),
                CustomerEvent::Suspended { reason: *reason },
            )),
            CustomerCommand::Reinstate => Ok(event_if(self.suspended.is_some(), CustomerEvent::Reinstated {})),
            CustomerCommand::RequestWithdrawal { at, cancellable_for } => Ok(event_if(
                self.withdrawal.is_none(),
                CustomerEvent::WithdrawalRequested {
                    executes_at: cancellable_for.ends(*at),
                },
            )),
            CustomerCommand::CancelWithdrawal { at } => match self.withdrawal {
                Some(executes_at) if executes_at <= *at => Err(CustomerError::WithdrawalDue { executes_at }),
                pending => Ok(event_if(pending.is_some(), CustomerEvent::WithdrawalCancelled {})),
            },
            CustomerCommand::CompleteWithdrawal { at } => match self.withdrawal {
                Some(executes_at) if executes_at > *at => Err(CustomerError::WithdrawalNotDue { executes_at }),
                pending => Ok(event_if(pending.is_some(), CustomerEvent::WithdrawalCompleted {})),
            },
            CustomerCommand::GrantRole { role } => self.grant(*role),
            CustomerCommand::RevokeRole { role: Role::Customer } => Err(CustomerError::CustomerRole),
            CustomerCommand::RevokeRole { role } => Ok(event_if(
                self.roles.contains(role),
                CustomerEvent::RoleRevoked { role: *role },
            )),
        }
    }

    fn verify_email(&self, email: &Hashed<Email>, by: VerifiedBy) -> Decided {
        self.in_good_standing()?;
        let verified = CustomerEvent::EmailVerified {
            email: email.clone(),
            by,
        };
        Ok(event_if(is_unverified(self.email.as_ref(), email)?, verified))
    }

    fn verify_phone(&self, phone: &Hashed<Mobile>, by: VerifiedBy) -> Decided {
        self.in_good_standing()?;
        let verified = CustomerEvent::PhoneVerified {
            phone: phone.clone(),
            by,
        };
        Ok(event_if(is_unverified(self.phone.as_ref(), phone)?, verified))
    }

    fn change_profile(
        &self,
        profile: &Sealed<Profile>,
        email: Option<&Hashed<Email>>,
        phone: Option<&Hashed<Mobile>>,
    ) -> Decided {
        self.in_good_standing()?;
        if self.has_password && email.is_none() {
            return Err(CustomerError::EmailRequired);
        }
        let hashes = [email.map(|email| email.key_id), phone.map(|phone| phone.key_id)];
        self.check_keys([profile.key_id].into_iter().chain(hashes.into_iter().flatten()))?;
        Ok(event_if(
            *profile != self.profile,
            CustomerEvent::ProfileChanged {
                profile: profile.clone(),
                email: email.cloned(),
                phone: phone.cloned(),
            },
        ))
    }

    fn add_address(&self, address_id: AddressId, address: &Sealed<SavedAddress>, is_default: bool) -> Decided {
        self.in_good_standing()?;
        match self.addresses.get(address_id) {
            Some(kept) if kept == address => return Ok(Vec::new()),
            Some(_) => return Err(CustomerError::AddressExists { address_id }),
            None => {}
        }
        let max = Addresses::COUNT_MAX;
        if self.addresses.kept.len() >= max {
            return Err(CustomerError::TooManyAddresses { max });
        }
        self.check_keys([address.key_id])?;
        Ok(vec![CustomerEvent::AddressAdded {
            address_id,
            address: address.clone(),
            is_default: is_default || self.addresses.kept.is_empty(),
        }])
    }

    fn change_address(&self, address_id: AddressId, address: &Sealed<SavedAddress>) -> Decided {
        self.in_good_standing()?;
        let Some(kept) = self.addresses.get(address_id) else {
            return Err(CustomerError::UnknownAddress { address_id });
        };
        self.check_keys([address.key_id])?;
        Ok(event_if(
            kept != address,
            CustomerEvent::AddressChanged {
                address_id,
                address: address.clone(),
            },
        ))
    }

    fn remove_address(&self, address_id: AddressId) -> Decided {
        self.in_good_standing()?;
        if self.addresses.get(address_id).is_none() {
            return Ok(Vec::new());
        }
        let left = self
            .addresses
            .kept
            .iter()
            .map(|(id, _)| *id)
            .find(|id| *id != address_id);
        let default = self.addresses.default.filter(|default| *default != address_id);
        Ok(vec![CustomerEvent::AddressRemoved {
            address_id,
            default_address_id: default.or(left),
        }])
    }

    fn choose_default(&self, address_id: AddressId) -> Decided {
        self.in_good_standing()?;
        if self.addresses.get(address_id).is_none() {
            return Err(CustomerError::UnknownAddress { address_id });
        }
        Ok(event_if(
            self.addresses.default != Some(address_id),
            CustomerEvent::DefaultAddressChosen { address_id },
        ))
    }

    fn give_consent(&self, consent: &Consent) -> Decided {
        self.in_good_standing()?;
        Ok(event_if(
            self.consents.get(&consent.kind) != Some(&consent.text),
            consent_changed(consent.kind, true, &consent.text, consent.given_at),
        ))
    }

    fn withdraw_consent(&self, kind: ConsentKind, at: Timestamp) -> Decided {
        if REQUIRED_CONSENTS.contains(&kind) {
            return Err(CustomerError::ConsentRequired { kind });
        }
        let withdrawn = self.consents.get(&kind);
        Ok(withdrawn
            .map(|text| consent_changed(kind, false, text, at))
            .into_iter()
            .collect())
    }

    fn change_password(&self, reason: PasswordChange) -> Decided {
        // A reset lets nobody in. Whoever is suspended because somebody else has the password needs one
        // before they are reinstated.
        if reason != PasswordChange::Reset {
            self.in_good_standing()?;
        }
        match (reason, self.has_password) {
            (PasswordChange::Set, true) => Err(CustomerError::PasswordExists),
            (PasswordChange::Changed | PasswordChange::Reset, false) => Err(CustomerError::NoPassword),
            (PasswordChange::Set, false) if self.email.is_none() => Err(CustomerError::EmailRequired),
            _ => Ok(vec![CustomerEvent::PasswordChanged { reason }]),
        }
    }

    fn link(&self, account: &SocialAccount, proof: ProofOfBoth, at: Timestamp) -> Decided {
        self.in_good_standing()?;
        if !proof.is_fresh(at) {
            return Err(CustomerError::NotProved {
                minutes: ProofOfBoth::AGE_MAX.num_minutes(),
            });
        }
        self.check_keys([account.subject.key_id, account.subject_hash.key_id])?;
        if self.is_linked(account.provider, &account.subject_hash) {
            return Ok(Vec::new());
        }
        let max = Self::SOCIAL_ACCOUNTS_MAX;
        if self.social_accounts.len() >= max {
            return Err(CustomerError::TooManySocialAccounts { max });
        }
        Ok(vec![CustomerEvent::SocialLinked {
            account: account.clone(),
        }])
    }

    fn unlink(&self, provider: SocialProvider, subject_hash: &Hashed<SocialSubject>) -> Decided {
        self.in_good_standing()?;
        if !self.is_linked(provider, subject_hash) {
            return Ok(Vec::new());
        }
        if !self.has_password && self.social_accounts.len() == 1 {
            return Err(CustomerError::LastWayToSignIn { provider });
        }
        Ok(vec![CustomerEvent::SocialUnlinked {
            provider,
            subject_hash: subject_hash.clone(),
        }])
    }

    fn grant(&self, role: Role) -> Decided {
        self.in_good_standing()?;
        if self.roles.contains(&role) {
            return Ok(Vec::new());
        }
        let max = Self::ROLES_MAX;
        if self.roles.len() >= max {
            return Err(CustomerError::TooManyRoles { max });
        }
        Ok(vec![CustomerEvent::RoleGranted { role }])
    }

    fn is_linked(&self, provider: SocialProvider, subject_hash: &Hashed<SocialSubject>) -> bool {
        self.social_accounts
            .iter()
            .any(|account| account.provider == provider && account.subject_hash == *subject_hash)
    }

    fn check_keys(&self, keys: impl IntoIterator<Item = Uuid>) -> Result<(), CustomerError> {
        if keys.into_iter().all(|key_id| key_id == self.profile.key_id) {
            Ok(())
        } else {
            Err(CustomerError::AnotherKey)
        }
    }
}

/// Whether a contact still has to be verified. Another one than the profile has may not: it was changed
/// after the code was sent.
fn is_unverified<T>(contact: Option<&Contact<T>>, hash: &Hashed<T>) -> Result<bool, CustomerError> {
    contact
        .filter(|contact| contact.hash == *hash)
        .map(|contact| !contact.verified)
        .ok_or(CustomerError::ContactChanged)
}

fn consent_changed(kind: ConsentKind, given: bool, text: &AgreedText, at: Timestamp) -> CustomerEvent {
    CustomerEvent::ConsentChanged {
        kind,
        given,
        text: text.clone(),
        at,
    }
}

/// Nothing follows from what is so already.
fn event_if(news: bool, event: CustomerEvent) -> Vec<CustomerEvent> {
    if news { vec![event] } else { Vec::new() }
}
