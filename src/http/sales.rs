//! `GET /admin/sales`: what was sold on a range of days in Korea.

use axum::extract::State;
use chrono::NaiveDate;
use jangbu_projections::{
    korea::DayRange,
    sales::{self, Key, Sums},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Admin,
    extract::Query,
    past::{self, Dated},
    problem::{FieldError, Problem, Text},
    products::limit,
    progress::MinPosition,
    views::{Answer, time},
};
use crate::as_of::AsOf;

/// The longest range, and the longest by the hour.
const DAYS_MAX: i64 = 20 * 366;
const HOURLY_DAYS_MAX: i64 = 366;

/// Which days, and what the rows are.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SalesQuery {
    /// The first day in Korea.
    from: NaiveDate,
    /// The last day in Korea, included.
    to: NaiveDate,
    /// `day` by default.
    by: Option<By>,
    /// The first rows only, 1 to 1,000; the total is over all.
    limit: Option<u32>,
    /// As it was known then: a time (`2026-08-01T00:00:00+09:00`), the end of a day in Korea (`2026-07-31`),
    /// or a position of the log.
    #[param(value_type = Option<String>)]
    as_of: Option<AsOf>,
}

/// What a row stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum By {
    /// Days, ascending.
    #[default]
    Day,
    /// Hours, ascending.
    Hour,
    /// Categories, the highest gross first.
    Category,
    /// Products, the most units first.
    Product,
}

impl From<By> for sales::By {
    fn from(by: By) -> Self {
        match by {
            By::Day => Self::Day,
            By::Hour => Self::Hour,
            By::Category => Self::Category,
            By::Product => Self::Product,
        }
    }
}

/// What was sold. Plain numbers, in won where they are money.
#[derive(Debug, Serialize, ToSchema)]
pub struct SalesView {
    /// Always `KRW`.
    currency: &'static str,
    /// In the order of `by`; where nothing was sold there is no row.
    data: Vec<SalesRow>,
    /// Over the whole range, whatever the limit.
    total: SalesSums,
}

/// One row: exactly one of the first four says what it stands for.
#[derive(Debug, Serialize, ToSchema)]
pub struct SalesRow {
    /// A day in Korea.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2017-03-01")]
    date: Option<NaiveDate>,
    /// The hour that begins then.
    #[serde(skip_serializing_if = "Option::is_none")]
    hour: Option<String>,
    /// A category at the sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    /// A product.
    #[serde(skip_serializing_if = "Option::is_none")]
    sku: Option<String>,
    /// What was sold.
    #[serde(flatten)]
    sums: SalesSums,
}

/// Whole numbers and won.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct SalesSums {
    /// Orders confirmed or imported.
    orders: i64,
    /// Goods in them.
    units: i64,
    /// What was paid for them, VAT included.
    gross: i64,
    /// What went back, on the day it did.
    cancelled: i64,
    /// `gross - cancelled`; may be below zero.
    net: i64,
}

impl From<Sums> for SalesSums {
    fn from(sums: Sums) -> Self {
        Self {
            orders: sums.orders,
            units: sums.units,
            gross: sums.gross,
            cancelled: sums.cancelled,
            net: sums.net(),
        }
    }
}

impl From<(Key, Sums)> for SalesRow {
    fn from((key, sums): (Key, Sums)) -> Self {
        let mut row = Self {
            date: None,
            hour: None,
            category: None,
            sku: None,
            sums: sums.into(),
        };
        match key {
            Key::Day(day) => row.date = Some(day),
            Key::Hour(at) => row.hour = Some(time(at)),
            Key::Category(category) => row.category = Some(category),
            Key::Product(sku) => row.sku = Some(sku.to_string()),
        }
        row
    }
}

/// What was sold on a range of days in Korea, both included, by day, hour, category or product. With
/// `as_of` as the shop knew it then, which reads the log up to there: at most 500,000 positions.
#[utoipa::path(get, path = "/api/v1/admin/sales", tag = "admin", security(("admin" = [])),
    params(SalesQuery, ("Jangbu-Min-Position" = Option<i64>, Header)),
    responses((status = 200, body = Dated<SalesView>), (status = 422, description = "validation_failed, log_too_long"),
        (status = 503, description = "busy"), (status = 504, description = "projection_behind")))]
pub async fn report(
    State(app): State<App>,
    _: Admin,
    min: MinPosition,
    Query(query): Query<SalesQuery>,
) -> Result<Answer<Dated<SalesView>>, Problem> {
    let by = query.by.unwrap_or_default();
    let days = range(query.from, query.to, by)?;
    let rows = query.limit.map(|given| limit(Some(given), 1_000, 1_000)).transpose()?;
    let moment = past::moment(&app, query.as_of).await?;
    let (position, report) = if let Some(moment) = moment {
        let mut tables = app.reports.tables(&app, "sales", moment).await?;
        let report = sales::report_in(tables.connection(), days, by.into(), rows).await?;
        (moment.position, report)
    } else {
        let position = app.progress.of(&app, "sales", min).await?;
        (
            position,
            sales::report(app.query_pool().pool(), days, by.into(), rows).await?,
        )
    };
    let view = SalesView {
        currency: "KRW",
        data: report.rows.into_iter().map(SalesRow::from).collect(),
        total: report.total.into(),
    };
    Ok(Answer::ok(Dated::new(view, moment)).at(position))
}

fn range(from: NaiveDate, to: NaiveDate, by: By) -> Result<DayRange, Problem> {
    let most = if by == By::Hour { HOURLY_DAYS_MAX } else { DAYS_MAX };
    let refuse = |code, english: String, korean: String| {
        Err(Problem::field(FieldError::parameter(
            "to",
            code,
            Text::new(english, korean),
        )))
    };
    match to.signed_duration_since(from).num_days() {
        ..0 => refuse(
            "before_from",
            "must not be before from".to_owned(),
            "시작일보다 빠를 수 없습니다.".to_owned(),
        ),
        days if days >= most => refuse(
            "range_too_wide",
            format!("must be at most {most} days after from"),
            format!("기간은 {most}일까지입니다."),
        ),
        _ => Ok(DayRange::new(from, to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    #[test]
    fn a_range_begins_before_it_ends_and_is_not_endless() {
        let fits = |from, to, by| range(day(from), day(to), by).is_ok();
        assert!(fits("2017-03-01", "2017-03-01", By::Day));
        assert!(!fits("2017-03-02", "2017-03-01", By::Day));
        assert!(fits("2010-01-01", "2026-12-31", By::Product));
        assert!(!fits("0001-01-01", "2026-12-31", By::Product));
        assert!(fits("2016-01-01", "2016-12-31", By::Hour));
        assert!(!fits("2016-01-01", "2017-01-01", By::Hour));
    }

    #[test]
    fn a_row_says_one_thing() {
        let sums = Sums {
            orders: 1,
            units: 2,
            gross: 3_000,
            cancelled: 5_000,
        };
        let row = |key| serde_json::to_value(SalesRow::from((key, sums))).expect("JSON");
        assert_eq!(
            row(Key::Day(day("2017-03-01"))),
            serde_json::json!({"date": "2017-03-01", "orders": 1, "units": 2, "gross": 3_000, "cancelled": 5_000,
                "net": -2_000})
        );
        let hour = row(Key::Hour("2017-03-01T15:00:00Z".parse().expect("a time")));
        assert_eq!(hour["hour"], "2017-03-02T00:00:00.000+09:00");
        assert_eq!(row(Key::Category("클럽".into()))["category"], "클럽");
        assert_eq!(row(Key::Product("A-1".parse().expect("a sku")))["sku"], "A-1");
    }
}
