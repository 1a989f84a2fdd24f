use jangbu_events::{AggregateId, OrderId, ProductEvent};
use sqlx::PgPool;
use uuid::Uuid;

use super::*;
use crate::{
    page::ListError,
    testing::{Script, project, random_history, with_database},
};

async fn found(db: &PgPool, sku: &Sku, viewer: Viewer) -> Option<ProductRow> {
    by_sku(db, sku, viewer).await.expect("an answer")
}

#[tokio::test]
async fn a_product_shows_its_latest_facts_and_its_stock() {
    with_database(async |db| {
        let mut script = Script::new();
        script.at("2026-03-01T00:00:00Z");
        let sku = script.publish("DRIVER-10.5", "드라이버 10.5도", "드라이버", 39_000);
        script.at("2026-03-02T00:00:00Z");
        script.product(
            &sku,
            ProductEvent::Renamed {
                name: "드라이버 (2026)".to_owned(),
            },
        );
        let repriced = ProductEvent::Repriced {
            previous_price: Money::won(39_000),
            price: Money::won(35_000),
        };
        script.product(&sku, repriced);
        script.at("2026-03-03T00:00:00Z").receive(&sku, 7);
        script.hold(&sku, OrderId::from_uuid(Uuid::nil()), 2);
        let db = project(&db, "catalog", &script.history).await;
        let expected = ProductRow {
            product_id: ProductId::of(jangbu_events::StoreId::DEFAULT, &sku),
            sku: sku.clone(),
            name: "드라이버 (2026)".to_owned(),
            category: "드라이버".to_owned(),
            price: Money::won(35_000),
            tax_class: TaxClass::Taxable,
            attributes: BTreeMap::from([("brand".to_owned(), "한빛".to_owned())]),
            status: ProductStatus::Published,
            on_hand: 7,
            available: 5,
            registered_position: 1,
            registered_at: "2026-03-01T00:00:00Z".parse().expect("a moment"),
            changed_at: "2026-03-02T00:00:00Z".parse().expect("a moment"),
            product_sequence: 4,
            stock_sequence: 2,
        };
        assert_eq!(expected.stock_state(), StockState::FewLeft);
        let row = found(&db, &sku, Viewer::Shopper).await;
        assert_eq!(
            by_id(&db, expected.product_id, Viewer::Shopper)
                .await
                .expect("an answer"),
            row
        );
        assert_eq!(row, Some(expected));
    })
    .await;
}

#[tokio::test]
async fn shoppers_see_published_products_only() {
    with_database(async |db| {
        let mut script = Script::new();
        let draft = script.register("A", "공", "공", 100);
        let published = script.publish("B", "공", "공", 100);
        let hidden = script.publish("C", "공", "공", 100);
        script.product(&hidden, ProductEvent::Hidden {});
        let archived = script.publish("D", "공", "공", 100);
        script.product(&archived, ProductEvent::Archived {});
        // Refused before anybody registered it.
        let unknown: Sku = "E".parse().expect("a sku");
        script.hold(&unknown, OrderId::from_uuid(Uuid::nil()), 2);
        let db = project(&db, "catalog", &script.history).await;
        for (sku, status, seen) in [
            (&draft, Some(ProductStatus::Draft), false),
            (&published, Some(ProductStatus::Published), true),
            (&hidden, Some(ProductStatus::Hidden), false),
            (&archived, Some(ProductStatus::Archived), false),
            (&unknown, None, false),
        ] {
            let id = ProductId::of(jangbu_events::StoreId::DEFAULT, sku);
            assert_eq!(found(&db, sku, Viewer::Admin).await.map(|row| row.status), status);
            assert_eq!(found(&db, sku, Viewer::Shopper).await.is_some(), seen);
            let row = by_id(&db, id, Viewer::Admin).await.expect("an answer");
            assert_eq!(row.map(|row| row.status), status);
            assert_eq!(
                by_id(&db, id, Viewer::Shopper).await.expect("an answer").is_some(),
                seen
            );
        }
        let shelf = list(&db, Wanted::default(), Sort::Name, None, 10)
            .await
            .expect("a page");
        assert_eq!(skus(&shelf.rows), ["B"]);
        let all = admin_list(&db, None, Wanted::default(), None, 10)
            .await
            .expect("a page");
        assert_eq!(skus(&all.rows), ["A", "B", "C", "D"]);
        let drafts = admin_list(&db, Some(ProductStatus::Draft), Wanted::default(), None, 10)
            .await
            .expect("a page");
        assert_eq!(skus(&drafts.rows), ["A"]);
    })
    .await;
}

fn skus(rows: &[ProductRow]) -> Vec<&str> {
    rows.iter().map(|row| row.sku.as_str()).collect()
}

/// All products in this order, over pages of three.
async fn walk(db: &PgPool, wanted: Wanted<'_>, sort: Sort) -> Vec<ProductRow> {
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = list(db, wanted, sort, after.as_deref(), 3).await.expect("a page");
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

fn sorted(mut rows: Vec<ProductRow>, sort: Sort) -> Vec<ProductRow> {
    let id = |row: &ProductRow| row.product_id.to_string();
    match sort {
        Sort::Name => rows.sort_by_key(|row| (row.name.clone(), id(row))),
        Sort::Cheapest => rows.sort_by_key(|row| (row.price, id(row))),
        Sort::Dearest => rows.sort_by_key(|row| std::cmp::Reverse((row.price, id(row)))),
        Sort::Newest => rows.sort_by_key(|row| std::cmp::Reverse(row.registered_position)),
    }
    rows
}

#[tokio::test]
async fn every_filter_in_every_order_shows_every_match_once() {
    with_database(async |db| {
        let mut script = Script::new();
        let names = [
            "한빛 드라이버",
            "골프공 3구",
            "PUTTER 34",
            "50% 세일_공",
            r"백\슬래시",
            "드라이버 커버",
            "Ärmel",
        ];
        for n in 0..40_i64 {
            let name = names[usize::try_from(n * 5 % 7).expect("small")];
            let category = ["공", "퍼터"][usize::from(n % 3 == 0)];
            script.publish(&format!("Sku-{n}"), name, category, n * 7 % 5 * 100);
        }
        let db = project(&db, "catalog", &script.history).await;
        let all = admin_list(&db, None, Wanted::default(), None, 100)
            .await
            .expect("a page")
            .rows;
        assert_eq!(all.len(), 40);
        let questions = [
            "",
            "공",
            "드라이버",
            "putter",
            "sKU-1",
            "50% ",
            "_",
            "%",
            r"\",
            "버 커",
            "ärm",
            "없는 것",
            "4\nsku",
        ];
        for category in [None, Some("공"), Some("퍼터"), Some("없음")] {
            for q in [None].into_iter().chain(questions.map(Some)) {
                let wanted = Wanted { category, q };
                let holds = |text: &str, q: &str| text.to_lowercase().contains(&q.to_lowercase());
                let matches = |row: &&ProductRow| {
                    category.is_none_or(|category| row.category == category)
                        && q.is_none_or(|q| holds(&row.name, q) || holds(row.sku.as_str(), q))
                };
                let expected: Vec<ProductRow> = all.iter().filter(matches).cloned().collect();
                for sort in [Sort::Name, Sort::Cheapest, Sort::Dearest, Sort::Newest] {
                    let found = walk(&db, wanted, sort).await;
                    assert_eq!(
                        skus(&found),
                        skus(&sorted(expected.clone(), sort)),
                        "{wanted:?} {sort:?}"
                    );
                }
                let listed = admin_list(&db, None, wanted, None, 100).await.expect("a page");
                assert_eq!(listed.rows, expected, "{wanted:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_name_is_found_and_the_old_one_is_not() {
    with_database(async |db| {
        let mut script = Script::new();
        let sku = script.publish("A-1", "드라이버", "공", 100);
        let (projection, partition) = (
            crate::testing::projection("catalog"),
            script.history.events[0].slot.partition(4),
        );
        let partition = i16::try_from(partition).expect("below four");
        let build = crate::builds::ensure(&db, projection, 4, script.clock)
            .await
            .expect("a build");
        let raw = script.history.raw(partition);
        let step = crate::builds::advance(&db, projection, &build, partition, 0, 0, 2, &raw, script.clock).await;
        step.expect("registered");
        script.product(
            &sku,
            ProductEvent::Renamed {
                name: "퍼터".to_owned(),
            },
        );
        let raw = script.history.raw(partition).split_off(2);
        let step = crate::builds::advance(&db, projection, &build, partition, 0, 2, 3, &raw, script.clock).await;
        step.expect("renamed");
        let db = crate::testing::query_pool(&db).await;
        for (q, hits) in [("드라이버", 0), ("퍼터", 1), ("a-1", 1)] {
            let wanted = Wanted {
                q: Some(q),
                ..Wanted::default()
            };
            let page = list(&db, wanted, Sort::Name, None, 10).await.expect("a page");
            assert_eq!(page.rows.len(), hits, "{q}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_cursor_of_another_order_is_refused() {
    with_database(async |db| {
        let db = project(&db, "catalog", &random_history(3, 200)).await;
        let shelf = list(&db, Wanted::default(), Sort::Name, None, 1).await.expect("a page");
        let next = shelf.next.expect("more products");
        for sort in [Sort::Cheapest, Sort::Dearest, Sort::Newest] {
            let refused = list(&db, Wanted::default(), sort, Some(&next), 1).await;
            assert!(matches!(refused, Err(ListError::Cursor(_))), "{refused:?}");
        }
        let refused = admin_list(&db, None, Wanted::default(), Some(&next), 1).await;
        assert!(matches!(refused, Err(ListError::Cursor(_))), "{refused:?}");
    })
    .await;
}

#[test]
fn words_of_the_api_read_back() {
    for sort in [Sort::Name, Sort::Cheapest, Sort::Dearest, Sort::Newest] {
        assert_eq!(sort.as_str().parse(), Ok(sort));
    }
    for status in [
        ProductStatus::Draft,
        ProductStatus::Published,
        ProductStatus::Hidden,
        ProductStatus::Archived,
    ] {
        assert_eq!(status.as_str().parse(), Ok(status));
    }
    let error = "sideways".parse::<Sort>().expect_err("no order");
    assert_eq!(error.to_string(), "must be one of name, price, -price, newest");
}
