//! The demo on a machine with nothing but PostgreSQL's programs.

use std::{process::Stdio, time::Duration};

use jangbu::clock::Surroundings;
use jangbu_domain::{Product, ProductCommand};
use jangbu_events::{Metadata, Money, ProductId, Sku, StoreId, TaxClass};
use rustix::process::Signal;
use tokio::{io::AsyncWriteExt as _, process::Command, time::Instant};

use super::{
    JWT_SECRET,
    process::{PATIENCE, Place, Process, jangbu},
    servers,
};
use crate::database::Database;

/// Any free port.
const FREE: &[(&str, &str)] = &[("JANGBU_BIND", "127.0.0.1:0")];

#[tokio::test]
async fn a_fresh_machine_sees_its_first_order_paid_and_can_buy_more() {
    let place = Place::new();
    let began = Instant::now();
    let first = jangbu(&place, &["demo", "--exit-after-purchase"], FREE).await;
    assert_eq!(first.code, 0, "{}{}", first.stdout, first.stderr);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(first.stderr, "", "no log lines");
    assert!(!first.stdout.contains('\x1b'), "colours are for terminals");
    for word in [
        "24 events, #1 to #24",
        "cart.opened",
        "cart.line_added",
        "order.placed",
        "stock.held",
        "payment.requested",
        "payment.confirmed",
        "order.confirmed",
        "stock.committed",
        "BALL-TOUR-12   재고 stock 200 -> 198",
        "1 주문 orders, 115,000원",
        "paid and confirmed",
    ] {
        assert!(first.stdout.contains(word), "no {word}:\n{}", first.stdout);
    }
    assert!(
        !place.path().join("data/postgres/data/postmaster.pid").exists(),
        "the database stopped"
    );

    let mut demo = Process::start(&place, &["demo"], FREE);
    demo.stdout.until("Live events").await;
    let seen = demo.stdout.seen();
    assert!(
        seen.iter().any(|line| line.contains("2 주문 orders, 230,000원")),
        "{seen:?}"
    );
    assert!(
        !seen.iter().any(|line| line.contains("24 events")),
        "the shop was filled once"
    );
    let guide: Vec<&str> = seen
        .iter()
        .skip_while(|line| !line.contains("paste this"))
        .skip(1)
        .take_while(|line| !line.contains("Live events"))
        .map(String::as_str)
        .collect();
    let bought = pasted(&guide.join("\n")).await;
    assert!(bought.lines().any(|line| line == r#""status":"confirmed""#), "{bought}");
    assert!(
        bought.contains(r#"{"sku":"CAP-SUN-F","orders":1,"units":1,"gross":35000"#),
        "{bought}"
    );
    demo.stdout.until("order.confirmed").await;
    let ended = demo.stop(Signal::INT).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(ended.stdout.ends_with("Stopped."), "{}", ended.stdout);
    assert!(
        !place.path().join("data/postgres/data/postmaster.pid").exists(),
        "the database stopped"
    );
}

/// As a person would: line by line into a shell.
async fn pasted(lines: &str) -> String {
    let mut shell = Command::new("bash")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("bash is there");
    let mut stdin = shell.stdin.take().expect("it is piped");
    stdin.write_all(lines.as_bytes()).await.expect("it reads");
    stdin.write_all(b"\n").await.expect("it reads");
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, shell.wait_with_output()).await;
    let output = output.expect("it ends").expect("its output");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test]
async fn the_demo_leaves_other_shops_alone() {
    let place = Place::new();
    let database = Database::create().await;
    let executor = database.executor(Surroundings::system()).await;
    let sku: Sku = "THEIRS".parse().expect("a sku");
    let register = ProductCommand::Register {
        sku: sku.clone(),
        name: "남의 상품".to_owned(),
        category: "기타".to_owned(),
        price: Money::won(1_000),
        tax_class: TaxClass::Taxable,
        attributes: [].into(),
    };
    let surroundings = Surroundings::system();
    let envelope =
        jangbu::executor::CommandEnvelope::new(surroundings.ids.uuid(), Metadata::default(), surroundings.now());
    executor
        .execute::<Product>(ProductId::of(StoreId::DEFAULT, &sku), register, envelope)
        .await
        .expect("a product");
    let url = servers::url(&database);
    let environment = [
        FREE[0],
        ("DATABASE_URL", url.as_str()),
        ("JANGBU_JWT_SECRET", JWT_SECRET),
        ("JANGBU_DB_POOL_MAX", "4"),
    ];
    let refused = jangbu(&place, &["demo", "--exit-after-purchase"], &environment).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("holds a shop already"), "{}", refused.stderr);
    assert_eq!(executor.log().head().await.expect("a head").position, 1);
}
