//! Read tables that are not what the log says are found, named and healed, while the shop goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jangbu::rebuild::verify::{self, Kind, Verified};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{fed, projection, site};
use crate::{
    cli::{
        JWT_SECRET,
        process::{Place, jangbu},
        servers::url,
    },
    fanout::probe::eventually,
    web::Web,
};

async fn verify(db: &PgPool, name: &str) -> Verified {
    let verified = verify::run(&site(db), projection(name), |_| {}).await;
    verified.expect("it is compared").expect("nobody stopped it")
}

async fn tamper(db: &PgPool, statement: &str) {
    let changed = sqlx::query(statement).execute(db).await.expect("it is changed");
    assert_eq!(changed.rows_affected(), 1, "{statement}");
}

async fn schemas(db: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select nspname::text from pg_namespace where nspname like 'verifying%'")
        .fetch_all(db)
        .await
        .expect("schemas")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_difference_is_named() {
    let database = fed().await;
    let db = &database.pool;
    for projection in jangbu_projections::all() {
        let verified = verify(db, projection.name).await;
        assert!(verified.is_proven(), "{verified:?}");
        assert_eq!((verified.positions, verified.parked), (vec![7_259; 4], 0));
    }
    let sku: String = sqlx::query_scalar("select min(sku) from catalog_v1_b1.catalog_products")
        .fetch_one(db)
        .await
        .expect("a product");
    let cases = [
        (
            format!("update catalog_v1_b1.catalog_products set name = name || '?' where sku = '{sku}'"),
            Kind::Differs,
        ),
        (
            format!("delete from catalog_v1_b1.catalog_products where sku = '{sku}'"),
            Kind::Missing,
        ),
    ];
    for (statement, kind) in cases {
        tamper(db, &statement).await;
        let verified = verify(db, "catalog").await;
        let difference = verified.difference.expect("it differs");
        assert_eq!(
            (difference.kind, difference.table.as_str(), verified.differing),
            (kind, "catalog_products", vec![difference.partition])
        );
        let columns: &[&str] = if kind == Kind::Differs { &["name"] } else { &[] };
        assert_eq!(difference.columns, columns);
    }
    tamper(
        db,
        "insert into sales_v1_b1.sales_by_product
         select day, 'NEVER-SOLD', partition, orders, units, gross, cancelled
         from sales_v1_b1.sales_by_product limit 1",
    )
    .await;
    let difference = verify(db, "sales").await.difference.expect("it differs");
    assert_eq!(
        (difference.kind, &difference.key["sku"]),
        (Kind::Surplus, &json!("NEVER-SOLD"))
    );
    assert_eq!(schemas(db).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tampered_with_is_found_and_healed() {
    let database = fed().await;
    let db = &database.pool;
    let (place, url) = (Place::new(), url(&database));
    let environment = [("DATABASE_URL", url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
    tamper(
        db,
        "update sales_v1_b1.sales_by_hour set gross = gross + 1
         where (hour, partition) = (select hour, partition from sales_v1_b1.sales_by_hour order by 1 limit 1)",
    )
    .await;
    let found = jangbu(&place, &["verify", "sales"], &environment).await;
    assert_eq!(found.code, 1, "{}", found.stderr);
    assert!(
        found
            .stdout
            .starts_with("sales_v1_b1 is not what the log says, in its partitions "),
        "{}",
        found.stdout
    );
    assert!(
        found.stdout.contains("the first row: in sales_by_hour {\"hour\":"),
        "{}",
        found.stdout
    );
    assert!(
        found.stdout.contains(" differs in gross (partition "),
        "{}",
        found.stdout
    );
    let healed = jangbu(&place, &["verify", "sales", "--repair", "--json"], &environment).await;
    assert_eq!(healed.code, 0, "{}", healed.stderr);
    let lines: Vec<Value> = healed
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (
            &lines[0]["schema"],
            &lines[0]["difference"]["columns"],
            &lines[0]["difference"]["kind"]
        ),
        (&json!("sales_v1_b1"), &json!(["gross"]), &json!("differs"))
    );
    assert_eq!(
        (&lines[1]["schema"], &lines[1]["differing"], &lines[1]["difference"]),
        (&json!("sales_v1_b2"), &json!([]), &Value::Null)
    );
    let well = jangbu(&place, &["verify", "sales", "--repair"], &environment).await;
    assert_eq!(
        (well.code, well.stdout.as_str()),
        (
            0,
            "sales_v1_b2 is what the log says, with its partitions at 7259, 7259, 7259, 7259\n"
        )
    );
    assert_eq!(schemas(db).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tables_that_are_fed_meanwhile_are_proven_too() {
    let web = Arc::new(Web::start().await);
    web.product("A", 1_000, 10).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (web, stop) = (web.clone(), stop.clone());
        async move {
            let mut received = 0;
            while !stop.load(Ordering::Relaxed) {
                let body = json!({"quantity": 1});
                let path = "/api/v1/admin/stock/A/receive";
                web.post(path).admin().json(&body).send().await.expect(200);
                received += 1;
            }
            received
        }
    });
    let db = web.database().pool.clone();
    eventually("it is fed", Duration::from_secs(10), async || {
        super::entry(&db, "stock_levels_v1_b1").await.position > 20
    })
    .await;
    for _ in 0..10 {
        for name in ["stock_levels", "catalog"] {
            let verified = verify(&db, name).await;
            assert!(verified.is_proven(), "{verified:?}");
        }
    }
    // Found while it is written over and over: the row is wrong for good, since stock is counted from events.
    tamper(&db, "update catalog_v1_b1.catalog_products set name = 'ghost'").await;
    let difference = verify(&db, "catalog").await.difference.expect("it differs");
    assert_eq!(difference.columns, ["name"]);
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.expect("it writes") > 10);
}

/// Those of analysts are made again and proven like any other.
#[tokio::test(flavor = "multi_thread")]
async fn projections_in_sql_are_made_again_and_proven_too() {
    let database = super::imported().await;
    let (place, url) = (Place::new(), url(&database));
    let environment = [("DATABASE_URL", url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
    for build in 1..=2 {
        let rebuilt = jangbu(&place, &["rebuild", "basket_pairs", "--json"], &environment).await;
        assert_eq!(rebuilt.code, 0, "{}", rebuilt.stderr);
        let rebuilt: Value = serde_json::from_str(&rebuilt.stdout).expect("JSON");
        assert_eq!(rebuilt["schema"], json!(format!("basket_pairs_v1_b{build}")));
        assert!(rebuilt["events"].as_i64() > Some(600), "{rebuilt}");
    }
    let verified = jangbu(&place, &["verify", "basket_pairs"], &environment).await;
    assert!(
        verified.stdout.starts_with("basket_pairs_v1_b2 is what the log says"),
        "{verified:?}"
    );
    let table: String = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'basket_pairs_v1_b2' limit 1",
    )
    .fetch_one(&database.pool)
    .await
    .expect("a table");
    let gone = format!("delete from {table} where ctid = (select min(ctid) from {table})");
    tamper(&database.pool, &gone).await;
    let verified = jangbu(&place, &["verify", "basket_pairs", "--repair"], &environment).await;
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(
        verified.stdout.contains(" is missing (partition "),
        "{}",
        verified.stdout
    );
    assert!(
        verified.stdout.contains("basket_pairs_v1_b3 is what the log says"),
        "{}",
        verified.stdout
    );
}
