use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

use super::fake::{AMPLE, Fake, Fault, client, payment};
use crate::portone::{Error, Payment, PaymentStatus, Rereader, RereaderConfig, Secret, Unreachable};

type Read = JoinHandle<Result<Option<Arc<Payment>>, Error>>;

const CONFIG: RereaderConfig = RereaderConfig {
    within: AMPLE,
    payments_max: 8,
    waiters_max: 8,
};

fn read(rereader: &Rereader, id: &'static str) -> Read {
    let rereader = rereader.clone();
    tokio::spawn(async move { rereader.payment(id).await })
}

async fn status(read: Read) -> PaymentStatus {
    read.await
        .expect("no panic")
        .expect("an answer")
        .expect("a payment")
        .status
        .clone()
}

/// Lets other tasks go on until `done`.
async fn until(done: impl Fn() -> bool) {
    let turns = async {
        while !done() {
            yield_now().await;
        }
    };
    tokio::time::timeout(AMPLE, turns).await.expect("it never happened");
}

/// A payment that is READY, and a read of it that looked and is held on its way back.
async fn with_a_read_under_way(config: RereaderConfig) -> (Fake, Rereader, Arc<Semaphore>, Read) {
    let fake = Fake::start().await;
    fake.put(payment("p1", "READY"));
    let gate = Arc::new(Semaphore::new(0));
    fake.fault(Fault::Hold(Arc::clone(&gate)));
    let rereader = Rereader::new(fake.client(), config);
    let first = read(&rereader, "p1");
    fake.arrival().await;
    (fake, rereader, gate, first)
}

#[tokio::test]
async fn whoever_comes_during_a_read_shares_the_next_one() {
    let (fake, rereader, gate, first) = with_a_read_under_way(CONFIG).await;
    fake.put(payment("p1", "PAID"));
    let later = [read(&rereader, "p1"), read(&rereader, "p1"), read(&rereader, "p1")];
    until(|| rereader.waiters("p1") == 3).await;
    assert_eq!(fake.seen().len(), 1, "one read of a payment at a time");

    gate.add_permits(1);
    assert_eq!(status(first).await, PaymentStatus::Ready);
    for read in later {
        // The first read looked before the payment was paid; none of these may be given its answer.
        assert_eq!(status(read).await, PaymentStatus::Paid);
    }
    assert_eq!(fake.seen().len(), 2);
    until(|| rereader.payments_under_way() == 0).await;
}

#[tokio::test]
async fn different_payments_do_not_wait_for_each_other() {
    let (fake, rereader, gate, first) = with_a_read_under_way(CONFIG).await;
    fake.put(payment("p2", "PAID"));
    assert_eq!(status(read(&rereader, "p2")).await, PaymentStatus::Paid);
    gate.add_permits(1);
    assert_eq!(status(first).await, PaymentStatus::Ready);
}

#[tokio::test]
async fn reads_one_after_the_other_are_each_their_own() {
    let fake = Fake::start().await;
    let rereader = Rereader::new(fake.client(), CONFIG);
    assert_eq!(rereader.payment("p1").await, Ok(None));
    fake.put(payment("p1", "READY"));
    assert_eq!(status(read(&rereader, "p1")).await, PaymentStatus::Ready);
    fake.put(payment("p1", "PAID"));
    assert_eq!(status(read(&rereader, "p1")).await, PaymentStatus::Paid);
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_nothing_from_the_others() {
    let (fake, rereader, gate, first) = with_a_read_under_way(CONFIG).await;
    let (second, third) = (read(&rereader, "p1"), read(&rereader, "p1"));
    until(|| rereader.waiters("p1") == 2).await;
    first.abort();
    second.abort();
    gate.add_permits(1);
    assert_eq!(status(third).await, PaymentStatus::Ready);
    assert_eq!(fake.seen().len(), 2);
    until(|| rereader.payments_under_way() == 0).await;
}

#[tokio::test]
async fn nothing_is_read_for_nobody() {
    let (fake, rereader, gate, first) = with_a_read_under_way(CONFIG).await;
    let second = read(&rereader, "p1");
    until(|| rereader.waiters("p1") == 1).await;
    second.abort();
    assert!(second.await.is_err_and(|error| error.is_cancelled()));
    gate.add_permits(1);
    assert_eq!(status(first).await, PaymentStatus::Ready);
    until(|| rereader.payments_under_way() == 0).await;
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_failure_is_everybodys_who_shared_the_read() {
    let (fake, rereader, gate, first) = with_a_read_under_way(CONFIG).await;
    let later = [read(&rereader, "p1"), read(&rereader, "p1")];
    until(|| rereader.waiters("p1") == 2).await;
    fake.refuse(&[(401, "UNAUTHORIZED")]);
    gate.add_permits(1);
    assert_eq!(status(first).await, PaymentStatus::Ready);
    for read in later {
        assert_eq!(read.await.expect("no panic"), Err(Error::Unauthorized));
    }
}

#[tokio::test]
async fn payments_under_way_are_bounded() {
    let (_fake, rereader, gate, first) = with_a_read_under_way(RereaderConfig {
        payments_max: 1,
        ..CONFIG
    })
    .await;
    assert_eq!(rereader.payment("p2").await, Err(Error::Busy));
    gate.add_permits(1);
    assert_eq!(status(first).await, PaymentStatus::Ready);
    until(|| rereader.payments_under_way() == 0).await;
    assert_eq!(rereader.payment("p2").await, Ok(None));
}

#[tokio::test]
async fn waiters_are_bounded_and_those_who_left_make_room() {
    let (_fake, rereader, gate, first) = with_a_read_under_way(RereaderConfig {
        waiters_max: 2,
        ..CONFIG
    })
    .await;
    let (second, third) = (read(&rereader, "p1"), read(&rereader, "p1"));
    until(|| rereader.waiters("p1") == 2).await;
    assert_eq!(rereader.payment("p1").await, Err(Error::Busy));

    second.abort();
    assert!(second.await.is_err_and(|error| error.is_cancelled()));
    let fourth = read(&rereader, "p1");
    until(|| rereader.waiters("p1") == 2).await;
    gate.add_permits(1);
    for read in [first, third, fourth] {
        assert_eq!(status(read).await, PaymentStatus::Ready);
    }
}

#[tokio::test]
async fn waiting_ends_with_the_callers_time() {
    let fake = Fake::start().await;
    fake.fault(Fault::Hang);
    let rereader = Rereader::new(
        fake.client(),
        RereaderConfig {
            within: Duration::from_millis(100),
            ..CONFIG
        },
    );
    assert_eq!(
        rereader.payment("p1").await,
        Err(Error::Unreachable(Unreachable::Timeout))
    );
    until(|| rereader.payments_under_way() == 0).await;
}

#[tokio::test]
async fn many_callers_at_once_are_served_by_two_reads_at_most_a_round() {
    let fake = Fake::start().await;
    fake.put(payment("p1", "PAID"));
    let rereader = Rereader::new(
        client(fake.address, |_| ()),
        RereaderConfig {
            waiters_max: 500,
            ..CONFIG
        },
    );
    let reads: Vec<Read> = (0..500).map(|_| read(&rereader, "p1")).collect();
    for read in reads {
        assert_eq!(status(read).await, PaymentStatus::Paid);
    }
    assert!(fake.seen().len() <= 2, "{} reads", fake.seen().len());
}

#[test]
fn a_reader_that_dies_in_mid_read_leaves_nothing_behind() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    };
    let (serving, dying) = (runtime(), runtime());
    let fake = serving.block_on(Fake::start());
    let config = RereaderConfig {
        within: Duration::from_millis(50),
        ..CONFIG
    };
    let rereader = Rereader::new(
        client(fake.address, |config| config.api_secret = Secret::new("x")),
        config,
    );
    // The fake does not run while the other runtime does, so the read is still under way when that one ends.
    let read = dying.block_on(rereader.payment("p1"));
    assert_eq!(read, Err(Error::Unreachable(Unreachable::Timeout)));
    dying.spawn({
        let rereader = rereader.clone();
        async move { rereader.payment("p2").await }
    });
    dying.block_on(until(|| {
        rereader.waiters("p2") == 0 && rereader.payments_under_way() > 0
    }));
    drop(dying);
    assert_eq!(rereader.payments_under_way(), 0);
}
