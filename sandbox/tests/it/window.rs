//! The pages in place of the payment window.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{STORE, Sim};

async fn page(sim: &Sim, path: &str, query: &[(&str, &str)]) -> (u16, String) {
    let response = sim
        .request(Method::GET, path)
        .query(query)
        .send()
        .await
        .expect("the page is served");
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    (
        response.status().as_u16(),
        response.text().await.expect("the page is text"),
    )
}

/// Presses a button; gives the address that the browser is sent to.
async fn press(sim: &Sim, id: &str, action: &str, form: &[(&str, &str)]) -> reqwest::Url {
    let request = sim.request(Method::POST, &format!("/window/{id}/{action}")).form(form);
    let response = request.send().await.expect("the button answers");
    assert_eq!(response.status().as_u16(), 303);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    reqwest::Url::parse(&sim.running.base_url())
        .unwrap()
        .join(&location)
        .unwrap()
}

fn query(url: &reqwest::Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

const BACK: &str = "https://shop.example/return?order=7";

fn request<'a>(total: &'a str, back: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("storeId", STORE),
        ("channelKey", "channel-key-1"),
        ("orderName", "손뜨개 가방 <b>외 1건</b>"),
        ("totalAmount", total),
        ("currency", "KRW"),
        ("payMethod", "CARD"),
        ("customer", r#"{"fullName":"홍길동"}"#),
        ("redirectUrl", back),
    ]
}

#[tokio::test]
async fn opening_the_page_opens_the_window_once() {
    let sim = Sim::start().await;
    for _ in 0..3 {
        let (status, html) = page(&sim, "/window/p", &request("39000", BACK)).await;
        assert_eq!(status, 200);
        for part in [
            "39,000원",
            "결제하기",
            "Pay",
            "가상계좌 발급",
            "결제 실패",
            "홍길동",
            "lang=\"ko\"",
        ] {
            assert!(html.contains(part), "{part} is missing");
        }
        assert!(
            html.contains("손뜨개 가방 &lt;b&gt;외 1건&lt;/b&gt;") && !html.contains("<b>"),
            "markup must be escaped"
        );
        assert!(!html.contains("<script"), "the page needs no scripts");
    }
    assert_eq!(sim.inside("p").await["transactions"].as_array().unwrap().len(), 1);
    assert_eq!(sim.payment("p").await["channel"]["key"], "channel-key-1");
}

#[tokio::test]
async fn paying_leads_back_to_the_shop() {
    let sim = Sim::start().await;
    page(&sim, "/window/p", &request("39000", BACK)).await;
    let back = press(&sim, "p", "pay", &[("redirectUrl", BACK)]).await;
    assert_eq!(
        (back.host_str(), query(&back, "order")),
        (Some("shop.example"), Some("7".to_owned()))
    );
    assert_eq!(query(&back, "paymentId").as_deref(), Some("p"));
    assert_eq!(query(&back, "transactionType").as_deref(), Some("PAYMENT"));
    assert_eq!(query(&back, "code"), None);
    let payment = sim.payment("p").await;
    assert_eq!(
        (&payment["status"], query(&back, "txId")),
        (&json!("PAID"), payment["transactionId"].as_str().map(str::to_owned))
    );
    let (status, html) = page(&sim, "/window/p", &request("39000", BACK)).await;
    assert!(status == 200 && html.contains("결제 완료") && html.contains("쇼핑몰로 돌아가기"));
}

#[tokio::test]
async fn failing_leads_back_with_a_code_and_can_be_tried_again() {
    let sim = Sim::start().await;
    page(&sim, "/window/p", &request("39000", BACK)).await;
    let back = press(&sim, "p", "fail", &[("redirectUrl", BACK)]).await;
    assert_eq!(query(&back, "code").as_deref(), Some("PGProviderError"));
    assert!(query(&back, "message").is_some());
    assert_eq!(sim.payment("p").await["status"], "FAILED");
    let (_, html) = page(&sim, "/window/p", &[("redirectUrl", BACK)]).await;
    assert!(html.contains("다시 시도"));
    press(&sim, "p", "open", &[("redirectUrl", BACK)]).await;
    press(&sim, "p", "pay", &[("redirectUrl", BACK), ("totalAmount", "1")]).await;
    assert_eq!(
        sim.payment("p").await["amount"]["total"],
        1,
        "the shopper altered the amount"
    );
}

#[tokio::test]
async fn a_virtual_account_is_shown_and_takes_a_deposit() {
    let sim = Sim::start().await;
    page(&sim, "/window/p", &request("39000", BACK)).await;
    let stays = press(&sim, "p", "issue", &[("redirectUrl", BACK)]).await;
    assert_eq!(stays.path(), "/window/p");
    let number = sim.payment("p").await["method"]["accountNumber"]
        .as_str()
        .unwrap()
        .to_owned();
    let (_, html) = page(&sim, "/window/p", &[("redirectUrl", BACK)]).await;
    for part in [number.as_str(), "신한은행", "입금하기", "쇼핑몰로 돌아가기"] {
        assert!(html.contains(part), "{part} is missing");
    }
    press(&sim, "p", "deposit", &[("redirectUrl", BACK)]).await;
    assert_eq!(sim.payment("p").await["status"], "PAID");
}

#[tokio::test]
async fn the_window_refuses_what_it_must() {
    let sim = Sim::start().await;
    for evil in [
        "javascript:alert(1)",
        "//evil.example",
        "data:text/html,x",
        "shop.example/return",
    ] {
        let (status, html) = page(&sim, "/window/evil", &request("1000", evil)).await;
        assert!(status == 409 && !html.contains(evil), "{evil}");
    }
    assert_eq!(sim.get("/payments/evil").await.0, 404, "nothing was opened");
    sim.post("/payments/p/pre-register", json!({"totalAmount": 1_000}))
        .await;
    let (status, html) = page(&sim, "/window/p", &request("999", BACK)).await;
    assert_eq!(status, 409);
    assert!(html.contains("AmountNotEqualToPredefined") && html.contains("code=AmountNotEqualToPredefined"));
    let (_, html) = page(&sim, "/window/q", &[("storeId", "store-other"), ("totalAmount", "1")]).await;
    assert!(html.contains("StoreNotFound"));
    let (status, _) = page(&sim, "/window/%3Cscript%3E", &[]).await;
    assert_eq!(status, 404);
    let (_, html) = page(&sim, "/window/%3Cscript%3E", &[]).await;
    assert!(!html.contains("<script"));
}

#[tokio::test]
async fn the_first_page_lists_the_payments() {
    let sim = Sim::start().await;
    assert!(page(&sim, "/", &[]).await.1.contains("아직 결제가 없습니다"));
    sim.act("a%2Fb", "pay", json!({"amount": 12_345, "orderName": "<i>우산</i>"}))
        .await;
    sim.post("/payments/registered/pre-register", json!({"totalAmount": 5_000}))
        .await;
    let (_, html) = page(&sim, "/", &[]).await;
    for part in [
        "12,345원",
        "&lt;i&gt;우산&lt;/i&gt;",
        "/window/a%2Fb",
        "결제 완료",
        "사전 등록",
        "5,000원",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    let (_, listed): (u16, Value) = crate::support::reply(sim.request(Method::GET, "/_sim/payments")).await;
    assert_eq!(listed["items"][1]["status"], "PAID");
}
