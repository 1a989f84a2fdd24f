//! What a batch of events does to the rows of the order history.

use std::collections::BTreeMap;

use jangbu_events::{Event, Money, OrderEvent, OrderId, OrderLine, OrderTotals, Owner, PaymentId, Recorded, Timestamp};
use serde::Serialize;
use sqlx::PgConnection;

use super::OrderStatus;
use crate::parsed;

/// A batch folded to one change per row. All values are absolute: applied again, they change nothing.
#[derive(Default)]
pub(super) struct Changes {
    placed: BTreeMap<OrderId, Facts>,
    progressed: BTreeMap<OrderId, Progress>,
}

/// What never changes, in the table's own words; what is JSON there is JSON text here.
struct Facts {
    order_number: Option<String>,
    cart_id: Option<String>,
    customer_id: Option<String>,
    guest_token_hash: Option<String>,
    source: Option<String>,
    source_id: Option<String>,
    external_customer: Option<String>,
    external_reference: Option<String>,
    orderer: Option<String>,
    recipient: Option<String>,
    pay_method: Option<String>,
    lines: String,
    totals: OrderTotals,
    placed_at: Timestamp,
}

/// What becomes of it; `None` is as before.
#[derive(Default)]
struct Progress {
    status: Option<OrderStatus>,
    payment_id: Option<PaymentId>,
    expires_at: Option<Timestamp>,
    confirmed_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    refunded: Option<Money>,
    sequence: i64,
}

impl Changes {
    pub fn of(batch: &[Recorded<Event>]) -> sqlx::Result<Self> {
        let mut changes = Self::default();
        for event in batch {
            if let Event::Order(order) = &event.payload {
                changes.add(event, parsed(&event.aggregate_id)?, order);
            }
        }
        Ok(changes)
    }

    fn add(&mut self, event: &Recorded<Event>, id: OrderId, order: &OrderEvent) {
        if let Some(facts) = Facts::of(order, event.occurred_at) {
            self.placed.insert(id, facts);
        }
        let progress = self.progressed.entry(id).or_default();
        progress.sequence = event.sequence;
        let now = event.occurred_at;
        match order {
            OrderEvent::Placed { expires_at, .. } => {
                progress.status = Some(OrderStatus::Placed);
                progress.expires_at = Some(*expires_at);
            }
            OrderEvent::AwaitingPayment {
                payment_id, expires_at, ..
            } => {
                progress.status = Some(OrderStatus::AwaitingPayment);
                progress.payment_id = Some(*payment_id);
                progress.expires_at = Some(*expires_at);
            }
            OrderEvent::DeadlineExtended { expires_at, .. } => progress.expires_at = Some(*expires_at),
            OrderEvent::Confirmed { payment_id, .. } => {
                progress.status = Some(OrderStatus::Confirmed);
                progress.payment_id = Some(*payment_id);
                progress.confirmed_at = Some(now);
            }
            OrderEvent::Refunded { refunded_total, .. } => progress.refunded = Some(*refunded_total),
            OrderEvent::Cancelled { .. } => progress.end(OrderStatus::Cancelled, now),
            OrderEvent::Refused { .. } => progress.end(OrderStatus::Refused, now),
            OrderEvent::Expired {} => progress.end(OrderStatus::Expired, now),
            OrderEvent::Imported { .. } => progress.status = Some(OrderStatus::Imported),
            // Concerns the payment alone: the order stays as it is.
            OrderEvent::PaymentRejected { .. } => {}
        }
    }

    pub async fn write(mut self, db: &mut PgConnection, partition: i16) -> sqlx::Result<()> {
        let placed = self
            .placed
            .into_iter()
            .map(|(id, facts)| (id, facts, self.progressed.remove(&id).unwrap_or_default()))
            .collect();
        insert(db, partition, placed).await?;
        update(db, self.progressed).await
    }
}

impl Progress {
    fn end(&mut self, status: OrderStatus, at: Timestamp) {
        self.status = Some(status);
        self.ended_at = Some(at);
    }
}

impl Facts {
    /// Of an event with which an order begins.
    fn of(order: &OrderEvent, occurred_at: Timestamp) -> Option<Self> {
        match order {
            OrderEvent::Placed {
                order_number,
                cart_id,
                owner,
                lines,
                totals,
                orderer,
                recipient,
                pay_method,
                ..
            } => {
                let (customer_id, guest_token_hash) = match owner {
                    Owner::Member { customer_id } => (Some(customer_id.to_string()), None),
                    Owner::Guest { token_hash } => (None, Some(token_hash.clone())),
                };
                Some(Self {
                    order_number: Some(order_number.clone()),
                    cart_id: Some(cart_id.to_string()),
                    customer_id,
                    guest_token_hash,
                    orderer: Some(json(orderer)),
                    recipient: Some(json(recipient)),
                    pay_method: Some(json(pay_method).trim_matches('"').to_owned()),
                    ..Self::bare(lines, *totals, occurred_at)
                })
            }
            OrderEvent::Imported {
                source,
                source_id,
                external_customer,
                external_reference,
                lines,
                totals,
            } => Some(Self {
                source: Some(source.clone()),
                source_id: Some(source_id.clone()),
                external_customer: external_customer.clone(),
                external_reference: Some(json(external_reference)),
                ..Self::bare(lines, *totals, occurred_at)
            }),
            _ => None,
        }
    }

    fn bare(lines: &[OrderLine], totals: OrderTotals, placed_at: Timestamp) -> Self {
        Self {
            order_number: None,
            cart_id: None,
            customer_id: None,
            guest_token_hash: None,
            source: None,
            source_id: None,
            external_customer: None,
            external_reference: None,
            orderer: None,
            recipient: None,
            pay_method: None,
            lines: json(lines),
            totals,
            placed_at,
        }
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("what came out of an event is JSON")
}

/// New rows, as they are at the batch's end. A row that is there already keeps its facts; if it is
/// behind, only a part of the batch was applied before, and it is brought on.
async fn insert(db: &mut PgConnection, partition: i16, orders: Vec<(OrderId, Facts, Progress)>) -> sqlx::Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    let (mut facts, mut progress) = (FactColumns::default(), ProgressColumns::default());
    for (id, order, state) in orders {
        facts.push(order);
        progress.push(id, &state);
    }
    sqlx::query!(
        "insert into order_history as known
             (partition, order_id, order_number, cart_id, customer_id, guest_token_hash,
              source, source_id, external_customer, external_reference, orderer, recipient, pay_method, lines,
              goods, discount, shipping, total, tax_free, supply, vat, placed_at,
              status, payment_id, expires_at, confirmed_at, ended_at, refunded, sequence)
         select $1, c.order_id, c.order_number, c.cart_id, c.customer_id, c.guest_token_hash,
             c.source, c.source_id, c.external_customer, c.external_reference::jsonb, c.orderer::jsonb, c.recipient::jsonb,
             c.pay_method, c.lines::jsonb,
             c.goods, c.discount, c.shipping, c.total, c.tax_free, c.supply, c.vat, c.placed_at,
             c.status, c.payment_id, c.expires_at, c.confirmed_at, c.ended_at, coalesce(c.refunded, 0), c.sequence
         from unnest(
             $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
             $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
             $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[],
             $22::timestamptz[], $23::text[], $24::text[], $25::timestamptz[], $26::timestamptz[],
             $27::timestamptz[], $28::bigint[], $29::bigint[])
             as c (order_id, order_number, cart_id, customer_id, guest_token_hash,
                   source, source_id, external_customer, external_reference, orderer, recipient, pay_method, lines,
                   goods, discount, shipping, total, tax_free, supply, vat,
                   placed_at, status, payment_id, expires_at, confirmed_at, ended_at, refunded, sequence)
         on conflict (order_id) do update
         set status = excluded.status,
             payment_id = excluded.payment_id,
             expires_at = excluded.expires_at,
             confirmed_at = excluded.confirmed_at,
             ended_at = excluded.ended_at,
             refunded = excluded.refunded,
             sequence = excluded.sequence
         where known.sequence < excluded.sequence",
        partition,
        &progress.ids,
        &facts.order_numbers as &[Option<String>],
        &facts.carts as &[Option<String>],
        &facts.customers as &[Option<String>],
        &facts.guests as &[Option<String>],
        &facts.sources as &[Option<String>],
        &facts.source_ids as &[Option<String>],
        &facts.external_customers as &[Option<String>],
        &facts.external_references as &[Option<String>],
        &facts.orderers as &[Option<String>],
        &facts.recipients as &[Option<String>],
        &facts.pay_methods as &[Option<String>],
        &facts.lines,
        &facts.goods,
        &facts.discounts,
        &facts.shippings,
        &facts.totals,
        &facts.tax_frees,
        &facts.supplies,
        &facts.vats,
        &facts.placed_at,
        &progress.statuses as &[Option<String>],
        &progress.payments as &[Option<String>],
        &progress.expires_at as &[Option<Timestamp>],
        &progress.confirmed_at as &[Option<Timestamp>],
        &progress.ended_at as &[Option<Timestamp>],
        &progress.refunded as &[Option<i64>],
        &progress.sequences
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Rows of orders that were placed in earlier batches.
async fn update(db: &mut PgConnection, orders: BTreeMap<OrderId, Progress>) -> sqlx::Result<()> {
    if orders.is_empty() {
        return Ok(());
    }
    let mut progress = ProgressColumns::default();
    for (id, state) in orders {
        progress.push(id, &state);
    }
    sqlx::query!(
        "update order_history as known
         set status = coalesce(c.status, known.status),
             payment_id = coalesce(c.payment_id, known.payment_id),
             expires_at = coalesce(c.expires_at, known.expires_at),
             confirmed_at = coalesce(c.confirmed_at, known.confirmed_at),
             ended_at = coalesce(c.ended_at, known.ended_at),
             refunded = coalesce(c.refunded, known.refunded),
             sequence = c.sequence
         from unnest(
             $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
             $7::bigint[], $8::bigint[])
             as c (order_id, status, payment_id, expires_at, confirmed_at, ended_at, refunded, sequence)
         where known.order_id = c.order_id and known.sequence < c.sequence",
        &progress.ids,
        &progress.statuses as &[Option<String>],
        &progress.payments as &[Option<String>],
        &progress.expires_at as &[Option<Timestamp>],
        &progress.confirmed_at as &[Option<Timestamp>],
        &progress.ended_at as &[Option<Timestamp>],
        &progress.refunded as &[Option<i64>],
        &progress.sequences
    )
    .execute(db)
    .await?;
    Ok(())
}

/// [`Facts`] turned into the arrays that `unnest` takes.
#[derive(Default)]
struct FactColumns {
    order_numbers: Vec<Option<String>>,
    carts: Vec<Option<String>>,
    customers: Vec<Option<String>>,
    guests: Vec<Option<String>>,
    sources: Vec<Option<String>>,
    source_ids: Vec<Option<String>>,
    external_customers: Vec<Option<String>>,
    external_references: Vec<Option<String>>,
    orderers: Vec<Option<String>>,
    recipients: Vec<Option<String>>,
    pay_methods: Vec<Option<String>>,
    lines: Vec<String>,
    goods: Vec<i64>,
    discounts: Vec<i64>,
    shippings: Vec<i64>,
    totals: Vec<i64>,
    tax_frees: Vec<i64>,
    supplies: Vec<i64>,
    vats: Vec<i64>,
    placed_at: Vec<Timestamp>,
}

impl FactColumns {
    fn push(&mut self, facts: Facts) {
        self.order_numbers.push(facts.order_number);
        self.carts.push(facts.cart_id);
        self.customers.push(facts.customer_id);
        self.guests.push(facts.guest_token_hash);
        self.sources.push(facts.source);
        self.source_ids.push(facts.source_id);
        self.external_customers.push(facts.external_customer);
        self.external_references.push(facts.external_reference);
        self.orderers.push(facts.orderer);
        self.recipients.push(facts.recipient);
        self.pay_methods.push(facts.pay_method);
        self.lines.push(facts.lines);
        self.goods.push(facts.totals.goods.amount);
        self.discounts.push(facts.totals.discount.amount);
        self.shippings.push(facts.totals.shipping.amount);
        self.totals.push(facts.totals.total.amount);
        self.tax_frees.push(facts.totals.tax_free.amount);
        self.supplies.push(facts.totals.supply.amount);
        self.vats.push(facts.totals.vat.amount);
        self.placed_at.push(facts.placed_at);
    }
}

/// [`Progress`] turned into the arrays that `unnest` takes.
#[derive(Default)]
struct ProgressColumns {
    ids: Vec<String>,
    statuses: Vec<Option<String>>,
    payments: Vec<Option<String>>,
    expires_at: Vec<Option<Timestamp>>,
    confirmed_at: Vec<Option<Timestamp>>,
    ended_at: Vec<Option<Timestamp>>,
    refunded: Vec<Option<i64>>,
    sequences: Vec<i64>,
}

impl ProgressColumns {
    fn push(&mut self, id: OrderId, progress: &Progress) {
        self.ids.push(id.to_string());
        self.statuses
            .push(progress.status.map(|status| status.as_str().to_owned()));
        self.payments.push(progress.payment_id.map(|id| id.to_string()));
        self.expires_at.push(progress.expires_at);
        self.confirmed_at.push(progress.confirmed_at);
        self.ended_at.push(progress.ended_at);
        self.refunded.push(progress.refunded.map(|money| money.amount));
        self.sequences.push(progress.sequence);
    }
}
