//! Commands that stay up, and the databases they are given.

use std::time::Duration;

use rustix::process::Signal;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use super::{
    JWT_SECRET,
    process::{Place, Process},
};
use crate::{
    database::{self, Database},
    fanout::probe::eventually,
};

/// As in `DATABASE_URL`.
pub fn url(database: &Database) -> String {
    database.options.to_url_lossy().to_string()
}

/// Without any table.
pub async fn empty_database() -> Database {
    let name = format!("jangbu_test_{}", database::surroundings().ids.uuid().simple());
    let mut admin = PgConnection::connect_with(&database::server())
        .await
        .expect("the test server answers");
    admin
        .execute(format!("create database {name}").as_str())
        .await
        .expect("a database can be made");
    let options = database::server().database(&name);
    let pool = database::pool(&options).await;
    Database { name, options, pool }
}

#[tokio::test]
async fn a_shop_serves_until_it_is_told_to_stop() {
    let place = Place::new();
    let database = empty_database().await;
    let url = url(&database);
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("JANGBU_JWT_SECRET", JWT_SECRET),
        ("JANGBU_BIND", "127.0.0.1:0"),
        ("JANGBU_DB_POOL_MAX", "4"),
        ("JANGBU_LOG", "json"),
    ];
    let mut shop = Process::start(&place, &["serve"], &environment);
    let line = shop.stderr.until("serving").await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("a log line in JSON");
    let base = format!("http://{}", line["address"].as_str().expect("an address"));
    let answer = reqwest::get(format!("{base}/livez")).await.expect("it answers");
    assert_eq!(answer.status(), 200);
    let ended = shop.stop(Signal::TERM).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopped"), "{}", ended.stderr);
    assert!(!ended.stderr.contains(JWT_SECRET), "{}", ended.stderr);
    reqwest::get(format!("{base}/livez"))
        .await
        .expect_err("nobody answers any more");
}

#[tokio::test]
async fn a_taken_port_is_no_shop() {
    let place = Place::new();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let environment = [("JANGBU_BIND", address.as_str())];
    let refused = super::process::jangbu(&place, &["serve"], &environment).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .stderr
            .starts_with(&format!("jangbu: JANGBU_BIND {address} cannot be bound")),
        "{}",
        refused.stderr
    );
    assert!(!place.path().join("data").exists(), "nothing was begun");
}

#[tokio::test]
async fn projections_run_as_a_process_of_their_own() {
    let place = Place::new();
    let database = Database::create().await;
    let url = url(&database);
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("JANGBU_JWT_SECRET", JWT_SECRET),
        ("JANGBU_DB_POOL_MAX", "4"),
    ];
    let mut sales = Process::start(&place, &["project", "sales"], &environment);
    sales.stderr.until("running").await;
    let ended = sales.stop(Signal::INT).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[tokio::test]
async fn a_role_of_its_own_tells_how_it_is() {
    let place = Place::new();
    let database = Database::create().await;
    let url = url(&database);
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("JANGBU_JWT_SECRET", JWT_SECRET),
        ("JANGBU_DB_POOL_MAX", "4"),
        ("JANGBU_METRICS_BIND", "127.0.0.1:0"),
    ];
    let mut sales = Process::start(&place, &["project", "sales"], &environment);
    let line = sales.stderr.until("running").await;
    let (_, address) = line.split_once("metrics.address=").expect("it says where");
    let ask = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", address.trim()))
            .await
            .expect("it answers");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    };
    assert_eq!(ask("/livez").await, (200, r#"{"status":"ok"}"#.to_owned()));
    let held = r#"jangbu_leases_held{group="sales.v1.b1"} 4"#;
    eventually("it holds what it feeds", Duration::from_secs(10), async || {
        ask("/metrics").await.1.contains(held)
    })
    .await;
    assert_eq!(ask("/api/v1/products").await.0, 404);
    // A second one of the same address would be seen as the first.
    let environment = [environment[0], environment[1], ("JANGBU_METRICS_BIND", address.trim())];
    let refused = super::process::jangbu(&place, &["project", "sales"], &environment).await;
    assert_eq!(refused.code, 1);
    let wanted = format!("jangbu: JANGBU_METRICS_BIND {} cannot be bound", address.trim());
    assert!(refused.stderr.starts_with(&wanted), "{}", refused.stderr);
    let ended = sales.stop(Signal::TERM).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[tokio::test]
async fn a_sandbox_says_where_it_is_and_believes_its_secret_alone() {
    let place = Place::new();
    place.write(".env", "PORTONE_STORE_ID=store-of-the-file\n");
    let environment = [
        ("PORTONE_API_SECRET", "sandbox-secret"),
        (
            "PORTONE_WEBHOOK_SECRETS",
            "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ),
    ];
    let arguments = [
        "sandbox",
        "--bind",
        "127.0.0.1:0",
        "--webhook-url",
        "http://127.0.0.1:1/x",
    ];
    let mut sandbox = Process::start(&place, &arguments, &environment);
    let base = sandbox.stdout.until("http://").await;
    let http = reqwest::Client::new();
    let live = http.get(format!("{base}/livez")).send().await.expect("it answers");
    assert_eq!(live.status(), 200);
    let read = async |secret: &str, store: &str| {
        let request = http
            .get(format!("{base}/payments/none?storeId={store}"))
            .header("Authorization", format!("PortOne {secret}"));
        request.send().await.expect("it answers").status().as_u16()
    };
    assert_eq!(read("sandbox-secret", "store-of-the-file").await, 404);
    assert_eq!(read("sandbox-secret", "another-store").await, 403);
    assert_eq!(read("another-secret", "store-of-the-file").await, 401);
    let ended = sandbox.stop(Signal::TERM).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        !ended.stderr.contains("sandbox-secret") && !ended.stderr.contains("whsec_"),
        "{}",
        ended.stderr
    );
}
