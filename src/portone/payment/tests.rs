use serde_json::json;

use super::*;

/// Every field that the description calls required for all states, and nothing more.
fn common(status: &str) -> Value {
    json!({
        "status": status, "id": "p1", "transactionId": "t1", "storeId": "store-1", "currency": "KRW",
        "amount": {"total": 39000, "taxFree": 0, "discount": 0, "paid": 0, "cancelled": 0, "cancelledTaxFree": 0},
        "requestedAt": "2026-03-02T04:05:06.789Z", "statusChangedAt": "2026-03-02T13:05:41+09:00",
    })
}

fn with(mut payment: Value, fields: Value) -> Value {
    let (Value::Object(payment_fields), Value::Object(fields)) = (&mut payment, fields) else {
        panic!("not objects")
    };
    payment_fields.extend(fields);
    payment
}

fn read(payment: Value) -> Payment {
    serde_json::from_value(payment).expect("a payment")
}

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

#[test]
fn a_card_payment_of_the_official_shape_is_read() {
    let payment = read(with(
        common("PAID"),
        json!({
            "merchantId": "m", "version": "V2", "updatedAt": "2026-03-02T04:05:41.120Z", "orderName": "손뜨개 가방 외 1건",
            "method": {"type": "PaymentMethodCard", "card": {"publisher": "SHINHAN_CARD", "issuer": "SHINHAN_CARD"},
                       "installment": {"month": 3, "isInterestFree": false}, "pointUsed": false},
            "channel": {"type": "LIVE", "id": "c", "name": "토스페이먼츠", "pgProvider": "TOSSPAYMENTS", "pgMerchantId": "shop01"},
            "amount": {"total": 39000, "taxFree": 0, "vat": 3545, "supply": 35455, "discount": 0, "paid": 39000,
                       "cancelled": 0, "cancelledTaxFree": 0},
            "customer": {"id": "member-42", "name": "홍길동", "email": "hong@example.com"},
            "paidAt": "2026-03-02T04:05:41Z", "pgTxId": "tshop1", "receiptUrl": "https://receipt.example/secret",
        }),
    ));
    assert_eq!(payment.status, PaymentStatus::Paid);
    assert_eq!(
        (payment.amount.total, payment.amount.vat, payment.amount.supply),
        (39_000, Some(3_545), Some(35_455))
    );
    assert_eq!(
        (payment.channel_type, payment.pg_provider.as_deref()),
        (ChannelType::Live, Some("TOSSPAYMENTS"))
    );
    assert_eq!(payment.paid_at, Some(utc("2026-03-02T04:05:41Z")));
    assert_eq!(
        payment.status_changed_at,
        utc("2026-03-02T04:05:41Z"),
        "an offset is only another way to write it"
    );
    let method = payment.method.as_ref().expect("a method");
    assert_eq!(
        (method.kind.as_str(), method.issuer.as_deref()),
        ("card", Some("SHINHAN_CARD"))
    );
    assert_eq!(method.installment_months, Some(3));

    let shown = format!("{payment:?}");
    assert!(
        shown.contains("39000") && !shown.contains("홍길동") && !shown.contains("receipt.example"),
        "{shown}"
    );
}

#[test]
fn a_virtual_account_is_read_and_its_number_stays_out_of_debug_output() {
    let payment = read(with(
        common("VIRTUAL_ACCOUNT_ISSUED"),
        json!({"method": {"type": "PaymentMethodVirtualAccount", "bank": "SHINHAN", "accountNumber": "56211105948400",
            "remitteeName": "가게이름", "issuedAt": "2026-03-02T04:05:41Z", "expiredAt": "2026-03-05T23:59:59.123456789+09:00"}}),
    ));
    let method = payment.method.clone().expect("a method");
    let account = method.virtual_account.expect("an account");
    assert_eq!(method.kind, "virtual_account");
    assert_eq!(
        (account.bank.as_deref(), account.account_number.as_str()),
        (Some("SHINHAN"), "56211105948400")
    );
    assert_eq!(account.expired_at, Some(utc("2026-03-05T14:59:59.123456789Z")));
    let shown = format!("{payment:?}");
    assert!(
        shown.contains("[redacted]") && !shown.contains("5621") && !shown.contains("가게"),
        "{shown}"
    );
}

#[test]
fn a_wallet_tells_provider_and_the_card_behind_it() {
    let payment = read(with(
        common("PAID"),
        json!({"method": {"type": "PaymentMethodEasyPay", "provider": "KAKAOPAY",
            "easyPayMethod": {"type": "PaymentMethodCard", "card": {"issuer": "KB_CARD"}}}}),
    ));
    let method = payment.method.expect("a method");
    assert_eq!(method.kind, "easy_pay");
    assert_eq!(
        (method.provider.as_deref(), method.issuer.as_deref()),
        (Some("KAKAOPAY"), Some("KB_CARD"))
    );
}

#[test]
fn cancellations_are_read_whatever_their_state() {
    use CancellationStatus::{Failed, Requested, Succeeded, Unknown};

    let cancellation = |status: &str| {
        json!({"status": status, "id": status, "totalAmount": 1000, "taxFreeAmount": 0, "vatAmount": 91,
               "reason": "홍길동 변심", "requestedAt": "2026-03-03T00:00:00Z", "trigger": "CONSOLE", "easyPayDiscountAmount": 0})
    };
    let all = ["SUCCEEDED", "REQUESTED", "FAILED", "REVERSED_LATER"].map(cancellation);
    let payment = read(with(common("PARTIAL_CANCELLED"), json!({"cancellations": all})));
    let states: Vec<_> = payment
        .cancellations
        .iter()
        .map(|cancellation| cancellation.status)
        .collect();
    assert_eq!(states, [Succeeded, Requested, Failed, Unknown]);
    assert_eq!(payment.cancellations[0].trigger.as_deref(), Some("CONSOLE"));
    assert!(!format!("{payment:?}").contains("홍길동"));
}

#[test]
fn what_did_not_exist_yet_is_carried_not_refused() {
    let payment = read(with(
        common("FROZEN"),
        json!({"channel": {"type": "STAGING", "pgProvider": "NEW_PG"}, "method": {"type": "PaymentMethodPalmScan", "bank": 7},
               "cancellations": null, "brandNew": {"deep": [1]}}),
    ));
    assert_eq!(payment.status, PaymentStatus::Unknown("FROZEN".into()));
    assert_eq!(payment.channel_type, ChannelType::Unknown);
    assert_eq!(payment.method.map(|method| method.kind), Some("palm_scan".to_owned()));
}

#[test]
fn a_method_of_an_odd_shape_is_left_out_rather_than_fatal() {
    for method in [json!("card"), json!({"no": "type"}), json!([]), json!(null)] {
        assert_eq!(read(with(common("PAID"), json!({"method": method}))).method, None);
    }
    let unnumbered = json!({"method": {"type": "PaymentMethodVirtualAccount", "bank": "SHINHAN"}});
    assert_eq!(
        read(with(common("PAID"), unnumbered))
            .method
            .and_then(|method| method.virtual_account),
        None
    );
}

#[test]
fn a_missing_channel_is_not_a_live_one() {
    assert_eq!(read(common("READY")).channel_type, ChannelType::Unknown);
}

#[test]
fn an_amount_that_is_missing_or_no_integer_fails() {
    for total in [json!(null), json!("39000"), json!(39000.5)] {
        let mut payment = common("PAID");
        payment["amount"]["total"] = total;
        assert!(serde_json::from_value::<Payment>(payment).is_err());
    }
}

#[test]
fn the_balance_is_what_is_not_yet_cancelled() {
    let mut payment = common("PARTIAL_CANCELLED");
    payment["amount"]["cancelled"] = json!(9_000);
    assert_eq!(read(payment).amount.cancellable(), 30_000);
}

#[test]
fn every_status_name_survives_the_way_there_and_back() {
    for name in [
        "READY",
        "PAY_PENDING",
        "VIRTUAL_ACCOUNT_ISSUED",
        "PAID",
        "FAILED",
        "PARTIAL_CANCELLED",
        "CANCELLED",
        "NEW",
    ] {
        let status = PaymentStatus::from(name.to_owned());
        assert_eq!(status.as_str(), name);
        assert_eq!(matches!(status, PaymentStatus::Unknown(_)), name == "NEW");
    }
    assert_eq!(PaymentStatus::PayPending.filter_name(), "PENDING");
}
