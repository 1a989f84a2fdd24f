//! Giving money back.

use super::*;

#[test]
fn a_refund_is_written_down_before_portone_is_asked() {
    given::<Payment>(vec![requested(), confirmed()])
        .when(refund(1, Some(3_000)))
        .then_expect_events(vec![asked_back(1, 3_000, DUE, RefundReason::Operator)]);
    given::<Payment>(vec![requested(), confirmed(), cancelled(1, 20_000, 20_000)])
        .when(refund(1, None))
        .then_expect_events(vec![asked_back(1, 3_000, 3_000, RefundReason::Operator)]);
}

#[test]
fn of_two_refunds_at_once_the_second_is_told_of_the_first() {
    let covering = vec![
        requested(),
        confirmed(),
        asked_back(1, DUE, DUE, RefundReason::Customer),
    ];
    for amount in [None, Some(1), Some(DUE)] {
        given::<Payment>(covering.clone())
            .when(refund(2, amount))
            .then_expect_error(PaymentError::RefundInProgress);
    }
    // A rejection wants all of it back, and all of it is on its way.
    given::<Payment>(covering)
        .when(refund(0, None))
        .then_expect_events(vec![]);
}

#[test]
fn a_refund_is_under_way_until_its_money_went_back_or_it_failed() {
    let open = vec![
        requested(),
        confirmed(),
        asked_back(1, 3_000, DUE, RefundReason::Operator),
    ];
    let and = |event| [open.clone(), vec![event]].concat();
    let asked = "payment.cancellation_requested";
    assert_eq!(
        outcome::<Payment>(and(cancelled(1, 2_999, 2_999)), refund(2, None)),
        "! RefundInProgress"
    );
    assert_eq!(
        outcome::<Payment>(and(cancelled(1, 3_000, 3_000)), refund(2, None)),
        asked
    );
    assert_eq!(outcome::<Payment>(and(refund_failed(1)), refund(2, None)), asked);
    // The key of the failed one would only have PortOne repeat its error (PROTOCOL A2).
    let failed: Payment = folded(and(refund_failed(1)));
    assert!(failed.money().unwrap().1.failed.is_some());
    assert_eq!(failed.next_refund_id(payment_id(1)), refund_id(payment_id(1), 2));
}

#[test]
fn a_deposit_goes_back_to_an_account_alone() {
    given::<Payment>(vec![requested(), deposited()])
        .when(refund(1, None))
        .then_expect_error(PaymentError::RefundAccountRequired);
    let mut with_account = refund(1, None);
    if let PaymentCommand::RequestRefund { account, .. } = &mut with_account {
        *account = Some(refund_account());
    }
    let asked = asked_back(1, DUE, DUE, RefundReason::Operator);
    given::<Payment>(vec![requested(), deposited()])
        .when(with_account.clone())
        .then_expect_events(vec![account_given(None), asked.clone()]);
    // Known once, it need not be said again.
    given::<Payment>(vec![requested(), deposited(), account_given(None)])
        .when(refund(1, None))
        .then_expect_events(vec![asked.clone()]);
    // A card takes its money back itself, and nobody's account is kept for nothing.
    given::<Payment>(vec![requested(), confirmed()])
        .when(with_account)
        .then_expect_events(vec![asked]);
    given::<Payment>(vec![requested(), confirmed()])
        .when(give_account())
        .then_expect_error(PaymentError::RefundAccountNotNeeded);
}

#[test]
fn what_the_shop_owes_waits_for_an_account() {
    let owed = asked_back(1, DUE, DUE, RefundReason::OrderExpired);
    let waiting = vec![requested(), deposited(), owed.clone()];
    assert!(folded::<Payment>(waiting.clone()).lacks_refund_account());
    given::<Payment>(waiting.clone())
        .when(give_account())
        .then_expect_events(vec![account_given(Some(1))]);
    // It was asked for with that account, and is repeated word for word.
    let going = [waiting, vec![account_given(Some(1))]].concat();
    given::<Payment>(going.clone())
        .when(give_account())
        .then_expect_error(PaymentError::RefundInProgress);
    // Refused, it is wished for again, with the other account.
    given::<Payment>([going.clone(), vec![refund_failed(1)]].concat())
        .when(give_account())
        .then_expect_events(vec![
            account_given(None),
            asked_back(2, DUE, DUE, RefundReason::OrderExpired),
        ]);
    given::<Payment>([going, vec![cancelled(1, DUE, DUE)]].concat())
        .when(give_account())
        .then_expect_error(PaymentError::RefundAccountNotNeeded);
}

#[test]
fn what_went_back_at_the_bank_is_not_asked_for_again() {
    let refused = |amount, reason| {
        let asked = asked_back(1, amount, DUE, reason);
        vec![requested(), deposited(), account_given(None), asked, refund_failed(1)]
    };
    let and = |events: Vec<PaymentEvent>, event| [events, vec![event]].concat();
    // A person asked for it, and whether it is to be asked for again a person says, not the account.
    given::<Payment>(refused(10_000, RefundReason::Operator))
        .when(give_account())
        .then_expect_events(vec![account_given(None)]);
    given::<Payment>(and(
        refused(10_000, RefundReason::Operator),
        cancelled(1, 10_000, 10_000),
    ))
    .when(give_account())
    .then_expect_error(PaymentError::RefundAccountNotNeeded);
    let partly: Payment = folded(and(refused(10_000, RefundReason::Operator), cancelled(1, 6_000, 6_000)));
    assert_eq!(partly.money().unwrap().1.failed.as_ref().unwrap().outstanding, 4_000);
    assert!(partly.needs_refund_account());
    // What the shop owes is asked for as far as it has not gone back.
    given::<Payment>(and(
        refused(DUE, RefundReason::OrderExpired),
        cancelled(1, 10_000, 10_000),
    ))
    .when(give_account())
    .then_expect_events(vec![
        account_given(None),
        asked_back(2, DUE - 10_000, DUE - 10_000, RefundReason::OrderExpired),
    ]);
    // With nothing to give back nobody's account is kept.
    given::<Payment>(vec![requested(), deposited()])
        .when(give_account())
        .then_expect_error(PaymentError::RefundAccountNotNeeded);
}

#[test]
fn a_failure_is_recorded_for_the_refund_under_way() {
    let open = vec![
        requested(),
        confirmed(),
        asked_back(1, 3_000, DUE, RefundReason::Operator),
    ];
    given::<Payment>(open)
        .when(failure(1))
        .then_expect_events(vec![refund_failed(1)]);
}

#[test]
fn a_refund_id_never_changes_and_is_a_valid_key() {
    // Pinned: PortOne knows running refunds by it.
    let id = refund_id(payment_id(1), 1);
    assert_eq!(id, "refund-240ea824592c5b7e9c97ad413e02c81b");
    assert_ne!(id, refund_id(payment_id(1), 2));
    assert_ne!(id, refund_id(payment_id(2), 1));
    assert!((16..=256).contains(&id.len()));
}
