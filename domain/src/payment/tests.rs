use jangbu_events::{ChannelType, PaymentEvent, PaymentMeans, RefuseReason};

use super::*;
use crate::fixtures::{at, folded, given, order_id, outcome, payment_id, sealed, won};

mod permutations;
mod refunds;

const DUE: i64 = 23_000;

fn request() -> PaymentCommand {
    PaymentCommand::Request {
        order_id: order_id(),
        cart_id: jangbu_events::samples::cart_id(),
        due: won(DUE),
        tax_free: won(0),
        pay_method: PayMethod::Card,
        order_name: "상품 A 외 1건".to_owned(),
    }
}

fn requested() -> PaymentEvent {
    PaymentEvent::Requested {
        order_id: order_id(),
        due: won(DUE),
        tax_free: won(0),
        pay_method: PayMethod::Card,
        order_name: "상품 A 외 1건".to_owned(),
    }
}

/// A reading before any money came.
fn pending(transaction: &str) -> Observation {
    Observation {
        payment_id: payment_id(1),
        transaction_id: transaction.to_owned(),
        live_shop: true,
        currency: "KRW".to_owned(),
        total: DUE,
        status: Observed::Pending,
        paid: None,
        cancellations: Vec::new(),
    }
}

fn paid(transaction: &str) -> Observation {
    Observation {
        status: Observed::Paid,
        paid: Some(PaidFacts {
            paid_at: at(5),
            tax_free: 0,
            vat: None,
            discount: 0,
            means: means(),
        }),
        ..pending(transaction)
    }
}

fn means() -> PaymentMeans {
    PaymentMeans {
        method: "card".to_owned(),
        provider: None,
        issuer: Some("SHINHAN_CARD".to_owned()),
        installment_months: None,
        approval_number: None,
        channel: ChannelType::Live,
        pg_provider: Some("TOSSPAYMENTS".to_owned()),
        pg_tx_id: None,
    }
}

/// The same reading over another channel.
fn over(channel: ChannelType, mut observation: Observation) -> Observation {
    if let Some(paid) = &mut observation.paid {
        paid.means.channel = channel;
    }
    observation
}

fn account_issued(transaction: &str) -> Observation {
    Observation {
        status: Observed::VirtualAccountIssued {
            bank: Some("SHINHAN".to_owned()),
            account: sealed(),
            expires_at: Some(at(4_320)),
        },
        ..pending(transaction)
    }
}

fn failed(transaction: &str) -> Observation {
    Observation {
        status: Observed::Failed {
            failed_at: at(3),
            pg_code: Some("REJECT_CARD".to_owned()),
        },
        ..pending(transaction)
    }
}

/// The n-th minute after an hour, so that names and times agree in order.
fn cancellation(n: i64, amount: i64) -> ObservedCancellation {
    ObservedCancellation {
        cancelled_at: at(60 + n),
        id: format!("cancellation-{n}"),
        amount,
        tax_free: 0,
        vat: 0,
        trigger: None,
    }
}

fn observe(observation: Observation) -> PaymentCommand {
    PaymentCommand::Observe(Box::new(observation))
}

fn with(mut observation: Observation, cancellations: Vec<ObservedCancellation>) -> PaymentCommand {
    observation.cancellations = cancellations;
    observe(observation)
}

fn confirmed() -> PaymentEvent {
    PaymentEvent::Confirmed {
        order_id: order_id(),
        transaction_id: "t1".to_owned(),
        paid: won(DUE),
        tax_free: won(0),
        vat: None,
        discount: won(0),
        paid_at: at(5),
        means: means(),
    }
}

fn refused(reason: RefuseReason, paid_amount: i64, currency: &str) -> PaymentEvent {
    let mut means = means();
    if reason == RefuseReason::TestChannel {
        means.channel = ChannelType::Test;
    }
    PaymentEvent::Refused {
        order_id: order_id(),
        transaction_id: "t1".to_owned(),
        reason,
        due: won(DUE),
        paid_amount,
        paid_currency: currency.to_owned(),
        tax_free: 0,
        paid_at: at(5),
        means,
    }
}

fn cancelled(n: i64, amount: i64, cancelled_total: i64) -> PaymentEvent {
    PaymentEvent::Cancelled {
        order_id: order_id(),
        cancellation_id: format!("cancellation-{n}"),
        amount,
        tax_free: 0,
        vat: 0,
        currency: "KRW".to_owned(),
        cancelled_total,
        remaining: DUE - cancelled_total,
        cancelled_at: at(60 + n),
        trigger: None,
    }
}

fn asked_back(n: u32, amount: i64, cancellable: i64, reason: RefundReason) -> PaymentEvent {
    let currency = if reason == RefundReason::WrongCurrency {
        "USD"
    } else {
        "KRW"
    };
    PaymentEvent::CancellationRequested {
        order_id: order_id(),
        refund_id: refund_id(payment_id(1), n),
        amount,
        tax_free: 0,
        currency: currency.to_owned(),
        cancellable,
        reason,
    }
}

fn refund(n: u32, amount: Option<i64>) -> PaymentCommand {
    PaymentCommand::RequestRefund {
        payment_id: payment_id(1),
        refund: if n == 0 { Refunding::Rejection } else { Refunding::Next },
        amount,
        reason: RefundReason::Operator,
        account: None,
    }
}

/// The right money, by bank transfer.
fn deposited() -> PaymentEvent {
    let mut event = confirmed();
    if let PaymentEvent::Confirmed { means, .. } = &mut event {
        "virtual_account".clone_into(&mut means.method);
    }
    event
}

fn refund_account() -> Sealed<RefundAccount> {
    Sealed::new(Uuid::nil(), "sealed".to_owned())
}

fn account_given(waiting: Option<u32>) -> PaymentEvent {
    PaymentEvent::RefundAccountGiven {
        order_id: order_id(),
        account: refund_account(),
        waiting_refund_id: waiting.map(|n| refund_id(payment_id(1), n)),
    }
}

fn give_account() -> PaymentCommand {
    PaymentCommand::GiveRefundAccount {
        payment_id: payment_id(1),
        account: refund_account(),
    }
}

fn failure(n: u32) -> PaymentCommand {
    PaymentCommand::RecordRefundFailure {
        refund_id: refund_id(payment_id(1), n),
        code: "PG_PROVIDER".to_owned(),
        pg_code: Some("NOT_CANCELABLE_PAYMENT".to_owned()),
    }
}

fn refund_failed(n: u32) -> PaymentEvent {
    PaymentEvent::CancellationFailed {
        order_id: order_id(),
        refund_id: refund_id(payment_id(1), n),
        code: "PG_PROVIDER".to_owned(),
        pg_code: Some("NOT_CANCELABLE_PAYMENT".to_owned()),
    }
}

#[test]
fn every_command_in_every_state() {
    let wrong = RefuseReason::WrongAmount;
    let returned = vec![requested(), confirmed(), cancelled(1, DUE, DUE)];
    let going_back = asked_back(1, 1_000, DUE, RefundReason::Operator);
    let histories = [
        vec![],
        vec![requested()],
        vec![requested(), confirmed()],
        vec![requested(), confirmed(), going_back],
        returned,
        vec![requested(), refused(wrong, 1_000, "KRW")],
    ];
    let other = PaymentCommand::Request {
        order_id: order_id(),
        cart_id: jangbu_events::samples::cart_id(),
        due: won(1),
        tax_free: won(0),
        pay_method: PayMethod::Card,
        order_name: "상품".to_owned(),
    };
    let not_requested = "! NotRequested";
    let other_request = "! AlreadyRequested";
    let asked = "payment.cancellation_requested";
    // Rows: commands. Columns: not requested, requested, confirmed, going back in part, all gone
    // back, refused.
    #[rustfmt::skip]
    let table = [
        (request(), ["payment.requested", "-", "-", "-", "-", "-"]),
        (other, ["payment.requested", other_request, other_request, other_request, other_request, other_request]),
        (observe(pending("t1")), [not_requested, "-", "-", "-", "-", "-"]),
        (observe(account_issued("t1")), [not_requested, "payment.virtual_account_issued", "-", "-", "-", "-"]),
        (observe(failed("t1")), [not_requested, "payment.failed", "-", "-", "-", "-"]),
        (observe(paid("t1")), [not_requested, "payment.confirmed", "-", "-", "-", "-"]),
        (with(pending("t1"), vec![cancellation(2, 500)]),
            [not_requested, "-", "payment.cancelled", "payment.cancelled", "payment.cancelled", "payment.cancelled"]),
        (with(paid("t1"), vec![cancellation(1, DUE)]),
            [not_requested, "payment.confirmed payment.cancelled", "payment.cancelled", "payment.cancelled", "-", "payment.cancelled"]),
        (refund(2, None), [not_requested, "! NotPaid", asked, "! RefundInProgress", "-", asked]),
        (refund(2, Some(1_000)), [not_requested, "! NotPaid", asked, "! RefundInProgress", "-", asked]),
        (refund(2, Some(DUE + 1)),
            [not_requested, "! NotPaid", "! ExceedsRefundable", "! ExceedsRefundable", "-", "! ExceedsRefundable"]),
        (refund(2, Some(0)), [not_requested, "! NotPaid", "! NotPositive", "! NotPositive", "-", "! NotPositive"]),
        (refund(0, None), [not_requested, "! NotPaid", asked, "! RefundInProgress", "-", asked]),
        (failure(1), ["-", "-", "-", "payment.cancellation_failed", "-", "-"]),
        (failure(2), ["-", "-", "-", "-", "-", "-"]),
    ];
    for (command, expected) in table {
        let outcomes = histories
            .clone()
            .map(|events| outcome::<Payment>(events, command.clone()));
        assert_eq!(outcomes, expected, "{command:?}");
    }
}

#[test]
fn a_payment_is_asked_for() {
    given::<Payment>(vec![])
        .when(request())
        .then_expect_events(vec![requested()]);
}

#[test]
fn the_right_money_is_confirmed_with_what_portone_says_of_it() {
    given::<Payment>(vec![requested()])
        .when(observe(paid("t1")))
        .then_expect_events(vec![confirmed()]);
}

#[test]
fn the_wrong_money_is_refused_and_asked_back_in_one_decision() {
    use RefuseReason::{TestChannel, WrongAmount, WrongCurrency};
    let test_channel = |live_shop| Observation {
        live_shop,
        ..over(ChannelType::Test, paid("t1"))
    };
    let amount = |total| Observation { total, ..paid("t1") };
    let dollars = Observation {
        currency: "USD".to_owned(),
        ..paid("t1")
    };
    for (observation, reason, paid_amount, currency, back) in [
        (amount(DUE - 1), WrongAmount, DUE - 1, "KRW", RefundReason::WrongAmount),
        (amount(DUE + 1), WrongAmount, DUE + 1, "KRW", RefundReason::WrongAmount),
        (dollars, WrongCurrency, DUE, "USD", RefundReason::WrongCurrency),
        (test_channel(true), TestChannel, DUE, "KRW", RefundReason::TestChannel),
    ] {
        given::<Payment>(vec![requested()])
            .when(observe(observation))
            .then_expect_events(vec![
                refused(reason, paid_amount, currency),
                asked_back(1, paid_amount, paid_amount, back),
            ]);
    }
    // Play money buys in a shop that is not live.
    assert_eq!(
        outcome::<Payment>(vec![requested()], observe(test_channel(false))),
        "payment.confirmed"
    );
}

#[test]
fn of_the_wrong_money_only_what_is_left_is_asked_back() {
    let mut observation = paid("t1");
    observation.total = 1_000;
    let first = Observation {
        cancellations: vec![cancellation(1, 400)],
        ..observation.clone()
    };
    let gone = |amount, total| PaymentEvent::Cancelled {
        order_id: order_id(),
        cancellation_id: "cancellation-1".to_owned(),
        amount,
        tax_free: 0,
        vat: 0,
        currency: "KRW".to_owned(),
        cancelled_total: total,
        remaining: 1_000 - total,
        cancelled_at: at(61),
        trigger: None,
    };
    given::<Payment>(vec![requested()])
        .when(observe(first))
        .then_expect_events(vec![
            refused(RefuseReason::WrongAmount, 1_000, "KRW"),
            gone(400, 400),
            asked_back(1, 600, 600, RefundReason::WrongAmount),
        ]);
    observation.cancellations = vec![cancellation(1, 1_000)];
    given::<Payment>(vec![requested()])
        .when(observe(observation))
        .then_expect_events(vec![
            refused(RefuseReason::WrongAmount, 1_000, "KRW"),
            gone(1_000, 1_000),
        ]);
}

#[test]
fn cancellations_follow_each_other_by_portones_clock_with_running_totals() {
    let seen = vec![cancellation(2, 3_000), cancellation(1, 20_000), cancellation(2, 3_000)];
    given::<Payment>(vec![requested()])
        .when(with(paid("t1"), seen.clone()))
        .then_expect_events(vec![
            confirmed(),
            cancelled(1, 20_000, 20_000),
            cancelled(2, 3_000, DUE),
        ]);
    given::<Payment>(vec![requested(), confirmed(), cancelled(1, 20_000, 20_000)])
        .when(with(paid("t1"), seen))
        .then_expect_events(vec![cancelled(2, 3_000, DUE)]);
}

#[test]
fn each_attempt_fails_once_and_is_given_one_account() {
    let mut payment: Payment = folded([requested()]);
    let mut told = Vec::new();
    for observation in [
        failed("t1"),
        failed("t1"),
        account_issued("t2"),
        failed("t1"),
        account_issued("t2"),
        failed("t3"),
    ] {
        for event in payment.decide(&observe(observation)).unwrap() {
            payment.apply(event.clone());
            told.push(event.name());
        }
    }
    assert_eq!(
        told,
        ["payment.failed", "payment.virtual_account_issued", "payment.failed"]
    );
    assert_eq!(payment.status(), Some(PaymentStatus::VirtualAccountIssued));
}

#[test]
fn an_account_that_was_closed_unpaid_is_no_money() {
    // CANCELLED without `paidAt`.
    given::<Payment>(vec![requested()])
        .when(with(pending("t1"), vec![cancellation(1, DUE)]))
        .then_expect_events(vec![]);
}

#[test]
fn nonsense_amounts_do_not_stop_the_program() {
    let mut observation = paid("t1");
    observation.total = i64::MAX;
    let seen = vec![
        cancellation(1, i64::MAX),
        cancellation(2, i64::MAX),
        cancellation(3, i64::MIN),
    ];
    let payment: Payment = folded(
        std::iter::once(requested()).chain(
            given::<Payment>(vec![requested()])
                .when(with(observation, seen))
                .inspect_result()
                .unwrap(),
        ),
    );
    assert!(matches!(payment, Payment::Refused { .. }));
    assert!(payment.status().is_some());
}

#[test]
fn a_payment_reads_back_from_its_json() {
    for events in [
        vec![requested()],
        vec![requested(), confirmed(), cancelled(1, 20_000, 20_000)],
        vec![
            requested(),
            refused(RefuseReason::WrongAmount, 1, "KRW"),
            asked_back(1, 1, 1, RefundReason::WrongAmount),
        ],
    ] {
        let payment: Payment = folded(events);
        let json = serde_json::to_string(&payment).unwrap();
        assert_eq!(serde_json::from_str::<Payment>(&json).unwrap(), payment);
    }
}

#[test]
fn a_payment_shares_the_slot_of_its_cart() {
    let cart = jangbu_events::samples::cart_id();
    assert_eq!(Payment::partition_key(payment_id(1), &request()), cart.uuid());
}
