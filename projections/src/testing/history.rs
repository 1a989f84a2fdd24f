//! A log in memory: events get their envelope as the real log would give it.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use jangbu_events::{
    AggregateId, CartEvent, CartId, CustomerEvent, CustomerId, Event, Metadata, OrderEvent, OrderId, PaymentEvent,
    PaymentId, ProductEvent, ProductId, RawEvent, Recorded, Sku, Slot, StockEvent, StoreId, Timestamp,
    envelope::Stored, event::CURRENT_VERSIONS, samples,
};
use uuid::Uuid;

use super::of_partition;

/// Events with dense positions and, per stream, dense sequences.
#[derive(Default)]
pub struct History {
    /// In position order.
    pub events: Vec<Recorded<Event>>,
    sequences: BTreeMap<String, i64>,
}

impl History {
    /// Of the last event; 0 without any.
    pub fn head(&self) -> i64 {
        i64::try_from(self.events.len()).expect("a short history")
    }

    /// Of the purchase that begins with this cart.
    pub fn order(&mut self, cart: CartId, order: OrderId, at: Timestamp, event: OrderEvent) {
        self.record(order, "order", cart.uuid(), at, event.into());
    }

    /// Of an order without a cart.
    pub fn import(&mut self, order: OrderId, at: Timestamp, event: OrderEvent) {
        self.record(order, "order", order.uuid(), at, event.into());
    }

    /// Of the cart itself.
    pub fn cart(&mut self, cart: CartId, at: Timestamp, event: CartEvent) {
        self.record(cart, "cart", cart.uuid(), at, event.into());
    }

    /// Of a payment of the purchase that begins with this cart.
    pub fn payment(&mut self, cart: CartId, payment: PaymentId, at: Timestamp, event: PaymentEvent) {
        self.record(payment, "payment", cart.uuid(), at, event.into());
    }

    /// Of a customer.
    pub fn customer(&mut self, customer: CustomerId, at: Timestamp, event: CustomerEvent) {
        self.record(customer, "customer", customer.uuid(), at, event.into());
    }

    /// Of the product that the sku names.
    pub fn product(&mut self, sku: &Sku, at: Timestamp, event: ProductEvent) {
        let id = ProductId::of(StoreId::DEFAULT, sku);
        self.record(id, "product", id.uuid(), at, event.into());
    }

    /// Of its stock.
    pub fn stock(&mut self, sku: &Sku, at: Timestamp, event: StockEvent) {
        let id = ProductId::of(StoreId::DEFAULT, sku).stock_item();
        self.record(id, "stock_item", id.uuid(), at, event.into());
    }

    fn record(&mut self, id: impl AggregateId, aggregate_type: &str, key: Uuid, at: Timestamp, payload: Event) {
        let position = self.head() + 1;
        let aggregate_id = id.to_string();
        let sequence = self.sequences.entry(aggregate_id.clone()).or_default();
        *sequence += 1;
        self.events.push(Recorded {
            position,
            slot: Slot::of(key),
            store_id: StoreId::DEFAULT,
            event_id: Uuid::from_u128(position.unsigned_abs().into()),
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id,
            sequence: *sequence,
            command_id: Uuid::from_u128(position.unsigned_abs().into()),
            causation_id: None,
            correlation_id: None,
            occurred_at: at,
            recorded_at: samples::moment() + TimeDelta::milliseconds(position),
            metadata: Metadata::default(),
            payload,
        });
    }

    /// One partition's events as the log keeps them.
    pub fn raw(&self, partition: i16) -> Vec<RawEvent> {
        of_partition(&self.events, partition).into_iter().map(raw).collect()
    }
}

fn raw(event: Recorded<Event>) -> RawEvent {
    let payload = match &event.payload {
        Event::Cart(event) => serde_json::to_string(event),
        Event::Customer(event) => serde_json::to_string(event),
        Event::Order(event) => serde_json::to_string(event),
        Event::Payment(event) => serde_json::to_string(event),
        Event::Product(event) => serde_json::to_string(event),
        Event::Stock(event) => serde_json::to_string(event),
    };
    let (_, version) = CURRENT_VERSIONS
        .iter()
        .find(|(name, _)| *name == event.payload.name())
        .expect("it has a current version");
    let stored = Stored {
        event_type: event.payload.name().to_owned(),
        event_version: (*version).to_owned(),
        payload: payload.expect("events are JSON"),
    };
    event.with(stored)
}
