//! The log in memory, with the real aggregates, and what people do in the shop.

use std::collections::{BTreeMap, HashMap};

use chrono::TimeDelta;
use jangbu_domain::{
    AnyCommand, Cart, CartCommand, Checkout, Decide, Order, Payment, StockCommand, StockItem,
    cart::{CheckOut, NewLine},
    totals,
};
use jangbu_events::{
    AggregateId, CartId, Consents, Event, LineId, Metadata, Money, OrderId, OrderLine, PayMethod, ProductId, Recorded,
    Sealed, Sku, Slot, StoreId, Timestamp, samples,
};
use uuid::Uuid;

/// The skus on sale, and what one costs.
pub const RANGE: [(&str, i64); 3] = [("A", 10_000), ("B", 3_000), ("C", 700)];

/// State and sequence of every stream of one kind.
pub type Streams<A> = BTreeMap<<A as Decide>::Id, (A, i64)>;

/// Who sends a command, and when it is by the sender's clock.
#[derive(Clone, Copy)]
pub struct Sender<'a> {
    pub cause: Option<&'a Recorded<Event>>,
    pub order_id: Option<OrderId>,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct Shop {
    pub log: Vec<Recorded<Event>>,
    pub carts: Streams<Cart>,
    pub orders: Streams<Order>,
    pub payments: Streams<Payment>,
    pub stock: Streams<StockItem>,
    pub received: BTreeMap<&'static str, u32>,
    /// What was sent under each id, and what came of it.
    sent: HashMap<Uuid, (AnyCommand, Vec<Recorded<Event>>)>,
    requests: u128,
}

pub fn state<A: Decide>(streams: &Streams<A>, id: A::Id) -> A
where
    A::Id: Ord,
{
    streams.get(&id).map(|(state, _)| state.clone()).unwrap_or_default()
}

impl Shop {
    /// An id that nobody else uses.
    pub fn request(&mut self) -> Uuid {
        self.requests += 1;
        Uuid::from_u128(self.requests)
    }

    /// Decides, and appends under the command's id; the same id again gives the first result.
    pub fn execute(&mut self, id: Uuid, command: &AnyCommand, by: Sender<'_>) -> Result<Vec<Recorded<Event>>, String> {
        if let Some((sent, events)) = self.sent.get(&id) {
            assert_eq!(sent, command, "one id for two commands");
            return Ok(events.clone());
        }
        let head = self.log.last().map(|last| last.recorded_at);
        let envelope = Recorded {
            position: 0,
            slot: Slot::of(Uuid::nil()),
            store_id: StoreId::DEFAULT,
            event_id: Uuid::nil(),
            aggregate_type: String::new(),
            aggregate_id: String::new(),
            sequence: 0,
            command_id: id,
            causation_id: by.cause.map(|event| event.event_id),
            correlation_id: by.cause.and_then(Checkout::key).or(by.order_id).map(|id| id.uuid()),
            occurred_at: by.now,
            recorded_at: head.map_or(by.now, |head| head.max(by.now)),
            metadata: Metadata::default(),
            payload: (),
        };
        let mut events = match command {
            AnyCommand::Cart(id, command) => decide(&mut self.carts, *id, command, &envelope),
            AnyCommand::Order(id, command) => decide(&mut self.orders, *id, command, &envelope),
            AnyCommand::Payment(id, command) => decide(&mut self.payments, *id, command, &envelope),
            AnyCommand::Stock(id, command) => decide(&mut self.stock, *id, command, &envelope),
        }?;
        for event in &mut events {
            event.position = i64::try_from(self.log.len() + 1).expect("a short log");
            self.log.push(event.clone());
        }
        self.sent.insert(id, (command.clone(), events.clone()));
        Ok(events)
    }

    /// A command of somebody outside, under an id of its own.
    pub fn ask(&mut self, command: &AnyCommand, now: Timestamp) -> Result<Vec<Recorded<Event>>, String> {
        let id = self.request();
        let by = Sender {
            cause: None,
            order_id: None,
            now,
        };
        self.execute(id, command, by)
    }

    pub fn receive(&mut self, text: &'static str, quantity: u32, now: Timestamp) {
        let sku = sku(text);
        let stock = product(text).stock_item();
        self.ask(&AnyCommand::Stock(stock, StockCommand::Receive { sku, quantity }), now)
            .expect("goods can always come");
        *self.received.entry(text).or_default() += quantity;
    }

    pub fn fill(&mut self, cart: CartId, text: &str, quantity: u32, now: Timestamp) -> Result<(), String> {
        let owner = samples::guest();
        self.ask(&AnyCommand::Cart(cart, CartCommand::Open { owner }), now)?;
        let line = order_line(cart, text, quantity);
        let lines = vec![NewLine {
            line_id: line.line_id,
            product_id: line.product_id,
            sku: line.sku,
            name: line.name,
            unit_price: line.unit_price,
            quantity,
        }];
        self.ask(&AnyCommand::Cart(cart, CartCommand::AddLines { lines }), now)?;
        Ok(())
    }

    /// What follows is left to others.
    pub fn check_out(&mut self, cart: CartId, now: Timestamp) -> Result<Vec<Recorded<Event>>, String> {
        let cart_state = state(&self.carts, cart);
        let contents = cart_state.contents().ok_or("not opened")?;
        let lines: Vec<OrderLine> = contents
            .lines
            .values()
            .map(|line| order_line(cart, line.sku.as_str(), line.quantity))
            .collect();
        let attempt = contents.attempts + 1;
        let check_out = CheckOut {
            cart_id: cart,
            order_number: format!("260302-{}{attempt}", cart.uuid().as_u128()),
            attempt,
            totals: totals(&lines).map_err(|error| error.to_string())?,
            lines,
            orderer: sealed(),
            recipient: sealed(),
            consents: Consents {
                privacy: true,
                privacy_version: "1".to_owned(),
                privacy_text_sha256: "00".repeat(32),
            },
            pay_method: PayMethod::Card,
            expires_at: now + TimeDelta::minutes(30),
        };
        self.ask(&AnyCommand::Cart(cart, CartCommand::CheckOut(Box::new(check_out))), now)
    }

    /// The latest order of a cart.
    pub fn order_of(&self, cart: CartId) -> Option<OrderId> {
        let attempts = state(&self.carts, cart).contents()?.attempts;
        (attempts > 0).then(|| OrderId::of(cart, attempts))
    }

    pub fn stock_of(&self, text: &str) -> StockItem {
        state(&self.stock, product(text).stock_item())
    }
}

/// Decides and folds; gives the events in the envelope.
fn decide<A: Decide>(
    streams: &mut Streams<A>,
    id: A::Id,
    command: &A::Command,
    envelope: &Recorded<()>,
) -> Result<Vec<Recorded<Event>>, String>
where
    A::Id: Ord,
{
    let (mut state, mut sequence) = streams.get(&id).cloned().unwrap_or_default();
    let mut events = Vec::new();
    for (n, event) in (0_u8..).zip(state.decide(command).map_err(|error| error.to_string())?) {
        state.apply(event.clone());
        sequence += 1;
        events.push(Recorded {
            event_id: Uuid::new_v5(&envelope.command_id, &[n]),
            aggregate_type: A::TYPE.to_owned(),
            aggregate_id: id.to_string(),
            sequence,
            occurred_at: A::happened_at(&event).unwrap_or(envelope.occurred_at),
            ..envelope.clone().with(event.into())
        });
    }
    if !events.is_empty() {
        streams.insert(id, (state, sequence));
    }
    Ok(events)
}

pub fn cart(n: u128) -> CartId {
    CartId::from_uuid(Uuid::from_u128(n))
}

fn sku(text: &str) -> Sku {
    text.parse().expect("a sku")
}

fn product(text: &str) -> ProductId {
    ProductId::of(StoreId::DEFAULT, &sku(text))
}

fn sealed<T>() -> Sealed<T> {
    Sealed::new(Uuid::from_u128(0xaa), "c2VhbGVk".to_owned())
}

fn order_line(cart: CartId, text: &str, quantity: u32) -> OrderLine {
    let price = RANGE.iter().find(|(sku, _)| *sku == text).expect("it is on sale").1;
    OrderLine {
        line_id: LineId::of(cart, &sku(text)),
        product_id: product(text),
        sku: sku(text),
        unit_price: Money::won(price),
        quantity,
        total: Money::won(price * i64::from(quantity)),
        ..samples::line()
    }
}
