use serde_json::json;

use super::*;

fn left(total: i64, tax_free: i64) -> Remaining {
    Remaining {
        total,
        tax_free,
        vat: vat_within(total - tax_free),
    }
}

fn order(body: Value) -> CancelOrder {
    let mut body = body;
    body["reason"] = "test".into();
    CancelOrder::parse(&body).expect("the body is well formed")
}

#[test]
fn a_malformed_body_is_refused_before_anything_else() {
    let bodies = [
        json!([]),
        json!("reason"),
        json!({}),
        json!({"reason": 1}),
        json!({"reason": null}),
        json!({"reason": "r", "amount": 1.5}),
        json!({"reason": "r", "amount": 1.0}),
        json!({"reason": "r", "amount": "1000"}),
        json!({"reason": "r", "amount": 0}),
        json!({"reason": "r", "amount": -1}),
        json!({"reason": "r", "taxFreeAmount": -1}),
        json!({"reason": "r", "requester": "SOMEBODY"}),
        json!({"reason": "r", "skipWebhook": "yes"}),
        json!({"reason": "r", "refundAccount": {"bank": "SHINHAN"}}),
    ];
    for body in bodies {
        assert!(
            matches!(CancelOrder::parse(&body), Err(ApiError::InvalidRequest(_))),
            "{body}"
        );
    }
    assert!(CancelOrder::parse(&json!({"reason": "r", "amount": null, "new field": 1})).is_ok());
}

#[test]
fn amounts_are_checked_balance_first() {
    let refused = |body: Value, left: &Remaining| check_amounts(&order(body), left).expect_err("must be refused");
    let mixed = left(10_000, 4_000);
    assert_eq!(
        refused(json!({"amount": 20_000, "currentCancellableAmount": 9_999}), &mixed),
        ApiError::CancellableAmountConsistencyBroken { cancellable: 10_000 }
    );
    assert_eq!(
        refused(json!({"amount": 10_001, "currentCancellableAmount": 10_000}), &mixed),
        ApiError::CancelAmountExceeds { cancellable: 10_000 }
    );
    assert_eq!(
        refused(json!({"amount": 5_000, "taxFreeAmount": 4_001}), &mixed),
        ApiError::CancelTaxFreeAmountExceeds { cancellable: 4_000 }
    );
    assert_eq!(
        refused(
            json!({"amount": 3_000, "taxFreeAmount": 2_900, "vatAmount": 101}),
            &mixed
        ),
        ApiError::SumOfPartsExceedsCancelAmount
    );
    assert_eq!(
        refused(json!({"amount": 6_001}), &mixed),
        ApiError::CancelTaxAmountExceeds { cancellable: 6_000 }
    );
    assert_eq!(
        refused(json!({"amount": 6_000, "vatAmount": 546}), &mixed),
        ApiError::CancelTaxAmountExceeds { cancellable: 6_000 }
    );
    assert_eq!(
        refused(json!({}), &left(0, 0)),
        ApiError::CancelAmountExceeds { cancellable: 0 }
    );
}

#[test]
fn parts_of_a_cancellation_sum_up_to_those_of_the_payment() {
    let mut balance = left(39_000, 1_000);
    let first = check_amounts(&order(json!({"amount": 1_234})), &balance).expect("within the balance");
    assert_eq!((first.total, first.tax_free, first.vat), (1_234, 0, 112));
    balance.total -= first.total;
    balance.vat -= first.vat;
    let rest = check_amounts(&order(json!({})), &balance).expect("the rest");
    assert_eq!(
        (rest.total, rest.tax_free, rest.vat),
        (37_766, 1_000, vat_within(38_000) - 112)
    );
}
