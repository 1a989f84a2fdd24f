//! Streams too long to be folded from their first event each time.

use super::*;

/// Events between two snapshots.
const EVERY: i64 = 500;

/// Waits for snapshots of these sequences and no others: they are kept in the background.
async fn kept(database: &Database, sequences: &[i64]) {
    let waiting = async {
        loop {
            let kept: Vec<i64> = sqlx::query_scalar("select sequence from snapshots order by sequence")
                .fetch_all(&database.pool)
                .await
                .expect("snapshots read");
            if kept == sequences {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("snapshots are kept");
}

async fn tamper(database: &Database, how: &str) {
    sqlx::query(&format!("update snapshots set {how}"))
        .execute(&database.pool)
        .await
        .expect("it updates");
}

/// A process that knows nothing yet, and how much it finds held.
async fn cold(database: &Database) -> (Executor, u32) {
    let executor = database.executor(surroundings()).await;
    let loaded = executor.load::<StockItem>(item()).await.expect("it loads");
    assert_eq!(loaded.sequence, EVERY + 1);
    (executor, loaded.state.held())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_is_folded_from_its_last_snapshot() {
    let database = Database::create().await;
    let executor = database.executor(surroundings()).await;
    let first = fresh();
    let others = (0..EVERY).map(|_| fresh());
    for envelope in std::iter::once(first.clone()).chain(others) {
        let received = executor.execute::<StockItem>(item(), receive(1), envelope).await;
        received.expect("it is carried out");
    }
    kept(&database, &[EVERY]).await;

    // Another process begins there: it believes what the snapshot says.
    assert_eq!(cold(&database).await.1, 0);
    tamper(&database, "state = jsonb_set(state::jsonb, '{held}', '7')::json").await;
    let (believer, held) = cold(&database).await;
    assert_eq!(held, 7);
    // A repeat of what came before it is folded without it.
    let again = believer.execute::<StockItem>(item(), receive(1), first).await;
    let again = again.expect("it was carried out");
    assert_eq!((again.duplicate, again.sequence, again.state.held()), (true, 1, 0));

    // One that does not read, or of other code, is passed over; who folds so far leaves a new one.
    tamper(&database, "state = '{}'").await;
    assert_eq!(cold(&database).await.1, 0);
    kept(&database, &[EVERY, EVERY + 1]).await;
    tamper(&database, "code_version = code_version + 1").await;
    assert_eq!(cold(&database).await.1, 0);
    kept(&database, &[EVERY, EVERY + 1, EVERY + 1]).await;
    invariants::check(&database.pool).await;
}
