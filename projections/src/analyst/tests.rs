mod live;

use super::*;

const GOOD: &str = "\
-- projection: paid_orders
-- version: 3
-- description: What was paid for each order.

create table paid_orders (
    partition   smallint    not null,
    order_id    text        not null,
    won         bigint      not null check (won >= 0),
    paid_at     timestamptz not null,
    primary key (partition, order_id)
);
create index paid_orders_at on paid_orders (paid_at);
create view paid_by_day as
    select (paid_at at time zone 'Asia/Seoul')::date as day, sum(won) as won from paid_orders group by 1;

-- on order.confirmed v1
insert into paid_orders (partition, order_id, won, paid_at)
values (:partition, :aggregate_id, :payload.paid.amount, :payload.paid_at);

-- on order.refunded
update paid_orders set won = won - :payload.amount.amount
where partition = :partition and order_id = :aggregate_id;
";

fn read(text: &str) -> Result<Analyst, Vec<Problem>> {
    Analyst::read("paid_orders.sql", text)
}

/// What is said of the good file after a change, without places.
fn said(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    let problems = read(&GOOD.replacen(from, to, 1)).err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_good_file_is_read() {
    let analyst = read(GOOD).expect("nothing is wrong with it");
    assert_eq!((analyst.name(), analyst.version()), ("paid_orders", 3));
    assert_eq!(analyst.description(), "What was paid for each order.");
    assert_eq!(analyst.event_types(), ["order.confirmed", "order.refunded"]);
    assert_eq!(analyst.role(), "jangbu_analyst_paid_orders");
}

#[test]
fn a_problem_points_into_the_file() {
    let text = GOOD.replace("payload.paid.amount", "payload.paid.amout");
    let problems = read(&text).expect_err("no such field");
    assert_eq!(
        problems[0].to_string(),
        "paid_orders.sql:18:50: paid of order.confirmed has no amout; did you mean amount? There are amount, currency
18 | values (:partition, :aggregate_id, :payload.paid.amout, :payload.paid_at);
   |                                                  ^^^^^"
    );
    assert_eq!(problems.len(), 1);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = GOOD
        .replace("-- version: 3\n", "")
        .replace("won - ", "now() - ")
        .replace("order.refunded", "order.refundd");
    let lines: Vec<usize> = read(&text)
        .expect_err("three are wrong")
        .iter()
        .map(|problem| problem.line)
        .collect();
    assert_eq!(lines, [1, 19], "below a heading that is wrong nothing is read");
}

#[test]
fn the_header_is_complete() {
    for (from, to, wanted) in [
        (
            "-- projection: paid_orders\n",
            "",
            "does not begin with `-- projection: paid_orders`",
        ),
        ("-- version: 3\n", "", "does not begin with `-- version: 1`"),
        ("-- version: 3", "-- version: 0", "a whole number from 1"),
        ("-- version: 3", "-- verson: 3", "did you mean `-- version:`?"),
        ("-- version: 3", "-- version: 3\n-- version: 4", "said twice"),
        ("projection: paid_orders", "projection: Paid", "a-z _"),
        ("projection: paid_orders", "projection: sales", "Jangbu's own"),
        (
            "projection: paid_orders",
            "projection: paid_order",
            "a file that is called paid_order.sql",
        ),
    ] {
        let said = said(from, to);
        assert!(said.iter().any(|message| message.contains(wanted)), "{to}: {said:?}");
    }
}

#[test]
fn sections_are_of_events_that_there_are() {
    for (from, to, wanted) in [
        ("on order.refunded", "on order.refund", "did you mean order.refunded?"),
        ("on order.refunded", "on order.confirmed", "stands above already"),
        ("on order.refunded", "on order.refunded v2", "has version 1 here"),
        ("on order.refunded", "on everything", "there is no event everything"),
        (
            "on order.refunded",
            "on order.placed, order.confirmed",
            "stands above already",
        ),
        ("on order.refunded", "on order.refunded, order.placed", "has no amount"),
        (":payload.paid_at);", ":payload.paid_at)", "does not end with ;"),
        (
            "where partition = :partition and order_id = :aggregate_id;",
            "where (partition = :partition;",
            "not closed",
        ),
        ("values (", "values ((", "not closed"),
        (
            "not null check (won >= 0)",
            "not null check won >= 0)",
            "behind the columns",
        ),
        ("'Asia/Seoul'", "'Asia/Seoul", "not closed by '"),
        (
            "-- on order.refunded\nupdate",
            "-- on order.refunded\n-- on order.placed\nupdate",
            "nothing is done on order.refunded",
        ),
    ] {
        let said = said(from, to);
        assert!(said.iter().any(|message| message.contains(wanted)), "{to}: {said:?}");
    }
    // Prose is no heading.
    assert!(
        said(
            "-- on order.refunded",
            "-- on the other hand, nothing\n-- on order.refunded"
        )
        .is_empty()
    );
}

#[test]
fn tables_keep_the_rows_of_partitions_apart() {
    for (from, to, wanted) in [
        (
            "    partition   smallint    not null,\n",
            "",
            "lacks the column `partition",
        ),
        ("partition   smallint", "partition   integer", "is a smallint"),
        (",\n    primary key (partition, order_id)", "", "lacks a key"),
        (
            "primary key (partition, order_id)",
            "primary key (order_id)",
            "includes the column partition",
        ),
        (
            "order_id    text        not null,",
            "order_id text not null unique,",
            "includes the column partition",
        ),
        ("won         bigint", "won double precision", "floating point"),
        ("won         bigint", "won bigserial", "counts otherwise"),
        (
            "order_id    text        not null,",
            "order_id text not null references orders,",
            "may come later",
        ),
        ("create index", "create unique index", "write a key into the table"),
        (
            "create table",
            "create table if not exists",
            "leave `if not exists` away",
        ),
        (
            "create table paid_orders (",
            "create table paid_orders as select (",
            "a table is written",
        ),
        (
            "create index paid_orders_at on paid_orders (paid_at);",
            "grant select on paid_orders to public;",
            "only",
        ),
        (
            "create index",
            "insert into paid_orders values (1); create index",
            "above what changes rows",
        ),
        ("check (won >= 0)", "check (won >= :position)", "there is no event here"),
    ] {
        let said = said(from, to);
        assert!(said.iter().any(|message| message.contains(wanted)), "{to}: {said:?}");
    }
}

#[test]
fn statements_change_their_own_tables_by_what_the_event_says() {
    for (to, wanted) in [
        ("drop table paid_orders", "insert, update, delete and merge only"),
        ("truncate paid_orders", "insert, update, delete and merge only"),
        ("select :position", "insert, update, delete and merge only"),
        (
            "with a as (select 1) select * from a",
            "insert, update, delete and merge only",
        ),
        ("do 'begin end'", "insert, update, delete and merge only"),
        ("create table x (partition smallint primary key)", "before the first"),
        ("update public.paid_orders set won = 1", "another schema"),
        (
            "delete from paid_orders using sales_v1_b1.sales_by_hour",
            "another schema",
        ),
        (
            "delete from paid_orders where won in (select 1 from a.b.c)",
            "another schema",
        ),
        (
            "delete from paid_orders where won in (select 1 from pg_class)",
            "its own tables only",
        ),
        ("update paid_orders set paid_at = now()", "write :occurred_at"),
        ("update paid_orders set paid_at = \"now\"()", "write :occurred_at"),
        (
            "update paid_orders set paid_at = CURRENT_TIMESTAMP",
            "write :occurred_at",
        ),
        ("update paid_orders set paid_at = ' Now '", "write :occurred_at"),
        ("update paid_orders set paid_at = 'today 09:00'", "write :occurred_at"),
        ("update paid_orders set won = age(:occurred_at)", "built anew"),
        ("update paid_orders set won = 't'::regclass::oid::bigint", ""),
        ("update paid_orders set order_id = E'x'", "texts with E are not read"),
        ("update paid_orders set won = random() * 9", "built anew"),
        ("update paid_orders set order_id = gen_random_uuid()", ":event_id"),
        (
            "update paid_orders set won = 1 where ctid = '(0,1)'",
            "PostgreSQL's own",
        ),
        (
            "delete from paid_orders where set_config('role', 'postgres', true) = ''",
            "built anew",
        ),
        (
            "delete from paid_orders where pg_sleep(9) is null",
            "its own tables only",
        ),
        ("delete from paid_orders returning won", "leave `returning` away"),
        ("delete from paid_orders where order_id = $1", "written :like_this"),
        ("delete from paid_orders where order_id = $x$a$x$", "in single quotes"),
        (
            "delete from paid_orders where jangbu_event is null",
            "its own tables only",
        ),
        (
            "delete from paid_orders where order_id = :order_id",
            "there is no :order_id",
        ),
        (
            "delete from paid_orders where order_id = :payment_id",
            "did you mean :payload.payment_id?",
        ),
        (
            "delete from paid_orders where order_id = :positon",
            "did you mean position?",
        ),
        (
            "delete from paid_orders where order_id = :payload.shares.sku",
            "jsonb_array_elements(:payload.shares)",
        ),
        (
            "delete from paid_orders where order_id = :payload.payment_id.x",
            "has no parts",
        ),
        ("delete from paid_orders where order_id = :position.x", "has no parts"),
    ] {
        let (head, _) = GOOD.split_once("update paid_orders").expect("it is there");
        let problems = read(&format!("{head}{to};")).expect_err(to);
        let said: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert!(said.iter().any(|message| message.contains(wanted)), "{to}: {said:?}");
    }
}

#[test]
fn what_is_harmless_is_no_problem() {
    let (head, _) = GOOD.split_once("update paid_orders").expect("it is there");
    for statement in [
        "with line as (select * from jsonb_array_elements(:payload.shares) as s (line)) \
         insert into paid_orders select :partition, line ->> 'sku', 1, :occurred_at from line",
        "merge into paid_orders p using (select :aggregate_id as id) e on p.order_id = e.id and p.partition = :partition \
         when matched then update set won = 0",
        "delete from paid_orders p where p.order_id = :payload.payment_id and p.partition = :partition",
        "update paid_orders set order_id = 'today I said: now -- :nothing' /* :nothing */ -- :nothing\n where won::text = '1'",
        "update paid_orders p set won = extract(day from p.paid_at) where p.won is distinct from p.won and p.partition = 1",
        "insert into paid_orders values (:partition, :payload ->> 'x', 0, :payload.cancelled_at) on conflict do nothing",
    ] {
        if let Err(problems) = read(&format!("{head}{statement};\n\n")) {
            panic!("{statement}: {}", problems[0]);
        }
    }
}

#[test]
fn the_same_file_makes_the_same_tables() {
    let print = |text: &str| read(text).expect("it is good").fingerprint;
    let good = print(GOOD);
    assert_eq!(
        print(&GOOD.replace("-- description: What", "-- description: All")),
        good
    );
    assert_eq!(
        print(
            &GOOD
                .replace("  ", "   ")
                .replace("-- on order.refunded", "-- why\n-- on order.refunded")
        ),
        good
    );
    assert_ne!(print(&GOOD.replace("won - ", "won + ")), good);
    assert_ne!(print(&GOOD.replace("won >= 0", "won > 0")), good);
}

#[test]
fn any_text_at_all_is_read_without_harm() {
    let pieces: Vec<&str> = GOOD.split_inclusive(' ').collect();
    for cut in 0..pieces.len() {
        let mut some = pieces.clone();
        some.remove(cut);
        _ = read(&some.concat());
        _ = read(&pieces[..cut].concat());
        _ = read(&pieces[cut..].concat());
    }
    for text in [
        "",
        ";",
        "((((",
        "))",
        "-- on",
        "create table x (",
        "create table",
        "create table x (,)",
        ":",
        "'",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}
