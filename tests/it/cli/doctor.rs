//! The doctor, of set-ups that are well and of such as are not.

use jangbu::{clock::Surroundings, sealing::Sealer};
use jangbu_sandbox::{Running, SandboxConfig};
use serde_json::Value;

use super::{
    JWT_SECRET,
    process::{Ended, Place, jangbu},
    servers,
};
use crate::database::Database;

const API_SECRET: &str = "the-api-secret";
const WEBHOOK_SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZg==";
const MASTER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const MASTER_KEY_BYTES: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

async fn sandbox() -> Running {
    let any = "127.0.0.1:0".parse().expect("an address");
    jangbu_sandbox::start(SandboxConfig::new(API_SECRET, "store-1"), any)
        .await
        .expect("the sandbox starts")
}

/// Everything that a shop needs.
struct SetUp {
    place: Place,
    database: Database,
    sandbox: Running,
}

impl SetUp {
    async fn new() -> Self {
        Self {
            place: Place::new(),
            database: Database::create().await,
            sandbox: sandbox().await,
        }
    }

    /// What the doctor says of it, with some variables set otherwise.
    async fn examined(&self, arguments: &[&str], otherwise: &[(&str, &str)]) -> Ended {
        let (url, base) = (servers::url(&self.database), self.sandbox.base_url());
        let amqp =
            std::env::var("TEST_AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned());
        let mut environment = vec![
            ("DATABASE_URL", url.as_str()),
            ("AMQP_URL", &amqp),
            ("JANGBU_JWT_SECRET", JWT_SECRET),
            ("JANGBU_MASTER_KEY", MASTER_KEY),
            ("PORTONE_API_BASE", &base),
            ("PORTONE_API_SECRET", API_SECRET),
            ("PORTONE_STORE_ID", "store-1"),
            ("PORTONE_CHANNEL_KEY", "channel-1"),
            ("PORTONE_WEBHOOK_SECRETS", WEBHOOK_SECRET),
        ];
        environment.extend(otherwise);
        let arguments: Vec<&str> = ["doctor"].iter().chain(arguments).copied().collect();
        let ended = jangbu(&self.place, &arguments, &environment).await;
        let said = format!("{}{}", ended.stdout, ended.stderr);
        for secret in [JWT_SECRET, MASTER_KEY, API_SECRET, WEBHOOK_SECRET, "geheim"] {
            assert!(!said.contains(secret), "{secret} was printed:\n{said}");
        }
        ended
    }
}

/// The line that begins so.
fn line<'a>(ended: &'a Ended, mark: &str, about: &str) -> &'a str {
    ended
        .stdout
        .lines()
        .find(|line| {
            line.split_at_checked(7)
                .is_some_and(|(found, rest)| found.trim() == mark && rest.starts_with(&format!("{about:<19} ")))
        })
        .unwrap_or_else(|| panic!("no {mark} about {about}:\n{}{}", ended.stdout, ended.stderr))
}

#[tokio::test]
async fn a_good_set_up_has_nothing_but_oks() {
    let shop = SetUp::new().await;
    let examined = shop.examined(&[], &[]).await;
    assert_eq!(examined.code, 0, "{}{}", examined.stdout, examined.stderr);
    for about in [
        "configuration",
        "keys",
        "payments",
        "webhook secrets",
        "PostgreSQL",
        "rights",
        "clock and database",
        "tables",
        "log",
        "catalog",
        "sales",
        "checkout",
        "relay",
        "timers",
        "holds",
        "failures",
        "personal data",
        "RabbitMQ",
        "PortOne",
        "clock and PortOne",
    ] {
        line(&examined, "ok", about);
    }
    let as_json = shop.examined(&["--json"], &[]).await;
    let findings: Vec<Value> = serde_json::from_str(&as_json.stdout).expect("JSON");
    assert_eq!(findings.len(), examined.stdout.lines().count());
    assert!(
        findings
            .iter()
            .all(|finding| finding["mark"].is_string() && finding["says"].is_string())
    );
}

#[tokio::test]
async fn a_missing_portone_is_a_warning_and_a_wrong_one_is_wrong() {
    let shop = SetUp::new().await;
    let without = shop
        .examined(&[], &[("PORTONE_CHANNEL_KEY", ""), ("PORTONE_WEBHOOK_SECRETS", "")])
        .await;
    assert_eq!(without.code, 0, "{}", without.stdout);
    let said = line(&without, "warn", "payments");
    assert!(
        said.contains("PORTONE_CHANNEL_KEY is not set") && said.contains("payments_not_configured"),
        "{said}"
    );
    line(&without, "warn", "webhook secrets");

    let refused = shop.examined(&[], &[("PORTONE_API_SECRET", "geheim")]).await;
    assert_eq!(refused.code, 1);
    assert!(line(&refused, "WRONG", "PortOne").contains("401"), "{}", refused.stdout);

    let foreign = shop.examined(&[], &[("PORTONE_STORE_ID", "store-2")]).await;
    assert!(line(&foreign, "WRONG", "PortOne").contains("403"), "{}", foreign.stdout);

    let away = shop.examined(&[], &[("PORTONE_API_BASE", "http://127.0.0.1:1")]).await;
    assert!(
        line(&away, "WRONG", "PortOne").contains("cannot be reached"),
        "{}",
        away.stdout
    );
}

#[tokio::test]
async fn servers_that_do_not_answer_are_named() {
    let shop = SetUp::new().await;
    let nowhere = [
        ("DATABASE_URL", "postgres://u:geheim@127.0.0.1:1/x"),
        ("AMQP_URL", "amqp://u:geheim@127.0.0.1:1/%2f"),
    ];
    let examined = shop.examined(&[], &nowhere).await;
    assert_eq!(examined.code, 1);
    assert!(
        line(&examined, "WRONG", "PostgreSQL").contains("127.0.0.1:1"),
        "{}",
        examined.stdout
    );
    line(&examined, "WRONG", "RabbitMQ");

    let empty = servers::empty_database().await;
    let url = servers::url(&empty);
    let examined = shop.examined(&[], &[("DATABASE_URL", &url)]).await;
    assert_eq!(examined.code, 0, "{}", examined.stdout);
    assert!(
        line(&examined, "warn", "tables").contains("jangbu migrate"),
        "{}",
        examined.stdout
    );
    let made: i64 = sqlx::query_scalar("select count(*) from pg_tables where schemaname = 'public'")
        .fetch_one(&empty.pool)
        .await
        .expect("the catalog can be read");
    assert_eq!(made, 0, "the doctor changes nothing");
}

#[tokio::test]
async fn what_is_left_lying_in_the_tables_is_found() {
    let shop = SetUp::new().await;
    let surroundings = Surroundings::system();
    let now = surroundings.now();
    let execute = async |statement: &str| {
        sqlx::query(statement)
            .bind(surroundings.ids.uuid())
            .bind(now)
            .execute(&shop.database.pool)
            .await
            .expect("a row can be written");
    };
    execute(
        "insert into process_failures (command_id, process, key, position, step, error, failed_at)
        values ($1, 'checkout', 'ord_1', 7, 'commit:A', 'no hold', $2)",
    )
    .await;
    execute(
        "insert into timers (timer_id, kind, key, payload, due_at)
        values ($1, 'order_deadline', 'ord_1', '{}', $2 - interval '1 hour')",
    )
    .await;
    execute(
        "insert into timers (timer_id, kind, key, payload, due_at, attempts, last_error)
        values ($1, 'hold_backstop', 'ord_2', '{}', $2 + interval '1 day', 1, 'stock is still held')",
    )
    .await;
    sqlx::query("update relay_checkpoint set position = 5")
        .execute(&shop.database.pool)
        .await
        .expect("a checkpoint of another history");
    let (_, row) = Sealer::new(MASTER_KEY_BYTES).new_key(&surroundings, "ord_1".to_owned(), "RET_CONTRACT", None);
    sqlx::query(
        "insert into personal_keys (key_id, store_id, person_id, retention_class, wrapped_key, created_at)
        values ($1, $1, $2, $3, $4, $5)",
    )
    .bind(row.key_id)
    .bind(&row.person_id)
    .bind(row.retention_class)
    .bind(&row.live)
    .bind(now)
    .execute(&shop.database.pool)
    .await
    .expect("a key can be written");

    let examined = shop.examined(&[], &[]).await;
    assert_eq!(examined.code, 1);
    assert!(
        line(&examined, "WRONG", "failures").contains("commit:A of ord_1: no hold"),
        "{}",
        examined.stdout
    );
    assert!(
        line(&examined, "warn", "timers").contains("1 of 2 are overdue"),
        "{}",
        examined.stdout
    );
    assert!(
        line(&examined, "WRONG", "holds").contains("ord_2"),
        "{}",
        examined.stdout
    );
    assert!(
        line(&examined, "WRONG", "relay").contains("log fence"),
        "{}",
        examined.stdout
    );
    assert!(
        line(&examined, "ok", "personal data").contains("opens"),
        "{}",
        examined.stdout
    );

    let other = "YWJjZGVmZ2hpamtsbW5vcGFiY2RlZmdoaWprbG1ub3A=";
    let examined = shop.examined(&[], &[("JANGBU_MASTER_KEY", other)]).await;
    line(&examined, "WRONG", "personal data");
    assert!(!examined.stdout.contains(other));
    let examined = shop.examined(&[], &[("JANGBU_MASTER_KEY", "")]).await;
    assert!(
        line(&examined, "WRONG", "personal data").contains("no master key"),
        "{}",
        examined.stdout
    );
}

#[tokio::test]
async fn a_fresh_machine_is_well_and_stays_untouched() {
    let place = Place::new();
    let examined = jangbu(&place, &["doctor"], &[]).await;
    assert_eq!(examined.code, 0, "{}{}", examined.stdout, examined.stderr);
    assert!(
        line(&examined, "ok", "PostgreSQL").contains("first start"),
        "{}",
        examined.stdout
    );
    line(&examined, "ok", "PostgreSQL programs");
    assert!(!place.path().join("data").exists(), "nothing was made");

    std::fs::create_dir(place.path().join("data")).expect("a directory can be made");
    place.write("data/master.key", MASTER_KEY);
    let examined = jangbu(&place, &["doctor"], &[]).await;
    assert_eq!(examined.code, 1, "{}", examined.stdout);
    assert!(
        line(&examined, "WRONG", "master.key").contains("chmod 600"),
        "{}",
        examined.stdout
    );
}
