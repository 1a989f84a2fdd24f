//! Signing out is known everywhere at once, and when nothing can be known, the database is asked.

use std::time::{Duration, Instant};

use jangbu::accounts::sessions::{self, EndReason, EndedSessions, SessionId};
use sqlx::postgres::PgConnectOptions;
use tokio::time::sleep;

use super::Fixture;
use crate::{database::pool, proxy::Proxy};

const ACCESS: Duration = Duration::from_secs(900);

impl Fixture {
    async fn process(&self, options: &PgConnectOptions) -> EndedSessions {
        EndedSessions::start(options, pool(options).await, self.surroundings.clone(), ACCESS)
    }

    async fn sign_out(&self, session: SessionId) {
        let mut db = self.database.pool.acquire().await.expect("a connection");
        let ended = sessions::end(&mut db, self.customer, session, EndReason::SignedOut, self.now()).await;
        assert!(ended.expect("an answer"));
    }
}

async fn is_open(ended: &EndedSessions, session: SessionId) -> bool {
    ended.is_open(session).await.expect("the database answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_is_heard_of_in_every_process() {
    let fixture = Fixture::create().await;
    let options = &fixture.database.options;
    let (here, there) = (fixture.process(options).await, fixture.process(options).await);
    let (first, second) = (fixture.open().await.session, fixture.open().await.session);
    for process in [&here, &there] {
        assert!(is_open(process, first).await && is_open(process, second).await);
    }
    // Both listen by now.
    sleep(Duration::from_millis(1_500)).await;
    fixture.sign_out(first).await;
    let begun = Instant::now();
    for process in [&here, &there] {
        while is_open(process, first).await {
            assert!(begun.elapsed() < Duration::from_secs(2), "nobody heard of it");
            sleep(Duration::from_millis(5)).await;
        }
        assert!(is_open(process, second).await);
    }
    println!("heard after {:?}", begun.elapsed());
    here.note([second]);
    assert!(!is_open(&here, second).await, "whoever ended it knows at once");
    let late = fixture.process(options).await;
    assert!(
        !is_open(&late, first).await,
        "so does one that starts afterwards, from the beginning"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_did_not_end() {
    let fixture = Fixture::create().await;
    let process = fixture.process(&fixture.database.options).await;
    let session = fixture.open().await.session;
    sleep(Duration::from_millis(1_500)).await;
    let mut tx = fixture.database.pool.begin().await.expect("a transaction");
    let ended = sessions::end_all(&mut tx, fixture.customer, None, EndReason::Closed, fixture.now()).await;
    assert_eq!(ended.expect("an answer"), [session]);
    tx.rollback().await.expect("a rollback");
    sleep(Duration::from_millis(1_200)).await;
    assert!(is_open(&process, session).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_cut_off_asks_and_refuses_when_nobody_answers() {
    let fixture = Fixture::create().await;
    let proxy = Proxy::start(&fixture.database.options).await;
    let through = proxy.options(&fixture.database.options);
    // Its own questions go another way, so that only the listening is cut off.
    let asking = EndedSessions::start(
        &through,
        pool(&fixture.database.options).await,
        fixture.surroundings.clone(),
        ACCESS,
    );
    let alone = EndedSessions::start(&through, pool(&through).await, fixture.surroundings.clone(), ACCESS);
    let (first, second) = (fixture.open().await.session, fixture.open().await.session);
    sleep(Duration::from_millis(1_500)).await;
    assert!(is_open(&asking, first).await && is_open(&alone, first).await);

    proxy.stall();
    fixture.sign_out(first).await;
    sleep(Duration::from_secs(4)).await;
    assert!(!is_open(&asking, first).await, "it did not hear of it, and asked");
    assert!(is_open(&asking, second).await);
    let begun = Instant::now();
    for session in [first, second] {
        assert!(alone.is_open(session).await.is_err(), "nobody knows, so nobody may");
    }
    assert!(begun.elapsed() < Duration::from_secs(6), "and that without end neither");

    proxy.resume();
    let begun = Instant::now();
    while alone.is_open(second).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come back");
    }
    assert!(!is_open(&alone, first).await);
}
