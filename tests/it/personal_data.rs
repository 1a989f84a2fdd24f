//! Names, phones, e-mails, addresses and account numbers are in clear nowhere but before their owner:
//! no table, no log line, no message, no metric and no file of the database has them, in any spelling.

mod needles;
mod served;
mod shopping;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use jangbu::{clock::Surroundings, embedded::Embedded};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};
use uuid::Uuid;

use self::served::Served;
use crate::{
    database::Database,
    journey::broker::{Listener, amqp_url},
};

/// Every row of every table that is not PostgreSQL's own, as text; `bytea` is hexadecimal in it.
async fn rows(db: &PgPool) -> Vec<(String, String)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables
         where schemaname not in ('pg_catalog', 'information_schema') order by 1",
    )
    .fetch_all(db)
    .await
    .expect("the tables are listed");
    let mut all = Vec::new();
    for table in tables {
        let sql = format!(r"select coalesce(string_agg(t::text, E'\n'), '') from {table} as t");
        let text = sqlx::query_scalar(&sql).fetch_one(db).await;
        all.push((table, text.expect("the rows are text")));
    }
    all
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory is read") {
        let path = entry.expect("an entry").path();
        let kind = fs::symlink_metadata(&path).expect("it is there").file_type();
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_personal_is_in_no_table_message_log_line_or_metric() {
    let database = Database::create().await;
    let log: Uuid = sqlx::query_scalar("select log_id from log_identity")
        .fetch_one(&database.pool)
        .await
        .expect("the log has an identity");
    let mut listener = Listener::bind(log).await;
    let url = database.options.to_url_lossy();
    let served = Served::start(&[
        ("DATABASE_URL", url.as_str()),
        ("AMQP_URL", &amqp_url()),
        ("JANGBU_DB_POOL_MAX", "5"),
    ])
    .await;
    let secret = shopping::go(&served).await;
    let (public, needles) = (secret.public(), secret.needles());

    let metrics = served.get("/metrics", None).await.expect(200).text;
    assert!(metrics.contains("jangbu_webhooks_total"), "{metrics}");
    needles.assert_absent("the metrics", metrics.as_bytes());

    let head: i64 = sqlx::query_scalar("select max(position) from events")
        .fetch_one(&database.pool)
        .await
        .expect("a head");
    let messages = listener.read_through(head).await;
    let mut told: Vec<i64> = messages
        .iter()
        .flat_map(|(_, message)| message.events.iter().map(|event| event.position))
        .collect();
    told.sort_unstable();
    told.dedup();
    // The shop goes on meanwhile: there may be more than we asked for.
    assert!(
        told.iter()
            .copied()
            .take_while(|position| *position <= head)
            .eq(1..=head)
    );
    let bodies = messages.into_iter().map(|(body, _)| body).collect::<Vec<_>>().concat();
    public.assert_all_present("the messages", &bodies);
    needles.assert_absent("the messages", &bodies);

    let rows = rows(&database.pool).await;
    let names: Vec<&str> = rows.iter().map(|(table, _)| table.as_str()).collect();
    for table in [
        "public.events",
        "public.commands",
        "public.timers",
        "sales_v1_b1.sales_by_hour",
    ] {
        assert!(names.contains(&table), "{table} is not among {names:?}");
    }
    let all: String = rows.iter().map(|(_, text)| text.as_str()).collect();
    public.assert_all_present("the tables", all.as_bytes());
    for (table, text) in &rows {
        needles.assert_absent(table, text.as_bytes());
    }

    // Stopped, so that its last words are there as well.
    let output = served.stop().await;
    let lines = String::from_utf8_lossy(&output);
    assert!(
        lines.contains(" TRACE ") && lines.contains("stopped"),
        "it logged all it could"
    );
    assert!(lines.contains(&secret.order), "the log tells of orders");
    println!(
        "{} kB logged, {} events, {} tables",
        output.len() / 1_000,
        head,
        rows.len()
    );
    needles.assert_absent("the log", &output);
}

/// Removed at the end.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_personal_is_in_no_file_of_the_private_database() {
    let name = format!("jangbu_test_{}", Surroundings::system().ids.uuid().simple());
    let directory = Directory(std::env::temp_dir().join(name));
    fs::create_dir(&directory.0).expect("a directory can be made");
    // The server may run as somebody else, who must get through.
    fs::set_permissions(&directory.0, fs::Permissions::from_mode(0o711)).expect("it is ours");
    let data_dir = directory.0.to_str().expect("a plain path");
    let served = Served::start(&[("JANGBU_DATA_DIR", data_dir), ("JANGBU_LOG", "json")]).await;
    let secret = shopping::go(&served).await;
    let (public, needles) = (secret.public(), secret.needles());

    // Attached beside the running process, as another role would be.
    let embedded = Embedded::start(&directory.0).await.expect("the server is shared");
    let mut db = PgConnection::connect(embedded.url()).await.expect("it answers");
    sqlx::query("checkpoint")
        .execute(&mut db)
        .await
        .expect("all pages are written");
    db.close().await.expect("it closes");
    let place = embedded.directory().to_path_buf();
    let search = || {
        let (mut tables, mut wal, mut bytes) = (Vec::new(), Vec::new(), 0);
        for path in files(&place) {
            // Files come and go while the server runs.
            let Ok(content) = fs::read(&path) else { continue };
            needles.assert_absent(&path.display().to_string(), &content);
            bytes += content.len();
            let found = if path.to_string_lossy().contains("/pg_wal/") {
                &mut wal
            } else {
                &mut tables
            };
            found.extend(public.found_in(&content));
        }
        println!("{} MB of {} searched", bytes / 1_000_000, place.display());
        for (part, found) in [("the tables' files", tables), ("the write-ahead log", wal)] {
            for what in ["the product", "the order"] {
                assert!(found.iter().any(|one| one.starts_with(what)), "{what} is not in {part}");
            }
        }
    };
    search();
    let output = served.stop().await;
    needles.assert_absent("the log", &output);
    embedded.stop().await.expect("it stops");
    // What the server wrote while it stopped.
    search();
}
