//! Events for every projection, at a steady rate.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use cqrs_es::DomainEvent;
use futures_util::future::join_all;
use jangbu::log::{Log, NewCommand, NewEvent, Outcome};
use jangbu_events::{
    AggregateId, Money, OrderEvent, OrderId, ProductEvent, ProductId, Sku, Slot, StockEvent, StoreId, TaxClass, samples,
};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::database;

/// Between two bursts.
const BURST_EVERY: Duration = Duration::from_millis(50);
/// Products that are renamed again and again: the last name must win.
const RENAMED: u32 = 8;

/// What was appended so far.
#[derive(Debug, Default)]
pub struct Source {
    appended: u32,
    /// Sequences of the products that are renamed.
    renamed: BTreeMap<u32, i64>,
}

impl Source {
    /// Appends until it is told to stop.
    pub async fn feed(&mut self, log: &Log, events_per_second: u32, stop: &AtomicBool) {
        let mut bursts = interval(BURST_EVERY);
        // The rate is kept even where a burst takes long.
        bursts.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let burst = events_per_second * u32::try_from(BURST_EVERY.as_millis()).expect("short") / 1_000;
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            bursts.tick().await;
            let mut commands: Vec<NewCommand> = (1..burst).map(|_| self.first_of_its_stream()).collect();
            commands.push(self.renaming(number % RENAMED));
            number += 1;
            let answers = commands
                .into_iter()
                .map(|command| log.append(command, Duration::from_secs(30)));
            for answer in join_all(answers).await {
                let outcome = answer.expect("the log answers");
                assert!(matches!(outcome, Outcome::Appended(_)), "{outcome:?}");
            }
        }
    }

    /// An imported order, a product, or the stock of one, each in a stream of its own.
    fn first_of_its_stream(&mut self) -> NewCommand {
        self.appended += 1;
        let number = self.appended;
        let sku: Sku = format!("SKU-{number}").parse().expect("a sku");
        match number % 3 {
            0 => {
                let order = OrderId::imported("fleet", &number.to_string());
                let imported = OrderEvent::Imported {
                    source: "fleet".to_owned(),
                    source_id: number.to_string(),
                    external_customer: None,
                    external_reference: BTreeMap::new(),
                    lines: vec![samples::line()],
                    totals: samples::totals(),
                };
                command("order", order, order.uuid(), 0, &imported)
            }
            1 => {
                let id = ProductId::of(StoreId::DEFAULT, &sku);
                command("product", id, id.uuid(), 0, &registered(sku))
            }
            _ => {
                let id = ProductId::of(StoreId::DEFAULT, &sku);
                let received = StockEvent::Received {
                    sku,
                    quantity: 5,
                    on_hand: 5,
                    available: 5,
                };
                command("stock_item", id.stock_item(), id.uuid(), 0, &received)
            }
        }
    }

    fn renaming(&mut self, number: u32) -> NewCommand {
        let sku: Sku = format!("RENAMED-{number}").parse().expect("a sku");
        let id = ProductId::of(StoreId::DEFAULT, &sku);
        let sequence = self.renamed.entry(number).or_default();
        let event = if *sequence == 0 {
            registered(sku)
        } else {
            ProductEvent::Renamed {
                name: format!("드라이버 {sequence}호"),
            }
        };
        *sequence += 1;
        command("product", id, id.uuid(), *sequence - 1, &event)
    }
}

fn registered(sku: Sku) -> ProductEvent {
    ProductEvent::Registered {
        sku,
        name: "드라이버".to_owned(),
        category: "드라이버".to_owned(),
        price: Money::won(39_000),
        tax_class: TaxClass::Taxable,
        attributes: BTreeMap::new(),
    }
}

fn command(
    aggregate_type: &'static str,
    id: impl AggregateId,
    key: Uuid,
    expected_sequence: i64,
    event: &impl DomainEvent,
) -> NewCommand {
    let surroundings = database::surroundings();
    NewCommand {
        command_id: surroundings.ids.uuid(),
        store_id: StoreId::DEFAULT,
        aggregate_type,
        aggregate_id: id.to_string(),
        slot: Slot::of(key),
        expected_sequence,
        events: vec![NewEvent {
            occurred_at: None,
            event_type: event.event_type(),
            event_version: event.event_version(),
            payload: serde_json::to_string(event).expect("an event is JSON"),
        }],
        metadata: r#"{"actor_kind":"system","channel":"test"}"#.into(),
        causation_id: None,
        correlation_id: None,
        occurred_at: surroundings.now(),
        body_hash: None,
        unique_keys: vec![],
        personal_keys: vec![],
        beside: jangbu::log::Beside::default(),
    }
}
