//! Six digits, and links.

use chrono::TimeDelta;
use futures_util::future::join_all;
use jangbu::accounts::{
    codes::{self, Codes, RightCode},
    links::{self, Links},
};
use sqlx::PgConnection;

use super::{Fixture, customer, digester};

const PURPOSE: codes::Purpose = codes::Purpose::VerifyPhone;

impl Fixture {
    async fn code(&self, subject: &str) -> String {
        let mut db = self.database.pool.acquire().await.expect("a connection");
        let code = codes().issue(&mut db, &self.surroundings, PURPOSE, subject).await;
        code.expect("a code").expose().to_owned()
    }

    async fn check(&self, subject: &str, code: &str) -> Option<RightCode> {
        let pool = &self.database.pool;
        let checked = codes().check(pool, PURPOSE, subject, code, self.now()).await;
        checked.expect("an answer")
    }

    async fn link(&self, purpose: links::Purpose, about: &str) -> String {
        let mut db = self.database.pool.acquire().await.expect("a connection");
        let links = Links::new(digester());
        let token = links
            .issue(&mut db, &self.surroundings, purpose, self.customer, about)
            .await;
        token.expect("a token").expose().to_owned()
    }

    async fn follow(&self, db: &mut PgConnection, purpose: links::Purpose, token: &str) -> Option<links::Followed> {
        let followed = Links::new(digester()).follow(db, purpose, token, self.now()).await;
        followed.expect("an answer")
    }
}

fn codes() -> Codes {
    Codes::new(digester())
}

fn another(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().expect("digits") + 1) % 1_000_000)
}

#[tokio::test]
async fn a_code_opens_what_it_was_sent_for_once() {
    let fixture = Fixture::create().await;
    let code = fixture.code("kim").await;
    assert!(code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()));
    assert!(fixture.check("lee", &code).await.is_none(), "somebody else's");
    let pool = &fixture.database.pool;
    let elsewhere = codes()
        .check(pool, codes::Purpose::SignIn, "kim", &code, fixture.now())
        .await;
    assert!(elsewhere.expect("an answer").is_none(), "for something else");
    let all = join_all((0..4).map(|_| fixture.check("kim", &code))).await;
    let mut used = 0;
    for right in all {
        let right = right.expect("it is right");
        let mut db = fixture.database.pool.acquire().await.expect("a connection");
        used += usize::from(codes().use_up(&mut db, right).await.expect("an answer"));
    }
    assert_eq!(used, 1);
    assert!(fixture.check("kim", &code).await.is_none(), "it is used up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_has_five_tries_also_at_once() {
    let fixture = Fixture::create().await;
    let code = fixture.code("kim").await;
    let wrong = another(&code);
    assert!(
        join_all((0..5).map(|_| fixture.check("kim", &wrong)))
            .await
            .iter()
            .all(Option::is_none)
    );
    assert!(fixture.check("kim", &code).await.is_none(), "even the right one");
    let code = fixture.code("kim").await;
    for _ in 0..4 {
        assert!(fixture.check("kim", &another(&code)).await.is_none());
    }
    assert!(fixture.check("kim", &code).await.is_some());
}

#[tokio::test]
async fn the_newest_code_is_the_only_one_and_it_grows_old() {
    let fixture = Fixture::create().await;
    let old = fixture.code("kim").await;
    let mut new = fixture.code("kim").await;
    while new == old {
        new = fixture.code("kim").await;
    }
    assert!(fixture.check("kim", &old).await.is_none());
    fixture.clock.advance(codes::LIFETIME - TimeDelta::seconds(1));
    assert!(fixture.check("kim", &new).await.is_some());
    fixture.clock.advance(TimeDelta::seconds(1));
    assert!(fixture.check("kim", &new).await.is_none());
    fixture.clock.advance(TimeDelta::seconds(1));
    assert_eq!(
        codes::sweep(&fixture.database.pool, fixture.now())
            .await
            .expect("a sweep"),
        1
    );
}

#[tokio::test]
async fn a_link_works_once_for_its_purpose_and_its_address() {
    let fixture = Fixture::create().await;
    let purpose = links::Purpose::VerifyEmail;
    let older = fixture.link(purpose, "kim@example.com").await;
    let token = fixture.link(purpose, "kim@example.com").await;
    assert_eq!(token.len(), 43);
    let mut db = fixture.database.pool.acquire().await.expect("a connection");
    assert_eq!(
        fixture.follow(&mut db, purpose, &older).await,
        None,
        "there is a newer one"
    );
    assert_eq!(
        fixture.follow(&mut db, links::Purpose::ResetPassword, &token).await,
        None
    );
    assert_eq!(fixture.follow(&mut db, purpose, "x").await, None);

    let mut tx = fixture.database.pool.begin().await.expect("a transaction");
    assert!(fixture.follow(&mut tx, purpose, &token).await.is_some());
    tx.rollback().await.expect("what it should have allowed failed");
    let followed = fixture
        .follow(&mut db, purpose, &token)
        .await
        .expect("so it still works");
    assert_eq!(followed.customer, fixture.customer);
    let links = Links::new(digester());
    assert!(links.is_about(&followed, "kim@example.com") && !links.is_about(&followed, "lee@example.com"));
    assert_eq!(fixture.follow(&mut db, purpose, &token).await, None, "once");
}

#[tokio::test]
async fn a_link_grows_old_and_is_taken_back() {
    let fixture = Fixture::create().await;
    let purpose = links::Purpose::ResetPassword;
    let mut db = fixture.database.pool.acquire().await.expect("a connection");
    let token = fixture.link(purpose, "kim@example.com").await;
    fixture.clock.advance(purpose.lifetime());
    assert_eq!(fixture.follow(&mut db, purpose, &token).await, None, "too old");

    let token = fixture.link(purpose, "kim@example.com").await;
    links::withdraw(&mut db, customer(2)).await.expect("an answer");
    links::withdraw(&mut db, fixture.customer).await.expect("an answer");
    assert_eq!(fixture.follow(&mut db, purpose, &token).await, None, "taken back");
}
