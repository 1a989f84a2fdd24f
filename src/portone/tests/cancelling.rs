use std::time::Duration;

use serde_json::json;

use super::fake::{AMPLE, Fake, Fate, Fault, STORE, cancellation, client, lossy, payment};
use crate::portone::{
    CancelError, CancelRequest, CancellationStatus, Error, IdempotencyKey, PgRefusal, RefundAccount, Requester, Secret,
    Unreachable,
};

const KEY: &str = "refund-01J9ZK3V6Q8W2N4B7XJ5RT0M1C";

fn request(amount: i64, current: i64) -> CancelRequest {
    CancelRequest {
        amount,
        tax_free_amount: 0,
        reason: "변심".into(),
        current_cancellable_amount: current,
        requester: Some(Requester::Customer),
        refund_account: None,
        idempotency_key: IdempotencyKey::parse(KEY).expect("a key"),
    }
}

async fn paid() -> Fake {
    let fake = Fake::start().await;
    fake.put(payment("p1", "PAID"));
    fake
}

fn keys(fake: &Fake) -> Vec<String> {
    fake.seen()
        .iter()
        .map(|seen| seen.header("idempotency-key").unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn a_cancel_carries_its_balance_and_its_quoted_key() {
    let fake = paid().await;
    let whole = CancelRequest {
        tax_free_amount: 400,
        refund_account: Some(RefundAccount {
            bank: "SHINHAN".into(),
            number: "110123456789".into(),
            holder_name: "홍길동".into(),
            holder_phone_number: None,
        }),
        ..request(1_000, 39_000)
    };
    let cancelled = fake.client().cancel("p1", &whole, AMPLE).await.expect("a cancellation");
    assert_eq!(
        (cancelled.status, cancelled.total_amount),
        (CancellationStatus::Succeeded, 1_000)
    );

    let seen = &fake.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.uri.to_string().as_str()),
        ("POST", "/payments/p1/cancel")
    );
    assert_eq!(seen.header("idempotency-key"), Some(format!("\"{KEY}\"").as_str()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    let body = json!({
        "storeId": STORE, "amount": 1000, "taxFreeAmount": 400, "reason": "변심", "currentCancellableAmount": 39000,
        "requester": "CUSTOMER", "refundAccount": {"bank": "SHINHAN", "number": "110123456789", "holderName": "홍길동"},
    });
    assert_eq!(seen.body, body);
}

#[tokio::test]
async fn a_cancel_whose_reply_is_lost_takes_place_once() {
    let fake = paid().await;
    let proxy = lossy(fake.address, vec![Fate::Lost, Fate::Broken]).await;
    let cancelled = client(proxy, |_| ())
        .cancel("p1", &request(39_000, 39_000), AMPLE)
        .await
        .expect("a cancellation");
    assert_eq!(cancelled.status, CancellationStatus::Succeeded);
    assert_eq!(keys(&fake), vec![format!("\"{KEY}\""); 3]);
    assert_eq!(fake.payment("p1")["amount"]["cancelled"], 39_000);
    assert_eq!(fake.payment("p1")["cancellations"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_cancel_that_is_still_running_is_waited_for_with_the_same_key() {
    let fake = paid().await;
    fake.refuse(&[
        (409, "IDEMPOTENCY_OUTSTANDING_REQUEST"),
        (409, "IDEMPOTENCY_OUTSTANDING_REQUEST"),
    ]);
    let cancelled = fake
        .client()
        .cancel("p1", &request(39_000, 39_000), AMPLE)
        .await
        .expect("a cancellation");
    assert_eq!(cancelled.status, CancellationStatus::Succeeded);
    assert_eq!(keys(&fake), vec![format!("\"{KEY}\""); 3]);
}

#[tokio::test]
async fn two_refunds_at_once_cannot_both_succeed() {
    let fake = paid().await;
    let other_key = IdempotencyKey::parse("refund-of-somebody-else").expect("a key");
    let other = CancelRequest {
        idempotency_key: other_key,
        ..request(39_000, 39_000)
    };
    fake.client().cancel("p1", &other, AMPLE).await.expect("a cancellation");
    let error = fake
        .client()
        .cancel("p1", &request(39_000, 39_000), AMPLE)
        .await
        .expect_err("a refusal");
    assert!(matches!(error, CancelError::Refused(refusal) if refusal.kind == "CANCELLABLE_AMOUNT_CONSISTENCY_BROKEN"));
    assert_eq!(fake.payment("p1")["amount"]["cancelled"], 39_000);
}

#[tokio::test]
async fn documented_refusals_are_final_at_once() {
    let codes = [
        (400, "NEGATIVE_PROMOTION_ADJUSTED_CANCEL_AMOUNT"),
        (400, "INVALID_REQUEST"),
        (403, "FORBIDDEN"),
        (404, "PAYMENT_NOT_FOUND"),
        (409, "PAYMENT_NOT_PAID"),
        (409, "PAYMENT_ALREADY_CANCELLED"),
        (409, "CANCEL_AMOUNT_EXCEEDS_CANCELLABLE_AMOUNT"),
        (409, "MAX_CANCEL_COUNT_REACHED"),
        (502, "PG_PROVIDER"),
    ];
    let fake = paid().await;
    fake.refuse(&codes);
    for (status, kind) in codes {
        let error = fake
            .client()
            .cancel("p1", &request(1, 39_000), AMPLE)
            .await
            .expect_err("a refusal");
        let CancelError::Refused(refusal) = error else {
            panic!("{error:?}")
        };
        assert_eq!((refusal.status, refusal.kind), (status, kind));
    }
    assert_eq!(fake.seen().len(), codes.len());
}

#[tokio::test]
async fn the_gateways_words_are_kept_for_the_operator() {
    let fake = paid().await;
    fake.fault(Fault::Answer(
        502,
        json!({"type": "PG_PROVIDER", "pgCode": "7044", "pgMessage": "잔액 부족"}).to_string(),
    ));
    let error = fake
        .client()
        .cancel("p1", &request(1, 39_000), AMPLE)
        .await
        .expect_err("a refusal");
    let CancelError::Refused(refusal) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        refusal.pg,
        Some(PgRefusal {
            code: "7044".into(),
            message: "잔액 부족".into()
        })
    );
}

#[tokio::test]
async fn what_the_cancellation_says_counts_not_the_200() {
    use CancellationStatus::{Failed, Requested, Unknown};
    let fake = paid().await;
    for (status, expected) in [("FAILED", Failed), ("REQUESTED", Requested), ("ON_HOLD", Unknown)] {
        fake.fault(Fault::Answer(
            200,
            json!({"cancellation": cancellation(status, 1)}).to_string(),
        ));
        let cancelled = fake
            .client()
            .cancel("p1", &request(1, 39_000), AMPLE)
            .await
            .expect("a cancellation");
        assert_eq!(cancelled.status, expected);
    }
}

#[tokio::test]
async fn without_an_answer_in_time_the_outcome_is_unknown() {
    let fake = paid().await;
    let short = Duration::from_millis(100);
    fake.fault(Fault::Hang);
    let error = fake
        .client()
        .cancel("p1", &request(1, 39_000), short)
        .await
        .expect_err("no answer");
    assert_eq!(
        error,
        CancelError::OutcomeUnknown(Error::Unreachable(Unreachable::Timeout))
    );

    fake.refuse(&[(500, "INTERNAL")]);
    let client = client(fake.address, |config| {
        (config.backoff_first, config.backoff_max) = (AMPLE, AMPLE);
    });
    let error = client
        .cancel("p1", &request(1, 39_000), short)
        .await
        .expect_err("no answer");
    assert_eq!(
        error,
        CancelError::OutcomeUnknown(Error::Failed {
            status: 500,
            kind: Some("INTERNAL".into())
        })
    );
}

#[tokio::test]
async fn answers_that_nobody_documented_leave_the_outcome_unknown() {
    let fake = paid().await;
    fake.refuse(&[(409, "BRAND_NEW"), (418, "PG_PROVIDER")]);
    fake.fault(Fault::Answer(400, "<html/>".into()));
    fake.fault(Fault::Answer(200, "<html/>".into()));
    fake.fault(Fault::Answer(
        200,
        json!({"cancellation": {"status": "SUCCEEDED"}}).to_string(),
    ));
    for _ in 0..5 {
        let error = fake
            .client()
            .cancel("p1", &request(1, 39_000), AMPLE)
            .await
            .expect_err("no usable answer");
        assert!(matches!(error, CancelError::OutcomeUnknown(_)), "{error:?}");
    }
    assert_eq!(fake.seen().len(), 5, "the stored answer would only come again");
}

#[tokio::test]
async fn being_turned_away_is_certain_only_if_no_earlier_attempt_was_let_in() {
    let fake = paid().await;
    let stranger = client(fake.address, |config| config.api_secret = Secret::new("another"));
    let error = stranger
        .cancel("p1", &request(1, 39_000), AMPLE)
        .await
        .expect_err("a refusal");
    assert_eq!(error, CancelError::Unauthorized);

    for (status, kind) in [(401, "UNAUTHORIZED"), (403, "FORBIDDEN")] {
        fake.refuse(&[(500, "INTERNAL"), (status, kind)]);
        let error = fake
            .client()
            .cancel("p1", &request(1, 39_000), AMPLE)
            .await
            .expect_err("no answer");
        assert!(matches!(error, CancelError::OutcomeUnknown(_)), "{error:?}");
        // Too many requests means that nobody looked at them.
        fake.refuse(&[(429, "TOO_MANY"), (status, kind)]);
        let error = fake
            .client()
            .cancel("p1", &request(1, 39_000), AMPLE)
            .await
            .expect_err("a refusal");
        assert!(
            matches!(error, CancelError::Unauthorized | CancelError::Refused(_)),
            "{error:?}"
        );
    }
}
