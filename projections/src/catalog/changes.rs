//! What a batch of events does to the catalog's rows.

use std::collections::BTreeMap;

use jangbu_events::{
    Event, Money, ProductEvent, ProductId, Recorded, Sku, StockEvent, StockItemId, TaxClass, Timestamp,
};
use sqlx::PgConnection;

use super::{ProductStatus, search};
use crate::parsed;

/// A batch folded to one change per row. All values are absolute: applied again, they change nothing.
#[derive(Default)]
pub(super) struct Changes {
    registered: BTreeMap<ProductId, Product>,
    /// Of products that were registered in earlier batches.
    revised: BTreeMap<ProductId, Revision>,
    stock: BTreeMap<ProductId, Stock>,
}

struct Product {
    sku: Sku,
    name: String,
    category: String,
    price: Money,
    tax_class: TaxClass,
    attributes: BTreeMap<String, String>,
    status: ProductStatus,
    registered_position: i64,
    registered_at: Timestamp,
    changed_at: Timestamp,
    sequence: i64,
}

struct Revision {
    name: Option<String>,
    price: Option<Money>,
    status: Option<ProductStatus>,
    changed_at: Timestamp,
    sequence: i64,
}

struct Stock {
    on_hand: Option<i64>,
    available: i64,
    sequence: i64,
}

impl Changes {
    pub fn of(batch: &[Recorded<Event>]) -> sqlx::Result<Self> {
        let mut changes = Self::default();
        for event in batch {
            match &event.payload {
                Event::Product(product) => changes.product(event, parsed(&event.aggregate_id)?, product),
                Event::Stock(stock) => {
                    let item: StockItemId = parsed(&event.aggregate_id)?;
                    changes.stock(event, item.product(), stock);
                }
                Event::Cart(_) | Event::Customer(_) | Event::Order(_) | Event::Payment(_) => {}
            }
        }
        Ok(changes)
    }

    fn product(&mut self, event: &Recorded<Event>, id: ProductId, product: &ProductEvent) {
        match product {
            ProductEvent::Registered {
                sku,
                name,
                category,
                price,
                tax_class,
                attributes,
            } => {
                let product = Product {
                    sku: sku.clone(),
                    name: name.clone(),
                    category: category.clone(),
                    price: *price,
                    tax_class: *tax_class,
                    attributes: attributes.clone(),
                    status: ProductStatus::Draft,
                    registered_position: event.position,
                    registered_at: event.occurred_at,
                    changed_at: event.occurred_at,
                    sequence: event.sequence,
                };
                self.registered.insert(id, product);
            }
            ProductEvent::Renamed { name } => self.revise(event, id, |change| change.name = Some(name.clone())),
            ProductEvent::Repriced { price, .. } => self.revise(event, id, |change| change.price = Some(*price)),
            ProductEvent::Published {} => self.revise_status(event, id, ProductStatus::Published),
            ProductEvent::Hidden {} => self.revise_status(event, id, ProductStatus::Hidden),
            ProductEvent::Archived {} => self.revise_status(event, id, ProductStatus::Archived),
        }
    }

    fn revise_status(&mut self, event: &Recorded<Event>, id: ProductId, status: ProductStatus) {
        self.revise(event, id, |change| change.status = Some(status));
    }

    fn revise(&mut self, event: &Recorded<Event>, id: ProductId, revise: impl FnOnce(&mut Revision)) {
        let change = self.revised.entry(id).or_insert(Revision {
            name: None,
            price: None,
            status: None,
            changed_at: event.occurred_at,
            sequence: 0,
        });
        revise(change);
        change.changed_at = event.occurred_at;
        change.sequence = event.sequence;
    }

    fn stock(&mut self, event: &Recorded<Event>, id: ProductId, stock: &StockEvent) {
        let (on_hand, available) = match stock {
            StockEvent::Received { on_hand, available, .. }
            | StockEvent::Adjusted { on_hand, available, .. }
            | StockEvent::Committed { on_hand, available, .. }
            | StockEvent::Returned { on_hand, available, .. } => (Some(i64::from(*on_hand)), *available),
            StockEvent::Held { available, .. }
            | StockEvent::HoldRefused { available, .. }
            | StockEvent::Released { available, .. } => (None, *available),
        };
        let change = self.stock.entry(id).or_insert(Stock {
            on_hand: None,
            available: 0,
            sequence: 0,
        });
        change.on_hand = on_hand.or(change.on_hand);
        change.available = i64::from(available);
        change.sequence = event.sequence;
    }

    pub async fn write(mut self, db: &mut PgConnection, partition: i16) -> sqlx::Result<()> {
        // What was registered in this batch is written once, as it is at the batch's end.
        for (id, product) in &mut self.registered {
            if let Some(revision) = self.revised.remove(id) {
                product.name = revision.name.unwrap_or_else(|| std::mem::take(&mut product.name));
                product.price = revision.price.unwrap_or(product.price);
                product.status = revision.status.unwrap_or(product.status);
                product.changed_at = revision.changed_at;
                product.sequence = revision.sequence;
            }
        }
        write_registered(db, partition, self.registered).await?;
        write_revised(db, self.revised).await?;
        write_stock(db, partition, self.stock).await
    }
}

async fn write_registered(
    db: &mut PgConnection,
    partition: i16,
    products: BTreeMap<ProductId, Product>,
) -> sqlx::Result<()> {
    if products.is_empty() {
        return Ok(());
    }
    let (mut ids, mut skus, mut names, mut categories) = (vec![], vec![], vec![], vec![]);
    let (mut prices, mut tax_classes, mut attributes, mut statuses) = (vec![], vec![], vec![], vec![]);
    let (mut texts, mut grams) = (vec![], vec![]);
    let (mut positions, mut registered_at, mut changed_at, mut sequences) = (vec![], vec![], vec![], vec![]);
    for (id, product) in products {
        let text = search::text(&product.name, product.sku.as_str());
        ids.push(id.to_string());
        skus.push(product.sku.to_string());
        names.push(product.name);
        categories.push(product.category);
        prices.push(product.price.amount);
        tax_classes.push(tax_class_text(product.tax_class).to_owned());
        attributes.push(serde_json::to_value(product.attributes).expect("a map of texts is JSON"));
        statuses.push(product.status.as_str().to_owned());
        grams.push(search::grams(&text));
        texts.push(text);
        positions.push(product.registered_position);
        registered_at.push(product.registered_at);
        changed_at.push(product.changed_at);
        sequences.push(product.sequence);
    }
    // The stock stream may have made the row before.
    sqlx::query!(
        "insert into catalog_products as known
             (partition, product_id, sku, name, category, price, tax_class, attributes, status,
              search_text, search_grams, registered_position, registered_at, changed_at, product_sequence)
         select $1, c.product_id, c.sku, c.name, c.category, c.price, c.tax_class, c.attributes, c.status,
             c.search_text, string_to_array(c.search_grams, e'\\n'),
             c.registered_position, c.registered_at, c.changed_at, c.sequence
         from unnest(
             $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[], $9::text[],
             $10::text[], $11::text[], $12::bigint[], $13::timestamptz[], $14::timestamptz[], $15::bigint[])
             as c (product_id, sku, name, category, price, tax_class, attributes, status,
                   search_text, search_grams, registered_position, registered_at, changed_at, sequence)
         on conflict (product_id) do update
         set sku = excluded.sku,
             name = excluded.name,
             category = excluded.category,
             price = excluded.price,
             tax_class = excluded.tax_class,
             attributes = excluded.attributes,
             status = excluded.status,
             search_text = excluded.search_text,
             search_grams = excluded.search_grams,
             registered_position = excluded.registered_position,
             registered_at = excluded.registered_at,
             changed_at = excluded.changed_at,
             product_sequence = excluded.product_sequence
         where known.product_sequence < excluded.product_sequence",
        partition,
        &ids,
        &skus,
        &names,
        &categories,
        &prices,
        &tax_classes,
        &attributes,
        &statuses,
        &texts,
        &grams,
        &positions,
        &registered_at,
        &changed_at,
        &sequences
    )
    .execute(db)
    .await?;
    Ok(())
}

async fn write_revised(db: &mut PgConnection, revisions: BTreeMap<ProductId, Revision>) -> sqlx::Result<()> {
    if revisions.is_empty() {
        return Ok(());
    }
    let skus = skus_of_renamed(db, &revisions).await?;
    let (mut ids, mut names, mut texts, mut grams) = (vec![], vec![], vec![], vec![]);
    let (mut prices, mut statuses, mut changed_at, mut sequences) = (vec![], vec![], vec![], vec![]);
    for (id, revision) in revisions {
        let id = id.to_string();
        let text = revision
            .name
            .as_ref()
            .and_then(|name| Some(search::text(name, skus.get(&id)?)));
        ids.push(id);
        names.push(revision.name);
        grams.push(text.as_deref().map(search::grams));
        texts.push(text);
        prices.push(revision.price.map(|price| price.amount));
        statuses.push(revision.status.map(|status| status.as_str().to_owned()));
        changed_at.push(revision.changed_at);
        sequences.push(revision.sequence);
    }
    sqlx::query!(
        "update catalog_products as known
         set name = coalesce(c.name, known.name),
             search_text = coalesce(c.search_text, known.search_text),
             search_grams = coalesce(string_to_array(c.search_grams, e'\\n'), known.search_grams),
             price = coalesce(c.price, known.price),
             status = coalesce(c.status, known.status),
             changed_at = c.changed_at,
             product_sequence = c.sequence
         from unnest(
             $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::timestamptz[], $8::bigint[])
             as c (product_id, name, search_text, search_grams, price, status, changed_at, sequence)
         where known.product_id = c.product_id and known.product_sequence < c.sequence",
        &ids,
        &names as &[Option<String>],
        &texts as &[Option<String>],
        &grams as &[Option<String>],
        &prices as &[Option<i64>],
        &statuses as &[Option<String>],
        &changed_at,
        &sequences
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The other half of what is searched, which a new name does not carry.
async fn skus_of_renamed(
    db: &mut PgConnection,
    revisions: &BTreeMap<ProductId, Revision>,
) -> sqlx::Result<BTreeMap<String, String>> {
    let renamed = revisions.iter().filter(|(_, revision)| revision.name.is_some());
    let ids: Vec<String> = renamed.map(|(id, _)| id.to_string()).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query!(
        r#"select product_id, sku as "sku!" from catalog_products where product_id = any($1) and sku is not null"#,
        &ids
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.product_id, row.sku)).collect())
}

async fn write_stock(db: &mut PgConnection, partition: i16, stock: BTreeMap<ProductId, Stock>) -> sqlx::Result<()> {
    if stock.is_empty() {
        return Ok(());
    }
    let (mut ids, mut on_hand, mut available, mut sequences) = (vec![], vec![], vec![], vec![]);
    for (id, stock) in stock {
        ids.push(id.to_string());
        on_hand.push(stock.on_hand);
        available.push(stock.available);
        sequences.push(stock.sequence);
    }
    sqlx::query!(
        "insert into catalog_products as known (partition, product_id, on_hand, available, stock_sequence)
         select $1, c.product_id, coalesce(c.on_hand, old.on_hand, 0), c.available, c.sequence
         from unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
             as c (product_id, on_hand, available, sequence)
         left join catalog_products as old using (product_id)
         on conflict (product_id) do update
         set on_hand = excluded.on_hand,
             available = excluded.available,
             stock_sequence = excluded.stock_sequence
         where known.stock_sequence < excluded.stock_sequence",
        partition,
        &ids,
        &on_hand as &[Option<i64>],
        &available,
        &sequences
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) const fn tax_class_text(tax_class: TaxClass) -> &'static str {
    match tax_class {
        TaxClass::Taxable => "taxable",
        TaxClass::TaxFree => "tax_free",
    }
}
