//! Attempts, counted across processes.

use std::net::IpAddr;

use chrono::TimeDelta;
use futures_util::future::join_all;
use jangbu::accounts::throttle::{Attempt, Purpose, Throttle, ThrottleError};

use super::{Fixture, digester};
use crate::database::pool;

fn throttle(fixture: &Fixture) -> Throttle {
    Throttle::new(fixture.database.pool.clone(), digester())
}

fn ip(n: u8) -> IpAddr {
    [203, 0, 113, n].into()
}

/// An attempt, or the seconds to wait.
async fn attempt(
    fixture: &Fixture,
    throttle: &Throttle,
    purpose: Purpose,
    account: &str,
    address: IpAddr,
) -> Result<Attempt, u64> {
    match throttle.attempt(purpose, account, address, fixture.now()).await {
        Ok(attempt) => Ok(attempt),
        Err(ThrottleError::Blocked(blocked)) => Err(blocked.retry_after_seconds),
        Err(ThrottleError::Database(error)) => panic!("the database answers: {error}"),
    }
}

async fn wrong(fixture: &Fixture, throttle: &Throttle, account: &str, address: IpAddr) -> Result<(), u64> {
    attempt(fixture, throttle, Purpose::SignIn, account, address)
        .await
        .map(drop)
}

#[tokio::test]
async fn wrong_guesses_wait_twice_as_long_each_time_and_a_right_one_ends_it() {
    let fixture = Fixture::create().await;
    let throttle = throttle(&fixture);
    for n in 1..=5 {
        assert_eq!(wrong(&fixture, &throttle, "kim", ip(n)).await, Ok(()), "{n}");
    }
    for (n, wait) in [(6, 30), (7, 60), (8, 120), (9, 240), (10, 480), (11, 900), (12, 900)] {
        assert_eq!(
            wrong(&fixture, &throttle, "kim", ip(n)).await,
            Err(wait),
            "from anywhere"
        );
        assert_eq!(
            wrong(&fixture, &throttle, "lee", ip(n)).await,
            Ok(()),
            "another account"
        );
        if n % 4 == 0 {
            let attempt = attempt(&fixture, &throttle, Purpose::SignIn, "lee", ip(n))
                .await
                .expect("free");
            throttle.succeeded(attempt).await.expect("an answer");
        }
        fixture
            .clock
            .advance(TimeDelta::seconds(wait.try_into().expect("seconds")));
        assert_eq!(wrong(&fixture, &throttle, "kim", ip(n)).await, Ok(()), "one more");
    }
    fixture.clock.advance(TimeDelta::minutes(15));
    let right = attempt(&fixture, &throttle, Purpose::SignIn, "kim", ip(20))
        .await
        .expect("one more");
    throttle.succeeded(right).await.expect("an answer");
    for n in 21..=25 {
        assert_eq!(wrong(&fixture, &throttle, "kim", ip(n)).await, Ok(()), "it begins anew");
    }
    assert_eq!(wrong(&fixture, &throttle, "kim", ip(26)).await, Err(30));
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_made_at_once_through_many_processes_are_all_counted() {
    let fixture = Fixture::create().await;
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(Throttle::new(pool(&fixture.database.options).await, digester()));
    }
    let guesses = (0..100_u8).map(|n| wrong(&fixture, &processes[usize::from(n) % 4], "kim", ip(n)));
    let let_through = join_all(guesses).await.into_iter().flatten().count();
    assert_eq!(let_through, 5);
}

#[tokio::test]
async fn an_address_that_is_blocked_locks_nobody_out() {
    let fixture = Fixture::create().await;
    let throttle = throttle(&fixture);
    for n in 0..30 {
        assert_eq!(
            wrong(&fixture, &throttle, &format!("somebody {n}"), ip(1)).await,
            Ok(())
        );
    }
    for _ in 0..20 {
        assert!(wrong(&fixture, &throttle, "kim", ip(1)).await.is_err());
    }
    assert_eq!(wrong(&fixture, &throttle, "kim", ip(2)).await, Ok(()));
    let there: i32 = sqlx::query_scalar("select max(attempts) from throttles where allowed and attempts < 30")
        .fetch_one(&fixture.database.pool)
        .await
        .expect("rows");
    assert_eq!(there, 1, "none of the twenty counted against the account");
    let v6 = |text: &str| text.parse::<IpAddr>().expect("an address");
    for n in 0..30 {
        let neighbour = v6(&format!("2001:db8:0:1::{n:x}"));
        assert_eq!(
            wrong(&fixture, &throttle, &format!("anybody {n}"), neighbour).await,
            Ok(())
        );
    }
    assert!(
        wrong(&fixture, &throttle, "lee", v6("2001:db8:0:1::ffff"))
            .await
            .is_err(),
        "one network"
    );
    assert_eq!(wrong(&fixture, &throttle, "lee", v6("2001:db8:0:2::1")).await, Ok(()));
}

#[tokio::test]
async fn an_account_of_ones_own_does_not_give_guesses_back() {
    let fixture = Fixture::create().await;
    let throttle = throttle(&fixture);
    let mut guessed = 0;
    for n in 0..100 {
        // Begun before the guess and found right after it, which is when it could do harm.
        let Ok(own) = attempt(&fixture, &throttle, Purpose::SignIn, "mallory", ip(1)).await else {
            break;
        };
        if wrong(&fixture, &throttle, &format!("victim {n}"), ip(1)).await.is_ok() {
            guessed += 1;
        }
        throttle.succeeded(own).await.expect("an answer");
    }
    assert!(guessed <= 30, "{guessed} guesses");
}

#[tokio::test]
async fn a_guests_order_has_five_tries_in_a_quarter_of_an_hour() {
    let fixture = Fixture::create().await;
    let throttle = throttle(&fixture);
    let purpose = Purpose::GuestLookUp;
    for n in 1..=5 {
        assert!(
            attempt(&fixture, &throttle, purpose, "20260301-0001", ip(n))
                .await
                .is_ok()
        );
    }
    let blocked = attempt(&fixture, &throttle, purpose, "20260301-0001", ip(6)).await;
    assert_eq!(blocked.map(drop), Err(900));
    assert_eq!(
        wrong(&fixture, &throttle, "20260301-0001", ip(7)).await,
        Ok(()),
        "another purpose"
    );
    fixture.clock.advance(TimeDelta::minutes(15) + TimeDelta::seconds(1));
    for n in 8..=12 {
        assert!(
            attempt(&fixture, &throttle, purpose, "20260301-0001", ip(n))
                .await
                .is_ok()
        );
    }
    assert!(
        attempt(&fixture, &throttle, purpose, "20260301-0001", ip(13))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_is_forgotten_is_swept_and_a_clock_set_back_locks_nobody_out() {
    let fixture = Fixture::create().await;
    let throttle = throttle(&fixture);
    for _ in 0..5 {
        assert_eq!(wrong(&fixture, &throttle, "kim", ip(1)).await, Ok(()));
    }
    fixture.clock.advance(TimeDelta::days(-30));
    assert_eq!(
        wrong(&fixture, &throttle, "kim", ip(2)).await,
        Ok(()),
        "its block is of a strange future"
    );
    assert_eq!(wrong(&fixture, &throttle, "kim", ip(2)).await, Err(60));
    fixture.clock.advance(TimeDelta::days(30));
    assert_eq!(throttle.sweep(fixture.now()).await.expect("a sweep"), 2);
    let names: Vec<Vec<u8>> = sqlx::query_scalar("select key from throttles")
        .fetch_all(&fixture.database.pool)
        .await
        .expect("rows");
    assert!(names.iter().all(|key| key.len() == 32), "keys tell no names");
}
