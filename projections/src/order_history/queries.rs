//! How the order history is read: newest first.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use jangbu_events::{
    CustomerId, Money, OrderId, OrderLine, OrderTotals, Orderer, Owner, PayMethod, Recipient, Sealed, Timestamp,
};
use sqlx::{PgExecutor, PgPool, types::Json};

use super::{OrderFilter, OrderRow, OrderStatus, Origin, ShopOrder};
use crate::{
    korea::DayRange,
    page::{CursorError, ListError, Page, decode, encode, rows_to_read},
    parsed,
};

struct Record {
    order_id: String,
    order_number: Option<String>,
    cart_id: Option<String>,
    customer_id: Option<String>,
    guest_token_hash: Option<String>,
    source: Option<String>,
    source_id: Option<String>,
    external_customer: Option<String>,
    external_reference: Option<Json<BTreeMap<String, String>>>,
    orderer: Option<Json<Sealed<Orderer>>>,
    recipient: Option<Json<Sealed<Recipient>>>,
    pay_method: Option<String>,
    lines: Json<Vec<OrderLine>>,
    goods: i64,
    discount: i64,
    shipping: i64,
    total: i64,
    tax_free: i64,
    supply: i64,
    vat: i64,
    placed_at: Timestamp,
    status: String,
    payment_id: Option<String>,
    expires_at: Option<Timestamp>,
    confirmed_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    refunded: i64,
    sequence: i64,
}

impl TryFrom<Record> for OrderRow {
    type Error = sqlx::Error;
    fn try_from(mut record: Record) -> sqlx::Result<Self> {
        Ok(Self {
            order_id: parsed(&record.order_id)?,
            origin: origin(&mut record)?,
            lines: record.lines.0,
            totals: OrderTotals {
                goods: Money::won(record.goods),
                discount: Money::won(record.discount),
                shipping: Money::won(record.shipping),
                total: Money::won(record.total),
                tax_free: Money::won(record.tax_free),
                supply: Money::won(record.supply),
                vat: Money::won(record.vat),
            },
            placed_at: record.placed_at,
            status: parsed(&record.status)?,
            payment_id: record.payment_id.as_deref().map(parsed).transpose()?,
            expires_at: record.expires_at,
            confirmed_at: record.confirmed_at,
            ended_at: record.ended_at,
            refunded: Money::won(record.refunded),
            sequence: record.sequence,
        })
    }
}

fn origin(record: &mut Record) -> sqlx::Result<Origin> {
    if let Some(source) = record.source.take() {
        return Ok(Origin::Imported {
            source,
            source_id: present(record.source_id.take(), "source_id")?,
            external_customer: record.external_customer.take(),
            external_reference: present(record.external_reference.take(), "external_reference")?.0,
        });
    }
    let owner = match (&record.customer_id, record.guest_token_hash.take()) {
        (Some(customer_id), _) => Owner::Member {
            customer_id: parsed(customer_id)?,
        },
        (None, token_hash) => Owner::Guest {
            token_hash: present(token_hash, "guest_token_hash")?,
        },
    };
    let pay_method: String = present(record.pay_method.take(), "pay_method")?;
    Ok(Origin::Shop(Box::new(ShopOrder {
        order_number: present(record.order_number.take(), "order_number")?,
        cart_id: parsed(&present(record.cart_id.take(), "cart_id")?)?,
        owner,
        orderer: present(record.orderer.take(), "orderer")?.0,
        recipient: present(record.recipient.take(), "recipient")?.0,
        pay_method: serde_json::from_value::<PayMethod>(pay_method.into())
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
    })))
}

/// A column that every row of this origin has.
fn present<T>(value: Option<T>, column: &str) -> sqlx::Result<T> {
    value.ok_or_else(|| sqlx::Error::Decode(format!("order_history.{column} is null").into()))
}

/// A query for whole rows: the rest of the statement behind `where`, then its arguments.
macro_rules! orders {
    ($($clause:literal)+, $($argument:expr),+) => {
        sqlx::query_as!(
            Record,
            r#"select order_id, order_number, cart_id, customer_id, guest_token_hash, source, source_id,
                 external_customer, external_reference as "external_reference: Json<BTreeMap<String, String>>",
                 orderer as "orderer: Json<Sealed<Orderer>>", recipient as "recipient: Json<Sealed<Recipient>>",
                 pay_method, lines as "lines: Json<Vec<OrderLine>>",
                 goods, discount, shipping, total, tax_free, supply, vat, placed_at,
                 status, payment_id, expires_at, confirmed_at, ended_at, refunded, sequence
             from order_history
             where "# $(+ $clause)+,
            $($argument),+
        )
    };
}

/// A page of the orders that a further condition lets through.
macro_rules! listed {
    ($condition:literal, $($argument:expr),+) => {
        orders!(
            "(placed_at, order_id) < ($1, $2) and placed_at >= $3 and placed_at < $4 and " $condition
                " order by placed_at desc, order_id desc limit $5",
            $($argument),+
        )
    };
}

/// A member's own orders.
pub async fn by_customer(
    db: &PgPool,
    customer: CustomerId,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<OrderRow>, ListError> {
    let Behind { placed_at, id } = Behind::decode(after)?;
    let records = orders!(
        "customer_id = $1 and (placed_at, order_id) < ($2, $3)
         order by placed_at desc, order_id desc
         limit $4",
        customer.to_string(),
        placed_at,
        id,
        rows_to_read(limit)
    )
    .fetch_all(db)
    .await?;
    page(records, limit)
}

/// The orders of a guest's cart; `token_hash` is the SHA-256 of its token, 64 hex digits.
pub async fn by_guest(
    db: &PgPool,
    token_hash: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<OrderRow>, ListError> {
    let Behind { placed_at, id } = Behind::decode(after)?;
    let records = orders!(
        "guest_token_hash = $1 and (placed_at, order_id) < ($2, $3)
         order by placed_at desc, order_id desc
         limit $4",
        token_hash,
        placed_at,
        id,
        rows_to_read(limit)
    )
    .fetch_all(db)
    .await?;
    page(records, limit)
}

/// Every order of the shop that the filter lets through. The most telling part of the filter chooses
/// the statement, so that each finds its index.
pub async fn admin_list(
    db: impl PgExecutor<'_>,
    filter: OrderFilter<'_>,
    after: Option<&str>,
    limit: u32,
) -> Result<Page<OrderRow>, ListError> {
    let Behind { placed_at, id } = Behind::decode(after)?;
    let rows = rows_to_read(limit);
    let days = filter.days.unwrap_or(DayRange::new(NaiveDate::MIN, NaiveDate::MAX));
    let (from, to) = (days.begins(), days.ends());
    let status = filter.status.map(OrderStatus::as_str);
    let records = match (filter.order_number, filter.external_customer) {
        (Some(text), _) | (_, Some(text)) if text.contains('\0') => return Ok(Page::empty()),
        // Imported orders have no number.
        (Some(_), Some(_)) => return Ok(Page::empty()),
        (Some(number), None) => {
            listed!(
                "order_number = $6 and ($7::text is null or status = $7)",
                placed_at,
                id,
                from,
                to,
                rows,
                number,
                status
            )
            .fetch_all(db)
            .await
        }
        (None, Some(customer)) => {
            listed!(
                "external_customer = $6 and ($7::text is null or status = $7)",
                placed_at,
                id,
                from,
                to,
                rows,
                customer,
                status
            )
            .fetch_all(db)
            .await
        }
        (None, None) if status.is_some() => {
            listed!("status = $6", placed_at, id, from, to, rows, status)
                .fetch_all(db)
                .await
        }
        (None, None) => listed!("true", placed_at, id, from, to, rows).fetch_all(db).await,
    }?;
    page(records, limit)
}

/// `None` for an order that is not there, or not yet.
pub async fn by_id(db: &PgPool, id: OrderId) -> sqlx::Result<Option<OrderRow>> {
    orders!("order_id = $1", id.to_string())
        .fetch_optional(db)
        .await?
        .map(TryInto::try_into)
        .transpose()
}

/// As [`by_id`], by the number that the buyer knows.
pub async fn by_number(db: &PgPool, order_number: &str) -> sqlx::Result<Option<OrderRow>> {
    orders!("order_number = $1", order_number)
        .fetch_optional(db)
        .await?
        .map(TryInto::try_into)
        .transpose()
}

fn page(records: Vec<Record>, limit: u32) -> Result<Page<OrderRow>, ListError> {
    let rows = records
        .into_iter()
        .map(TryInto::try_into)
        .collect::<sqlx::Result<_>>()?;
    Ok(Page::cut(rows, limit, Behind::encode))
}

/// The sort key of a row: a page begins behind it.
struct Behind {
    placed_at: Timestamp,
    id: String,
}

const KIND: &str = "orders";

impl Behind {
    /// PostgreSQL keeps microseconds.
    fn encode(row: &OrderRow) -> String {
        encode(KIND, &(row.placed_at.timestamp_micros(), row.order_id))
    }

    /// Without a cursor, before the newest.
    fn decode(cursor: Option<&str>) -> Result<Self, CursorError> {
        let Some(cursor) = cursor else {
            return Ok(Self {
                placed_at: DateTime::<Utc>::MAX_UTC,
                id: String::new(),
            });
        };
        let (micros, id): (i64, OrderId) = decode(KIND, cursor)?;
        // Years that PostgreSQL might not know are in no cursor that was given out.
        let placed_at = DateTime::from_timestamp_micros(micros)
            .filter(|placed_at| (1..=9_999).contains(&placed_at.year()))
            .ok_or(CursorError)?;
        Ok(Self {
            placed_at,
            id: id.to_string(),
        })
    }
}
