//! Files of past orders, good and bad.

use jangbu::import::{ImportError, Options, Report};
use jangbu_events::{Event, Money, OrderEvent, OrderId, Recorded, TaxClass};

use super::files::{Shop, codes, rejects};

const HEADER: &str = "basket_id,household_id,store_id,ordered_at,sku,quantity";
const TIME: &str = "2017-03-01T00:17:09+09:00";

fn file(rows: &[&str]) -> String {
    format!("{HEADER}\n{}\n", rows.join("\n")).replace("TIME", TIME)
}

fn code(line: u64, code: &str) -> (u64, String) {
    (line, code.to_owned())
}

async fn orders(shop: &Shop) -> Vec<Recorded<OrderEvent>> {
    let events = shop.events(0).await.into_iter();
    events
        .filter_map(|event| match event.payload.clone() {
            Event::Order(order) => Some(event.with(order)),
            _ => None,
        })
        .collect()
}

fn basket_id(event: &OrderEvent) -> &str {
    match event {
        OrderEvent::Imported { source_id, .. } => source_id,
        other => panic!("{other:?}"),
    }
}

async fn import(shop: &Shop, rows: &[&str]) -> Report {
    shop.orders(file(rows)).await.expect("it goes through")
}

#[tokio::test]
async fn a_basket_becomes_one_order_at_the_catalog_s_prices() {
    let shop = Shop::with_products().await;
    let report = import(&shop, &["b1,7,359,TIME,A,2", "b1,7,359,TIME,B,3", "b1,7,360,TIME,A,1"]).await;
    assert_eq!((report.rows, report.read, report.imported), (3, 1, 1));
    assert_eq!(report.total_krw, 3_750);
    let imported = orders(&shop).await.remove(0);
    assert_eq!(imported.id(), Ok(OrderId::imported("import", "b1")));
    assert_eq!(
        imported.occurred_at,
        "2017-02-28T15:17:09Z"
            .parse::<jangbu_events::Timestamp>()
            .expect("a time")
    );
    let OrderEvent::Imported {
        source,
        source_id,
        external_customer,
        external_reference,
        lines,
        totals,
    } = imported.payload
    else {
        panic!("an imported order")
    };
    assert_eq!((source.as_str(), source_id.as_str()), ("import", "b1"));
    assert_eq!(external_customer.as_deref(), Some("7"));
    assert_eq!(external_reference["store_id"], r#"["359","359","360"]"#);
    let said: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line.sku.as_str(),
                line.name.as_str(),
                line.category.as_str(),
                line.quantity,
                line.total,
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("A", "Apple", "FRUIT", 3, Money::won(3_000)),
            ("B", "Bread", "BAKERY", 3, Money::won(750))
        ]
    );
    assert!(lines.iter().all(|line| line.tax_class == TaxClass::Taxable));
    assert_eq!(
        (totals.total, totals.vat, totals.supply),
        (Money::won(3_750), Money::won(341), Money::won(3_409))
    );
}

#[tokio::test]
async fn rows_of_a_basket_may_stand_anywhere() {
    let shop = Shop::with_products().await;
    let rows = [
        "b1,7,1,TIME,A,1",
        "b2,8,1,TIME,A,1",
        " b1 ,7,1,TIME,B,1",
        "b3,9,1,TIME,A,1",
        "b2,8,1,TIME,B,x",
        "b1,7,1,TIME,A,1",
    ];
    let report = import(&shop, &rows).await;
    assert_eq!((report.read, report.imported, report.rejected), (3, 2, 1));
    let mut ids: Vec<_> = orders(&shop)
        .await
        .iter()
        .map(|order| basket_id(&order.payload).to_owned())
        .collect();
    ids.sort();
    assert_eq!(ids, ["b1", "b3"]);
    assert_eq!(report.total_krw, 3_250);
    assert_eq!(codes(&report), [code(3, "basket_rejected"), code(6, "bad_quantity")]);
    // Gathered or scattered, they are the same baskets.
    let sorted = import(&shop, &["b1,7,1,TIME,B,1", "b1,7,1,TIME,A,2", "b3,9,1,TIME,A,1"]).await;
    assert_eq!((sorted.unchanged, sorted.imported, sorted.rejected), (2, 0, 0));
}

#[tokio::test]
async fn a_bad_row_rejects_its_basket_and_nothing_else() {
    let bad = [
        ("b,7,1,TIME,A,0", "bad_quantity"),
        ("b,7,1,TIME,A,100", "bad_quantity"),
        ("b,7,1,TIME,A,-1", "bad_quantity"),
        ("b,7,1,TIME,A,1.5", "bad_quantity"),
        ("b,7,1,TIME,A,1e3", "bad_quantity"),
        ("b,7,1,TIME,A,", "bad_quantity"),
        ("b,7,1,TIME,NONE,1", "unknown_sku"),
        ("b,7,1,TIME,a b,1", "bad_sku"),
        ("b,7,1,TIME,,1", "missing_value"),
        ("b,7,1,2017-03-01T00:17:09,A,1", "time_without_offset"),
        ("b,7,1,2999-03-01T00:17:09Z,A,1", "future_time"),
        ("b,7,1,01/03/2017,A,1", "bad_time"),
        ("b,8,1,TIME,A,1", "basket_disagrees"),
        ("b,7,1,2017-03-01T00:17:10+09:00,A,1", "basket_disagrees"),
        ("b,7,1,TIME,B,99", "bad_quantity"),
        ("b,7,1,TIME,C,2", "amount_too_large"),
        ("b,7,1,TIME,A", "field_count"),
        ("b,7,1,TIME,A,1,", "field_count"),
        ("b,7,\"1,TIME,A,1", "bad_quoting"),
        ("b,7,\"1\"1,TIME,A,1", "bad_quoting"),
        ("b,kim@example.com,1,TIME,A,1", "personal_data"),
        ("b,7,kim@example.com,TIME,A,1", "personal_data"),
        ("b,7,nul\0,TIME,A,1", "bad_text"),
    ];
    let shop = Shop::with_products().await;
    for (index, (row, expected)) in bad.iter().enumerate() {
        let before = format!("before-{index},7,1,TIME,A,1");
        let after = format!("after-{index},7,\"1, 2\",TIME,A,1");
        let report = import(&shop, &[&before, "b,7,1,TIME,B,1", row, &after]).await;
        assert_eq!((report.read, report.imported, report.rejected), (3, 2, 1), "{row}");
        let found = codes(&report);
        // Where quantities add up too far, the sum is said at the first row of the sku.
        let summed = *row == "b,7,1,TIME,B,99";
        let (at, neighbour) = if summed { (0, 1) } else { (1, 0) };
        assert_eq!(found.len(), 2, "{row}");
        assert_eq!(found[at], code(3 + at as u64, expected), "{row}");
        assert_eq!(found[neighbour], code(3 + neighbour as u64, "basket_rejected"), "{row}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_reject_their_basket_and_are_kept_as_they_are() {
    let shop = Shop::with_products().await;
    let mut content = file(&["b1,7,1,TIME,A,1"]).into_bytes();
    content.extend_from_slice(b"b2,\xb0\xa1,1,");
    content.extend_from_slice(TIME.as_bytes());
    content.extend_from_slice(b",A,1\r\n");
    let report = shop.orders(content).await.expect("it goes through");
    assert_eq!((report.imported, report.rejected), (1, 1));
    let rejected = rejects(&report);
    assert_eq!((rejected[0].0, rejected[0].1.as_str()), (3, "not_utf8"));
    assert_eq!(rejected[0].2[1], b"\xb0\xa1");
}

#[tokio::test]
async fn the_rejects_file_can_be_put_right_and_imported() {
    let shop = Shop::with_products().await;
    let report = import(&shop, &["b1,7,1,TIME,A,x", "b1,7,1,TIME,B,1", "b2,7,1,TIME,A,1"]).await;
    assert_eq!((report.imported, report.rejected), (1, 1));
    let rejected = std::fs::read_to_string(report.rejects_file.expect("there is one")).expect("it reads");
    assert!(
        rejected.starts_with(&format!("reject_line,reject_code,reject_reason,{HEADER}\n")),
        "{rejected}"
    );
    let again = shop.orders(&rejected).await.expect("it goes through");
    assert_eq!((again.imported, again.rejected), (0, 1));
    let text = std::fs::read_to_string(again.rejects_file.expect("there is one")).expect("it reads");
    assert_eq!(
        text.lines().next(),
        rejected.lines().next(),
        "our columns are there once"
    );
    let right = shop
        .orders(rejected.replace(",A,x", ",A,4"))
        .await
        .expect("it goes through");
    assert_eq!((right.imported, right.rejected, right.rejects_file), (1, 0, None));
    let order = orders(&shop).await.remove(1);
    let OrderEvent::Imported { external_reference, .. } = order.payload else {
        panic!("an imported order")
    };
    assert_eq!(
        external_reference.into_iter().collect::<Vec<_>>(),
        [("store_id".into(), "1".into())]
    );
}

#[tokio::test]
async fn an_imported_order_keeps_its_prices_and_is_never_changed() {
    let shop = Shop::with_products().await;
    import(&shop, &["b1,7,1,TIME,A,1"]).await;
    let repriced = shop.products("sku,name,category,price_krw\nA,Apple,FRUIT,9000\n").await;
    assert_eq!(repriced.expect("it is revised").revised, 1);
    let head = shop.head().await;
    let same = import(&shop, &["b1,7,another store,TIME,A,1"]).await;
    assert_eq!((same.unchanged, same.rejected), (1, 0));
    for other in [
        "b1,8,1,TIME,A,1",
        "b1,7,1,TIME,A,2",
        "b1,7,1,TIME,B,1",
        "b1,7,1,2017-03-02T00:00:00Z,A,1",
    ] {
        let report = import(&shop, &[other]).await;
        assert_eq!(codes(&report), [code(2, "imported_differently")], "{other}");
    }
    assert_eq!(shop.head().await, head);
    let elsewhere = Options {
        source: "other shop".into(),
        ..Options::default()
    };
    let report = shop
        .orders_as(file(&["b1,7,1,TIME,A,1"]), &elsewhere)
        .await
        .expect("it goes through");
    assert_eq!((report.imported, report.total_krw), (1, 9_000));
}

#[tokio::test]
async fn a_blank_basket_or_household_is_told_apart() {
    let shop = Shop::with_products().await;
    let report = import(
        &shop,
        &["b1,,1,TIME,A,1", " ,7,1,TIME,A,1", ",7,1,TIME,A,1", "b2,7,1,TIME,A,1"],
    )
    .await;
    assert_eq!((report.read, report.imported, report.rejected), (4, 2, 2));
    assert_eq!(codes(&report), [code(3, "missing_value"), code(4, "missing_value")]);
}

#[tokio::test]
async fn a_byte_order_mark_and_windows_line_ends_are_passed_over() {
    let shop = Shop::with_products().await;
    let content = format!(
        "\u{feff}{}",
        file(&["b1,7,\"a, b\",TIME,A,1", "", "b2,7,1,TIME,A,1"]).replace('\n', "\r\n")
    );
    let report = shop.orders(content).await.expect("it goes through");
    assert_eq!((report.rows, report.imported, report.rejected), (2, 2, 0));
}

#[tokio::test]
async fn a_huge_field_costs_its_basket() {
    let shop = Shop::with_products().await;
    let huge = "x".repeat(3 << 20);
    let long = "x".repeat(20_000);
    let report = import(
        &shop,
        &[
            &format!("b1,7,{huge},TIME,A,1"),
            &format!("b2,7,{long},TIME,A,1"),
            &format!("{long},7,1,TIME,A,1"),
            "b3,7,1,TIME,A,1",
        ],
    )
    .await;
    assert_eq!((report.imported, report.rejected), (1, 3));
    assert_eq!(
        codes(&report),
        [code(2, "row_too_long"), code(3, "bad_text"), code(4, "bad_text")]
    );
    assert!(rejects(&report)[0].2[2].len() < 2_000, "a huge field is not copied");
}

#[tokio::test]
async fn a_wrong_header_is_one_clear_error() {
    let shop = Shop::open().await;
    for (header, says) in [
        (
            "basket_id,when,sku,sku",
            &["lacks household_id, ordered_at, quantity", "sku twice", "when"][..],
        ),
        (
            "basket_id,household_id,ordered_at,sku,quantity,,memo,memo",
            &["memo twice", "no name to column 6"],
        ),
        (
            "basket_id,household_id,ordered_at,sku,quantity,주문자 전화번호,email",
            &["personal data", "주문자 전화번호, email"],
        ),
        ("Basket_ID;household_id;ordered_at", &["lacks basket_id"]),
    ] {
        let error = shop
            .orders(format!("{header}\n1,2\n"))
            .await
            .expect_err("it is refused");
        assert!(matches!(error, ImportError::Header { .. }));
        let text = error.to_string();
        assert!(says.iter().all(|part| text.contains(part)), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
    let without = Options {
        ignored_columns: vec!["email".into()],
        ..Options::default()
    };
    let fine = shop
        .orders_as("basket_id,household_id,ordered_at,sku,quantity,email\n", &without)
        .await;
    assert_eq!(fine.expect("it goes through").read, 0);
    assert!(matches!(shop.orders("").await, Err(ImportError::Empty { .. })));
    assert!(matches!(
        shop.orders("\u{feff}\r\n\n").await,
        Err(ImportError::Empty { .. })
    ));
    assert!(matches!(
        shop.orders(b"\xff\xfeb\0a\0".as_slice()).await,
        Err(ImportError::HeaderUnreadable { .. })
    ));
    assert_eq!(shop.head().await, 0);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_says_so() {
    let shop = Shop::open().await;
    let options = Options::default();
    let progress = jangbu::import::Silent;
    let there = shop.write("orders.csv", file(&["b1,7,1,TIME,A,1"]));
    let missing = there.with_file_name("missing.csv");
    let error = jangbu::import::orders(&shop.executor, &missing, &options, &progress).await;
    assert!(matches!(error, Err(ImportError::Open { .. })));
    let directory = there.parent().expect("it is in one");
    let error = jangbu::import::orders(&shop.executor, directory, &options, &progress).await;
    assert!(matches!(error, Err(ImportError::NotAFile { .. })));
    let over_itself = Options {
        rejects_file: Some(there.clone()),
        ..Options::default()
    };
    let error = jangbu::import::orders(&shop.executor, &there, &over_itself, &progress).await;
    assert!(matches!(error, Err(ImportError::RejectsAreTheFile { .. })));
    assert!(there.exists());
    let nowhere = Options {
        rejects_file: Some(directory.join("no/such/place.csv")),
        ..Options::default()
    };
    let error = jangbu::import::orders(&shop.executor, &there, &nowhere, &progress).await;
    assert!(matches!(error, Err(ImportError::Rejects { .. })));
    let nobody = Options {
        source: " ".into(),
        ..Options::default()
    };
    let error = jangbu::import::orders(&shop.executor, &there, &nobody, &progress).await;
    assert!(matches!(error, Err(ImportError::Source(_))));
}
