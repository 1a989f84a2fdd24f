use std::time::Duration;

use serde_json::json;
use tokio::net::TcpSocket;

use super::fake::{AMPLE, Fake, Fate, Fault, SECRET, STORE, client, lossy, payment};
use crate::portone::{
    Client, ClientConfig, ConfigError, Error, PaymentStatus, Secret, Unreachable, VirtualAccountClosure,
};

fn failed(status: u16) -> Error {
    Error::Failed { status, kind: None }
}

#[tokio::test]
async fn a_payment_is_asked_for_by_its_encoded_id_and_store() {
    let fake = Fake::start().await;
    let id = "결제/1 ?&#%2F..";
    fake.put(payment(id, "PAID"));
    let read = fake
        .client()
        .payment(id, AMPLE)
        .await
        .expect("an answer")
        .expect("a payment");
    assert_eq!((read.id.as_str(), read.status), (id, PaymentStatus::Paid));

    let seen = fake.seen();
    let expected = "/payments/%EA%B2%B0%EC%A0%9C%2F1%20%3F%26%23%252F..?storeId=store-1";
    assert_eq!(seen[0].uri.to_string(), expected);
    assert_eq!(
        seen[0].header("authorization"),
        Some(format!("PortOne {SECRET}").as_str())
    );
    assert_eq!(seen[0].header("idempotency-key"), None);
}

#[tokio::test]
async fn connections_are_reused() {
    let fake = Fake::start().await;
    fake.put(payment("p1", "PAID"));
    let client = fake.client();
    for _ in 0..3 {
        client.clone().payment("p1", AMPLE).await.expect("an answer");
    }
    let peers: Vec<_> = fake.seen().iter().map(|seen| seen.peer).collect();
    assert_eq!(peers, [peers[0]; 3]);
}

#[tokio::test]
async fn an_unknown_payment_is_none_but_a_gateways_404_is_a_failure() {
    let fake = Fake::start().await;
    assert_eq!(fake.client().payment("p1", AMPLE).await, Ok(None));
    fake.fault(Fault::Answer(404, "<html>Not Found</html>".into()));
    assert_eq!(fake.client().payment("p1", AMPLE).await, Err(failed(404)));
}

#[tokio::test]
async fn transient_failures_are_retried_until_an_answer_comes() {
    let fake = Fake::start().await;
    fake.put(payment("p1", "READY"));
    fake.refuse(&[(500, "INTERNAL"), (429, "TOO_MANY"), (503, "PAYMENT_NOT_FOUND")]);
    fake.fault(Fault::Answer(502, "<html>Bad Gateway</html>".into()));
    let read = fake
        .client()
        .payment("p1", AMPLE)
        .await
        .expect("an answer")
        .expect("a payment");
    assert_eq!(read.status, PaymentStatus::Ready);
    assert_eq!(fake.seen().len(), 5);
}

#[tokio::test]
async fn lost_and_broken_replies_are_asked_for_again() {
    let fake = Fake::start().await;
    fake.put(payment("p1", "PAID"));
    let proxy = lossy(fake.address, vec![Fate::Lost, Fate::Broken]).await;
    let read = client(proxy, |_| ())
        .payment("p1", AMPLE)
        .await
        .expect("an answer")
        .expect("a payment");
    assert_eq!(read.status, PaymentStatus::Paid);
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn a_stuck_attempt_is_given_up_and_repeated() {
    let fake = Fake::start().await;
    fake.put(payment("p1", "PAID"));
    fake.fault(Fault::Hang);
    let client = client(fake.address, |config| {
        config.lookup_timeout = Duration::from_millis(300);
    });
    assert!(client.payment("p1", AMPLE).await.expect("an answer").is_some());
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn the_callers_time_is_the_limit_of_all_attempts_together() {
    let fake = Fake::start().await;
    fake.fault(Fault::Hang);
    let read = fake.client().payment("p1", Duration::from_millis(100)).await;
    assert_eq!(read, Err(Error::Unreachable(Unreachable::Timeout)));

    // A pause that would outlast the caller's time is not begun.
    fake.fault(Fault::AnswerWith(429, "retry-after", "3600".into()));
    assert_eq!(fake.client().payment("p1", AMPLE).await, Err(failed(429)));
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn nobody_listening_is_told_apart() {
    // Bound and not listening: nobody else gets the port meanwhile.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = socket.local_addr().expect("an address");
    let read = client(address, |_| ()).payment("p1", Duration::from_millis(500)).await;
    assert_eq!(read, Err(Error::Unreachable(Unreachable::Connect)));
}

#[tokio::test]
async fn a_wrong_secret_is_told_at_once() {
    let fake = Fake::start().await;
    let client = client(fake.address, |config| config.api_secret = Secret::new("another"));
    assert_eq!(client.payment("p1", AMPLE).await, Err(Error::Unauthorized));
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let (fake, elsewhere) = (Fake::start().await, Fake::start().await);
    elsewhere.put(payment("p1", "PAID"));
    fake.fault(Fault::AnswerWith(
        307,
        "location",
        format!("http://{}/payments/p1", elsewhere.address),
    ));
    assert_eq!(fake.client().payment("p1", AMPLE).await, Err(failed(307)));
    assert!(elsewhere.seen().is_empty(), "the secret went elsewhere");
}

#[tokio::test]
async fn an_answer_about_something_else_is_no_answer() {
    let fake = Fake::start().await;
    fake.fault(Fault::Answer(200, payment("p2", "PAID").to_string()));
    fake.fault(Fault::Answer(200, "<html>홍길동</html>".into()));
    fake.fault(Fault::Answer(200, json!({"status": "PAID", "id": "p1"}).to_string()));
    for _ in 0..3 {
        let error = fake.client().payment("p1", AMPLE).await.expect_err("no answer");
        assert!(
            matches!(error, Error::Unreadable(_)) && !error.to_string().contains("홍길동"),
            "{error}"
        );
    }
    assert_eq!(fake.seen().len(), 3, "repeating would not help");
}

#[tokio::test]
async fn an_id_that_names_nothing_is_not_sent() {
    let fake = Fake::start().await;
    for id in ["", ".", ".."] {
        assert_eq!(fake.client().payment(id, AMPLE).await, Err(Error::BadPaymentId));
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn the_amount_is_registered_beforehand() {
    let fake = Fake::start().await;
    assert_eq!(
        fake.client().pre_register("p1", 39_000, 9_000, "KRW", AMPLE).await,
        Ok(())
    );
    let seen = &fake.seen()[0];
    assert_eq!(
        (seen.method.as_str(), seen.uri.path()),
        ("POST", "/payments/p1/pre-register")
    );
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(
        seen.body,
        json!({"storeId": STORE, "totalAmount": 39000, "taxFreeAmount": 9000, "currency": "KRW"})
    );

    fake.refuse(&[(409, "ALREADY_PAID")]);
    let error = fake
        .client()
        .pre_register("p1", 39_000, 0, "KRW", AMPLE)
        .await
        .expect_err("a refusal");
    assert!(matches!(error, Error::Refused(refusal) if refusal.kind == "ALREADY_PAID"));
}

#[tokio::test]
async fn an_account_is_closed_while_it_waits_and_left_alone_once_it_does_not() {
    let fake = Fake::start().await;
    fake.put(payment("p1", "VIRTUAL_ACCOUNT_ISSUED"));
    let closed_at = "2026-03-02T04:05:06Z".parse().expect("a time");
    let closing = fake.client().close_virtual_account("p1", AMPLE).await;
    assert_eq!(closing, Ok(VirtualAccountClosure::Closed(closed_at)));
    assert_eq!(
        fake.seen()[0].uri.to_string(),
        "/payments/p1/virtual-account/close?storeId=store-1"
    );

    fake.put(payment("p1", "PAID"));
    assert_eq!(
        fake.client().close_virtual_account("p1", AMPLE).await,
        Ok(VirtualAccountClosure::NotWaiting)
    );
}

#[test]
fn a_senseless_configuration_is_refused_and_a_sensible_one_hides_its_secret() {
    let config = |base_url: &str, secret: &str, store: &str| ClientConfig::new(base_url, Secret::new(secret), store, 0);
    for base_url in [
        "",
        "api.portone.io",
        "ftp://api.portone.io",
        "https://api.portone.io?x=1",
        "https://a/#b",
    ] {
        assert!(
            matches!(
                Client::try_new(&config(base_url, SECRET, STORE)),
                Err(ConfigError::BaseUrl)
            ),
            "{base_url}"
        );
    }
    for secret in ["", "two words", "비밀", "line\nbreak"] {
        assert!(
            matches!(
                Client::try_new(&config("https://a", secret, STORE)),
                Err(ConfigError::ApiSecret)
            ),
            "{secret}"
        );
    }
    assert!(matches!(
        Client::try_new(&config("https://a", SECRET, "")),
        Err(ConfigError::StoreId)
    ));

    let config = config("https://api.portone.io", SECRET, STORE);
    let shown = format!("{config:?} {:?}", Client::try_new(&config).expect("a client"));
    assert!(!shown.contains(SECRET) && shown.contains("[redacted]"), "{shown}");
}
