use jangbu_events::{OrderId, StoreId};

use super::*;
use crate::testing::{Script, project, with_database};

fn order(n: u32) -> OrderId {
    OrderId::imported("test", &n.to_string())
}

#[tokio::test]
async fn a_level_tells_what_is_held_and_what_was_refused() {
    with_database(async |db| {
        let mut script = Script::new();
        let sku: Sku = "A".parse().expect("a sku");
        script.receive(&sku, 10);
        script.hold(&sku, order(1), 4);
        script.hold(&sku, order(2), 5);
        script.commit(&sku, order(1), 4);
        script.at("2026-03-05T00:00:00Z").release(&sku, order(2), 5);
        script.at("2026-03-06T00:00:00Z").hold(&sku, order(3), 7);
        let db = project(&db, "stock_levels", &script.history).await;
        let level = by_sku(&db, &sku).await.expect("an answer").expect("a row");
        let expected = StockLevelRow {
            product_id: ProductId::of(StoreId::DEFAULT, &sku),
            sku,
            on_hand: 6,
            available: 6,
            refusals: 1,
            // A refusal moves no goods.
            moved_at: Some("2026-03-05T00:00:00Z".parse().expect("a moment")),
            sequence: 6,
        };
        assert_eq!(level, expected);
        assert_eq!(level.held(), 0);
    })
    .await;
}

#[tokio::test]
async fn demand_for_what_never_was_in_stock_is_known() {
    with_database(async |db| {
        let mut script = Script::new();
        let sku: Sku = "A".parse().expect("a sku");
        script.hold(&sku, order(1), 1);
        script.hold(&sku, order(2), 1);
        let db = project(&db, "stock_levels", &script.history).await;
        let level = by_sku(&db, &sku).await.expect("an answer").expect("a row");
        assert_eq!(
            (level.on_hand, level.available, level.refusals, level.moved_at),
            (0, 0, 2, None)
        );
        assert_eq!(
            by_sku(&db, &"B".parse().expect("a sku")).await.expect("an answer"),
            None
        );
    })
    .await;
}

#[tokio::test]
async fn what_runs_out_is_listed_page_by_page() {
    with_database(async |db| {
        let mut script = Script::new();
        for n in 0..10_u32 {
            let sku: Sku = format!("SKU-{n}").parse().expect("a sku");
            script.receive(&sku, n + 1);
            script.hold(&sku, order(n), 1);
        }
        let db = project(&db, "stock_levels", &script.history).await;
        let page = async |after: Option<&str>| {
            let page = list(&db, Some(3), after, 3).await.expect("a page");
            let skus: Vec<String> = page.rows.iter().map(|row| row.sku.to_string()).collect();
            assert!(page.rows.iter().all(|row| row.held() == 1));
            (skus.join(" "), page.next)
        };
        let (first, next) = page(None).await;
        assert_eq!(first, "SKU-0 SKU-1 SKU-2");
        assert_eq!(page(next.as_deref()).await, ("SKU-3".to_owned(), None));
        assert_eq!(list(&db, None, None, 100).await.expect("a page").rows.len(), 10);
        let foreign = list(&db, None, Some("bm9uc2Vuc2U"), 3).await;
        assert!(matches!(foreign, Err(ListError::Cursor(_))), "{foreign:?}");
    })
    .await;
}
