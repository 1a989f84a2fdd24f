//! A shop in memory: a log, the runner, and PortOne.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jangbu_events::{
    AggregateId, CartId, Event, LineId, OrderId, OrderLine, PaymentId, Recorded, StockItemId, Timestamp, samples,
};
use uuid::Uuid;

use super::streams::{Streams, decide, recorded};
use crate::{
    Action, AnyCommand, Cart, CartCommand, Checkout, Observation, Observed, Order, OrderCommand, Payment,
    PaymentCommand, StockCommand, StockItem, Timer,
    cart::{CheckOut, NewLine},
    checkout::command_id,
    fixtures::{check_out, order_line, product, sku},
    payment::{ObservedCancellation, PaidFacts},
};

/// The skus on sale, and what one costs.
pub const RANGE: [(&str, i64); 3] = [("A", 10_000), ("B", 3_000), ("C", 700)];

pub struct Shop {
    pub log: Vec<Recorded<Event>>,
    pub carts: Streams<Cart>,
    pub orders: Streams<Order>,
    pub payments: Streams<Payment>,
    pub stock: Streams<StockItem>,
    /// What PortOne would say of each payment.
    pub portone: BTreeMap<PaymentId, Observation>,
    pub timers: HashMap<Timer, Timestamp>,
    /// Refunds that PortOne is to be asked for.
    pub refunds: BTreeSet<(PaymentId, String)>,
    /// Commands of the checkout that were refused.
    pub failures: Vec<String>,
    pub now: Timestamp,
    /// How often the runner is told each event.
    pub times_told: usize,
    /// What was sent under each id, and the places of its events in the log.
    pub sent: HashMap<Uuid, (AnyCommand, Vec<usize>)>,
    states: BTreeMap<OrderId, Checkout>,
    read: usize,
    requests: u128,
}

pub fn cart(n: u128) -> CartId {
    CartId::from_uuid(Uuid::from_u128(n))
}

impl Shop {
    /// A shop with so many of each sku.
    pub fn with_stock(stock: &[(&str, u32)]) -> Self {
        let mut shop = Self {
            log: Vec::new(),
            carts: Streams(HashMap::new()),
            orders: Streams(HashMap::new()),
            payments: Streams(HashMap::new()),
            stock: Streams(HashMap::new()),
            portone: BTreeMap::new(),
            timers: HashMap::new(),
            refunds: BTreeSet::new(),
            failures: Vec::new(),
            now: samples::moment(),
            times_told: 1,
            sent: HashMap::new(),
            states: BTreeMap::new(),
            read: 0,
            requests: 0,
        };
        for (text, quantity) in stock {
            shop.receive(text, *quantity);
        }
        shop
    }

    // What people do.

    pub fn receive(&mut self, text: &str, quantity: u32) {
        let command = StockCommand::Receive {
            sku: sku(text),
            quantity,
        };
        self.request(AnyCommand::Stock(product(text).stock_item(), command), None)
            .unwrap();
    }

    pub fn fill(&mut self, cart: CartId, wanted: &[(&str, u32)]) -> Result<(), String> {
        let owner = samples::guest();
        self.request(AnyCommand::Cart(cart, CartCommand::Open { owner }), None)?;
        let lines = wanted
            .iter()
            .map(|(text, quantity)| {
                let line = order_line(text, price(text), *quantity);
                NewLine {
                    line_id: LineId::of(cart, &line.sku),
                    product_id: line.product_id,
                    sku: line.sku,
                    name: line.name,
                    unit_price: line.unit_price,
                    quantity: *quantity,
                }
            })
            .collect();
        self.request(AnyCommand::Cart(cart, CartCommand::AddLines { lines }), None)
            .map(|_| ())
    }

    /// Checks a cart out at today's prices; what follows is left to the runner.
    pub fn check_out(&mut self, cart: CartId) -> Result<OrderId, String> {
        let state = self.carts.get(cart);
        let contents = state.contents().ok_or("not opened")?;
        let lines: Vec<OrderLine> = contents
            .lines
            .values()
            .map(|line| order_line(line.sku.as_str(), price(line.sku.as_str()), line.quantity))
            .collect();
        let command = CheckOut {
            cart_id: cart,
            expires_at: self.now + chrono::TimeDelta::minutes(30),
            ..check_out(contents.attempts + 1, lines)
        };
        let order_id = OrderId::of(cart, command.attempt);
        let command = AnyCommand::Cart(cart, CartCommand::CheckOut(Box::new(command)));
        self.request(command, Some(order_id))?;
        Ok(order_id)
    }

    /// Fills a cart and checks it out.
    pub fn buy(&mut self, n: u128, wanted: &[(&str, u32)]) -> OrderId {
        self.fill(cart(n), wanted).unwrap();
        self.check_out(cart(n)).unwrap()
    }

    pub fn order(&mut self, order_id: OrderId, command: OrderCommand) -> Result<Vec<usize>, String> {
        self.request(AnyCommand::Order(order_id, command), Some(order_id))
    }

    pub fn payment(&mut self, payment_id: PaymentId, command: PaymentCommand) {
        let order_id = self.payments.get(payment_id).request().unwrap().order_id;
        self.request(AnyCommand::Payment(payment_id, command), Some(order_id))
            .unwrap();
    }

    /// The buyer pays at PortOne; the shop does not know yet.
    pub fn pay(&mut self, payment_id: PaymentId, total: i64) {
        let paid_at = self.now;
        self.portone.entry(payment_id).or_insert_with(|| Observation {
            payment_id,
            transaction_id: format!("transaction of {payment_id}"),
            live_shop: true,
            currency: "KRW".to_owned(),
            total,
            status: Observed::Paid,
            paid: Some(PaidFacts {
                paid_at,
                tax_free: 0,
                vat: None,
                discount: 0,
                means: jangbu_events::samples::means(),
            }),
            cancellations: Vec::new(),
        });
    }

    /// Money goes back at PortOne; the shop does not know yet.
    pub fn cancel_at_portone(&mut self, payment_id: PaymentId, amount: i64) {
        let now = self.now;
        let at_portone = self.portone.get_mut(&payment_id).unwrap();
        let n = at_portone.cancellations.len();
        at_portone.cancellations.push(ObservedCancellation {
            cancelled_at: now + chrono::TimeDelta::milliseconds(i64::try_from(n).unwrap()),
            id: format!("cancellation {n} of {payment_id}"),
            amount,
            tax_free: 0,
            vat: 0,
            trigger: None,
        });
    }

    /// What PortOne still has of a payment.
    pub fn left_at_portone(&self, payment_id: PaymentId) -> i64 {
        self.portone.get(&payment_id).map_or(0, |payment| {
            payment.total - payment.cancellations.iter().map(|c| c.amount).sum::<i64>()
        })
    }

    /// A webhook, a browser that came back, or a reconciliation: the payment is re-read.
    pub fn reread(&mut self, payment_id: PaymentId) {
        let Some(observation) = self.portone.get(&payment_id).cloned() else {
            return;
        };
        let Some(request) = self.payments.get(payment_id).request().cloned() else {
            return;
        };
        let command = PaymentCommand::Observe(Box::new(observation));
        self.request(AnyCommand::Payment(payment_id, command), Some(request.order_id))
            .unwrap();
    }

    pub fn pay_and_tell(&mut self, order_id: OrderId, total: i64) {
        let payment_id = PaymentId::of(order_id, 1);
        self.pay(payment_id, total);
        self.reread(payment_id);
        self.run();
    }

    // What the shell does.

    /// The runner reads on until nothing is left to do.
    pub fn run(&mut self) {
        while self.step() {}
    }

    /// The runner takes one event; false when there is none.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.log.get(self.read).cloned() else {
            return false;
        };
        self.read += 1;
        if !Checkout::EVENT_TYPES.contains(&event.payload.name()) {
            return true;
        }
        let order_id = Checkout::key(&event).expect("an event of a checkout");
        for _ in 0..self.times_told {
            // What it remembers goes through the database between two events.
            let json = serde_json::to_string(&self.states.remove(&order_id).unwrap_or_default()).unwrap();
            let mut checkout: Checkout = serde_json::from_str(&json).unwrap();
            for action in checkout.react(&event) {
                self.act(action, &event);
            }
            self.states.insert(order_id, checkout);
        }
        true
    }

    /// What an HTTP handler does at once: reacts to the checkout and to what follows from it,
    /// without timers and refunds.
    pub fn drive(&mut self, order_id: OrderId) {
        let mut checkout = Checkout::default();
        let is_checkout = |event: &Recorded<Event>| {
            event.payload.name() == "cart.checked_out" && Checkout::key(event) == Some(order_id)
        };
        let mut news: Vec<usize> = self.log.iter().position(is_checkout).into_iter().collect();
        while !news.is_empty() {
            let mut followed = Vec::new();
            for place in std::mem::take(&mut news) {
                let event = self.log[place].clone();
                for action in checkout.react(&event) {
                    if let Action::Execute { step, source, command } = action {
                        followed.extend(self.send(*command, command_id(source, &step), Some(&event)).unwrap());
                    }
                }
            }
            news = followed;
        }
    }

    /// Timers that are due: the payment is re-read, and the order expires unless that paid for it.
    pub fn fire_timers(&mut self) {
        let due: Vec<Timer> = self
            .timers
            .iter()
            .filter(|(_, due_at)| **due_at <= self.now)
            .map(|(timer, _)| *timer)
            .collect();
        for timer in due {
            self.timers.remove(&timer);
            if let Timer::OrderDeadline { order_id, payment_id } = timer {
                self.reread(payment_id);
                self.run();
                let now = self.now;
                self.order(order_id, OrderCommand::Expire { now }).unwrap();
            }
        }
    }

    /// PortOne is asked for every refund, and gives the money back.
    pub fn give_back(&mut self) {
        for (payment_id, refund_id) in std::mem::take(&mut self.refunds) {
            let payment = self.payments.get(payment_id);
            let open = payment.money().and_then(|(_, returned)| returned.open.clone());
            let Some(open) = open.filter(|open| open.refund_id == refund_id) else {
                continue;
            };
            assert_eq!(open.cancellable, self.left_at_portone(payment_id));
            self.cancel_at_portone(payment_id, open.amount);
            self.reread(payment_id);
        }
    }

    fn act(&mut self, action: Action, event: &Recorded<Event>) {
        match action {
            Action::Execute { step, source, command } => {
                let described = format!("{step}: {command:?}");
                if let Err(error) = self.send(*command, command_id(source, &step), Some(event)) {
                    self.failures.push(format!("{described}: {error}"));
                }
            }
            Action::Schedule { timer, due_at } => {
                self.timers.insert(timer, due_at);
            }
            Action::Refund { payment_id, refund_id } => {
                self.refunds.insert((payment_id, refund_id));
            }
        }
    }

    /// A command of somebody outside, under an id of its own.
    fn request(&mut self, command: AnyCommand, order_id: Option<OrderId>) -> Result<Vec<usize>, String> {
        self.requests += 1;
        let correlation = order_id.map(|order_id| order_id.uuid());
        self.execute(command, Uuid::from_u128(self.requests), None, correlation)
    }

    fn send(
        &mut self,
        command: AnyCommand,
        command_id: Uuid,
        cause: Option<&Recorded<Event>>,
    ) -> Result<Vec<usize>, String> {
        let order_id = cause.and_then(Checkout::key).map(|order_id| order_id.uuid());
        self.execute(command, command_id, cause.map(|event| event.event_id), order_id)
    }

    /// Decides, and appends under the command's id; the same id again gives the first result.
    fn execute(
        &mut self,
        command: AnyCommand,
        command_id: Uuid,
        cause: Option<Uuid>,
        correlation: Option<Uuid>,
    ) -> Result<Vec<usize>, String> {
        if let Some((sent, places)) = self.sent.get(&command_id) {
            assert_eq!(*sent, command, "one id for two commands");
            return Ok(places.clone());
        }
        let envelope = Recorded {
            command_id,
            causation_id: cause,
            correlation_id: correlation,
            occurred_at: self.now,
            recorded_at: self.now,
            ..recorded(Event::Cart(jangbu_events::CartEvent::Cleared {}))
        };
        let events = match command.clone() {
            AnyCommand::Cart(id, command) => decide(&mut self.carts, id, &command, &envelope),
            AnyCommand::Order(id, command) => decide(&mut self.orders, id, &command, &envelope),
            AnyCommand::Payment(id, command) => decide(&mut self.payments, id, &command, &envelope),
            AnyCommand::Stock(id, command) => decide(&mut self.stock, id, &command, &envelope),
        }?;
        let places: Vec<usize> = (self.log.len()..self.log.len() + events.len()).collect();
        self.log.extend(events);
        self.sent.insert(command_id, (command, places.clone()));
        Ok(places)
    }

    pub fn stock_of(&self, text: &str) -> StockItem {
        let id: StockItemId = product(text).stock_item();
        self.stock.get(id)
    }

    /// The names of the events of one order and of its holds and payments, in order.
    pub fn told(&self, order_id: OrderId) -> Vec<&'static str> {
        self.log
            .iter()
            .filter(|event| event.correlation_id == Some(order_id.uuid()))
            .map(|event| event.payload.name())
            .collect()
    }
}

pub fn price(text: &str) -> i64 {
    RANGE.iter().find(|(sku, _)| *sku == text).unwrap().1
}
