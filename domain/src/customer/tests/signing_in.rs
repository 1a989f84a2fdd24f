//! Passwords and accounts elsewhere.

use jangbu_events::PasswordChange;

use super::*;
use crate::fixtures::{folded, given, outcome};

#[test]
fn an_account_elsewhere_is_linked_only_after_proof_of_both() {
    for (here, there, now, linked) in [
        (0, 0, 0, true),
        (0, 10, 10, true),
        (10, 0, 10, true),
        (0, 10, 11, false),
        (10, 0, 11, false),
        // Of the future.
        (0, 1, 0, false),
        (1, 0, 0, false),
    ] {
        let expected = if linked {
            "customer.social_linked"
        } else {
            "! NotProved"
        };
        let command = link_at(kakao(7), here, there, now);
        assert_eq!(
            outcome::<Customer>(vec![registered(local())], command),
            expected,
            "{here} {there} {now}"
        );
    }
}

#[test]
fn the_last_way_to_sign_in_stays() {
    let start = registered(social(kakao(7)));
    given::<Customer>(vec![start.clone()])
        .when(unlink(kakao(7)))
        .then_expect_error(CustomerError::LastWayToSignIn {
            provider: SocialProvider::Kakao,
        });
    let second = linked(elsewhere(SocialProvider::Google, 7));
    let set = CustomerEvent::PasswordChanged {
        reason: PasswordChange::Set,
    };
    for another_way in [second, set] {
        given::<Customer>(vec![start.clone(), another_way])
            .when(unlink(kakao(7)))
            .then_expect_events(vec![CustomerEvent::SocialUnlinked {
                provider: SocialProvider::Kakao,
                subject_hash: hashed(7),
            }]);
    }
}

#[test]
fn the_same_id_at_two_providers_is_two_accounts() {
    let events = vec![
        registered(social(kakao(7))),
        linked(elsewhere(SocialProvider::Naver, 7)),
    ];
    assert_eq!(outcome::<Customer>(events.clone(), link(kakao(7))), "-");
    assert_eq!(
        outcome::<Customer>(events.clone(), link(elsewhere(SocialProvider::Google, 7))),
        "customer.social_linked"
    );
    let state: Customer = folded(events.into_iter().chain([CustomerEvent::SocialUnlinked {
        provider: SocialProvider::Naver,
        subject_hash: hashed(7),
    }]));
    assert_eq!(state.account().unwrap().social_accounts, [kakao(7)]);
}

#[test]
fn there_are_at_most_ten_accounts_elsewhere() {
    let mut events = vec![registered(local())];
    events.extend((1..=10).map(|n| linked(kakao(n))));
    assert_eq!(outcome::<Customer>(events.clone(), link(kakao(10))), "-");
    given::<Customer>(events)
        .when(link(kakao(11)))
        .then_expect_error(CustomerError::TooManySocialAccounts { max: 10 });
}

#[test]
fn a_first_password_needs_an_email_address_and_then_keeps_it() {
    let nameless = Register {
        email: None,
        ..social(kakao(7))
    };
    given::<Customer>(vec![registered(nameless)])
        .when(change_password(PasswordChange::Set))
        .then_expect_error(CustomerError::EmailRequired);
    let start = registered(social(kakao(7)));
    for reason in [PasswordChange::Changed, PasswordChange::Reset] {
        given::<Customer>(vec![start.clone()])
            .when(change_password(reason))
            .then_expect_error(CustomerError::NoPassword);
    }
    let set = CustomerEvent::PasswordChanged {
        reason: PasswordChange::Set,
    };
    given::<Customer>(vec![start.clone()])
        .when(change_password(PasswordChange::Set))
        .then_expect_events(vec![set.clone()]);
    assert_eq!(
        outcome::<Customer>(vec![start.clone()], change_profile(9, None, None)),
        "customer.profile_changed"
    );
    given::<Customer>(vec![start, set])
        .when(change_profile(9, None, None))
        .then_expect_error(CustomerError::EmailRequired);
}

#[test]
fn a_suspended_customer_can_get_another_password_before_anything_else() {
    let events = vec![registered(local()), SUSPENDED];
    assert_eq!(
        outcome::<Customer>(events.clone(), change_password(PasswordChange::Reset)),
        "customer.password_changed"
    );
    assert_eq!(
        outcome::<Customer>(events, change_password(PasswordChange::Changed)),
        "! Suspended"
    );
}
