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
    assert!(failed.money().unwrap().1.failed);
    assert_eq!(failed.next_refund_id(payment_id(1)), refund_id(payment_id(1), 2));
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
