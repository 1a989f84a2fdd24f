//! Rebuilds that are killed, and what the next one finds.

use std::time::Duration;

use jangbu::rebuild;
use rustix::process::Signal;
use serde_json::Value;
use sqlx::Connection as _;

use super::{PARTITIONS, fed, hashes};
use crate::{
    cli::{
        JWT_SECRET,
        process::{Place, Process, jangbu},
        servers::url,
    },
    fanout::probe::eventually,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_goes_on_where_it_was() {
    let database = fed().await;
    let db = &database.pool;
    let (place, url) = (Place::new(), url(&database));
    let environment = [("DATABASE_URL", url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
    let slow = ["rebuild", "order_history", "--throttle", "800"];
    let was = hashes(db, "order_history_v1_b1", PARTITIONS).await;
    let position = async || -> i64 {
        let query =
            "select coalesce(max(position), 0) from checkpoints where projection = 'order_history' and build = 2";
        sqlx::query_scalar(query).fetch_one(db).await.expect("a position")
    };
    let mut killed_at = Vec::new();
    for _ in 0..2 {
        let before = position().await;
        let mut process = Process::start(&place, &slow, &environment);
        process.stderr.until("copying order_history").await;
        eventually("it has copied something", Duration::from_secs(30), async || {
            position().await > before
        })
        .await;
        // Only one at a time.
        let second = jangbu(&place, &["rebuild", "order_history"], &environment).await;
        assert_eq!((second.code, second.stdout.as_str()), (1, ""));
        assert_eq!(second.stderr, "jangbu: another rebuild of order_history is under way\n");
        let drop = jangbu(&place, &["builds", "drop", "order_history_v1_b2"], &environment).await;
        assert_eq!(drop.stderr, "jangbu: a rebuild of order_history is under way\n");
        process.stop(Signal::KILL).await;
        killed_at.push(position().await);
        // The server notices that it is gone.
        eventually("nobody rebuilds", Duration::from_secs(10), async || {
            let mut guard = sqlx::PgConnection::connect_with(&database.options)
                .await
                .expect("the server answers");
            rebuild::lock(&mut guard, "order_history").await.expect("an answer")
        })
        .await;
    }
    assert!(
        0 < killed_at[0] && killed_at[0] < killed_at[1] && killed_at[1] < 7_259,
        "{killed_at:?}"
    );
    let ended = jangbu(&place, &["rebuild", "order_history", "--json"], &environment).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let rebuilt: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(
        (
            &rebuilt["schema"],
            &rebuilt["replaced"],
            &rebuilt["resumed"],
            &rebuilt["position"]
        ),
        (
            &Value::from("order_history_v1_b2"),
            &Value::from("order_history_v1_b1"),
            &Value::from(true),
            &Value::from(7_259)
        )
    );
    let copied = rebuilt["positions"].as_i64().expect("a number");
    assert!(
        copied < 7_259 - killed_at[0],
        "{copied} positions were copied after {killed_at:?}"
    );
    assert!(rebuilt["switch_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{rebuilt}");
    assert_eq!(hashes(db, "order_history_v1_b2", PARTITIONS).await, was);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_told_to_stop_says_how_to_go_on() {
    let database = fed().await;
    let (place, url) = (Place::new(), url(&database));
    let environment = [("DATABASE_URL", url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
    let mut process = Process::start(&place, &["rebuild", "sales", "--throttle", "500"], &environment);
    process.stderr.until("copying sales").await;
    let ended = process.stop(Signal::TERM).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    assert!(ended.stderr.contains("the same command goes on"), "{}", ended.stderr);
    // Of another cut, what was begun is no use.
    let ended = jangbu(
        &place,
        &["rebuild", "sales", "--partitions", "2", "--json"],
        &environment,
    )
    .await;
    let rebuilt: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(
        (&rebuilt["partitions"], &rebuilt["resumed"]),
        (&Value::from(2), &Value::from(false))
    );
    let listed = jangbu(&place, &["builds", "--json"], &environment).await;
    let sales: Vec<Value> = listed
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|entry: &Value| entry["projection"] == "sales")
        .collect();
    assert_eq!(sales.len(), 2, "{sales:?}");
    assert_eq!(
        (&sales[0]["phase"], &sales[1]["active"]),
        (&Value::from("retired"), &Value::from(true))
    );
    // Roll-back, then the one that was rolled back is dropped.
    let back = jangbu(&place, &["rebuild", "sales", "--rollback"], &environment).await;
    assert!(
        back.stdout
            .starts_with("sales_v1_b1 is read again in place of sales_v1_b"),
        "{}",
        back.stdout
    );
    let dropped = sales[1]["schema"].as_str().expect("a name");
    let drop = jangbu(&place, &["builds", "drop", dropped], &environment).await;
    assert_eq!((drop.code, drop.stdout), (0, format!("{dropped} is dropped\n")));
    let nothing = jangbu(&place, &["rebuild", "sales", "--rollback"], &environment).await;
    assert_eq!(
        (nothing.code, nothing.stderr.as_str()),
        (2, "jangbu: there is no build to go back to\n")
    );
}
