//! Connections that break while builds are made: what was done counts as done, and what is used stays.

use std::time::Duration;

use jangbu::rebuild::{Goal, list, watch};
use jangbu_projections::builds;
use sqlx::PgPool;
use tokio::time::sleep;

use super::{PARTITIONS, again, entry, fed, projection, rebuild};
use crate::{
    database,
    fanout::probe::eventually,
    proxy::{Fault, Proxy},
};

const SOON: Duration = Duration::from_secs(10);

/// The backends that hold an advisory lock.
async fn holders(db: &PgPool, lock: &str) -> Vec<i32> {
    sqlx::query_scalar(
        "select pid
         from pg_locks
         where locktype = 'advisory' and granted and classid::bigint << 32 | objid::bigint = hashtextextended($1, 0)
           and database = (select oid from pg_database where datname = current_database())",
    )
    .bind(lock)
    .fetch_all(db)
    .await
    .expect("the locks")
}

/// Ends a backend; that takes it a moment.
async fn end(db: &PgPool, backends: &[i32]) {
    sqlx::query("select pg_terminate_backend(pid) from unnest($1::integer[]) as pid")
        .bind(backends)
        .execute(db)
        .await
        .expect("they are told");
}

#[tokio::test]
async fn a_switch_whose_answer_is_lost_is_found_to_be_done() {
    let database = fed().await;
    let sales = projection("sales");
    let first = rebuild(&database.pool, sales, again(PARTITIONS))
        .await
        .expect("a build");
    let before = first.replaced.expect("there was one");
    let proxy = Proxy::start(&database.options).await;
    let cut = database::pool(&proxy.options(&database.options)).await;
    // Nothing else of a roll-back commits.
    proxy.arm(Fault::AfterCommit);
    let back = rebuild(&cut, sales, Goal::RollBack).await.expect("it is back");
    assert_eq!(proxy.cuts(), 1, "the answer was lost");
    assert_eq!((&back.schema, back.replaced.as_ref()), (&before, Some(&first.schema)));
    assert!(entry(&database.pool, &before).await.active);
    assert!(!entry(&database.pool, &first.schema).await.active);
}

#[tokio::test]
async fn a_rebuild_that_loses_its_guard_says_what_it_did() {
    let database = fed().await;
    let catalog = projection("catalog");
    let cutting = async {
        let mut guards = Vec::new();
        while guards.is_empty() {
            sleep(Duration::from_millis(1)).await;
            guards = holders(&database.pool, "jangbu rebuild catalog").await;
        }
        end(&database.pool, &guards).await;
    };
    let (built, ()) = tokio::join!(rebuild(&database.pool, catalog, again(PARTITIONS)), cutting);
    let built = built.expect("a build");
    assert!(entry(&database.pool, &built.schema).await.active);
}

#[tokio::test]
async fn what_a_process_uses_stays_in_use_when_its_connection_is_lost() {
    let database = fed().await;
    let watching = watch::Builds::start(&database.options);
    let sales = projection("sales");
    let built = rebuild(&database.pool, sales, again(PARTITIONS))
        .await
        .expect("a build");
    let old = built.replaced.expect("there was one");
    let standings = builds::standings(&database.pool, Some("sales")).await.expect("builds");
    let retired = standings.into_iter().map(|standing| standing.build);
    let retired = retired.into_iter().find(|build| build.schema_name == old);
    let retired = retired.expect("it is kept");
    let pin = watching.pin([&retired]);
    let lock = format!("jangbu uses {old}");
    let mut lost = Vec::new();
    for _ in 0..3 {
        let is_held_anew = async || {
            let now = holders(&database.pool, &lock).await;
            !now.is_empty() && now.iter().all(|pid| !lost.contains(pid))
        };
        eventually("it is held by a new connection", SOON, is_held_anew).await;
        let now = holders(&database.pool, &lock).await;
        end(&database.pool, &now).await;
        lost.extend(now);
    }
    let is_held = async || {
        holders(&database.pool, &lock)
            .await
            .iter()
            .any(|pid| !lost.contains(pid))
    };
    eventually("it is held again", SOON, is_held).await;
    let refused = list::drop(&database.pool, &old, false).await.expect_err("it is used");
    assert!(refused.to_string().contains("still uses"), "{refused}");
    drop(pin);
    let is_free = async || watch::is_unused(&database.pool, &retired).await.expect("an answer");
    eventually("it is let go", SOON, is_free).await;
    list::drop(&database.pool, &old, false).await.expect("nobody uses it");
}
