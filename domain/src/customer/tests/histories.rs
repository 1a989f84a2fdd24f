//! What holds after any history.

use cqrs_es::DomainEvent as _;
use jangbu_events::PasswordChange;
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const KINDS: [ConsentKind; 6] = [
    ConsentKind::Terms,
    ConsentKind::Privacy,
    ConsentKind::MarketingEmail,
    ConsentKind::MarketingSms,
    ConsentKind::MarketingNight,
    ConsentKind::ThirdParty,
];

/// Minutes over two days, so that withdrawals of a day come to be due.
fn any_minute() -> impl Strategy<Value = i64> {
    0..2 * DAY
}

fn any_social_account() -> impl Strategy<Value = SocialAccount> {
    let providers = vec![SocialProvider::Kakao, SocialProvider::Naver, SocialProvider::Google];
    (select(providers), 0_u8..5).prop_map(|(provider, n)| elsewhere(provider, n))
}

fn any_register() -> impl Strategy<Value = CustomerCommand> {
    let accounts = proptest::option::of(any_social_account());
    (accounts, any::<bool>(), any::<bool>()).prop_map(|(account, older, has_email)| {
        let form = account.map_or_else(local, social);
        register(Register {
            fourteen_or_older_asserted_at: older.then(|| at(0)),
            email: has_email.then(|| hashed(1)),
            ..form
        })
    })
}

fn any_role() -> impl Strategy<Value = Role> {
    select(&[Role::Customer, STAFF, Role::Admin][..])
}

fn any_command() -> impl Strategy<Value = CustomerCommand> {
    let reasons = vec![PasswordChange::Set, PasswordChange::Changed, PasswordChange::Reset];
    let contact = || proptest::option::of(0_u8..3);
    let address = || 0_u8..25;
    prop_oneof![
        2 => any_register(),
        2 => (0_u8..3).prop_map(verify_email),
        1 => (0_u8..3).prop_map(verify_phone),
        2 => (any::<u8>(), contact(), contact()).prop_map(|(n, email, phone)| change_profile(n, email, phone)),
        9 => (address(), any::<bool>()).prop_map(|(n, is_default)| add_address(n, is_default)),
        1 => (address(), any::<u8>()).prop_map(|(n, words)| change_address(n, words)),
        3 => address().prop_map(remove_address),
        2 => address().prop_map(choose_default),
        2 => select(&KINDS[..]).prop_map(|kind| CustomerCommand::GiveConsent(consent(kind))),
        2 => select(&KINDS[..]).prop_map(withdraw_consent),
        2 => select(reasons).prop_map(change_password),
        4 => any_social_account().prop_map(link),
        4 => any_social_account().prop_map(unlink),
        1 => Just(SUSPEND),
        2 => Just(CustomerCommand::Reinstate),
        1 => (any_minute(), 0_u8..2).prop_map(|(now, days)| request_withdrawal(now, days)),
        1 => any_minute().prop_map(cancel_withdrawal),
        1 => any_minute().prop_map(complete_withdrawal),
        2 => any_role().prop_map(|role| CustomerCommand::GrantRole { role }),
        2 => any_role().prop_map(|role| CustomerCommand::RevokeRole { role }),
    ]
}

/// What must hold of everybody who is a customer.
fn check(account: &Account) -> Result<(), TestCaseError> {
    let kept: Vec<AddressId> = account.addresses.kept.iter().map(|(id, _)| *id).collect();
    let different: std::collections::BTreeSet<_> = kept.iter().collect();
    prop_assert_eq!(different.len(), kept.len());
    prop_assert!(kept.len() <= Addresses::COUNT_MAX);
    // There is a default exactly if there is an address, and it is one of them.
    prop_assert_eq!(account.addresses.default.is_none(), kept.is_empty());
    prop_assert!(account.addresses.default.is_none_or(|default| kept.contains(&default)));

    let ways = account.social_accounts.len() + usize::from(account.has_password);
    prop_assert!(ways >= 1, "there is a way to sign in");
    prop_assert!(account.social_accounts.len() <= Account::SOCIAL_ACCOUNTS_MAX);
    for (at, linked) in account.social_accounts.iter().enumerate() {
        prop_assert!(!account.social_accounts[..at].contains(linked));
    }
    prop_assert!(!account.has_password || account.email.is_some());

    prop_assert!(account.consents.contains_key(&ConsentKind::Terms));
    prop_assert!(account.consents.contains_key(&ConsentKind::Privacy));
    prop_assert!(account.roles.contains(&Role::Customer));
    prop_assert!(account.roles.len() <= Account::ROLES_MAX);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn a_customer_is_always_whole(commands in vec(any_command(), 0..96)) {
        let mut state = Customer::default();
        let mut past: Vec<CustomerEvent> = Vec::new();
        for command in commands {
            let before = state.clone();
            let Ok(events) = state.decide(&command) else { continue };
            for event in events {
                prop_assert!(before != Customer::Withdrawn, "nothing happens to who has left");
                state.apply(event.clone());
                past.push(event);
            }
            if let Some(account) = state.account() {
                check(account)?;
            }
            let kept = serde_json::to_string(&state).expect("a state serialises");
            prop_assert_eq!(&serde_json::from_str::<Customer>(&kept).expect("it reads back"), &state);
        }
        // The stream begins with a registration, has no other, and ends with whoever has left.
        for (at, event) in past.iter().enumerate() {
            prop_assert_eq!(matches!(event, CustomerEvent::Registered { .. }), at == 0);
            let last = at + 1 == past.len();
            let left = *event == CustomerEvent::WithdrawalCompleted {};
            prop_assert!(last || !left);
        }
    }

    /// A command that was carried out and is sent again, under another id, right after, makes no event:
    /// but for a password, which may be the next one.
    #[test]
    fn what_is_asked_twice_happens_once(commands in vec(any_command(), 0..48)) {
        let mut state = Customer::default();
        for command in commands {
            let Ok(events) = state.decide(&command) else { continue };
            for event in events {
                state.apply(event);
            }
            if let Ok(again) = state.decide(&command) {
                let is_password = |event: &CustomerEvent| event.event_type() == "customer.password_changed";
                prop_assert!(again.iter().all(is_password), "{:?} again: {:?}", command, again);
            }
        }
    }

    /// No text of an event is anything but an id, a name of ours, a time, a hash or a ciphertext: there
    /// is no place where a person could be named.
    #[test]
    fn no_event_has_room_for_a_name(commands in vec(any_command(), 0..48)) {
        let mut state = Customer::default();
        for command in commands {
            let Ok(events) = state.decide(&command) else { continue };
            for event in events {
                let json = serde_json::to_value(&event).expect("an event serialises");
                for text in texts(&json) {
                    prop_assert!(is_of_ours(text), "{}", text);
                }
                state.apply(event);
            }
        }
    }
}

fn texts(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(values) => values.iter().flat_map(texts).collect(),
        serde_json::Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn is_of_ours(text: &str) -> bool {
    let word = text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.');
    let hex_or_time = text.bytes().all(|b| b.is_ascii_hexdigit() || b"-:.TZ".contains(&b));
    word || hex_or_time || ["adr_", "sto_", "c2VhbGVk"].iter().any(|start| text.starts_with(start))
}
