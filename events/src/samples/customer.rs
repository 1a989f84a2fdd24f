//! Samples of what happens to a customer.

use super::{address_id, moment, sealed};
use crate::{
    AgreedText, Consent, ConsentKind, CustomerEvent, Hashed, PasswordChange, Role, SignUp, SocialAccount,
    SocialProvider, StoreId, SuspendReason, VerifiedBy,
};

/// Every variant, in the order of [`crate::event::CURRENT_VERSIONS`].
pub(super) fn events() -> Vec<CustomerEvent> {
    let consent = |kind| Consent {
        kind,
        text: agreed_text(),
        given_at: moment(),
    };
    let role = Role::Staff {
        store_id: StoreId::DEFAULT,
    };
    vec![
        CustomerEvent::Registered {
            profile: sealed(),
            email: Some(hashed()),
            phone: Some(hashed()),
            fourteen_or_older_asserted_at: moment(),
            consents: vec![consent(ConsentKind::Terms), consent(ConsentKind::Privacy)],
            sign_up: SignUp::Social {
                account: social_account(),
            },
        },
        CustomerEvent::EmailVerified {
            email: hashed(),
            by: VerifiedBy::Code,
        },
        CustomerEvent::PhoneVerified {
            phone: hashed(),
            by: VerifiedBy::Provider,
        },
        CustomerEvent::ProfileChanged {
            profile: sealed(),
            email: Some(hashed()),
            phone: Some(hashed()),
        },
        CustomerEvent::AddressAdded {
            address_id: address_id(),
            address: sealed(),
            is_default: true,
        },
        CustomerEvent::AddressChanged {
            address_id: address_id(),
            address: sealed(),
        },
        CustomerEvent::AddressRemoved {
            address_id: address_id(),
            default_address_id: None,
        },
        CustomerEvent::DefaultAddressChosen {
            address_id: address_id(),
        },
        CustomerEvent::ConsentChanged {
            kind: ConsentKind::MarketingSms,
            given: true,
            text: agreed_text(),
            at: moment(),
        },
        CustomerEvent::PasswordChanged {
            reason: PasswordChange::Set,
        },
        CustomerEvent::SocialLinked {
            account: social_account(),
        },
        CustomerEvent::SocialUnlinked {
            provider: SocialProvider::Kakao,
            subject_hash: hashed(),
        },
        CustomerEvent::Suspended {
            reason: SuspendReason::FraudSuspected,
        },
        CustomerEvent::Reinstated {},
        CustomerEvent::WithdrawalRequested { executes_at: moment() },
        CustomerEvent::WithdrawalCancelled {},
        CustomerEvent::WithdrawalCompleted {},
        CustomerEvent::RoleGranted { role },
        CustomerEvent::RoleRevoked { role },
    ]
}

fn hashed<T>() -> Hashed<T> {
    let known = sealed::<T>();
    Hashed::new(known.key_id, [0x9f; 32])
}

fn agreed_text() -> AgreedText {
    AgreedText {
        version: "2026-01-01".to_owned(),
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
    }
}

fn social_account() -> SocialAccount {
    SocialAccount {
        provider: SocialProvider::Kakao,
        subject: sealed(),
        subject_hash: hashed(),
    }
}
