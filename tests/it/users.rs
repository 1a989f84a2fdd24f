//! Members over HTTP: registering, signing in and out, and what they change of themselves.

use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    database::surroundings_at,
    web::{Reply, Web},
};

const PASSWORD: &str = "여덟 마리 파란 고래";

fn person(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD, "name": "홍길동", "fourteen_or_older": true,
        "consents": {"terms": true, "privacy": true}})
}

async fn sign_up(web: &Web, body: &Value) -> Reply {
    let key = web.fresh_key();
    web.post("/api/v1/users/sign-up").key(&key).json(body).send().await
}

async fn sign_in(web: &Web, email: &str, password: &str) -> Reply {
    let body = json!({"email": email, "password": password});
    web.post("/api/v1/users/sign-in").json(&body).send().await
}

async fn refresh(web: &Web, token: &str) -> Reply {
    let body = json!({"refresh_token": token});
    web.post("/api/v1/users/token").json(&body).send().await
}

async fn me(web: &Web, token: &str) -> Reply {
    web.get("/api/v1/users/me").token(token).send().await
}

/// Access and refresh token of somebody who has just registered.
async fn member(web: &Web, email: &str) -> (String, String) {
    sign_up(web, &person(email)).await.expect(201);
    let tokens = sign_in(web, email, PASSWORD).await.expect(200);
    (tokens.text_of("/access_token"), tokens.text_of("/refresh_token"))
}

async fn events(web: &Web) -> i64 {
    let count = sqlx::query_scalar("select count(*) from events");
    count.fetch_one(web.node.executor.log().pool()).await.expect("a count")
}

#[tokio::test]
async fn a_member_registers_signs_in_shops_and_signs_out() {
    let web = Web::start_with(&[], false).await;
    let mut body = person("Hong@Example.com");
    body["phone"] = json!("+82 10 1234 5678");
    body["consents"]["marketing_email"] = json!(true);
    let registered = sign_up(&web, &body).await.expect(201);
    assert_eq!(registered.header("location"), Some("/api/v1/users/me"));
    let id = registered.text_of("/id");

    let tokens = sign_in(&web, "hong@example.COM", PASSWORD).await.expect(200);
    assert_eq!(
        (tokens.text_of("/token_type"), tokens.text_of("/customer_id")),
        ("Bearer".to_owned(), id.clone())
    );
    let token = tokens.text_of("/access_token");
    let seen = me(&web, &token).await.expect(200);
    assert_eq!(
        seen.body,
        json!({"id": id, "name": "홍길동", "email": "hong@example.com", "email_verified": false,
            "phone": "010-1234-5678", "phone_verified": false,
            "consents": ["terms", "privacy", "marketing_email"]})
    );
    let cart = web.post("/api/v1/carts").token(&token).send().await.expect(201);
    let cart = format!("/api/v1/carts/{}", cart.text_of("/id"));
    web.get(&cart).token(&token).send().await.expect(200);
    let (other, _) = member(&web, "sung@example.com").await;
    web.get(&cart).token(&other).send().await.refused(404, "cart_not_found");
    // A member is no admin.
    web.get("/api/v1/admin/orders")
        .token(&token)
        .send()
        .await
        .refused(403, "forbidden");

    web.post("/api/v1/users/sign-out")
        .token(&token)
        .send()
        .await
        .expect(204);
    me(&web, &token).await.refused(401, "session_ended");
    refresh(&web, &tokens.text_of("/refresh_token"))
        .await
        .refused(401, "session_ended");
    me(&web, &other).await.expect(200);
}

#[tokio::test]
async fn who_may_not_register_leaves_nothing_behind() {
    let web = Web::start_with(&[], false).await;
    let mut child = person("child@example.com");
    child["fourteen_or_older"] = json!(false);
    sign_up(&web, &child).await.refused(422, "under_fourteen");
    child.as_object_mut().expect("an object").remove("fourteen_or_older");
    sign_up(&web, &child).await.refused(422, "under_fourteen");
    for consents in [
        json!({}),
        json!({"terms": true}),
        json!({"privacy": true, "marketing_sms": true}),
    ] {
        let mut body = person("hong@example.com");
        body["consents"] = consents;
        sign_up(&web, &body).await.refused(422, "consent_missing");
    }
    for (field, wrong, pointer, code) in [
        ("email", "nobody", "/email", "email_invalid"),
        ("name", "", "/name", "empty"),
        ("name", "홍 900101-1234567", "/name", "resident_number"),
        ("phone", "02-123-4567", "/phone", "mobile_invalid"),
        ("password", "짧은 것", "/password", "too_short"),
        ("password", "hong12345678", "/password", "password_contains_email"),
        ("password", "1234567890", "/password", "password_common"),
    ] {
        let mut body = person("hong@example.com");
        body[field] = json!(wrong);
        let refused = sign_up(&web, &body).await.refused(422, "validation_failed");
        assert_eq!(refused.text_of("/errors/0/pointer"), pointer, "{}", refused.text);
        assert_eq!(refused.text_of("/errors/0/code"), code, "{}", refused.text);
        assert!(!refused.text.contains(wrong) || wrong.is_empty(), "{}", refused.text);
    }
    assert_eq!(events(&web).await, 0);
    let kept: i64 = sqlx::query_scalar(
        "select (select count(*) from unique_keys) + (select count(*) from personal_keys)
            + (select count(*) from credentials) + (select count(*) from commands)",
    )
    .fetch_one(web.node.executor.log().pool())
    .await
    .expect("a count");
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn of_many_who_register_with_one_address_one_does() {
    let web = Web::start_with(&[], false).await;
    let body = person("hong@example.com");
    let replies = join_all((0..40).map(|_| sign_up(&web, &body))).await;
    let mut registered = 0;
    for reply in replies {
        match reply.status {
            201 => registered += 1,
            // More passwords at once than may be hashed: the client comes back.
            503 => drop(reply.refused(503, "busy")),
            _ => drop(reply.refused(409, "email_taken")),
        }
    }
    assert_eq!((registered, events(&web).await), (1, 1));
    // The same request again is the same member; another body under its key is refused.
    let key = web.fresh_key();
    let again = || web.post("/api/v1/users/sign-up").key(&key);
    let first = again().json(&person("sung@example.com")).send().await.expect(201);
    let second = again().json(&person("sung@example.com")).send().await.expect(201);
    assert_eq!(first.text_of("/id"), second.text_of("/id"));
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    again()
        .json(&person("lee@example.com"))
        .send()
        .await
        .refused(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_answered_alike() {
    let web = Web::start_with(&[], false).await;
    sign_up(&web, &person("hong@example.com")).await.expect(201);
    let without_id = |reply: Reply| {
        let mut body = reply.refused(401, "credentials_wrong").body;
        body.as_object_mut().expect("an object").remove("instance");
        body
    };
    let wrong = without_id(sign_in(&web, "hong@example.com", "아홉 마리 하얀 고래").await);
    let unknown = without_id(sign_in(&web, "nobody@example.com", PASSWORD).await);
    assert_eq!(wrong, unknown);
    // Five wrong ones, and then everybody waits, known or not.
    for email in ["hong@example.com", "nobody@example.com"] {
        let mut last = None;
        for _ in 0..6 {
            last = Some(sign_in(&web, email, "아홉 마리 하얀 고래").await);
        }
        let blocked = last.expect("there was one").refused(429, "rate_limited");
        assert!(blocked.header("retry-after").is_some());
    }
    // Not even the right one is heard then.
    sign_in(&web, "hong@example.com", PASSWORD)
        .await
        .refused(429, "rate_limited");
}

#[tokio::test]
async fn a_refresh_token_that_comes_back_ends_its_session() {
    let web = Web::start_with(&[], false).await;
    let (_, first) = member(&web, "hong@example.com").await;
    let second = refresh(&web, &first).await.expect(200).text_of("/refresh_token");
    let third = refresh(&web, &second).await.expect(200);
    // The second was used: whoever still has the first has stolen it, or was stolen from.
    refresh(&web, &first).await.refused(401, "session_ended");
    refresh(&web, &third.text_of("/refresh_token"))
        .await
        .refused(401, "session_ended");
    me(&web, &third.text_of("/access_token"))
        .await
        .refused(401, "session_ended");
    for wrong in ["", "x", &"A".repeat(43), &"A".repeat(5_000)] {
        refresh(&web, wrong).await.refused(401, "session_ended");
    }
}

#[tokio::test]
async fn a_member_changes_name_address_phone_and_password() {
    let web = Web::start_with(&[], false).await;
    let (token, _) = member(&web, "hong@example.com").await;
    let (other, _) = member(&web, "sung@example.com").await;
    let change = async |token: &str, body: Value| {
        let key = web.fresh_key();
        web.patch("/api/v1/users/me")
            .token(token)
            .key(&key)
            .json(&body)
            .send()
            .await
    };
    let changed = change(
        &token,
        json!({"email": "gildong@example.com", "phone": "010-1234-5678"}),
    )
    .await;
    let changed = changed.expect(200);
    assert_eq!(
        (
            changed.text_of("/email"),
            changed.text_of("/phone"),
            changed.text_of("/name")
        ),
        (
            "gildong@example.com".to_owned(),
            "010-1234-5678".to_owned(),
            "홍길동".to_owned()
        )
    );
    let before = events(&web).await;
    change(&token, json!({"phone": "+821012345678"})).await.expect(200);
    assert_eq!(events(&web).await, before, "nothing has changed");
    // What another has is refused; what was given up is free.
    change(&other, json!({"phone": "010 1234 5678"}))
        .await
        .refused(409, "phone_taken");
    change(&other, json!({"email": "hong@example.com"})).await.expect(200);
    change(&token, json!({"phone": ""})).await.expect(200);
    change(&other, json!({"phone": "010 1234 5678"})).await.expect(200);
    sign_in(&web, "gildong@example.com", PASSWORD).await.expect(200);

    let elsewhere = sign_in(&web, "gildong@example.com", PASSWORD).await.expect(200);
    let password = async |old: &str, new: &str| {
        let (key, body) = (web.fresh_key(), json!({"password": old, "new_password": new}));
        let ask = web.post("/api/v1/users/me/password").token(&token).key(&key);
        ask.json(&body).send().await
    };
    password("틀린 비밀번호입니다", "아홉 마리 하얀 고래")
        .await
        .refused(401, "credentials_wrong");
    password(PASSWORD, "gildong0000")
        .await
        .refused(422, "validation_failed");
    password(PASSWORD, "아홉 마리 하얀 고래").await.expect(204);
    me(&web, &token).await.expect(200);
    // At most a second later everywhere.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    me(&web, &elsewhere.text_of("/access_token"))
        .await
        .refused(401, "session_ended");
    refresh(&web, &elsewhere.text_of("/refresh_token"))
        .await
        .refused(401, "session_ended");
    sign_in(&web, "gildong@example.com", PASSWORD)
        .await
        .refused(401, "credentials_wrong");
    sign_in(&web, "gildong@example.com", "아홉 마리 하얀 고래")
        .await
        .expect(200);
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_their_owner_alone() {
    let web = Web::start_with(&[], false).await;
    let (token, _) = member(&web, "hong@example.com").await;
    let elsewhere = sign_in(&web, "hong@example.com", PASSWORD).await.expect(200);
    let (stranger, _) = member(&web, "sung@example.com").await;
    let listed = web
        .get("/api/v1/users/me/sessions")
        .token(&token)
        .send()
        .await
        .expect(200);
    let sessions = listed.body["sessions"].as_array().expect("a list");
    assert_eq!(
        (sessions.len(), &sessions[0]["current"], &sessions[1]["current"]),
        (2, &json!(false), &json!(true))
    );
    let path = format!(
        "/api/v1/users/me/sessions/{}",
        sessions[0]["id"].as_str().expect("an id")
    );
    web.delete(&path)
        .token(&stranger)
        .send()
        .await
        .refused(404, "session_not_found");
    web.delete(&path).token(&token).send().await.expect(204);
    web.delete(&path)
        .token(&token)
        .send()
        .await
        .refused(404, "session_not_found");
    me(&web, &elsewhere.text_of("/access_token"))
        .await
        .refused(401, "session_ended");
    me(&web, &token).await.expect(200);
    for nobody in [None, Some("not.a.token"), Some("YWJj")] {
        let reply = web.get("/api/v1/users/me").token_if(nobody).send().await;
        assert_eq!(reply.status, 401, "{}", reply.text);
    }
}

#[tokio::test]
async fn a_token_that_ends_soon_is_followed_by_another() {
    let web = Web::start_with(&[], false).await;
    let (token, _) = member(&web, "hong@example.com").await;
    let access = web.node.gate.access();
    let now = web.node.executor.log().surroundings().now();
    let bearer = access.verify(&token, now).expect("it is valid");
    let signed = |minutes_ago| {
        let (surroundings, _) = surroundings_at(now - TimeDelta::minutes(minutes_ago));
        access
            .sign(&surroundings, bearer.customer, bearer.session, Vec::new())
            .token
    };
    assert_eq!(me(&web, &signed(9)).await.expect(200).header("x-new-token"), None);
    let answer = me(&web, &signed(11)).await.expect(200);
    let new = answer.header("x-new-token").expect("another token").to_owned();
    assert!(access.verify(&new, now).expect("it is valid").expires_at > bearer.expires_at - TimeDelta::minutes(1));
    me(&web, &new).await.expect(200);
    me(&web, &signed(16)).await.refused(401, "token_expired");
    // Not once the session has ended.
    web.post("/api/v1/users/sign-out")
        .token(&token)
        .send()
        .await
        .expect(204);
    let refused = me(&web, &signed(11)).await.refused(401, "session_ended");
    assert_eq!(refused.header("x-new-token"), None);
}
