//! The projections that come with the program, beside figures that are reckoned from the file alone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _, FixedOffset, NaiveDate, TimeDelta};
use sqlx::Row as _;

use super::{Past, hashes, shipped};
use crate::journey::truth::Truth;
use jangbu_projections::{analyst::SHIPPED, builds::Build};

/// Month of the first purchase, buyers, and how many came again within 30, 90 and 365 days.
type Cohort = (NaiveDate, i64, i64, i64, i64);

fn cohorts(truth: &Truth) -> Vec<Cohort> {
    let mut households: BTreeMap<&str, BTreeSet<DateTime<FixedOffset>>> = BTreeMap::new();
    for basket in &truth.baskets {
        let at = DateTime::parse_from_rfc3339(&basket.ordered_at).expect("a time");
        assert!(
            households.entry(&basket.household).or_default().insert(at),
            "one at a time"
        );
    }
    let mut cohorts: BTreeMap<NaiveDate, (i64, i64, i64, i64)> = BTreeMap::new();
    for bought in households.values() {
        let mut bought = bought.iter();
        let first = bought.next().expect("at least one");
        let after = bought.next().map(|second| *second - *first);
        let within = |days: i64| i64::from(after.is_some_and(|after| after <= TimeDelta::days(days)));
        let month = first.date_naive().with_day(1).expect("every month has a first");
        let sums = cohorts.entry(month).or_default();
        sums.0 += 1;
        sums.1 += within(30);
        sums.2 += within(90);
        sums.3 += within(365);
    }
    cohorts
        .into_iter()
        .map(|(month, (a, b, c, d))| (month, a, b, c, d))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn households_that_came_again_are_counted_by_month() {
    let past = Past::new().await;
    let build = past.fed(shipped("repeat_purchase")).await;
    let rows: Vec<Cohort> = sqlx::query_as(&format!("select * from {}.repeat_purchase", build.schema_name))
        .fetch_all(past.db())
        .await
        .expect("the view reads");
    let wanted = cohorts(&Truth::read());
    assert_eq!(rows, wanted);
    let (buyers, again): (Vec<i64>, Vec<i64>) = wanted.iter().map(|row| (row.1, row.4)).unzip();
    // Told by the file's author, and by hand.
    assert_eq!((buyers.iter().sum::<i64>(), again.iter().sum::<i64>()), (60, 51));
}

#[tokio::test(flavor = "multi_thread")]
async fn pairs_of_products_are_counted_and_none_of_a_long_basket_beyond_forty() {
    let past = Past::new().await;
    let build = past.fed(shipped("basket_pairs")).await;
    let mut pairs: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut products: BTreeMap<String, i64> = BTreeMap::new();
    let truth = Truth::read();
    let mut cut = 0;
    for basket in &truth.baskets {
        // No sku comes twice in one.
        let skus: Vec<&String> = basket.lines.iter().map(|(sku, _)| sku).take(40).collect();
        cut += usize::from(basket.lines.len() > 40);
        for (n, one) in skus.iter().enumerate() {
            *products.entry((*one).clone()).or_default() += 1;
            for other in &skus[n + 1..] {
                let (low, high) = if one < other { (one, other) } else { (other, one) };
                *pairs.entry(((*low).clone(), (*high).clone())).or_default() += 1;
            }
        }
    }
    assert!(cut > 0, "some baskets are longer");
    let schema = &build.schema_name;
    let rows = sqlx::query(&format!(
        "select sku, other_sku, baskets::bigint as baskets, sku_baskets::bigint as one, other_sku_baskets::bigint as other,
             lift::float8 as lift
         from {schema}.bought_together"
    ))
    .fetch_all(past.db())
    .await
    .expect("the view reads");
    assert_eq!(rows.len(), pairs.len());
    for row in rows {
        let pair: (String, String) = (row.get("sku"), row.get("other_sku"));
        let (one, other) = (products[&pair.0], products[&pair.1]);
        let baskets: i64 = row.get("baskets");
        assert_eq!(
            (baskets, row.get("one"), row.get("other")),
            (pairs[&pair], one, other),
            "{pair:?}"
        );
        let thousandths = (baskets * 609 * 2_000 + one * other) / (2 * one * other);
        let lift: f64 = row.get("lift");
        assert_eq!(
            format!("{lift:.3}"),
            format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000),
            "{pair:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_of_the_past_is_made_for_analysts() {
    let past = Past::new().await;
    let live = past.fed(shipped("repeat_purchase")).await;
    let head: i64 = sqlx::query_scalar("select max(position) from events")
        .fetch_one(past.db())
        .await
        .expect("a head");
    for (as_of, replace) in [
        (head, &[][..]),
        (head - 300, &["--replace"][..]),
        (head, &["--replace"][..]),
    ] {
        let position = as_of.to_string();
        let mut arguments = vec![
            "replay",
            "repeat_purchase",
            "--as-of",
            &position,
            "--into",
            "audit",
            "--grant",
            "pg_monitor",
        ];
        arguments.extend(replace);
        let made = past.run(&arguments, &[]).await;
        assert_eq!(made.code, 0, "{}", made.stderr);
        let replayed = Build {
            schema_name: "audit".to_owned(),
            ..live.clone()
        };
        let same = hashes(past.db(), &replayed).await == hashes(past.db(), &live).await;
        assert_eq!(same, as_of == head, "as of {as_of} of {head}");
        let buyers: i64 = sqlx::query_scalar("select sum(buyers)::bigint from audit.repeat_purchase")
            .fetch_one(past.db())
            .await
            .expect("the view came with it");
        assert_eq!(buyers == 60, as_of == head);
        let rights: (bool, bool, bool) = sqlx::query_as(
            "select has_table_privilege('pg_monitor', 'audit.repeat_purchase', 'select'),
                 has_table_privilege('pg_monitor', 'audit.purchases', 'insert'),
                 exists (select from pg_proc where pronamespace = 'audit'::regnamespace)",
        )
        .fetch_one(past.db())
        .await
        .expect("an answer");
        assert_eq!(rights, (true, false, false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_made_again_and_proven_like_any_other() {
    let past = Past::new().await;
    let live = past.fed(shipped("basket_pairs")).await;
    let proven = past.run(&["verify", "basket_pairs"], &[]).await;
    assert_eq!(proven.code, 0, "{}{}", proven.stdout, proven.stderr);
    assert!(
        proven.stdout.contains("basket_pairs_v1_b1 is what the log says"),
        "{}",
        proven.stdout
    );

    let spoil = "update basket_pairs_v1_b1.products set baskets = baskets + 1
        where (partition, sku) = (select partition, sku from basket_pairs_v1_b1.products limit 1)";
    sqlx::query(spoil).execute(past.db()).await.expect("a row");
    let wrong = past.run(&["verify", "basket_pairs"], &[]).await;
    assert_eq!(wrong.code, 1, "{}{}", wrong.stdout, wrong.stderr);
    assert!(
        wrong.stdout.contains("in products ") && wrong.stdout.contains("differs in baskets"),
        "{}",
        wrong.stdout
    );
    let repaired = past.run(&["verify", "basket_pairs", "--repair"], &[]).await;
    assert_eq!(repaired.code, 0, "{}{}", repaired.stdout, repaired.stderr);
    assert!(
        repaired.stdout.contains("basket_pairs_v1_b2 is what the log says"),
        "{}",
        repaired.stdout
    );

    let rebuilt = past.run(&["rebuild", "basket_pairs", "--partitions", "2"], &[]).await;
    assert_eq!(rebuilt.code, 0, "{}{}", rebuilt.stdout, rebuilt.stderr);
    let pairs = async |schema: &str| -> (i64, i64) {
        sqlx::query_as(&format!(
            "select count(*), sum(baskets)::bigint from {schema}.bought_together"
        ))
        .fetch_one(past.db())
        .await
        .expect("the view reads")
    };
    assert_eq!(pairs("basket_pairs_v1_b3").await, pairs(&live.schema_name).await);

    // Another text of the same version makes nothing.
    let (file, text) = SHIPPED[0];
    past.place.write(file, &text.replace("limit 40", "limit 30"));
    let directory = past.place.path().display().to_string();
    let refused = past
        .run(&["rebuild", "basket_pairs"], &[("JANGBU_SQL_PROJECTIONS", &directory)])
        .await;
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(
        refused
            .stderr
            .contains("basket_pairs was changed but is still version 1"),
        "{}",
        refused.stderr
    );
}
