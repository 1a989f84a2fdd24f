//! Profile, addresses, consents, roles, and every command in every state.

use super::*;
use crate::fixtures::{folded, given, outcome};

#[test]
fn whoever_registers_is_a_customer_with_what_they_agreed_to() {
    given::<Customer>(vec![])
        .when(register(local()))
        .then_expect_events(vec![registered(local())]);
    let Customer::Registered(account) = folded::<Customer>(vec![registered(local())]) else {
        panic!("a customer");
    };
    assert_eq!(account.roles.into_iter().collect::<Vec<_>>(), [Role::Customer]);
    assert_eq!(
        account.consents.into_keys().collect::<Vec<_>>(),
        [ConsentKind::Terms, ConsentKind::Privacy]
    );
    assert_eq!(account.email.map(|email| email.verified), Some(false));
}

#[test]
fn nobody_under_fourteen_gets_as_far_as_a_second_look() {
    let child = Register {
        fourteen_or_older_asserted_at: None,
        consents: Vec::new(),
        email: None,
        ..local()
    };
    for form in [
        child.clone(),
        Register {
            sign_up: social(kakao(7)).sign_up,
            ..child
        },
    ] {
        given::<Customer>(vec![])
            .when(register(form))
            .then_expect_error(CustomerError::UnderFourteen);
    }
}

#[test]
fn terms_and_privacy_are_required_and_every_consent_is_given_once() {
    use ConsentKind::{MarketingEmail, Privacy, Terms};
    let with = |kinds: &[ConsentKind]| {
        register(Register {
            consents: kinds.iter().copied().map(consent).collect(),
            ..local()
        })
    };
    for (kinds, error) in [
        (vec![], CustomerError::ConsentMissing { kind: Terms }),
        (
            vec![Terms, MarketingEmail],
            CustomerError::ConsentMissing { kind: Privacy },
        ),
        (vec![Privacy], CustomerError::ConsentMissing { kind: Terms }),
        (vec![Terms, Privacy, Terms], CustomerError::ConsentTwice { kind: Terms }),
    ] {
        given::<Customer>(vec![]).when(with(&kinds)).then_expect_error(error);
    }
    assert_eq!(
        outcome::<Customer>(vec![], with(&[Terms, Privacy, MarketingEmail])),
        "customer.registered"
    );
}

#[test]
fn a_provider_may_tell_nothing_but_its_own_id() {
    let nothing = Register {
        email: None,
        phone: None,
        ..social(kakao(7))
    };
    assert_eq!(outcome::<Customer>(vec![], register(nothing)), "customer.registered");
    let no_email = Register { email: None, ..local() };
    given::<Customer>(vec![])
        .when(register(no_email))
        .then_expect_error(CustomerError::EmailRequired);
}

#[test]
fn another_email_address_is_not_verified_and_a_new_name_changes_nothing() {
    let verified = |by: &CustomerCommand, before: Vec<CustomerEvent>| {
        let mut state: Customer = folded(before);
        for event in state.decide(by).unwrap() {
            state.apply(event);
        }
        let account = state.account().unwrap();
        (
            account.email.as_ref().map(|e| e.verified),
            account.phone.as_ref().map(|p| p.verified),
        )
    };
    let before = || {
        let by = VerifiedBy::Code;
        vec![
            registered(local()),
            CustomerEvent::EmailVerified { email: hashed(1), by },
            CustomerEvent::PhoneVerified { phone: hashed(2), by },
        ]
    };
    assert_eq!(
        verified(&change_profile(9, Some(1), Some(2)), before()),
        (Some(true), Some(true))
    );
    assert_eq!(
        verified(&change_profile(9, Some(3), Some(2)), before()),
        (Some(false), Some(true))
    );
    assert_eq!(
        verified(&change_profile(9, Some(1), None), before()),
        (Some(true), None)
    );
}

#[test]
fn a_code_verifies_only_what_the_profile_has_now() {
    let changed = CustomerEvent::ProfileChanged {
        profile: sealed(9),
        email: Some(hashed(3)),
        phone: None,
    };
    let before = vec![registered(local()), changed];
    for late in [verify_email(1), verify_phone(2)] {
        given::<Customer>(before.clone())
            .when(late)
            .then_expect_error(CustomerError::ContactChanged);
    }
    assert_eq!(outcome::<Customer>(before, verify_email(3)), "customer.email_verified");
}

#[test]
fn the_first_address_is_the_default_and_the_oldest_follows_a_default_that_goes() {
    given::<Customer>(vec![registered(local())])
        .when(add_address(1, false))
        .then_expect_events(vec![address_added(1, true)]);
    let three = vec![
        registered(local()),
        address_added(1, true),
        address_added(2, false),
        address_added(3, true),
    ];
    let removed = |n, default: u8| CustomerEvent::AddressRemoved {
        address_id: address_id(n),
        default_address_id: Some(address_id(default)),
    };
    given::<Customer>(three.clone())
        .when(remove_address(3))
        .then_expect_events(vec![removed(3, 1)]);
    given::<Customer>(three)
        .when(remove_address(1))
        .then_expect_events(vec![removed(1, 3)]);
    given::<Customer>(vec![registered(local()), address_added(1, true)])
        .when(remove_address(1))
        .then_expect_events(vec![CustomerEvent::AddressRemoved {
            address_id: address_id(1),
            default_address_id: None,
        }]);
}

#[test]
fn there_are_at_most_twenty_addresses() {
    let mut events = vec![registered(local())];
    events.extend((1..=20).map(|n| address_added(n, n == 1)));
    given::<Customer>(events.clone())
        .when(add_address(21, false))
        .then_expect_error(CustomerError::TooManyAddresses { max: 20 });
    // A repeat is a repeat, however many there are; the id of another one is not free.
    assert_eq!(outcome::<Customer>(events.clone(), add_address(20, false)), "-");
    let other = CustomerCommand::AddAddress {
        address_id: address_id(20),
        address: sealed(99),
        is_default: false,
    };
    assert_eq!(outcome::<Customer>(events, other), "! AddressExists");
}

#[test]
fn a_consent_says_which_wording_was_given_and_which_withdrawn() {
    let kind = ConsentKind::MarketingSms;
    let changed = |given, version: &str, minutes| CustomerEvent::ConsentChanged {
        kind,
        given,
        text: text(version),
        at: at(minutes),
    };
    let give = |version: &str| {
        CustomerCommand::GiveConsent(Consent {
            text: text(version),
            ..consent(kind)
        })
    };
    let once = vec![registered(local()), changed(true, "2026-01-01", 0)];
    given::<Customer>(vec![registered(local())])
        .when(give("2026-01-01"))
        .then_expect_events(vec![changed(true, "2026-01-01", 0)]);
    given::<Customer>(once.clone())
        .when(give("2026-01-01"))
        .then_expect_events(vec![]);
    given::<Customer>(once.clone())
        .when(give("2026-07-01"))
        .then_expect_events(vec![changed(true, "2026-07-01", 0)]);
    given::<Customer>(once)
        .when(withdraw_consent(kind))
        .then_expect_events(vec![changed(false, "2026-01-01", 5)]);
    let (event, then) = (changed(true, "2026-01-01", 7), Some(at(7)));
    assert_eq!(Customer::happened_at(&event), then);
}

#[test]
fn everybody_can_say_no_at_any_time_but_not_to_what_makes_a_customer() {
    let kind = ConsentKind::MarketingNight;
    let given_before = CustomerEvent::ConsentChanged {
        kind,
        given: true,
        text: text("2026-01-01"),
        at: at(0),
    };
    let events = vec![registered(local()), given_before, SUSPENDED, withdrawal_requested()];
    assert_eq!(
        outcome::<Customer>(events.clone(), withdraw_consent(kind)),
        "customer.consent_changed"
    );
    for kind in [ConsentKind::Terms, ConsentKind::Privacy] {
        given::<Customer>(events.clone())
            .when(withdraw_consent(kind))
            .then_expect_error(CustomerError::ConsentRequired { kind });
    }
}

#[test]
fn a_role_counts_only_while_all_is_well() {
    let granted = CustomerEvent::RoleGranted { role: STAFF };
    let other_store = Role::Staff {
        store_id: StoreId::from_uuid(Uuid::from_u128(5)),
    };
    let staff: Customer = folded(vec![registered(local()), granted.clone()]);
    assert!(staff.has_role(STAFF) && staff.has_role(Role::Customer));
    assert!(!staff.has_role(Role::Admin) && !staff.has_role(other_store));
    for end in [SUSPENDED, withdrawal_requested(), CustomerEvent::WithdrawalCompleted {}] {
        let state: Customer = folded(vec![registered(local()), granted.clone(), end]);
        assert!(!state.has_role(STAFF) && !state.has_role(Role::Customer));
    }
    given::<Customer>(vec![registered(local())])
        .when(CustomerCommand::RevokeRole { role: Role::Customer })
        .then_expect_error(CustomerError::CustomerRole);
    let many = (0..99_u128).map(|n| CustomerEvent::RoleGranted {
        role: Role::Seller {
            store_id: StoreId::from_uuid(Uuid::from_u128(n)),
        },
    });
    given::<Customer>([registered(local())].into_iter().chain(many).collect())
        .when(CustomerCommand::GrantRole { role: Role::Admin })
        .then_expect_error(CustomerError::TooManyRoles { max: 100 });
}

#[test]
fn nothing_of_a_customer_is_sealed_under_another_key() {
    let foreign = Uuid::from_u128(0xbb);
    let profile = || Sealed::<Profile>::new(foreign, "c2VhbGVk".to_owned());
    let address = || Sealed::<SavedAddress>::new(foreign, "c2VhbGVk".to_owned());
    let subject = SocialAccount {
        subject: Sealed::<SocialSubject>::new(foreign, "c2VhbGVk".to_owned()),
        ..kakao(7)
    };
    let forms = [
        Register {
            profile: profile(),
            ..local()
        },
        Register {
            email: Some(Hashed::<Email>::new(foreign, [1; 32])),
            ..local()
        },
        Register {
            phone: Some(Hashed::<Mobile>::new(foreign, [1; 32])),
            ..local()
        },
        social(subject.clone()),
    ];
    for form in forms {
        given::<Customer>(vec![])
            .when(register(form))
            .then_expect_error(CustomerError::AnotherKey);
    }
    let commands = [
        CustomerCommand::ChangeProfile {
            profile: profile(),
            email: Some(hashed(1)),
            phone: None,
        },
        CustomerCommand::AddAddress {
            address_id: address_id(2),
            address: address(),
            is_default: false,
        },
        CustomerCommand::ChangeAddress {
            address_id: address_id(1),
            address: address(),
        },
        link(subject),
    ];
    for command in commands {
        given::<Customer>(vec![registered(local()), address_added(1, true)])
            .when(command)
            .then_expect_error(CustomerError::AnotherKey);
    }
}

/// All that can be asked, in the order of the columns of the table below.
fn every_command() -> Vec<CustomerCommand> {
    use jangbu_events::PasswordChange::{Changed, Reset, Set};
    vec![
        register(local()),
        verify_email(1),
        verify_phone(2),
        change_profile(9, Some(1), None),
        add_address(2, false),
        change_address(1, 9),
        remove_address(1),
        choose_default(1),
        CustomerCommand::GiveConsent(consent(ConsentKind::ThirdParty)),
        withdraw_consent(ConsentKind::ThirdParty),
        change_password(Set),
        change_password(Changed),
        change_password(Reset),
        link(kakao(7)),
        unlink(kakao(7)),
        SUSPEND,
        CustomerCommand::Reinstate,
        request_withdrawal(0, 7),
        cancel_withdrawal(0),
        complete_withdrawal(0),
        CustomerCommand::GrantRole { role: STAFF },
        CustomerCommand::RevokeRole { role: STAFF },
    ]
}

#[test]
fn every_command_in_every_state() {
    let with_address = || vec![registered(local()), address_added(1, true)];
    let after = |event: CustomerEvent| with_address().into_iter().chain([event]).collect::<Vec<_>>();
    let outcomes = |events: Vec<CustomerEvent>| {
        every_command()
            .into_iter()
            .map(|command| outcome::<Customer>(events.clone(), command))
            .collect::<Vec<_>>()
    };
    let never = outcomes(vec![]);
    assert_eq!(never[0], "customer.registered");
    assert!(
        never[1..].iter().all(|outcome| outcome == "! NotRegistered"),
        "{never:?}"
    );
    let gone = outcomes(after(CustomerEvent::WithdrawalCompleted {}));
    for (at, outcome) in gone.iter().enumerate() {
        // The timer may come twice.
        assert_eq!(outcome, if at == 19 { "-" } else { "! Withdrawn" }, "{at}");
    }

    // Registered with a password and an address; suspended; about to leave.
    let (well, suspended, leaving) = (
        outcomes(with_address()),
        outcomes(after(SUSPENDED)),
        outcomes(after(withdrawal_requested())),
    );
    let s = "! Suspended";
    let w = "! WithdrawalRequested";
    let table = [
        ["-", "-", "-"],
        ["customer.email_verified", s, w],
        ["customer.phone_verified", s, w],
        ["customer.profile_changed", s, w],
        ["customer.address_added", s, w],
        ["customer.address_changed", s, w],
        ["customer.address_removed", s, w],
        ["-", s, w],
        ["customer.consent_changed", s, w],
        ["-", "-", "-"],
        ["! PasswordExists", s, w],
        ["customer.password_changed", s, w],
        [
            "customer.password_changed",
            "customer.password_changed",
            "customer.password_changed",
        ],
        ["customer.social_linked", s, w],
        ["-", s, w],
        ["customer.suspended", "-", "customer.suspended"],
        ["-", "customer.reinstated", "-"],
        ["customer.withdrawal_requested", "customer.withdrawal_requested", "-"],
        ["-", "-", "customer.withdrawal_cancelled"],
        ["-", "-", "! WithdrawalNotDue"],
        ["customer.role_granted", s, w],
        ["-", "-", "-"],
    ];
    for (at, expected) in table.into_iter().enumerate() {
        let given = [&well[at], &suspended[at], &leaving[at]];
        assert_eq!(given, expected, "{:?}", every_command()[at]);
    }
    assert_eq!(table.len(), every_command().len());
}
