//! Withdrawal (탈퇴).

use super::*;
use crate::fixtures::{folded, given, outcome};

#[test]
fn a_withdrawal_says_when_it_will_be_carried_out() {
    for (days, executes_at) in [(0, 0), (1, DAY), (30, 30 * DAY)] {
        given::<Customer>(vec![registered(local())])
            .when(request_withdrawal(0, days))
            .then_expect_events(vec![CustomerEvent::WithdrawalRequested {
                executes_at: at(executes_at),
            }]);
    }
    assert_eq!(CancellablePeriod::try_from_days(31), Err(CancellablePeriodError));
}

#[test]
fn it_can_be_cancelled_until_it_is_due_and_completed_from_then_on() {
    let events = vec![registered(local()), withdrawal_requested()];
    let at_minute = |command: fn(i64) -> CustomerCommand, minute| outcome::<Customer>(events.clone(), command(minute));
    assert_eq!(at_minute(cancel_withdrawal, DAY - 1), "customer.withdrawal_cancelled");
    assert_eq!(at_minute(complete_withdrawal, DAY - 1), "! WithdrawalNotDue");
    assert_eq!(at_minute(cancel_withdrawal, DAY), "! WithdrawalDue");
    assert_eq!(at_minute(complete_withdrawal, DAY), "customer.withdrawal_completed");
}

#[test]
fn nothing_stands_in_the_way_of_leaving() {
    let admin = CustomerEvent::RoleGranted { role: Role::Admin };
    let events = vec![registered(local()), admin, SUSPENDED];
    assert_eq!(
        outcome::<Customer>(events.clone(), request_withdrawal(0, 0)),
        "customer.withdrawal_requested"
    );
    let requested = events.into_iter().chain([withdrawal_requested()]).collect();
    assert_eq!(
        outcome::<Customer>(requested, complete_withdrawal(DAY)),
        "customer.withdrawal_completed"
    );
}

#[test]
fn who_asks_twice_waits_no_longer() {
    given::<Customer>(vec![registered(local()), withdrawal_requested()])
        .when(request_withdrawal(60, 30))
        .then_expect_events(vec![]);
}

#[test]
fn who_stays_is_a_customer_as_before() {
    let before: Customer = folded(vec![registered(local()), address_added(1, true)]);
    let after: Customer = folded(vec![
        registered(local()),
        address_added(1, true),
        withdrawal_requested(),
        CustomerEvent::WithdrawalCancelled {},
    ]);
    assert_eq!(before, after);
}

#[test]
fn nothing_is_left_of_who_has_left() {
    let state: Customer = folded(vec![
        registered(local()),
        withdrawal_requested(),
        CustomerEvent::WithdrawalCompleted {},
    ]);
    assert_eq!(serde_json::to_string(&state).unwrap(), r#""Withdrawn""#);
    assert_eq!(state.decide(&register(local())), Err(CustomerError::Withdrawn));
}

#[test]
fn a_timer_that_comes_late_does_nothing() {
    let events = vec![
        registered(local()),
        withdrawal_requested(),
        CustomerEvent::WithdrawalCancelled {},
    ];
    assert_eq!(outcome::<Customer>(events, complete_withdrawal(DAY)), "-");
}
