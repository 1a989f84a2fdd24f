//! Sales: what was sold and what went back, by day, hour, category and product.
//!
//! An order counts in the hour and on the day, in Korea, on which its confirmation occurred (an
//! imported one, on which the order occurred). What goes back counts as cancelled when it went
//! back, so net = gross - cancelled may be below zero. Product and category are those of the sale.
//! Amounts are those of the lines: delivery fees are no sale of goods.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use jangbu_events::{Event, LineShare, OrderEvent, OrderLine, Recorded, Sku, Timestamp};
use sqlx::{PgConnection, PgPool};

use crate::{
    Projection,
    korea::{self, DayRange},
    parsed,
};

/// Sums over orders.
pub struct Sales;

impl Projection for Sales {
    const NAME: &'static str = "sales";
    const CODE_VERSION: i32 = 1;
    const SCHEMA: &'static str = include_str!("../tables/sales.sql");
    const EVENT_TYPES: &'static [&'static str] = &["order.confirmed", "order.refunded", "order.imported"];

    async fn apply(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        let counted = sqlx::query_scalar!("select position from sales_counted where partition = $1", partition)
            .fetch_optional(&mut *db)
            .await?
            .unwrap_or(0);
        let news = batch.iter().filter(|event| event.position > counted);
        Changes::of(news).write(db, partition).await
    }

    async fn apply_late(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        // Whatever was counted since says nothing about these.
        Changes::of(batch).write(db, partition).await
    }
}

#[derive(Default)]
struct Changes {
    by_hour: BTreeMap<Timestamp, Sums>,
    by_category: BTreeMap<(NaiveDate, String), Sums>,
    by_product: BTreeMap<(NaiveDate, String), Sums>,
    /// Of the last event that counts; 0 if none does.
    position: i64,
}

/// Whole numbers and won.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Orders confirmed or imported; of a category or product, those that contain it.
    pub orders: i64,
    /// Goods in these orders.
    pub units: i64,
    /// What the buyers paid for them, in won, VAT included.
    pub gross: i64,
    /// What went back to buyers, in won, whenever the order was confirmed.
    pub cancelled: i64,
}

impl Sums {
    /// Won that stayed: below zero where more went back than came in.
    pub const fn net(&self) -> i64 {
        self.gross - self.cancelled
    }

    fn add_line(&mut self, line: &OrderLine) {
        self.units += i64::from(line.quantity);
        self.gross += line.total.amount;
    }
}

impl Changes {
    fn of<'a>(events: impl IntoIterator<Item = &'a Recorded<Event>>) -> Self {
        let mut changes = Self::default();
        for event in events {
            match &event.payload {
                Event::Order(OrderEvent::Confirmed { lines, .. } | OrderEvent::Imported { lines, .. }) => {
                    changes.sold(event, lines);
                }
                Event::Order(OrderEvent::Refunded { shares, .. }) => changes.cancelled(event, shares),
                _ => {}
            }
        }
        changes
    }

    fn sold(&mut self, event: &Recorded<Event>, lines: &[OrderLine]) {
        let day = korea::day_of(event.occurred_at);
        let hour = self.by_hour.entry(korea::hour_of(event.occurred_at)).or_default();
        hour.orders += 1;
        // Once per order, however many of its lines are of one category.
        let (mut categories, mut products) = (BTreeSet::new(), BTreeSet::new());
        for line in lines {
            hour.add_line(line);
            let category = self.by_category.entry((day, line.category.clone())).or_default();
            category.add_line(line);
            category.orders += i64::from(categories.insert(&line.category));
            let product = self.by_product.entry((day, line.sku.to_string())).or_default();
            product.add_line(line);
            product.orders += i64::from(products.insert(&line.sku));
        }
        self.position = event.position;
    }

    fn cancelled(&mut self, event: &Recorded<Event>, shares: &[LineShare]) {
        let day = korea::day_of(event.occurred_at);
        let hour = self.by_hour.entry(korea::hour_of(event.occurred_at)).or_default();
        for share in shares {
            let amount = share.amount.amount;
            hour.cancelled += amount;
            self.by_category
                .entry((day, share.category.clone()))
                .or_default()
                .cancelled += amount;
            self.by_product
                .entry((day, share.sku.to_string()))
                .or_default()
                .cancelled += amount;
        }
        self.position = event.position;
    }

    async fn write(self, db: &mut PgConnection, partition: i16) -> sqlx::Result<()> {
        if self.position == 0 {
            return Ok(());
        }
        let (hours, sums): (Vec<_>, Vec<_>) = self.by_hour.into_iter().unzip();
        let sums = Columns::of(&sums);
        sqlx::query!(
            "insert into sales_by_hour as s (partition, hour, orders, units, gross, cancelled)
             select $1, c.*
             from unnest($2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) as c
             on conflict (hour, partition) do update
             set orders = s.orders + excluded.orders,
                 units = s.units + excluded.units,
                 gross = s.gross + excluded.gross,
                 cancelled = s.cancelled + excluded.cancelled",
            partition,
            &hours,
            &sums.orders,
            &sums.units,
            &sums.gross,
            &sums.cancelled
        )
        .execute(&mut *db)
        .await?;
        let (days, categories, sums) = columns(self.by_category);
        sqlx::query!(
            "insert into sales_by_category as s (partition, day, category, orders, units, gross, cancelled)
             select $1, c.*
             from unnest($2::date[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) as c
             on conflict (day, category, partition) do update
             set orders = s.orders + excluded.orders,
                 units = s.units + excluded.units,
                 gross = s.gross + excluded.gross,
                 cancelled = s.cancelled + excluded.cancelled",
            partition,
            &days,
            &categories,
            &sums.orders,
            &sums.units,
            &sums.gross,
            &sums.cancelled
        )
        .execute(&mut *db)
        .await?;
        let (days, skus, sums) = columns(self.by_product);
        sqlx::query!(
            "insert into sales_by_product as s (partition, day, sku, orders, units, gross, cancelled)
             select $1, c.*
             from unnest($2::date[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) as c
             on conflict (day, sku, partition) do update
             set orders = s.orders + excluded.orders,
                 units = s.units + excluded.units,
                 gross = s.gross + excluded.gross,
                 cancelled = s.cancelled + excluded.cancelled",
            partition,
            &days,
            &skus,
            &sums.orders,
            &sums.units,
            &sums.gross,
            &sums.cancelled
        )
        .execute(&mut *db)
        .await?;
        sqlx::query!(
            "insert into sales_counted as known (partition, position)
             values ($1, $2)
             on conflict (partition) do update set position = greatest(known.position, excluded.position)",
            partition,
            self.position
        )
        .execute(db)
        .await?;
        Ok(())
    }
}

/// Sums turned into the arrays that `unnest` takes.
struct Columns {
    orders: Vec<i64>,
    units: Vec<i64>,
    gross: Vec<i64>,
    cancelled: Vec<i64>,
}

impl Columns {
    fn of(sums: &[Sums]) -> Self {
        Self {
            orders: sums.iter().map(|sums| sums.orders).collect(),
            units: sums.iter().map(|sums| sums.units).collect(),
            gross: sums.iter().map(|sums| sums.gross).collect(),
            cancelled: sums.iter().map(|sums| sums.cancelled).collect(),
        }
    }
}

fn columns(sums: BTreeMap<(NaiveDate, String), Sums>) -> (Vec<NaiveDate>, Vec<String>, Columns) {
    let (keys, sums): (Vec<_>, Vec<_>) = sums.into_iter().unzip();
    let (days, names) = keys.into_iter().unzip();
    (days, names, Columns::of(&sums))
}

/// What the rows of a report stand for, and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Days in Korea, ascending.
    Day,
    /// Hours in Korea, ascending.
    Hour,
    /// Categories, the highest gross first, then by name.
    Category,
    /// Products, the most units first, then by sku.
    Product,
}

/// What one row of a report stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A day in Korea.
    Day(NaiveDate),
    /// The hour that begins here.
    Hour(Timestamp),
    /// A category at the sale.
    Category(String),
    /// A product.
    Product(Sku),
}

/// Sales of a range of days. Keys in which nothing happened have no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of [`By`], cut to the limit.
    pub rows: Vec<(Key, Sums)>,
    /// Over the whole range, whatever the limit.
    pub total: Sums,
}

/// Rows and total are of one moment.
pub async fn report(db: &PgPool, days: DayRange, by: By, limit: Option<u32>) -> sqlx::Result<Report> {
    let mut tx = db.begin_with("begin isolation level repeatable read read only").await?;
    let report = report_in(&mut tx, days, by, limit).await?;
    tx.commit().await?;
    Ok(report)
}

/// As [`report`], from tables that stand still.
pub async fn report_in(tx: &mut PgConnection, days: DayRange, by: By, limit: Option<u32>) -> sqlx::Result<Report> {
    let limit = limit.map(i64::from);
    let rows = match by {
        By::Day => by_day(&mut *tx, days, limit).await?,
        By::Hour => by_hour(&mut *tx, days, limit).await?,
        By::Category => by_category(&mut *tx, days, limit).await?,
        By::Product => by_product(&mut *tx, days, limit).await?,
    };
    let total = sqlx::query_as!(
        Sums,
        r#"select coalesce(sum(orders), 0)::bigint as "orders!", coalesce(sum(units), 0)::bigint as "units!",
             coalesce(sum(gross), 0)::bigint as "gross!", coalesce(sum(cancelled), 0)::bigint as "cancelled!"
         from sales_by_hour
         where hour >= $1 and hour < $2"#,
        days.begins(),
        days.ends()
    )
    .fetch_one(tx)
    .await?;
    Ok(Report { rows, total })
}

/// The sums of an anonymous record.
macro_rules! sums {
    ($row:ident) => {
        Sums {
            orders: $row.orders,
            units: $row.units,
            gross: $row.gross,
            cancelled: $row.cancelled,
        }
    };
}

async fn by_day(db: &mut PgConnection, days: DayRange, limit: Option<i64>) -> sqlx::Result<Vec<(Key, Sums)>> {
    // A fixed offset, as in `korea`: the time zone of that name had other offsets before 1988.
    let rows = sqlx::query!(
        r#"select (hour at time zone interval '9 hours')::date as "day!",
             sum(orders)::bigint as "orders!", sum(units)::bigint as "units!",
             sum(gross)::bigint as "gross!", sum(cancelled)::bigint as "cancelled!"
         from sales_by_hour
         where hour >= $1 and hour < $2
         group by 1
         order by 1
         limit $3"#,
        days.begins(),
        days.ends(),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (Key::Day(row.day), sums!(row))).collect())
}

async fn by_hour(db: &mut PgConnection, days: DayRange, limit: Option<i64>) -> sqlx::Result<Vec<(Key, Sums)>> {
    let rows = sqlx::query!(
        r#"select hour, sum(orders)::bigint as "orders!", sum(units)::bigint as "units!",
             sum(gross)::bigint as "gross!", sum(cancelled)::bigint as "cancelled!"
         from sales_by_hour
         where hour >= $1 and hour < $2
         group by hour
         order by hour
         limit $3"#,
        days.begins(),
        days.ends(),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (Key::Hour(row.hour), sums!(row))).collect())
}

async fn by_category(db: &mut PgConnection, days: DayRange, limit: Option<i64>) -> sqlx::Result<Vec<(Key, Sums)>> {
    let rows = sqlx::query!(
        r#"select category, sum(orders)::bigint as "orders!", sum(units)::bigint as "units!",
             sum(gross)::bigint as "gross!", sum(cancelled)::bigint as "cancelled!"
         from sales_by_category
         where day between $1 and $2
         group by category
         order by sum(gross) desc, category
         limit $3"#,
        days.from,
        days.to,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (Key::Category(row.category), sums!(row)))
        .collect())
}

async fn by_product(db: &mut PgConnection, days: DayRange, limit: Option<i64>) -> sqlx::Result<Vec<(Key, Sums)>> {
    let rows = sqlx::query!(
        r#"select sku, sum(orders)::bigint as "orders!", sum(units)::bigint as "units!",
             sum(gross)::bigint as "gross!", sum(cancelled)::bigint as "cancelled!"
         from sales_by_product
         where day between $1 and $2
         group by sku
         order by sum(units) desc, sku
         limit $3"#,
        days.from,
        days.to,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| Ok((Key::Product(parsed(&row.sku)?), sums!(row))))
        .collect()
}
