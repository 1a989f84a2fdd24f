//! Refresh tokens: rotation, repeats, theft, ends.

use chrono::TimeDelta;
use futures_util::future::join_all;
use jangbu::accounts::sessions::{self, EndReason, GRACE, Granted, Mode, RefreshError, Refused, SessionId};

use super::{Fixture, LIFETIMES, customer};

const IP: &str = "2026-03:fedcba9876543210";

impl Fixture {
    async fn refresh(&self, token: &str) -> Result<Granted, Refused> {
        let pool = &self.database.pool;
        let refreshed = self.sessions.refresh(pool, &self.surroundings, token, Mode::Cookie, IP);
        refreshed.await.map_err(|error| match error {
            RefreshError::Refused(refused) => refused,
            RefreshError::Database(error) => panic!("the database answers: {error}"),
        })
    }

    async fn open_sessions(&self) -> Vec<SessionId> {
        let mut db = self.database.pool.acquire().await.expect("a connection");
        let listed = sessions::list(&mut db, self.customer, LIFETIMES, self.now()).await;
        listed
            .expect("a list")
            .into_iter()
            .map(|session| session.session)
            .collect()
    }

    async fn end_reason(&self, session: SessionId) -> Option<String> {
        sqlx::query_scalar("select end_reason from sessions where session_id = $1")
            .bind(session.uuid())
            .fetch_one(&self.database.pool)
            .await
            .expect("the session is there")
    }
}

fn token(granted: &Granted) -> &str {
    granted.refresh_token.expose()
}

#[tokio::test]
async fn a_token_is_used_once_and_brings_the_next() {
    let fixture = Fixture::create().await;
    let first = fixture.open().await;
    fixture.clock.advance(TimeDelta::minutes(15));
    let second = fixture.refresh(token(&first)).await.expect("a successor");
    assert_eq!((second.session, second.customer), (first.session, fixture.customer));
    assert_ne!(token(&first), token(&second));
    assert_eq!(token(&second).len(), 43);
    fixture.clock.advance(TimeDelta::minutes(15));
    let third = fixture.refresh(token(&second)).await.expect("a successor");
    assert_eq!(fixture.open_sessions().await, [first.session]);

    // Nothing in the tables is a token.
    let stored: String = sqlx::query_scalar(
        "select string_agg(t::text, ' ') || (select string_agg(s::text, ' ') from sessions s) from refresh_tokens t",
    )
    .fetch_one(&fixture.database.pool)
    .await
    .expect("rows");
    for granted in [&first, &second, &third] {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let bytes = URL_SAFE_NO_PAD.decode(token(granted)).expect("base64url");
        let digits = bytes
            .iter()
            .fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
        assert!(!stored.contains(token(granted)) && !stored.contains(&digits));
    }
}

#[tokio::test]
async fn a_lost_answer_does_not_sign_anybody_out() {
    let fixture = Fixture::create().await;
    let first = fixture.open().await;
    let second = fixture.refresh(token(&first)).await.expect("a successor");
    fixture.clock.advance(GRACE);
    let again = fixture.refresh(token(&first)).await.expect("the same once more");
    assert_eq!(token(&again), token(&second));
    // Another process, with the same key, would have said the same; one with another key would not know it.
    fixture.refresh(token(&again)).await.expect("it goes on");
}

#[tokio::test]
async fn a_token_that_comes_back_later_ends_the_session() {
    let fixture = Fixture::create().await;
    let (first, other) = (fixture.open().await, fixture.open().await);
    let second = fixture.refresh(token(&first)).await.expect("a successor");
    fixture.clock.advance(GRACE + TimeDelta::seconds(1));
    let reused = Refused::Reused(first.session);
    assert_eq!(fixture.refresh(token(&first)).await.err(), Some(reused));
    assert_eq!(
        fixture.refresh(token(&second)).await.err(),
        Some(Refused::Ended),
        "the whole family"
    );
    assert_eq!(fixture.end_reason(first.session).await.as_deref(), Some("reused"));
    assert_eq!(fixture.open_sessions().await, [other.session], "and no other");
}

#[tokio::test]
async fn a_token_whose_successor_was_used_ends_the_session_at_once() {
    let fixture = Fixture::create().await;
    let first = fixture.open().await;
    let second = fixture.refresh(token(&first)).await.expect("a successor");
    let third = fixture.refresh(token(&second)).await.expect("the answer arrived");
    let reused = Refused::Reused(first.session);
    assert_eq!(fixture.refresh(token(&first)).await.err(), Some(reused));
    assert_eq!(fixture.refresh(token(&third)).await.err(), Some(Refused::Ended));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_goes_first_and_all_get_the_same() {
    let fixture = Fixture::create().await;
    for _ in 0..10 {
        let first = fixture.open().await;
        let all = join_all((0..16).map(|_| fixture.refresh(token(&first)))).await;
        let successors: std::collections::BTreeSet<String> = all
            .into_iter()
            .map(|granted| token(&granted.expect("a successor")).to_owned())
            .collect();
        assert_eq!(successors.len(), 1);
        let tokens: i64 = sqlx::query_scalar("select count(*) from refresh_tokens where session_id = $1")
            .bind(first.session.uuid())
            .fetch_one(&fixture.database.pool)
            .await
            .expect("a count");
        assert_eq!(tokens, 2, "it was rotated once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn theft_and_refresh_at_once_leave_nothing_open() {
    let fixture = Fixture::create().await;
    for _ in 0..10 {
        let first = fixture.open().await;
        let second = fixture.refresh(token(&first)).await.expect("a successor");
        fixture.clock.advance(GRACE + TimeDelta::seconds(1));
        let (thief, owner) = tokio::join!(fixture.refresh(token(&first)), fixture.refresh(token(&second)));
        assert_eq!(thief.err(), Some(Refused::Reused(first.session)));
        // Whoever came first, nothing that was handed out goes on.
        if let Ok(third) = owner {
            assert_eq!(fixture.refresh(token(&third)).await.err(), Some(Refused::Ended));
        }
        assert!(fixture.open_sessions().await.is_empty());
    }
}

#[tokio::test]
async fn a_session_runs_out_by_idleness_and_in_the_end() {
    let fixture = Fixture::create().await;
    let idle = fixture.open().await;
    fixture.clock.advance(LIFETIMES.idle);
    assert_eq!(fixture.refresh(token(&idle)).await.err(), Some(Refused::Expired));
    assert!(fixture.open_sessions().await.is_empty());

    let mut busy = fixture.open().await;
    for _ in 0..17 {
        fixture.clock.advance(TimeDelta::days(10));
        busy = fixture.refresh(token(&busy)).await.expect("it is used");
    }
    fixture.clock.advance(TimeDelta::days(10));
    assert_eq!(fixture.refresh(token(&busy)).await.err(), Some(Refused::Expired));
}

#[tokio::test]
async fn what_is_no_token_of_that_way_brings_nothing_and_ends_nothing() {
    let fixture = Fixture::create().await;
    let first = fixture.open().await;
    for wrong in ["", "x", &"A".repeat(43), &"é".repeat(43), &token(&first)[1..]] {
        assert_eq!(fixture.refresh(wrong).await.err(), Some(Refused::Unknown), "{wrong}");
    }
    let pool = &fixture.database.pool;
    let as_bearer = fixture
        .sessions
        .refresh(pool, &fixture.surroundings, token(&first), Mode::Bearer, IP);
    let refused = as_bearer.await.expect_err("a cookie's token in a body");
    assert!(matches!(refused, RefreshError::Refused(Refused::Unknown)));
    fixture.refresh(token(&first)).await.expect("it goes on as it was");
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_their_owner_alone() {
    let fixture = Fixture::create().await;
    let (a, b, c) = (fixture.open().await, fixture.open().await, fixture.open().await);
    let stranger = fixture.open_for(customer(2)).await;
    let mut db = fixture.database.pool.acquire().await.expect("a connection");
    let now = fixture.now();
    let end = EndReason::Revoked;
    let ended = sessions::end(&mut db, fixture.customer, stranger.session, end, now).await;
    assert!(!ended.expect("an answer"), "of somebody else");
    assert!(
        sessions::end(&mut db, fixture.customer, a.session, EndReason::SignedOut, now)
            .await
            .expect("an answer")
    );
    assert!(
        !sessions::end(&mut db, fixture.customer, a.session, end, now)
            .await
            .expect("an answer"),
        "twice"
    );
    assert_eq!(fixture.end_reason(a.session).await.as_deref(), Some("signed_out"));
    assert_eq!(fixture.refresh(token(&a)).await.err(), Some(Refused::Ended));
    assert_eq!(
        sessions::session_of(&mut db, token(&b)).await.expect("an answer"),
        Some(b.session)
    );

    let ended = sessions::end_all(
        &mut db,
        fixture.customer,
        Some(b.session),
        EndReason::PasswordChanged,
        now,
    )
    .await;
    assert_eq!(ended.expect("an answer"), [c.session]);
    assert_eq!(fixture.open_sessions().await, [b.session]);
    let ended = sessions::end_all(&mut db, fixture.customer, None, EndReason::Closed, now).await;
    assert_eq!(ended.expect("an answer"), [b.session]);
    fixture.refresh(token(&stranger)).await.expect("strangers go on");
}

#[tokio::test]
async fn what_is_long_over_is_swept() {
    let fixture = Fixture::create().await;
    let old = fixture.open().await;
    fixture.refresh(token(&old)).await.expect("a successor");
    fixture.clock.advance(TimeDelta::days(59));
    let young = fixture.open().await;
    let sweep = || sessions::sweep(&fixture.database.pool, LIFETIMES, fixture.now());
    assert_eq!(sweep().await.expect("a sweep"), 0);
    fixture.clock.advance(TimeDelta::days(2));
    assert_eq!(sweep().await.expect("a sweep"), 1);
    assert_eq!(fixture.refresh(token(&old)).await.err(), Some(Refused::Unknown));
    assert_eq!(fixture.open_sessions().await, [young.session]);
}
