//! The binary as people and scripts meet it: its words, its exit codes, and that no secret is printed.

mod demo;
mod doctor;
pub mod process;
pub mod servers;

use std::os::unix::fs::PermissionsExt as _;

use jangbu::{clock::Surroundings, http::auth};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::Value;

use self::process::{Place, jangbu};
use crate::database::Database;

type Arguments<'a> = &'a [&'a str];
type Environment<'a> = &'a [(&'a str, &'a str)];

pub const JWT_SECRET: &str = "a secret for tests, of 32 bytes or more";

#[tokio::test]
async fn every_command_explains_itself() {
    let place = Place::new();
    let commands: [(&[&str], &[&str]); 23] = [
        (&[], &["demo", "doctor", "DATABASE_URL", "Exit codes"]),
        (&["serve"], &["--only", "/docs", "SIGTERM"]),
        (&["relay"], &["AMQP_URL"]),
        (&["project"], &["order_history", "stock_levels"]),
        (&["migrate"], &["tables"]),
        (&["sandbox"], &["--bind", "--webhook-url", "PORTONE_API_SECRET", "_sim"]),
        (&["import"], &["products", "orders"]),
        (&["import", "products"], &["price_krw", "rejects.csv", "--json"]),
        (&["import", "orders"], &["basket_id", "nothing twice", "--source"]),
        (&["demo"], &["--exit-after-purchase", "Ctrl-C"]),
        (&["reconcile"], &["--hours", "--json"]),
        (&["token"], &["--role", "--subject", "JANGBU_JWT_SECRET"]),
        (&["doctor"], &["--json", "WRONG"]),
        (&["log"], &["fence"]),
        (&["log", "fence"], &["restore", "Stop every other process"]),
        (&["parked", "list"], &["--projection", "--json"]),
        (
            &["parked", "retry"],
            &["AGGREGATE", "--all", "--json", "the cause is gone"],
        ),
        (&["processes", "list"], &["--json"]),
        (&["processes", "retry"], &["ORDER", "--all", "--step", "--json"]),
        (&["webhooks", "list"], &["--json"]),
        (&["webhooks", "rewind"], &["ENDPOINT", "--to", "again"]),
        (&["webhooks", "retry"], &["ENDPOINT", "AGGREGATE", "--all", "72 hours"]),
        (&["help", "serve"], &["JANGBU_BIND"]),
    ];
    for (command, words) in commands {
        let mut arguments = command.to_vec();
        if command.first() != Some(&"help") {
            arguments.push("--help");
        }
        let help = jangbu(&place, &arguments, &[]).await;
        assert_eq!(help.code, 0, "{arguments:?}: {}", help.stderr);
        for word in words {
            assert!(
                help.stdout.contains(word),
                "{arguments:?} does not say {word}:\n{}",
                help.stdout
            );
        }
        let longest = help.stdout.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(120), "{arguments:?} has long lines:\n{}", help.stdout);
    }
}

#[tokio::test]
async fn a_senseless_value_is_one_line_that_names_its_variable() {
    let place = Place::new();
    let secret = "geheim";
    let url = "postgres://u:geheim@127.0.0.1:1/x";
    let cases: [(&str, Environment); 12] = [
        ("DATABASE_URL", &[("DATABASE_URL", "mysql://u:geheim@127.0.0.1/x")]),
        ("DATABASE_URL", &[("DATABASE_URL", "geheim")]),
        ("JANGBU_JWT_SECRET", &[("DATABASE_URL", url)]),
        (
            "JANGBU_JWT_SECRET",
            &[("DATABASE_URL", url), ("JANGBU_JWT_SECRET", "geheim")],
        ),
        ("JANGBU_MASTER_KEY", &[("JANGBU_MASTER_KEY", "geheim")]),
        ("AMQP_URL", &[("AMQP_URL", "http://u:geheim@127.0.0.1")]),
        ("JANGBU_BIND", &[("JANGBU_BIND", "8080")]),
        ("JANGBU_PARTITIONS", &[("JANGBU_PARTITIONS", "3")]),
        ("PORTONE_API_BASE", &[("PORTONE_API_BASE", "https://u:geheim@x")]),
        (
            "PORTONE_WEBHOOK_SECRETS",
            &[("PORTONE_WEBHOOK_SECRETS", "whsec_geheim!")],
        ),
        (
            "PORTONE_STORE_ID",
            &[("JANGBU_LIVE", "true"), ("PORTONE_API_SECRET", secret)],
        ),
        ("RUST_LOG", &[("RUST_LOG", "jangbu=loud")]),
    ];
    for (variable, environment) in cases {
        let refused = jangbu(&place, &["serve"], environment).await;
        assert_eq!(refused.code, 2, "{variable}: {}", refused.stderr);
        assert_eq!(refused.stdout, "");
        assert!(
            refused.stderr.starts_with(&format!("jangbu: {variable} ")) && refused.stderr.lines().count() == 1,
            "{variable}: {}",
            refused.stderr
        );
        assert!(!refused.stderr.contains(secret), "{}", refused.stderr);
    }
    place.write(".env", "JANGBU_LIVE=perhaps\n");
    let refused = jangbu(&place, &["doctor"], &[]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(
        refused.stderr.starts_with("jangbu: JANGBU_LIVE must be"),
        "{}",
        refused.stderr
    );
}

#[tokio::test]
async fn the_schema_of_an_event_is_printed_without_any_service() {
    let place = Place::new();
    let types = jangbu(&place, &["events", "schema"], &[]).await;
    assert_eq!((types.code, types.stderr.as_str()), (0, ""));
    assert!(types.stdout.starts_with("cart.opened 1\n"), "{}", types.stdout);
    for line in types.stdout.lines() {
        let (event_type, version) = line.split_once(' ').expect("type and version");
        let printed = jangbu(&place, &["events", "schema", event_type], &[]).await;
        assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
        let committed = format!("events/schemas/{event_type}.v{version}.json");
        let committed = std::fs::read_to_string(&committed).unwrap_or_else(|error| panic!("{committed}: {error}"));
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(parsed(&printed.stdout), parsed(&committed), "{event_type}");
    }
}

#[tokio::test]
async fn a_wrong_call_is_told_what_is_missing() {
    let place = Place::new();
    let no_webhooks: Environment = &[("PORTONE_API_SECRET", "s3cret")];
    let cases: [(Arguments, Environment, &str); 19] = [
        (&[], &[], "Usage"),
        (&["sell"], &[], "sell"),
        (&["token"], &[], "--role"),
        (&["token", "--role", "king"], &[], "admin"),
        (&["token", "--role", "customer"], &[], "--subject"),
        (&["token", "--role", "customer", "--subject", "kim"], &[], "--subject"),
        (&["relay"], &[], "AMQP_URL"),
        (&["project", "orders"], &[], "order_history"),
        (&["reconcile"], &[], "PORTONE_API_SECRET"),
        (&["sandbox"], &[], "PORTONE_API_SECRET"),
        (
            &["sandbox", "--webhook-url", "http://127.0.0.1:1/webhooks/portone"],
            no_webhooks,
            "PORTONE_WEBHOOK_SECRETS",
        ),
        (&["sandbox", "--webhook-url", "ftp://x"], no_webhooks, "http://"),
        (&["parked", "retry"], &[], "--all"),
        (&["parked", "retry", "--all", "ord_1"], &[], "--all"),
        (&["parked", "list", "--projection", "sails"], &[], "order_history"),
        (&["processes", "retry"], &[], "--all"),
        (&["processes", "retry", "ord_1"], &[], "ord_1"),
        (&["processes", "retry", "--all", "--step", "seven"], &[], "seven"),
        (&["events", "schema", "order.teleported"], &[], "order.teleported"),
    ];
    for (arguments, environment, word) in cases {
        let refused = jangbu(&place, arguments, environment).await;
        assert_eq!(refused.code, 2, "{arguments:?}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{arguments:?}");
        assert!(refused.stderr.contains(word), "{arguments:?}: {}", refused.stderr);
        assert!(!refused.stderr.contains("s3cret"), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn a_token_opens_what_its_role_may() {
    let place = Place::new();
    let environment = [
        ("DATABASE_URL", "postgres://127.0.0.1:1/x"),
        ("JANGBU_JWT_SECRET", JWT_SECRET),
    ];
    let minted = jangbu(&place, &["token", "--role", "admin"], &environment).await;
    assert_eq!(minted.code, 0, "{}", minted.stderr);
    let token = minted.stdout.trim();
    assert_eq!(minted.stdout, format!("{token}\n"), "nothing but the token");
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["jangbu"]);
    let read = |token: &str, secret: &[u8]| {
        jsonwebtoken::decode::<Value>(token, &DecodingKey::from_secret(secret), &validation).map(|data| data.claims)
    };
    let claims = read(token, JWT_SECRET.as_bytes()).expect("signed with the secret of the environment");
    assert_eq!(
        (claims["role"].as_str(), claims["sub"].as_str()),
        (Some("admin"), Some("admin"))
    );

    // Without a secret one is made, once, for its owner alone.
    let id = format!("cus_{}", Surroundings::system().ids.uuid().simple());
    let arguments = ["token", "--role", "customer", "--subject", &id, "--hours", "1"];
    let (first, second) = (
        jangbu(&place, &arguments, &[]).await,
        jangbu(&place, &arguments, &[]).await,
    );
    let path = place.path().join("data/jwt.secret");
    let kept = std::fs::read_to_string(&path).expect("a kept secret");
    let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for minted in [first, second] {
        let claims = read(minted.stdout.trim(), kept.trim().as_bytes()).expect("signed with the kept secret");
        assert_eq!(
            (claims["role"].as_str(), claims["sub"].as_str()),
            (Some("customer"), Some(id.as_str()))
        );
    }
    assert_eq!("admin".parse(), Ok(auth::Role::Admin));
}

#[tokio::test]
async fn an_empty_database_is_migrated_once() {
    let place = Place::new();
    let database = servers::empty_database().await;
    let url = servers::url(&database);
    let environment = [("DATABASE_URL", url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
    for _ in 0..2 {
        let migrated = jangbu(&place, &["migrate"], &environment).await;
        assert_eq!(
            (migrated.code, migrated.stdout.as_str()),
            (0, "the tables are up to date\n"),
            "{}",
            migrated.stderr
        );
    }
    let events: i64 = sqlx::query_scalar("select count(*) from events")
        .fetch_one(&database.pool)
        .await
        .expect("the table is there");
    assert_eq!(events, 0);
}

#[tokio::test]
async fn a_fenced_log_has_another_identity_and_no_reader_ahead_of_it() {
    let place = Place::new();
    let database = Database::create().await;
    let url = servers::url(&database);
    let identity = "select log_id::text from log_identity";
    let before: String = sqlx::query_scalar(identity)
        .fetch_one(&database.pool)
        .await
        .expect("an identity");
    sqlx::query("update relay_checkpoint set position = 7")
        .execute(&database.pool)
        .await
        .expect("a checkpoint of another history");
    let environment = [("DATABASE_URL", url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
    let fenced = jangbu(&place, &["log", "fence"], &environment).await;
    assert_eq!(fenced.code, 0, "{}", fenced.stderr);
    let after: String = sqlx::query_scalar(identity)
        .fetch_one(&database.pool)
        .await
        .expect("an identity");
    assert_ne!(before, after);
    assert_eq!(fenced.stdout.trim(), after);
    let relay: i64 = sqlx::query_scalar("select position from relay_checkpoint")
        .fetch_one(&database.pool)
        .await
        .expect("a checkpoint");
    assert_eq!(relay, 0);
}
