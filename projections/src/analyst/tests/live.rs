//! Files run for real: made, told events, held within their walls.

use std::collections::BTreeMap;

use sqlx::{Executor as _, PgPool, postgres::PgPoolOptions};

use super::{super::parse::parse, *};
use crate::{
    builds::{
        self, Advanced, Build, Fed,
        parking::{ParkedAggregate, begin_retry},
    },
    testing::{History, PARTITIONS, now, random_history, with_database},
};

/// As if nobody had looked at it.
fn unchecked(text: &str) -> Analyst {
    let source = Source {
        file: "paid_orders.sql".to_owned(),
        text: text.to_owned(),
    };
    let (parsed, problems) = parse(&source, None);
    assert!(problems.is_empty(), "{}", problems[0]);
    Analyst::of(source, parsed)
}

async fn refused(db: &PgPool, text: &str) -> Vec<Problem> {
    match check(db, &unchecked(text)).await {
        Ok(()) => Vec::new(),
        Err(Refusal::Problems(problems)) => problems,
        Err(other) => panic!("{other}"),
    }
}

async fn build(db: &PgPool, projection: &Registered) -> Build {
    builds::ensure(db, projection, PARTITIONS, now())
        .await
        .expect("a build")
}

/// The whole history, so many events at once.
async fn tell(db: &PgPool, projection: &Registered, build: &Build, history: &History, at_once: i64) {
    let (mut from, head) = (0, history.head());
    while from < head {
        let through = head.min(from + at_once);
        for partition in 0..PARTITIONS {
            let mut raw = history.raw(partition);
            raw.retain(|event| event.position > from && event.position <= through);
            let moved = builds::advance(db, projection, build, partition, 0, from, through, &raw, now()).await;
            assert_eq!(moved.expect("it is applied"), Advanced::Moved);
        }
        from = through;
    }
}

async fn hashes(db: &PgPool, build: &Build) -> Vec<String> {
    let mut hashes = Vec::new();
    for partition in 0..PARTITIONS {
        hashes.push(builds::table_hash(db, build, partition).await.expect("a hash"));
    }
    hashes
}

#[tokio::test]
async fn what_comes_with_the_program_is_in_order() {
    with_database(async |db| {
        for (file, text) in SHIPPED {
            let analyst = Analyst::read(file, text).unwrap_or_else(|problems| panic!("{}", problems[0]));
            assert!(!analyst.description().is_empty());
            let projection = analyst.register();
            admit(&db, &projection)
                .await
                .unwrap_or_else(|refusal| panic!("{refusal}"));
        }
        let left: i64 = sqlx::query_scalar("select count(*) from pg_namespace where nspname like 'jangbu_check%'")
            .fetch_one(&db)
            .await
            .expect("an answer");
        assert_eq!(left, 0, "a check leaves nothing behind");
    })
    .await;
}

#[tokio::test]
async fn what_postgresql_finds_is_told_where_it_stands() {
    with_database(async |db| {
        assert!(refused(&db, GOOD).await.is_empty());
        let mut elsewhere: Vec<String> = Vec::new();
        for (from, to, place, wanted) in [
            (
                "won         bigint",
                "won         bigin",
                (8, 17),
                "type \"bigin\" does not exist",
            ),
            ("sum(won)", "sum(wan)", (14, 66), "column \"wan\" does not exist"),
            (
                "values (:partition, :aggregate_id, :payload.paid.amount,",
                "values (:partition, :aggregate_id, :payload.paid.amount, 1,",
                (18, 61),
                "more expressions than target columns",
            ),
            (
                "set won = won - :payload",
                "set won = wan - :payload",
                (21, 30),
                "column \"wan\" does not exist",
            ),
            (
                "update paid_orders set",
                "update paid_order set",
                (21, 8),
                "relation \"paid_order\" does not exist",
            ),
            (
                "won - :payload.amount.amount",
                "won - :payload.payment_id",
                (21, 34),
                "operator does not exist",
            ),
            (
                "values (:partition, ",
                "values (7, ",
                (17, 1),
                "write :partition into its column",
            ),
            (
                ":aggregate_id, :payload.paid.amount",
                ":aggregate_id, null",
                (17, 1),
                "null value in column \"won\"",
            ),
            (
                "won - :payload.amount.amount",
                "won / (won - won)",
                (21, 1),
                "division by zero",
            ),
            (
                "won - :payload.amount.amount",
                "(select head from relay_checkpoint)",
                (21, 48),
                "does not exist",
            ),
            (
                "won - :payload.amount.amount",
                "(select count(*) from public.events)",
                (21, 1),
                "its own tables only",
            ),
            ("won - :payload.amount.amount", "ceil(random())", (21, 35), "built anew"),
            (
                "won - :payload.amount.amount",
                "length(timeofday())",
                (21, 37),
                "built anew",
            ),
            (
                "won - :payload.amount.amount",
                "length(notify_it())",
                (21, 37),
                "does not exist",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let problems = refused(&db, &GOOD.replacen(from, to, 1)).await;
            let Some(problem) = problems.first() else {
                panic!("{to} is taken")
            };
            assert!(problem.message.contains(wanted), "{problem}");
            if (problem.line, problem.column) != place {
                elsewhere.push(format!("{problem}\nnot at {place:?}"));
            }
        }
        assert!(elsewhere.is_empty(), "{}", elsewhere.join("\n"));
    })
    .await;
}

#[tokio::test]
async fn batches_of_any_size_make_the_same_rows() {
    with_database(async |db| {
        let history = random_history(7, 400);
        let mut seen: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
        for (file, text) in SHIPPED.iter().chain([&("paid_orders.sql", GOOD)]) {
            for (version, at_once) in [(1, 1_000), (2, 37), (3, 4)] {
                let text = text
                    .replace("-- version: 1\n", &format!("-- version: {version}\n"))
                    .replace("-- version: 3\n", &format!("-- version: {version}\n"));
                let projection = Analyst::read(file, &text).expect("it is good").register();
                let build = build(&db, &projection).await;
                tell(&db, &projection, &build, &history, at_once).await;
                seen.entry((*file).to_owned())
                    .or_default()
                    .push(hashes(&db, &build).await);
            }
        }
        for (file, seen) in seen {
            assert!(seen.iter().all(|hashes| *hashes == seen[0]), "{file}: {seen:?}");
            assert!(!seen[0].iter().all(|hash| hash.contains("=0:")), "{file} has rows");
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_checks_miss_ends_at_the_walls() {
    with_database(async |db| {
        let user: String = sqlx::query_scalar("select current_user::text")
            .fetch_one(&db)
            .await
            .expect("a name");
        let other = Analyst::read(SHIPPED[1].0, SHIPPED[1].1)
            .expect("it is good")
            .register();
        build(&db, &other).await;
        let history = random_history(3, 200);
        let (head, _) = GOOD.split_once("update paid_orders").expect("it is there");
        let outside = [
            "delete from public.builds".to_owned(),
            "insert into public.leases select * from public.leases".to_owned(),
            "delete from paid_orders where won = (select count(*) from public.events)".to_owned(),
            "delete from repeat_purchase_v1_b1.purchases".to_owned(),
            format!("delete from paid_orders where set_config('role', '{user}', true) = ''"),
            format!("delete from paid_orders where set_config('session_authorization', '{user}', true) = ''"),
            "insert into paid_orders values (99, :aggregate_id, 1, :recorded_at)".to_owned(),
            "insert into paid_orders values (:partition, :event_id::text, 1, :recorded_at); \
             update paid_orders set partition = 99 where order_id = :event_id::text"
                .to_owned(),
            "create table mine (x int)".to_owned(),
            "drop table paid_orders".to_owned(),
            "alter table paid_orders disable row level security".to_owned(),
        ];
        for (n, statement) in outside.iter().enumerate() {
            let text = format!("{head}{statement};").replace("version: 3", &format!("version: {}", n + 1));
            let projection = unchecked(&text).register();
            let build = build(&db, &projection).await;
            let mut failed = 0;
            for partition in 0..PARTITIONS {
                let raw = history.raw(partition);
                let refunds = raw.iter().any(|event| event.payload.event_type == "order.refunded");
                let told =
                    builds::advance_or_park(&db, &projection, &build, partition, 0, 0, history.head(), &raw, now())
                        .await;
                assert_eq!(told.is_err(), refunds, "{statement}: {told:?}");
                failed += usize::from(refunds);
                if let Err(error) = told {
                    let reason = error.reason();
                    assert!(
                        ["42501", "22023", "0A000", "55000"]
                            .iter()
                            .any(|code| reason.contains(code)),
                        "{statement}: {reason}"
                    );
                }
            }
            assert!(failed > 0, "the history has refunds");
        }
        // Nobody else's rows are seen while a statement runs: all of them go, of this partition.
        let text = format!("{head}delete from paid_orders;").replace("version: 3", "version: 100");
        let projection = unchecked(&text).register();
        let build = build(&db, &projection).await;
        tell(&db, &projection, &build, &history, 1_000).await;
        for partition in 0..PARTITIONS {
            let mut wanted = 0_i64;
            for event in history.raw(partition) {
                match &*event.payload.event_type {
                    "order.confirmed" => wanted += 1,
                    "order.refunded" => wanted = 0,
                    _ => {}
                }
            }
            let rows: i64 = sqlx::query_scalar(&format!(
                "select count(*) from {}.paid_orders where partition = $1",
                build.schema_name
            ))
            .bind(partition)
            .fetch_one(&db)
            .await
            .expect("an answer");
            assert_eq!(rows, wanted, "partition {partition}");
        }
    })
    .await;
}

/// Tells everything at once, and gives what is parked.
async fn tell_or_park(db: &PgPool, projection: &Registered, build: &Build, history: &History) -> Vec<ParkedAggregate> {
    let mut parked_now = Vec::new();
    for partition in 0..PARTITIONS {
        let raw = history.raw(partition);
        let head = history.head();
        let fed = builds::advance_or_park(db, projection, build, partition, 0, 0, head, &raw, now()).await;
        let Fed::Moved { parked, newly } = fed.expect("it goes on") else {
            panic!("nobody else moves it")
        };
        assert_eq!(usize::try_from(parked), Ok(newly.len()));
        parked_now.extend(newly);
    }
    parked_now
}

#[tokio::test]
async fn a_poison_event_parks_its_order_until_it_is_told_again() {
    with_database(async |db| {
        let history = random_history(11, 300);
        let whole = Analyst::read("paid_orders.sql", GOOD).expect("it is good").register();
        let whole_build = build(&db, &whole).await;
        tell(&db, &whole, &whole_build, &history, 1_000).await;
        // Some orders cost less than others.
        let text = GOOD.replace("check (won >= 0)", "constraint dear check (won >= 3000)");
        let text = text.replace("version: 3", "version: 4");
        let projection: &'static Registered = Box::leak(Box::new(
            Analyst::read("paid_orders.sql", &text).expect("it is good").register(),
        ));
        let build = build(&db, projection).await;
        let parked = tell_or_park(&db, projection, &build, &history).await;
        assert!(!parked.is_empty(), "some orders are cheap");
        assert!(
            parked.iter().all(|one| one.error.contains("constraint dear")),
            "{parked:?}"
        );
        let rows: i64 = sqlx::query_scalar(&format!("select count(*) from {}.paid_orders", build.schema_name))
            .fetch_one(&db)
            .await
            .expect("an answer");
        assert!(rows > 0, "the others are in the table");

        let repair = format!("alter table {}.paid_orders drop constraint dear", build.schema_name);
        db.execute(repair.as_str()).await.expect("it is ours");
        for one in parked {
            let (aggregate_type, id) = (&one.aggregate_type, &one.aggregate_id);
            let retry = begin_retry(&db, projection, build.build, aggregate_type, id)
                .await
                .expect("an answer");
            let mut retry = retry.expect("it is parked");
            let mut missed = history.raw(one.partition);
            missed.retain(|event| event.aggregate_id == *id && event.sequence >= one.sequence);
            assert!(retry.tell(&missed, now()).await.expect("it is told"));
            retry.finish(now()).await.expect("it is kept");
        }
        assert_eq!(
            hashes(&db, &build).await,
            hashes(&db, &whole_build).await,
            "as if it had never been parked"
        );
    })
    .await;
}

#[tokio::test]
async fn a_slow_file_stops() {
    with_database(async |db| {
        let history = random_history(11, 300);
        let slow = GOOD.replace(
            "update paid_orders",
            "delete from paid_orders where (select count(*) from generate_series(1, 100000000000)) = 0;\nupdate paid_orders",
        );
        let mut slow = Analyst::read("paid_orders.sql", &slow).expect("nothing is wrong with it by itself");
        slow.patience = Duration::from_millis(150);
        let projection = slow.register();
        let build = build(&db, &projection).await;
        let partition = (0..PARTITIONS)
            .find(|partition| history.raw(*partition).iter().any(|event| event.payload.event_type == "order.refunded"))
            .expect("there are refunds");
        let raw = history.raw(partition);
        let told = builds::advance_or_park(&db, &projection, &build, partition, 0, 0, history.head(), &raw, now());
        let reason = told.await.expect_err("it takes too long").reason();
        assert!(reason.contains("took too long"), "{reason}");
    })
    .await;
}

#[tokio::test]
async fn another_text_is_another_version() {
    with_database(async |db| {
        let register = |text: &str| Analyst::read("paid_orders.sql", text).expect("it is good").register();
        let projection = register(GOOD);
        admit(&db, &projection).await.expect("there is no build yet");
        build(&db, &projection).await;
        admit(&db, &projection).await.expect("it is the same");
        admit(&db, &register(&GOOD.replace("What was", "What is")))
            .await
            .expect("it says the same");
        let changed = GOOD.replace("won - ", "won + ");
        let refusal = admit(&db, &register(&changed))
            .await
            .expect_err("it does something else");
        assert!(
            refusal
                .to_string()
                .contains("paid_orders was changed but is still version 3"),
            "{refusal}"
        );
        admit(&db, &register(&changed.replace("version: 3", "version: 4")))
            .await
            .expect("it says so");
    })
    .await;
}

/// Everything as a user of the database who is no superuser: without the right to make roles it is
/// refused, with it it works.
#[tokio::test]
async fn no_superuser_is_needed() {
    with_database(async |db| {
        let pid = std::process::id();
        let user = format!("jangbu_test_{pid}");
        let name: String = format!("plain_{pid}").bytes().map(|b| char::from(if b.is_ascii_digit() { b - b'0' + b'a' } else { b })).collect();
        let database: String = sqlx::query_scalar("select current_database()").fetch_one(&db).await.expect("a name");
        let make = format!(
            "drop role if exists {user};
             create role {user};
             grant {user} to current_user;
             grant create on database {database} to {user};
             grant all on all tables in schema public to {user};"
        );
        sqlx::raw_sql(&make).execute(&db).await.expect("the role may make roles");
        let options = (*db.connect_options()).clone().options([("role", user.as_str())]);
        let plain = PgPoolOptions::new().max_connections(2).connect_with(options).await.expect("it connects");

        let text = GOOD.replace("-- projection: paid_orders", &format!("-- projection: {name}"));
        let projection = Analyst::read(&format!("{name}.sql"), &text).expect("it is good").register();
        let refusal = admit(&plain, &projection).await.expect_err("it may not");
        assert!(matches!(refusal, Refusal::Role { .. }), "{refusal}");
        assert!(refusal.to_string().contains(&format!("create role jangbu_analyst_{name} nologin")), "{refusal}");

        db.execute(format!("alter role {user} createrole").as_str()).await.expect("it may now");
        admit(&plain, &projection).await.unwrap_or_else(|refusal| panic!("{refusal}"));
        let history = random_history(5, 200);
        let build = build(&plain, &projection).await;
        tell(&plain, &projection, &build, &history, 50).await;
        let rows: i64 = sqlx::query_scalar(&format!("select count(*) from {}.paid_orders", build.schema_name))
            .fetch_one(&plain)
            .await
            .expect("who made it reads all of it");
        assert!(rows > 0);
        hashes(&plain, &build).await;
        plain.execute(format!("drop schema {} cascade", build.schema_name).as_str()).await.expect("it is ours");
        plain.close().await;
        sqlx::raw_sql(&format!(
            "reset role; drop owned by jangbu_analyst_{name}; drop role jangbu_analyst_{name}; drop owned by {user}; drop role {user}"
        ))
        .execute(&db)
        .await
        .expect("they go");
    })
    .await;
}
