use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

use super::fake::{AMPLE, Fake, payment};
use crate::portone::{Client, PaymentStatus};

fn start() -> DateTime<Utc> {
    "2026-03-02T00:00:00Z".parse().expect("a time")
}

fn end() -> DateTime<Utc> {
    start() + TimeDelta::days(1)
}

fn changed(number: usize, seconds: i64) -> Value {
    let mut payment = payment(&id(number), "PAID");
    let at = start() + TimeDelta::seconds(seconds);
    payment["statusChangedAt"] = json!(at.to_rfc3339_opts(SecondsFormat::Micros, true));
    payment
}

fn id(number: usize) -> String {
    format!("p{number:04}")
}

async fn walk(client: &Client, mut between_pages: impl FnMut()) -> (Vec<String>, Vec<String>) {
    let (mut ids, mut unreadable) = (Vec::new(), Vec::new());
    let mut changes = client.changes(start(), end(), Vec::new(), AMPLE);
    while let Some(page) = changes.next().await.expect("a page") {
        ids.extend(page.payments.into_iter().map(|payment| payment.id));
        unreadable.extend(page.unreadable);
        between_pages();
    }
    (ids, unreadable)
}

#[tokio::test]
async fn a_page_is_asked_for_by_the_time_of_change() {
    let fake = Fake::start().await;
    fake.put(changed(1, 1));
    let statuses = [PaymentStatus::Paid, PaymentStatus::PayPending];
    let page = fake
        .client()
        .list(start(), end(), &statuses, 0, AMPLE)
        .await
        .expect("a page");
    assert_eq!((page.payments.len(), page.is_last()), (1, true));

    let query = fake.seen()[0].uri.query().map(str::to_owned).expect("a query");
    assert!(
        query.starts_with("requestBody=%7B%22") && !query.contains(['{', '"', '+', ' ']),
        "{query}"
    );
    let fields: Vec<(String, Value)> = serde_urlencoded::from_str::<Vec<(String, String)>>(&query)
        .expect("a form")
        .into_iter()
        .map(|(name, value)| (name, serde_json::from_str(&value).expect("JSON")))
        .collect();
    let wish = json!({"page": {"number": 0, "size": 100}, "filter": {
        "storeId": "store-1", "from": "2026-03-02T00:00:00.000Z", "until": "2026-03-03T00:00:00.000Z",
        "timestampType": "STATUS_CHANGED_AT", "sortBy": "STATUS_CHANGED_AT", "sortOrder": "ASC",
        "status": ["PAID", "PENDING"],
    }});
    assert_eq!(fields, [("requestBody".to_owned(), wish)]);
}

#[tokio::test]
async fn a_walk_sees_every_payment_once_in_order() {
    for count in [0, 1, 99, 100, 101, 350] {
        let fake = Fake::start().await;
        (0..count).for_each(|number| fake.put(changed(number, i64::try_from(number).expect("small"))));
        let (ids, _) = walk(&fake.client(), || ()).await;
        assert_eq!(ids, (0..count).map(id).collect::<Vec<_>>(), "{count}");
    }
}

#[tokio::test]
async fn a_payment_that_changes_during_the_walk_hides_no_other() {
    let fake = Fake::start().await;
    (0..250).for_each(|number| fake.put(changed(number, i64::try_from(number).expect("small"))));
    // After each page one of its payments changes again, which pulls all later ones forward by a place.
    let mut page = 0;
    let (mut ids, _) = walk(&fake.client(), || {
        fake.put(changed(page, 1_000 + i64::try_from(page).expect("small")));
        page += 1;
    })
    .await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids, (0..250).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn counting_pages_would_lose_one_there() {
    let fake = Fake::start().await;
    (0..150).for_each(|number| fake.put(changed(number, i64::try_from(number).expect("small"))));
    let client = fake.client();
    let first = client.list(start(), end(), &[], 0, AMPLE).await.expect("a page");
    fake.put(changed(0, 1_000));
    let second = client.list(start(), end(), &[], 1, AMPLE).await.expect("a page");
    let ids: Vec<_> = first
        .payments
        .into_iter()
        .chain(second.payments)
        .map(|payment| payment.id)
        .collect();
    assert!(
        !ids.contains(&id(100)),
        "the hazard is gone, and so is the reason for walking by time"
    );
}

#[tokio::test]
async fn a_walk_passes_an_instant_that_fills_pages() {
    let fake = Fake::start().await;
    (0..230).for_each(|number| fake.put(changed(number, 5)));
    (230..240).for_each(|number| fake.put(changed(number, 6)));
    let (ids, _) = walk(&fake.client(), || ()).await;
    assert_eq!(ids, (0..240).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_unreadable_payment_is_named_and_hides_no_other() {
    let fake = Fake::start().await;
    (0..150).for_each(|number| fake.put(changed(number, i64::try_from(number).expect("small"))));
    let mut odd = changed(70, 70);
    odd["amount"] = json!("a lot");
    fake.put(odd);
    let (ids, unreadable) = walk(&fake.client(), || ()).await;
    assert_eq!(unreadable, [id(70)]);
    assert_eq!(ids, (0..150).filter(|number| *number != 70).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_walk_goes_on_after_a_failed_page() {
    let fake = Fake::start().await;
    (0..150).for_each(|number| fake.put(changed(number, i64::try_from(number).expect("small"))));
    let client = fake.client();
    let mut changes = client.changes(start(), end(), Vec::new(), AMPLE);
    let first = changes.next().await.expect("a page").expect("payments");
    fake.refuse(&[(403, "FORBIDDEN")]);
    assert!(changes.next().await.is_err());
    let second = changes.next().await.expect("a page").expect("payments");
    assert_eq!(first.payments.len() + second.payments.len(), 150);
    assert!(changes.next().await.expect("the end").is_none());
}
