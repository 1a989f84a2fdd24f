mod cases;
mod histories;
mod leaving;
mod signing_in;

use jangbu_events::{
    AddressId, AgreedText, Consent, ConsentKind, CustomerEvent, Email, Hashed, Role, Sealed, SignUp, SocialAccount,
    SocialProvider, StoreId, VerifiedBy,
    personal::{Mobile, Profile, SavedAddress, SocialSubject},
};

use super::*;
use crate::fixtures::at;

/// The one key of the customer.
const KEY: Uuid = Uuid::from_u128(0xaa);

/// The n-th value that was sealed: sealing never gives the same twice.
fn sealed<T>(n: u8) -> Sealed<T> {
    Sealed::new(KEY, format!("c2VhbGVk{n:04}"))
}

fn hashed<T>(n: u8) -> Hashed<T> {
    Hashed::new(KEY, [n; 32])
}

fn address_id(n: u8) -> AddressId {
    AddressId::from_uuid(Uuid::from_u128(n.into()))
}

fn text(version: &str) -> AgreedText {
    AgreedText {
        version: version.to_owned(),
        sha256: "00".repeat(32),
    }
}

fn consent(kind: ConsentKind) -> Consent {
    Consent {
        kind,
        text: text("2026-01-01"),
        given_at: at(0),
    }
}

/// An account elsewhere: `n` tells people apart.
fn elsewhere(provider: SocialProvider, n: u8) -> SocialAccount {
    SocialAccount {
        provider,
        subject: sealed(n),
        subject_hash: hashed(n),
    }
}

fn kakao(n: u8) -> SocialAccount {
    elsewhere(SocialProvider::Kakao, n)
}

fn sign_up(sign_up: SignUp) -> Register {
    Register {
        profile: sealed(1),
        email: Some(hashed(1)),
        phone: Some(hashed(2)),
        fourteen_or_older_asserted_at: Some(at(0)),
        consents: vec![consent(ConsentKind::Terms), consent(ConsentKind::Privacy)],
        sign_up,
    }
}

fn local() -> Register {
    sign_up(SignUp::Local)
}

fn social(account: SocialAccount) -> Register {
    sign_up(SignUp::Social { account })
}

fn register(register: Register) -> CustomerCommand {
    CustomerCommand::Register(Box::new(register))
}

/// What a registration leads to.
fn registered(register: Register) -> CustomerEvent {
    CustomerEvent::Registered {
        profile: register.profile,
        email: register.email,
        phone: register.phone,
        fourteen_or_older_asserted_at: register.fourteen_or_older_asserted_at.unwrap(),
        consents: register.consents,
        sign_up: register.sign_up,
    }
}

fn change_profile(n: u8, email: Option<u8>, phone: Option<u8>) -> CustomerCommand {
    CustomerCommand::ChangeProfile {
        profile: sealed(n),
        email: email.map(hashed),
        phone: phone.map(hashed),
    }
}

fn verify_email(n: u8) -> CustomerCommand {
    CustomerCommand::VerifyEmail {
        email: hashed(n),
        by: VerifiedBy::Code,
    }
}

fn verify_phone(n: u8) -> CustomerCommand {
    CustomerCommand::VerifyPhone {
        phone: hashed(n),
        by: VerifiedBy::Code,
    }
}

fn add_address(n: u8, is_default: bool) -> CustomerCommand {
    CustomerCommand::AddAddress {
        address_id: address_id(n),
        address: sealed(n),
        is_default,
    }
}

fn address_added(n: u8, is_default: bool) -> CustomerEvent {
    CustomerEvent::AddressAdded {
        address_id: address_id(n),
        address: sealed(n),
        is_default,
    }
}

fn change_address(n: u8, words: u8) -> CustomerCommand {
    CustomerCommand::ChangeAddress {
        address_id: address_id(n),
        address: sealed(words),
    }
}

fn remove_address(n: u8) -> CustomerCommand {
    CustomerCommand::RemoveAddress {
        address_id: address_id(n),
    }
}

fn choose_default(n: u8) -> CustomerCommand {
    CustomerCommand::ChooseDefaultAddress {
        address_id: address_id(n),
    }
}

fn withdraw_consent(kind: ConsentKind) -> CustomerCommand {
    CustomerCommand::WithdrawConsent { kind, at: at(5) }
}

fn link_at(account: SocialAccount, here: i64, there: i64, now: i64) -> CustomerCommand {
    CustomerCommand::LinkSocial {
        account,
        proof: ProofOfBoth {
            here_at: at(here),
            there_at: at(there),
        },
        at: at(now),
    }
}

fn link(account: SocialAccount) -> CustomerCommand {
    link_at(account, 0, 0, 0)
}

fn linked(account: SocialAccount) -> CustomerEvent {
    CustomerEvent::SocialLinked { account }
}

fn unlink(account: SocialAccount) -> CustomerCommand {
    CustomerCommand::UnlinkSocial {
        provider: account.provider,
        subject_hash: account.subject_hash,
    }
}

const fn change_password(reason: jangbu_events::PasswordChange) -> CustomerCommand {
    CustomerCommand::ChangePassword { reason }
}

const SUSPEND: CustomerCommand = CustomerCommand::Suspend {
    reason: SuspendReason::FraudSuspected,
};

const SUSPENDED: CustomerEvent = CustomerEvent::Suspended {
    reason: SuspendReason::FraudSuspected,
};

fn request_withdrawal(now: i64, days: u8) -> CustomerCommand {
    CustomerCommand::RequestWithdrawal {
        at: at(now),
        cancellable_for: CancellablePeriod::try_from_days(days).unwrap(),
    }
}

/// To be carried out a day after the sample moment.
fn withdrawal_requested() -> CustomerEvent {
    CustomerEvent::WithdrawalRequested { executes_at: at(DAY) }
}

/// In minutes.
const DAY: i64 = 24 * 60;

fn cancel_withdrawal(now: i64) -> CustomerCommand {
    CustomerCommand::CancelWithdrawal { at: at(now) }
}

fn complete_withdrawal(now: i64) -> CustomerCommand {
    CustomerCommand::CompleteWithdrawal { at: at(now) }
}

const STAFF: Role = Role::Staff {
    store_id: StoreId::DEFAULT,
};
