//! From the shop to the provider and back.

use reqwest::{Method, Url};
use serde_json::json;

use super::{BACK, kakao_hong, request, sim};
use crate::support::{Sim, reply};

async fn page(sim: &Sim, url: &Url) -> (u16, String) {
    let path = format!("{}?{}", url.path(), url.query().unwrap());
    let answer = sim.request(Method::GET, &path).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Presses a button of the page; gives the address that the browser is sent to.
async fn press(sim: &Sim, url: &Url, fields: &[(&str, &str)]) -> Url {
    let mut form = vec![("request", url.query().unwrap())];
    form.extend(fields);
    let answer = sim.request(Method::POST, url.path()).form(&form).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 303);
    Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap()
}

fn field(url: &Url, name: &str) -> Option<String> {
    let mut pairs = url.query_pairs();
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn a_person_is_picked_on_a_page_and_agrees_or_refuses() {
    let sim = sim().await;
    let answer = sim
        .person(
            "kakao",
            json!({"subject": "5", "name": "<b>임꺽정</b>", "email": "lim@example.com"}),
        )
        .await;
    assert_eq!(answer.0, 200);
    for provider in ["kakao", "naver", "google"] {
        let url = request(&sim, provider, &[]);
        let (status, html) = page(&sim, &url).await;
        assert_eq!(status, 200);
        for part in [
            "홍길동",
            "동의하고 계속하기",
            "Agree and continue",
            "거부하기",
            "lang=\"ko\"",
        ] {
            assert!(html.contains(part), "{provider}: {part} is missing");
        }
        assert!(!html.contains("<b>") && !html.contains("<script"), "{provider}");
        let refused = press(&sim, &url, &[("decision", "refuse")]).await;
        assert_eq!(field(&refused, "error").as_deref(), Some("access_denied"), "{refused}");
        assert_eq!(field(&refused, "state").as_deref(), Some("state-1"));
        assert_eq!(field(&refused, "code"), None);
    }
    let url = request(&sim, "kakao", &[]);
    let (_, html) = page(&sim, &url).await;
    assert!(html.contains("&lt;b&gt;임꺽정") && html.contains("(미인증)") && html.contains("이메일 없음"));
    let agree = [("subject", "5"), ("decision", "agree"), ("share", "nickname")];
    let back = press(&sim, &url, &agree).await;
    assert!(back.as_str().starts_with(BACK));
    let code = field(&back, "code").expect("a code");
    let (_, tokens) = sim.tokens("kakao", &[("code", &code)]).await;
    let (_, user) = sim.user("kakao", &tokens).await;
    assert_eq!(user["id"], 5);
    assert_eq!(
        user["kakao_account"],
        json!({"profile_nickname_needs_agreement": false, "profile": {"nickname": null, "is_default_image": true},
               "has_email": true, "email_needs_agreement": true}),
        "the box of the e-mail was not ticked"
    );
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_is_not_registered_letter_by_letter() {
    let sim = sim().await;
    for evil in [
        "https://shop.example/auth/callback/",
        "https://shop.example/auth/callback?x=1",
        "http://shop.example/auth/callback",
        "https://SHOP.example/auth/callback",
        "https://evil.example/",
        "",
    ] {
        for (provider, code) in [
            ("kakao", "KOE006"),
            ("naver", "invalid_redirect_uri"),
            ("google", "redirect_uri_mismatch"),
        ] {
            let url = request(&sim, provider, &[("redirect_uri", evil)]);
            let (status, html) = page(&sim, &url).await;
            assert_eq!(status, 400, "{provider} {evil}");
            assert!(html.contains(code), "{provider}: {html}");
            let (status, answer) = sim.log_in(provider, &url, kakao_hong()).await;
            assert_eq!((status, &answer["code"]), (409, &json!(code)));
        }
    }
    let addresses = json!(["http://127.0.0.1:8080/back"]).to_string();
    let put = |body: String| sim.request(Method::PUT, "/_sim/oauth/google/redirect-uris").body(body);
    assert_eq!(reply(put(addresses)).await.0, 200);
    assert_eq!(page(&sim, &request(&sim, "google", &[])).await.0, 400);
    let url = request(&sim, "google", &[("redirect_uri", "http://127.0.0.1:8080/back")]);
    assert_eq!(page(&sim, &url).await.0, 200);
    assert_eq!(reply(put(json!(["http://a.example/#b"]).to_string())).await.0, 400);
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused() {
    let sim = sim().await;
    let error = async |provider, change: &[(&str, &str)]| {
        let url = request(&sim, provider, change);
        let (status, answer) = sim.log_in(provider, &url, kakao_hong()).await;
        match status {
            200 => answer["query"]["error"].as_str().unwrap_or("none").to_owned(),
            _ => answer["code"].as_str().unwrap().to_owned(),
        }
    };
    for provider in ["kakao", "naver", "google"] {
        assert_eq!(
            error(provider, &[("response_type", "token")]).await,
            "unsupported_response_type"
        );
        assert_ne!(error(provider, &[("client_id", "other")]).await, "none");
    }
    for provider in ["kakao", "google"] {
        assert_eq!(
            error(provider, &[("code_challenge_method", "plain")]).await,
            "invalid_request"
        );
        assert_eq!(
            error(provider, &[("code_challenge", "too-short")]).await,
            "invalid_request"
        );
        assert_eq!(error(provider, &[("scope", "openid money")]).await, "invalid_scope");
    }
    assert_eq!(error("google", &[("scope", "")]).await, "invalid_scope");
    assert_eq!(error("naver", &[("state", "")]).await, "invalid_request");
    let mut url = request(&sim, "kakao", &[]);
    url.query_pairs_mut().append_pair("state", "state-2");
    let (status, answer) = sim.log_in("kakao", &url, kakao_hong()).await;
    assert_eq!((status, &answer["code"]), (409, &json!("invalid_request")));
    let elsewhere = Url::parse("https://kauth.kakao.com/elsewhere").unwrap();
    assert_eq!(sim.log_in("kakao", &elsewhere, kakao_hong()).await.0, 400);
    assert_eq!(sim.log_in("line", &elsewhere, kakao_hong()).await.0, 404);
    assert_eq!(
        sim.get("/kakao/nowhere").await.1["type"],
        "NOT_SIMULATED",
        "and asks for no credentials of PortOne"
    );
}
