use std::collections::BTreeMap;

use jangbu_events::{Event, OrderEvent, samples};

use super::*;
use crate::testing::{Script, project, random_history, with_database};

fn day(text: &str) -> NaiveDate {
    text.parse().expect("a day")
}

fn days(from: &str, to: &str) -> DayRange {
    DayRange::new(day(from), day(to))
}

fn sums(orders: i64, units: i64, gross: i64, cancelled: i64) -> Sums {
    Sums {
        orders,
        units,
        gross,
        cancelled,
    }
}

fn product(sku: &str) -> Key {
    Key::Product(sku.parse().expect("a sku"))
}

/// Sold on the evening of the 1st, sold and given back just after midnight on the 2nd, in Korea.
fn two_days() -> Script {
    let mut script = Script::new();
    script.at("2026-03-01T14:59:59.999999Z");
    let mut first = script.place(
        1,
        samples::guest(),
        &[("A", "공", 1_000, 3), ("B", "공", 500, 1), ("C", "퍼터", 200, 2)],
    );
    script.await_payment(&first);
    script.confirm(&first);
    script.at("2026-03-01T15:00:00Z");
    let second = script.place(2, samples::guest(), &[("A", "드라이버", 1_100, 1)]);
    script.await_payment(&second);
    script.confirm(&second);
    script.refund(&mut first, &[1_000, 500, 0]);
    script.at("2026-03-01T16:00:00Z");
    script.refund(&mut first, &[2_000, 0, 400]);
    script
}

#[tokio::test]
async fn an_order_counts_on_its_korean_day_and_a_refund_on_its_own() {
    with_database(async |db| {
        let db = project(&db, "sales", &two_days().history).await;
        let report = async |by| {
            report(&db, days("2026-03-01", "2026-03-02"), by, None)
                .await
                .expect("a report")
        };
        let by_day = report(By::Day).await;
        let (first, second) = (sums(1, 6, 3_900, 0), sums(1, 1, 1_100, 3_900));
        let rows = [
            (Key::Day(day("2026-03-01")), first),
            (Key::Day(day("2026-03-02")), second),
        ];
        assert_eq!(by_day.rows, rows);
        assert_eq!(by_day.total, sums(2, 7, 5_000, 3_900));
        assert_eq!((by_day.total.net(), second.net()), (1_100, -2_800));

        let hour = |text: &str| Key::Hour(text.parse().expect("an hour"));
        let rows = [
            (hour("2026-03-01T14:00:00Z"), first),
            (hour("2026-03-01T15:00:00Z"), sums(1, 1, 1_100, 1_500)),
            (hour("2026-03-01T16:00:00Z"), sums(0, 0, 0, 2_400)),
        ];
        assert_eq!(report(By::Hour).await.rows, rows);
    })
    .await;
}

#[tokio::test]
async fn an_order_counts_once_in_each_category_and_product_it_contains() {
    with_database(async |db| {
        let db = project(&db, "sales", &two_days().history).await;
        let report = async |by, limit| {
            let report = report(&db, days("2026-03-01", "2026-03-02"), by, limit).await;
            report.expect("a report")
        };
        let category = |name: &str| Key::Category(name.to_owned());
        let rows = [
            (category("공"), sums(1, 4, 3_500, 3_500)),
            // What was sold as a driver stays one, whatever the product was before and after.
            (category("드라이버"), sums(1, 1, 1_100, 0)),
            (category("퍼터"), sums(1, 2, 400, 400)),
        ];
        assert_eq!(report(By::Category, None).await.rows, rows);
        let rows = [
            (product("A"), sums(2, 4, 4_100, 3_000)),
            (product("C"), sums(1, 2, 400, 400)),
            (product("B"), sums(1, 1, 500, 500)),
        ];
        assert_eq!(report(By::Product, None).await.rows, rows);
        let cut = report(By::Product, Some(1)).await;
        assert_eq!(cut.rows, rows[..1]);
        assert_eq!(
            cut.total,
            sums(2, 7, 5_000, 3_900),
            "the total is of the range, not of the rows"
        );
    })
    .await;
}

#[tokio::test]
async fn only_days_of_the_range_count() {
    with_database(async |db| {
        let db = project(&db, "sales", &two_days().history).await;
        for by in [By::Day, By::Hour, By::Category, By::Product] {
            let report = report(&db, days("2026-03-02", "2026-03-02"), by, None)
                .await
                .expect("a report");
            let gross: i64 = report.rows.iter().map(|(_, sums)| sums.gross).sum();
            assert_eq!((gross, report.total), (1_100, sums(1, 1, 1_100, 3_900)), "{by:?}");
        }
        let backwards = report(&db, days("2026-03-02", "2026-03-01"), By::Day, None)
            .await
            .expect("a report");
        assert_eq!(
            backwards,
            Report {
                rows: vec![],
                total: Sums::default()
            }
        );
    })
    .await;
}

#[tokio::test]
async fn an_imported_order_counts_when_it_occurred() {
    with_database(async |db| {
        let mut script = Script::new();
        script
            .at("2017-03-01T15:30:00Z")
            .import("1", Some("27"), &[("A", "공", 100, 2)]);
        let db = project(&db, "sales", &script.history).await;
        let report = report(&db, days("2017-03-01", "2017-04-30"), By::Day, None)
            .await
            .expect("a report");
        assert_eq!(report.rows, [(Key::Day(day("2017-03-02")), sums(1, 2, 200, 0))]);
    })
    .await;
}

#[tokio::test]
async fn an_order_that_was_never_paid_does_not_count() {
    with_database(async |db| {
        let mut script = Script::new();
        let order = script.place(1, samples::guest(), &[("A", "공", 100, 2)]);
        script.await_payment(&order);
        script.order(&order, OrderEvent::Expired {});
        let db = project(&db, "sales", &script.history).await;
        let all = DayRange::new(NaiveDate::MIN, NaiveDate::MAX);
        let report = report(&db, all, By::Day, None).await.expect("a report");
        assert_eq!(
            report,
            Report {
                rows: vec![],
                total: Sums::default()
            }
        );
    })
    .await;
}

/// Every sum once more, the slow way, from the events.
fn added_up(
    events: &[Recorded<Event>],
    key: impl Fn(&Recorded<Event>, &str, &str) -> String,
) -> BTreeMap<String, Sums> {
    let mut all: BTreeMap<String, Sums> = BTreeMap::new();
    for event in events {
        match &event.payload {
            Event::Order(OrderEvent::Confirmed { lines, .. } | OrderEvent::Imported { lines, .. }) => {
                let mut keys: Vec<String> = Vec::new();
                for line in lines {
                    let key = key(event, &line.category, line.sku.as_str());
                    let sums = all.entry(key.clone()).or_default();
                    sums.units += i64::from(line.quantity);
                    sums.gross += line.total.amount;
                    if !keys.contains(&key) {
                        sums.orders += 1;
                        keys.push(key);
                    }
                }
            }
            Event::Order(OrderEvent::Refunded { shares, .. }) => {
                for share in shares {
                    let key = key(event, &share.category, share.sku.as_str());
                    all.entry(key).or_default().cancelled += share.amount.amount;
                }
            }
            _ => {}
        }
    }
    all
}

#[tokio::test]
async fn reports_are_what_the_events_add_up_to() {
    with_database(async |db| {
        let history = random_history(11, 1_500);
        let db = project(&db, "sales", &history).await;
        let all = DayRange::new(NaiveDate::MIN, NaiveDate::MAX);
        for by in [By::Day, By::Hour, By::Category, By::Product] {
            let report = report(&db, all, by, None).await.expect("a report");
            let expected = added_up(&history.events, |event, category, sku| match by {
                By::Day => korea::day_of(event.occurred_at).to_string(),
                By::Hour => korea::hour_of(event.occurred_at).to_string(),
                By::Category => category.to_owned(),
                By::Product => sku.to_owned(),
            });
            let found: BTreeMap<String, Sums> = report
                .rows
                .iter()
                .map(|(key, sums)| match key {
                    Key::Day(day) => (day.to_string(), *sums),
                    Key::Hour(hour) => (hour.to_string(), *sums),
                    Key::Category(name) => (name.clone(), *sums),
                    Key::Product(sku) => (sku.to_string(), *sums),
                })
                .collect();
            assert_eq!(found, expected, "{by:?}");
            let total = added_up(&history.events, |_, _, _| String::new());
            assert!(report.total.cancelled > 0, "the history has refunds");
            assert_eq!(report.total, total[""]);
        }
    })
    .await;
}
