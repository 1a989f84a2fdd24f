use chrono::NaiveDate;
use jangbu_events::{AggregateId, CancelReason, CustomerId, OrderEvent, samples};
use sqlx::PgPool;
use uuid::Uuid;

use super::*;
use crate::{
    page::ListError,
    testing::{Script, project, random_history, with_database},
};

const LINES: &[(&str, &str, i64, u32)] = &[("A", "공", 1_000, 3), ("B", "퍼터", 500, 1)];

fn moment(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

fn member(n: u128) -> Owner {
    Owner::Member {
        customer_id: CustomerId::from_uuid(Uuid::from_u128(n)),
    }
}

#[tokio::test]
async fn an_order_is_followed_from_its_cart_to_its_refund() {
    with_database(async |db| {
        let mut script = Script::new();
        script.at("2026-03-01T00:00:00Z");
        let mut order = script.place(1, member(1), LINES);
        script.at("2026-03-01T00:01:00Z").await_payment(&order);
        script.at("2026-03-01T00:02:00Z").confirm(&order);
        script.refund(&mut order, &[500, 0]);
        let db = project(&db, "order_history", &script.history).await;
        let row = by_id(&db, order.order).await.expect("an answer").expect("a row");
        assert_eq!((row.status, row.refunded), (OrderStatus::Confirmed, Money::won(500)));
        assert_eq!(row.totals.total, Money::won(3_500));
        assert_eq!(row.summary(), (Some("공 A"), 2));
        assert_eq!(row.lines, order.lines);
        assert_eq!(row.placed_at, moment("2026-03-01T00:00:00Z"));
        assert_eq!(row.confirmed_at, Some(moment("2026-03-01T00:02:00Z")));
        assert_eq!(row.expires_at, Some(moment("2026-03-01T00:31:00Z")));
        assert_eq!(
            (row.payment_id, row.ended_at, row.sequence),
            (Some(PaymentId::of(order.order, 1)), None, 4)
        );
        let Origin::Shop(shop) = &row.origin else {
            panic!("{row:?}");
        };
        assert_eq!(
            (&shop.order_number, shop.cart_id, &shop.owner),
            (&order.number, order.cart, &member(1))
        );
        assert_eq!(shop.pay_method, PayMethod::Card);
        // Sealed as it came.
        assert_eq!(
            (&*shop.orderer.ciphertext, &*shop.recipient.ciphertext),
            ("c2VhbGVk", "c2VhbGVk")
        );
        assert_eq!(by_number(&db, &order.number).await.expect("an answer"), Some(row));
    })
    .await;
}

#[tokio::test]
async fn an_order_ends_once() {
    with_database(async |db| {
        let mut script = Script::new();
        let ends = [
            (OrderEvent::Refused { shortages: vec![] }, OrderStatus::Refused),
            (OrderEvent::Expired {}, OrderStatus::Expired),
            (
                OrderEvent::Cancelled {
                    reason: CancelReason::Customer,
                    was_confirmed: false,
                },
                OrderStatus::Cancelled,
            ),
        ];
        let mut orders = Vec::new();
        for (n, (event, status)) in (1..).zip(ends) {
            script.at("2026-03-01T00:00:00Z");
            let order = script.place(n, samples::guest(), LINES);
            script.at("2026-03-01T01:00:00Z").order(&order, event);
            orders.push((order.order, status));
        }
        let db = project(&db, "order_history", &script.history).await;
        for (id, status) in orders {
            let row = by_id(&db, id).await.expect("an answer").expect("a row");
            assert_eq!(
                (row.status, row.ended_at),
                (status, Some(moment("2026-03-01T01:00:00Z")))
            );
            assert_eq!((row.confirmed_at, row.refunded), (None, Money::ZERO));
        }
        assert_eq!(
            by_id(&db, OrderId::from_uuid(Uuid::nil())).await.expect("an answer"),
            None
        );
    })
    .await;
}

#[tokio::test]
async fn an_imported_order_keeps_what_its_own_system_said() {
    with_database(async |db| {
        let mut script = Script::new();
        let id = script
            .at("2017-03-01T00:00:00Z")
            .import("32053262115", Some("27"), LINES);
        let db = project(&db, "order_history", &script.history).await;
        let row = by_id(&db, id).await.expect("an answer").expect("a row");
        let expected = Origin::Imported {
            source: "journey".to_owned(),
            source_id: "32053262115".to_owned(),
            external_customer: Some("27".to_owned()),
            external_reference: BTreeMap::from([("store_id".to_owned(), "359".to_owned())]),
        };
        assert_eq!((row.status, row.origin), (OrderStatus::Imported, expected));
        assert_eq!(row.placed_at, moment("2017-03-01T00:00:00Z"));
    })
    .await;
}

#[tokio::test]
async fn buyers_see_their_own_orders_and_nobody_elses() {
    with_database(async |db| {
        let mut script = Script::new();
        let stranger = Owner::Guest {
            token_hash: "0".repeat(64),
        };
        let owners = [
            member(1),
            samples::guest(),
            member(2),
            stranger,
            member(1),
            samples::guest(),
        ];
        for (n, owner) in (1..).zip(owners) {
            // Two at the same moment, too.
            if n % 2 == 1 {
                script.clock += chrono::TimeDelta::microseconds(1);
            }
            script.place(n, owner, LINES);
        }
        let db = project(&db, "order_history", &script.history).await;
        let customer = CustomerId::from_uuid(Uuid::from_u128(1));
        let newest = by_customer(&db, customer, None, 1).await.expect("a page");
        assert_eq!(numbers(&newest.rows), "5");
        let rest = by_customer(&db, customer, newest.next.as_deref(), 1)
            .await
            .expect("a page");
        assert_eq!((numbers(&rest.rows), rest.next), ("1".to_owned(), None));
        let Owner::Guest { token_hash } = samples::guest() else {
            unreachable!("the sample is a guest");
        };
        let guest = by_guest(&db, &token_hash, None, 10).await.expect("a page");
        assert_eq!(numbers(&guest.rows), "6 2");
        assert!(by_guest(&db, "", None, 10).await.expect("a page").rows.is_empty());
    })
    .await;
}

fn numbers(rows: &[OrderRow]) -> String {
    let number = |row: &OrderRow| match &row.origin {
        Origin::Shop(shop) => shop
            .order_number
            .trim_start_matches("260302-")
            .trim_start_matches('0')
            .to_owned(),
        Origin::Imported { source_id, .. } => source_id.clone(),
    };
    rows.iter().map(number).collect::<Vec<_>>().join(" ")
}

/// All rows that the filter lets through, over pages of seven.
async fn walk(db: &PgPool, filter: OrderFilter<'_>) -> Vec<OrderRow> {
    let mut rows: Vec<OrderRow> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = admin_list(db, filter, after.as_deref(), 7).await.expect("a page");
        assert!(page.rows.len() <= 7);
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

#[tokio::test]
async fn the_shop_finds_orders_by_every_filter() {
    with_database(async |db| {
        let history = random_history(5, 600);
        let db = project(&db, "order_history", &history).await;
        let all = walk(&db, OrderFilter::default()).await;
        assert!(all.len() > 50, "{}", all.len());
        assert!(all.is_sorted_by_key(|row| std::cmp::Reverse((row.placed_at, row.order_id.to_string()))));

        let day = |text: &str| -> NaiveDate { text.parse().expect("a day") };
        let days = DayRange::new(day("2026-03-04"), day("2026-03-06"));
        let of_27 = |row: &OrderRow| matches!(&row.origin, Origin::Imported { external_customer, .. } if external_customer.as_deref() == Some("27"));
        let statuses = [None].into_iter().chain(OrderStatus::ALL.map(Some));
        for status in statuses {
            for days in [None, Some(days)] {
                for external_customer in [None, Some("27")] {
                    let filter = OrderFilter { status, days, order_number: None, external_customer };
                    let expected = all.iter().filter(|row| {
                        status.is_none_or(|status| row.status == status)
                            && days.is_none_or(|days| (days.begins()..days.ends()).contains(&row.placed_at))
                            && (external_customer.is_none() || of_27(row))
                    });
                    let expected: Vec<OrderRow> = expected.cloned().collect();
                    assert_eq!(walk(&db, filter).await, expected, "{filter:?}");
                }
            }
        }
        let found = all.iter().find_map(|row| match &row.origin {
            Origin::Shop(shop) => Some((row, &*shop.order_number)),
            Origin::Imported { .. } => None,
        });
        let (row, number) = found.expect("the shop sold something");
        let by_number = OrderFilter { order_number: Some(number), ..OrderFilter::default() };
        assert_eq!(walk(&db, by_number).await, std::slice::from_ref(row));
        let other = OrderFilter { status: Some(OrderStatus::Imported), ..by_number };
        assert!(walk(&db, other).await.is_empty());
        let null = OrderFilter { order_number: Some("a\0"), ..OrderFilter::default() };
        assert!(walk(&db, null).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_cursor_of_no_time_that_ever_was_is_refused() {
    with_database(async |db| {
        let db = project(&db, "order_history", &Script::new().history).await;
        let id = OrderId::from_uuid(Uuid::nil());
        for micros in [i64::MIN, i64::MAX, -200_000_000_000_000_000] {
            let cursor = crate::page::encode("orders", &(micros, id));
            let refused = admin_list(&db, OrderFilter::default(), Some(&cursor), 10).await;
            assert!(matches!(refused, Err(ListError::Cursor(_))), "{refused:?}");
        }
    })
    .await;
}
