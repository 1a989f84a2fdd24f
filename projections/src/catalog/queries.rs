//! How the catalog is read.

use std::collections::BTreeMap;

use jangbu_events::{Money, ProductId, Sku, TaxClass, Timestamp};
use sqlx::{PgExecutor, PgPool, types::Json};

use super::{ProductRow, ProductStatus, Sort, Viewer, Wanted, search::Pattern};
use crate::{
    page::{CursorError, ListError, Page, decode, encode, rows_to_read},
    parsed,
};

struct Record {
    product_id: String,
    sku: String,
    name: String,
    category: String,
    price: i64,
    tax_class: String,
    attributes: Json<BTreeMap<String, String>>,
    status: String,
    on_hand: i64,
    available: i64,
    registered_position: i64,
    registered_at: Timestamp,
    changed_at: Timestamp,
    product_sequence: i64,
    stock_sequence: i64,
}

impl TryFrom<Record> for ProductRow {
    type Error = sqlx::Error;
    fn try_from(record: Record) -> sqlx::Result<Self> {
        Ok(Self {
            product_id: parsed(&record.product_id)?,
            sku: parsed(&record.sku)?,
            name: record.name,
            category: record.category,
            price: Money::won(record.price),
            // The table holds no third one.
            tax_class: if record.tax_class == "tax_free" {
                TaxClass::TaxFree
            } else {
                TaxClass::Taxable
            },
            attributes: record.attributes.0,
            status: parsed(&record.status)?,
            on_hand: record.on_hand,
            available: record.available,
            registered_position: record.registered_position,
            registered_at: record.registered_at,
            changed_at: record.changed_at,
            product_sequence: record.product_sequence,
            stock_sequence: record.stock_sequence,
        })
    }
}

/// A query for whole rows: the rest of the statement behind `where`, then its arguments.
macro_rules! products {
    ($($clause:literal)+, $($argument:expr),+) => {
        sqlx::query_as!(
            Record,
            r#"select product_id, sku as "sku!", name as "name!", category as "category!", price as "price!",
                 tax_class as "tax_class!", attributes as "attributes!: Json<BTreeMap<String, String>>",
                 status as "status!", on_hand, available, registered_position as "registered_position!",
                 registered_at as "registered_at!", changed_at as "changed_at!", product_sequence, stock_sequence
             from catalog_products
             where "# $(+ $clause)+,
            $($argument),+
        )
    };
}

/// One page of what shoppers see, in one order. Every combination of filters is a statement of its
/// own, so that each finds its index.
macro_rules! shelf {
    ($db:ident, $limit:ident, $wanted:ident, $pattern:ident, $key:expr, $id:expr, $behind:literal, $order:literal) => {
        match ($wanted.category, &$pattern) {
            (None, None) => {
                products!("status = 'published' and " $behind $order, $limit, $key, $id).fetch_all($db).await
            }
            (Some(category), None) => {
                products!(
                    "status = 'published' and category = $4 and " $behind $order,
                    $limit, $key, $id, category
                )
                .fetch_all($db)
                .await
            }
            (None, Some(pattern)) => {
                products!(
                    "status = 'published' and search_grams @> $4 and search_text like $5 and " $behind $order,
                    $limit, $key, $id, &pattern.grams, pattern.like
                )
                .fetch_all($db)
                .await
            }
            (Some(category), Some(pattern)) => {
                products!(
                    "status = 'published' and category = $4 and search_grams @> $5 and search_text like $6 and "
                        $behind $order,
                    $limit, $key, $id, category, &pattern.grams, pattern.like
                )
                .fetch_all($db)
                .await
            }
        }
    };
}

impl Wanted<'_> {
    /// No product has control characters anywhere, and PostgreSQL refuses U+0000 in a question.
    fn is_impossible(&self) -> bool {
        let mut texts = self.category.into_iter().chain(self.q);
        texts.any(|text| text.contains(char::is_control))
    }
}

/// What shoppers see, in the order they chose; `after` is the `next` of a page in the same order.
pub async fn list(
    db: &PgPool,
    wanted: Wanted<'_>,
    sort: Sort,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<ProductRow>, ListError> {
    let after = after.map(|cursor| Behind::decode(sort, cursor)).transpose()?;
    if wanted.is_impossible() {
        return Ok(Page::empty());
    }
    let pattern = wanted.q.and_then(Pattern::of);
    let rows = rows_to_read(limit);
    let Behind { name, number, id } = after.unwrap_or_else(|| Behind::nothing(sort));
    let records = match sort {
        Sort::Name => shelf!(
            db,
            rows,
            wanted,
            pattern,
            name,
            id,
            "(name, product_id) > ($2, $3)",
            " order by name, product_id limit $1"
        ),
        Sort::Cheapest => shelf!(
            db,
            rows,
            wanted,
            pattern,
            number,
            id,
            "(price, product_id) > ($2, $3)",
            " order by price, product_id limit $1"
        ),
        Sort::Dearest => shelf!(
            db,
            rows,
            wanted,
            pattern,
            number,
            id,
            "(price, product_id) < ($2, $3)",
            " order by price desc, product_id desc limit $1"
        ),
        Sort::Newest => shelf!(
            db,
            rows,
            wanted,
            pattern,
            number,
            id,
            "(registered_position, product_id) < ($2, $3)",
            " order by registered_position desc, product_id desc limit $1"
        ),
    }?;
    let rows = records
        .into_iter()
        .map(TryInto::try_into)
        .collect::<sqlx::Result<_>>()?;
    Ok(Page::cut(rows, limit, |row| Behind::encode(sort, row)))
}

/// The sort key and id of a row: a page begins behind it.
struct Behind {
    /// For [`Sort::Name`].
    name: String,
    /// For the other orders.
    number: i64,
    id: String,
}

impl Behind {
    /// Before the first row.
    const fn nothing(sort: Sort) -> Self {
        let number = match sort {
            Sort::Name | Sort::Cheapest => i64::MIN,
            Sort::Dearest | Sort::Newest => i64::MAX,
        };
        Self {
            name: String::new(),
            number,
            id: String::new(),
        }
    }

    fn encode(sort: Sort, row: &ProductRow) -> String {
        match sort {
            Sort::Name => encode(sort.as_str(), &(&row.name, row.product_id)),
            Sort::Cheapest | Sort::Dearest => encode(sort.as_str(), &(row.price.amount, row.product_id)),
            Sort::Newest => encode(sort.as_str(), &(row.registered_position, row.product_id)),
        }
    }

    fn decode(sort: Sort, cursor: &str) -> Result<Self, CursorError> {
        let (name, number, id): (_, _, ProductId) = match sort {
            Sort::Name => decode(sort.as_str(), cursor).map(|(name, id)| (name, 0, id)),
            Sort::Cheapest | Sort::Dearest | Sort::Newest => {
                decode(sort.as_str(), cursor).map(|(number, id)| (String::new(), number, id))
            }
        }?;
        Ok(Self {
            name,
            number,
            id: id.to_string(),
        })
    }
}

/// One product. A shopper finds published ones only.
pub async fn by_id(db: &PgPool, id: ProductId, viewer: Viewer) -> sqlx::Result<Option<ProductRow>> {
    products!(
        "product_id = $1 and status is not null and (status = 'published' or $2)",
        id.to_string(),
        viewer == Viewer::Admin
    )
    .fetch_optional(db)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// As [`by_id`].
pub async fn by_sku(db: &PgPool, sku: &Sku, viewer: Viewer) -> sqlx::Result<Option<ProductRow>> {
    products!(
        "sku = $1 and (status = 'published' or $2)",
        sku.as_str(),
        viewer == Viewer::Admin
    )
    .fetch_optional(db)
    .await?
    .map(TryInto::try_into)
    .transpose()
}

/// Everything the shop has, by sku; this walks the skus in order, which is bounded by the range of goods.
pub async fn admin_list(
    db: impl PgExecutor<'_>,
    status: Option<ProductStatus>,
    wanted: Wanted<'_>,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<ProductRow>, ListError> {
    let after: Option<Sku> = after.map(|cursor| decode("sku", cursor)).transpose()?;
    if wanted.is_impossible() {
        return Ok(Page::empty());
    }
    let pattern = wanted.q.and_then(Pattern::of);
    let (grams, like) = pattern.map(|pattern| (pattern.grams, pattern.like)).unzip();
    let records = products!(
        "sku > $1
           and ($2::text is null or status = $2)
           and ($3::text is null or category = $3)
           and ($4::text[] is null or search_grams @> $4)
           and ($5::text is null or search_text like $5)
         order by sku
         limit $6",
        after.as_ref().map_or("", Sku::as_str),
        status.map(ProductStatus::as_str),
        wanted.category,
        grams.as_deref(),
        like,
        rows_to_read(limit)
    )
    .fetch_all(db)
    .await?;
    let rows = records
        .into_iter()
        .map(TryInto::try_into)
        .collect::<sqlx::Result<_>>()?;
    Ok(Page::cut(rows, limit, |row: &ProductRow| encode("sku", &row.sku)))
}
