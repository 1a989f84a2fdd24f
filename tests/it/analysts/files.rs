//! Files as analysts have them: the tutorial's, wrong ones, and a shop that runs with both.

use std::time::Duration;

use rustix::process::Signal;

use super::{Past, registered};
use crate::{
    cli::{JWT_SECRET, process::Process, servers},
    fanout::probe::eventually,
};

/// The first block of SQL in the tutorial.
fn tutorial() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql-projections.md");
    let text = std::fs::read_to_string(path).expect("the tutorial is there");
    let (_, rest) = text.split_once("```sql\n").expect("it has a block of SQL");
    rest.split_once("```").expect("the block ends").0.to_owned()
}

/// The file that the tests of this module are about, in one statement.
fn orders_by_day(version: u32, statement: &str) -> String {
    format!(
        "-- projection: orders_by_day\n-- version: {version}\n\
         create table days (partition smallint, day date, orders bigint not null, primary key (partition, day));\n\
         -- on order.imported\n{statement}\n"
    )
}

const COUNT: &str = "insert into days values (:partition, :occurred_at::date, 1)
on conflict (partition, day) do update set orders = days.orders + 1;";

#[tokio::test(flavor = "multi_thread")]
async fn the_tutorial_works_as_it_is_written() {
    let past = Past::new().await;
    past.place.write("pay_methods.sql", &tutorial());
    let checked = past.run(&["sql", "check", "pay_methods.sql"], &[]).await;
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(
        checked
            .stdout
            .contains("pay_methods version 1 is in order: payment.confirmed, payment.cancelled")
    );
    let build = past.fed(registered("pay_methods.sql", &tutorial())).await;
    let rows: i64 = sqlx::query_scalar(&format!("select count(*) from {}.pay_methods", build.schema_name))
        .fetch_one(past.db())
        .await
        .expect("the view reads");
    assert_eq!(rows, 0, "imported orders were not paid for here");
    // What the tutorial shows of a mistake is what is shown.
    past.place.write(
        "pay_methods.sql",
        &tutorial().replace("payload.means.method", "payload.means.metod"),
    );
    let wrong = past.run(&["sql", "check", "pay_methods.sql", "--offline"], &[]).await;
    assert_eq!(wrong.code, 1);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql-projections.md")).expect("text");
    let (_, shown) = text
        .split_once("```text\npay_methods.sql:")
        .expect("it shows a problem");
    let shown = format!("pay_methods.sql:{}", shown.split_once("```").expect("the block ends").0);
    let (first, rest) = shown.split_once(", …\n").expect("a long line is cut");
    assert!(wrong.stdout.starts_with(first), "{}\n{first}", wrong.stdout);
    assert!(wrong.stdout.contains(rest.trim_end()), "{}\n{rest}", wrong.stdout);
    assert_eq!(wrong.stderr.trim(), "jangbu: 1 problem");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_helps_to_write_one() {
    let past = Past::new().await;
    let shipped = past.run(&["sql", "check"], &[]).await;
    assert_eq!(shipped.code, 0, "{}{}", shipped.stdout, shipped.stderr);
    assert_eq!(shipped.stdout.lines().count(), 2);
    let events = past.run(&["sql", "events", "order.confirmed"], &[]).await;
    assert!(
        events
            .stdout
            .lines()
            .any(|line| line.starts_with(":payload.paid.amount ") && line.ends_with(" bigint")),
        "{}",
        events.stdout
    );
    for (arguments, says) in [
        (
            &["sql", "events", "order.confirmd"][..],
            "there is no event order.confirmd",
        ),
        (&["sql", "check", "nothing.sql"], "nothing.sql is no file"),
    ] {
        let refused = past.run(arguments, &[]).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    // What only PostgreSQL knows is found with it, and not without.
    past.place.write(
        "orders_by_day.sql",
        &orders_by_day(1, &COUNT.replace("days.orders", "days.order_count")),
    );
    assert_eq!(
        past.run(&["sql", "check", "orders_by_day.sql", "--offline"], &[])
            .await
            .code,
        0
    );
    let wrong = past.run(&["sql", "check", "orders_by_day.sql"], &[]).await;
    assert_eq!(wrong.code, 1);
    assert!(
        wrong.stdout.starts_with("orders_by_day.sql:6:") && wrong.stdout.contains("order_count does not exist"),
        "{}",
        wrong.stdout
    );
}

/// A good one, one that is no projection, one that PostgreSQL does not take, and a slow one.
fn write_files(past: &Past) {
    past.place.write("analysts/orders_by_day.sql", &orders_by_day(1, COUNT));
    past.place
        .write("analysts/unread.sql", "-- projection: unread\nnonsense");
    // Makes sense by itself, but not to PostgreSQL.
    past.place.write(
        "analysts/untyped.sql",
        "-- projection: untyped\n-- version: 1\ncreate table t (partition smallint primary key, n text_of_any_kind);\n\
         -- on order.imported\ninsert into t values (:partition, 1) on conflict do nothing;\n",
    );
    // Takes longer than anybody would wait.
    past.place.write(
        "analysts/slow.sql",
        "-- projection: slow\n-- version: 1\ncreate table t (partition smallint primary key, n bigint);\n\
         -- on order.imported\ninsert into t select :partition, count(*) from generate_series(1, :position * 1000000000)\n\
         where :position > 100 on conflict do nothing;\n",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_is_told_and_everything_else_runs() {
    let past = Past::new().await;
    let folder = past.place.path().join("analysts");
    std::fs::create_dir(&folder).expect("a folder");
    let url = servers::url(&past.database);
    let directory = folder.display().to_string();
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("JANGBU_JWT_SECRET", JWT_SECRET),
        ("JANGBU_DB_POOL_MAX", "4"),
        ("JANGBU_METRICS_BIND", "127.0.0.1:0"),
        ("JANGBU_SQL_PROJECTIONS", &directory),
    ];
    write_files(&past);
    let mut process = Process::start(&past.place, &["project"], &environment);
    let line = process.stderr.until("running").await;
    let (_, address) = line.split_once("metrics.address=").expect("it says where");
    let address = address.trim().to_owned();
    let head: i64 = sqlx::query_scalar("select max(position) from events")
        .fetch_one(past.db())
        .await
        .expect("a head");
    let all_of = async |names: &str| {
        let behind: i64 = sqlx::query_scalar(&format!(
            "select count(*) filter (where position >= {head}) from checkpoints where projection in ({names})"
        ))
        .fetch_one(past.db())
        .await
        .expect("an answer");
        behind
    };
    eventually("what is right is fed", Duration::from_secs(60), async || {
        all_of(
            "'catalog', 'order_history', 'sales', 'stock_levels', 'orders_by_day', 'repeat_purchase', 'basket_pairs'",
        )
        .await
            == 28
    })
    .await;
    let days: i64 = sqlx::query_scalar("select sum(orders)::bigint from orders_by_day_v1_b1.days")
        .fetch_one(past.db())
        .await
        .expect("rows");
    assert_eq!(days, 609);
    eventually("the slow one stops", Duration::from_secs(60), async || {
        let stopped: Option<String> =
            sqlx::query_scalar("select min(stopped) from checkpoints where projection = 'slow'")
                .fetch_one(past.db())
                .await
                .expect("an answer");
        stopped.is_some_and(|reason| reason.contains("took too long"))
    })
    .await;
    let metrics = reqwest::get(format!("http://{address}/metrics"))
        .await
        .expect("it answers");
    let metrics = metrics.text().await.expect("a text");
    for (name, refused) in [("unread", 1), ("untyped", 1), ("orders_by_day", 0)] {
        let wanted = format!("jangbu_sql_projection_refused{{projection=\"{name}\"}} {refused}");
        assert!(metrics.contains(&wanted), "{wanted}\n{metrics}");
    }
    let ended = process.stop(Signal::TERM).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for wanted in ["unread.sql:", "untyped.sql:3:"] {
        assert!(ended.stderr.contains(wanted), "{wanted}: {}", ended.stderr);
    }
    let doctor = past.run(&["doctor"], &environment[4..]).await;
    for wanted in ["warn   ", "untyped.sql:3:", "orders_by_day       in SQL, up to date"] {
        assert!(
            doctor.stdout.contains(wanted),
            "{wanted}: {}{}",
            doctor.stdout,
            doctor.stderr
        );
    }
    // Another text of the same version is not run.
    past.place.write(
        "analysts/orders_by_day.sql",
        &orders_by_day(1, &COUNT.replace("+ 1", "+ 2")),
    );
    let doctor = past.run(&["doctor"], &environment[4..]).await;
    assert!(
        doctor
            .stdout
            .contains("orders_by_day was changed but is still version 1"),
        "{}",
        doctor.stdout
    );
    let off = past.run(&["sql", "list"], &[("JANGBU_SQL_PROJECTIONS", "none")]).await;
    assert_eq!((off.code, off.stdout.as_str()), (0, ""));
}
