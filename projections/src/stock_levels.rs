//! Stock levels: what is in the warehouse, what orders hold and what is left, for the shop's staff.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jangbu_events::{Event, ProductId, Recorded, Sku, StockEvent, StockItemId, Timestamp};
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::{
    Projection,
    page::{ListError, Page, decode, encode, rows_to_read},
    parsed,
};

/// One row per sku.
pub struct StockLevels;

impl Projection for StockLevels {
    const NAME: &'static str = "stock_levels";
    const CODE_VERSION: i32 = 1;
    const SCHEMA: &'static str = include_str!("../tables/stock_levels.sql");
    const EVENT_TYPES: &'static [&'static str] = &[
        "stock.received",
        "stock.adjusted",
        "stock.held",
        "stock.hold_refused",
        "stock.released",
        "stock.committed",
        "stock.returned",
    ];

    async fn apply(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        let mut changes = Changes::default();
        for event in batch {
            if let Event::Stock(stock) = &event.payload {
                changes.add(event, stock)?;
            }
        }
        changes.write(db, partition).await
    }
}

#[derive(Default)]
struct Changes(BTreeMap<Sku, Change>);

/// What a batch says about one sku.
struct Change {
    stock_item: StockItemId,
    on_hand: Option<i64>,
    available: i64,
    /// Sequences of the refusals: only those that the row has not seen are added.
    refusals: Vec<i64>,
    moved_at: Option<Timestamp>,
    sequence: i64,
}

impl Changes {
    fn add(&mut self, event: &Recorded<Event>, stock: &StockEvent) -> sqlx::Result<()> {
        let (sku, on_hand, available) = levels(stock);
        let stock_item = parsed(&event.aggregate_id)?;
        let change = self.0.entry(sku.clone()).or_insert_with(|| Change {
            stock_item,
            on_hand: None,
            available: 0,
            refusals: Vec::new(),
            moved_at: None,
            sequence: 0,
        });
        change.on_hand = on_hand.map(i64::from).or(change.on_hand);
        change.available = i64::from(available);
        change.sequence = event.sequence;
        if matches!(stock, StockEvent::HoldRefused { .. }) {
            change.refusals.push(event.sequence);
        } else {
            change.moved_at = Some(event.occurred_at);
        }
        Ok(())
    }

    async fn write(self, db: &mut PgConnection, partition: i16) -> sqlx::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let (mut skus, mut products, mut on_hand, mut available) = (vec![], vec![], vec![], vec![]);
        let (mut moved_at, mut sequences) = (vec![], vec![]);
        let (mut refused_skus, mut refused_sequences) = (vec![], vec![]);
        for (sku, change) in self.0 {
            refused_skus.extend(change.refusals.iter().map(|_| sku.to_string()));
            refused_sequences.extend(change.refusals);
            skus.push(sku.to_string());
            products.push(change.stock_item.product().to_string());
            on_hand.push(change.on_hand);
            available.push(change.available);
            moved_at.push(change.moved_at);
            sequences.push(change.sequence);
        }
        // Levels are what the last event says; refusals are counted, so those that the row has
        // counted before (its sequence tells) are left out.
        sqlx::query!(
            "with refused as (
                 select r.sku, count(*) as refusals
                 from unnest($8::text[], $9::bigint[]) as r (sku, sequence)
                 left join stock_levels as known using (sku)
                 where r.sequence > coalesce(known.sequence, 0)
                 group by r.sku)
             insert into stock_levels as known
                 (sku, partition, product_id, on_hand, available, refusals, moved_at, sequence)
             select c.sku, $1, c.product_id, coalesce(c.on_hand, old.on_hand, 0), c.available,
                 coalesce(old.refusals, 0) + coalesce(refused.refusals, 0),
                 coalesce(c.moved_at, old.moved_at), c.sequence
             from unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::bigint[])
                 as c (sku, product_id, on_hand, available, moved_at, sequence)
             left join stock_levels as old using (sku)
             left join refused using (sku)
             on conflict (sku) do update
             set on_hand = excluded.on_hand,
                 available = excluded.available,
                 refusals = excluded.refusals,
                 moved_at = excluded.moved_at,
                 sequence = excluded.sequence
             where known.sequence < excluded.sequence",
            partition,
            &skus,
            &products,
            &on_hand as &[Option<i64>],
            &available,
            &moved_at as &[Option<Timestamp>],
            &sequences,
            &refused_skus,
            &refused_sequences
        )
        .execute(db)
        .await?;
        Ok(())
    }
}

/// The sku, what is in the warehouse if the event says so, and what no order holds.
fn levels(event: &StockEvent) -> (&Sku, Option<u32>, u32) {
    match event {
        StockEvent::Received {
            sku,
            on_hand,
            available,
            ..
        }
        | StockEvent::Adjusted {
            sku,
            on_hand,
            available,
            ..
        }
        | StockEvent::Committed {
            sku,
            on_hand,
            available,
            ..
        }
        | StockEvent::Returned {
            sku,
            on_hand,
            available,
            ..
        } => (sku, Some(*on_hand), *available),
        StockEvent::Held { sku, available, .. }
        | StockEvent::HoldRefused { sku, available, .. }
        | StockEvent::Released { sku, available, .. } => (sku, None, *available),
    }
}

/// The stock of one sku.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockLevelRow {
    /// Whose stock.
    pub sku: Sku,
    /// The product of that sku.
    pub product_id: ProductId,
    /// In the warehouse.
    pub on_hand: i64,
    /// Not held by any order.
    pub available: i64,
    /// How many times an order asked for more than there was: demand that was lost.
    pub refusals: i64,
    /// When goods last came, went or were set aside; `None` while there were only refusals.
    pub moved_at: Option<Timestamp>,
    /// Of the stock item's stream.
    pub sequence: i64,
}

impl StockLevelRow {
    /// Held by orders that are not paid yet.
    pub const fn held(&self) -> i64 {
        self.on_hand - self.available
    }
}

struct Record {
    sku: String,
    product_id: String,
    on_hand: i64,
    available: i64,
    refusals: i64,
    moved_at: Option<Timestamp>,
    sequence: i64,
}

impl TryFrom<Record> for StockLevelRow {
    type Error = sqlx::Error;
    fn try_from(record: Record) -> sqlx::Result<Self> {
        Ok(Self {
            sku: parsed(&record.sku)?,
            product_id: parsed(&record.product_id)?,
            on_hand: record.on_hand,
            available: record.available,
            refusals: record.refusals,
            moved_at: record.moved_at,
            sequence: record.sequence,
        })
    }
}

/// By sku. With `available_at_most`, only what is running out (0: sold out); this walks the skus in
/// order, which is bounded by the range of goods.
pub async fn list(
    db: impl PgExecutor<'_>,
    available_at_most: Option<i64>,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<StockLevelRow>, ListError> {
    let after: Option<String> = after.map(|cursor| decode("stock", cursor)).transpose()?;
    let records = sqlx::query_as!(
        Record,
        "select sku, product_id, on_hand, available, refusals, moved_at, sequence
         from stock_levels
         where sku > $1 and ($2::bigint is null or available <= $2)
         order by sku
         limit $3",
        after.unwrap_or_default(),
        available_at_most,
        rows_to_read(limit)
    )
    .fetch_all(db)
    .await?;
    let rows = records
        .into_iter()
        .map(TryInto::try_into)
        .collect::<sqlx::Result<_>>()?;
    Ok(Page::cut(rows, limit, |row: &StockLevelRow| encode("stock", &row.sku)))
}

/// `None` for a sku that never had any stock or refusal.
pub async fn by_sku(db: &PgPool, sku: &Sku) -> sqlx::Result<Option<StockLevelRow>> {
    sqlx::query_as!(
        Record,
        "select sku, product_id, on_hand, available, refusals, moved_at, sequence
         from stock_levels
         where sku = $1",
        sku.as_str()
    )
    .fetch_optional(db)
    .await?
    .map(TryInto::try_into)
    .transpose()
}
