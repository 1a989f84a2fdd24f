//! Whole purchases: buyers, the real aggregates, the real process manager under runners that are
//! overtaken, handlers that go away half way, the real decisions of timers, and a PortOne that answers
//! late, twice, or never. Every process may die between any two steps; clocks differ by minutes, and
//! hours may pass at once. In the end everybody has the goods or the money back.

mod people;

use std::collections::{BTreeMap, VecDeque};

use chrono::TimeDelta;
use jangbu_domain::{Action, AnyCommand, Cart, Checkout, Observation, PaymentCommand, command_id, order::OrderStatus};
use jangbu_events::{AggregateId, Event, OrderId, PaymentId, Recorded, Timestamp, samples};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

use super::{
    each_seed,
    portone::{Answer, Portone, Request},
    shop::{RANGE, Sender, Shop, state},
    timers::{Timers, Working},
};
use crate::timers::{Work, core::Standing};

const CARTS: u128 = 4;
/// Processes' clocks differ by this much at most, in seconds: less than the margin that refunds keep to
/// the life of PortOne's keys.
const SKEW: i64 = 240;

pub struct World {
    pub shop: Shop,
    pub portone: Portone,
    pub timers: Timers,
    pub random: StdRng,
    /// While nothing goes wrong.
    pub calm: bool,
    now: Timestamp,
    checkpoint: Checkpoint,
    actors: Vec<Actor>,
    /// Payments that PortOne has news of, on their way to the shop.
    webhooks: Vec<PaymentId>,
    /// Requests that were given up and may still arrive.
    late: Vec<Request>,
    /// Commands of the checkout that were refused.
    failures: Vec<String>,
    overtaken: usize,
}

/// What the runner keeps, all of it in one transaction.
#[derive(Default)]
struct Checkpoint {
    position: usize,
    epoch: i64,
    states: BTreeMap<OrderId, String>,
}

/// A task of some process.
struct Actor {
    /// What its clock is ahead, in seconds.
    skew: i64,
    task: Task,
}

enum Task {
    Runner(Runner),
    Inline(Inline),
    Settle(PaymentId, Option<Said>),
    Timer(Working),
}

/// What PortOne said, under the id that the shop knows it by.
pub type Said = Box<(Uuid, Observation)>;

/// A command of the checkout, and the event it follows from.
type Sending = (Uuid, AnyCommand, Recorded<Event>);

/// As `processes::round`.
#[derive(Default)]
struct Runner {
    epoch: i64,
    from: usize,
    through: usize,
    states: BTreeMap<OrderId, Checkout>,
    sends: VecDeque<Sending>,
    work: Vec<(OrderId, Work, Timestamp)>,
}

/// As `processes::drive`.
#[derive(Default)]
struct Inline {
    checkout: Checkout,
    news: VecDeque<Recorded<Event>>,
    sends: VecDeque<Sending>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            shop: Shop::default(),
            portone: Portone::default(),
            timers: Timers::default(),
            random: StdRng::seed_from_u64(seed),
            calm: false,
            now: samples::moment(),
            checkpoint: Checkpoint::default(),
            actors: Vec::new(),
            webhooks: Vec::new(),
            late: Vec::new(),
            failures: Vec::new(),
            overtaken: 0,
        };
        for (text, _) in RANGE {
            world.shop.receive(text, 4, world.now);
        }
        world
    }

    // What the processes do.

    /// Asks PortOne how a payment stands: an answer under the id that the shop knows it by, nothing if
    /// there is no such payment, or an error.
    pub fn reread(&mut self, payment_id: PaymentId) -> Result<Option<Said>, ()> {
        if !self.calm && self.random.random_bool(0.05) {
            return Err(());
        }
        if state(&self.shop.payments, payment_id).request().is_none() {
            return Ok(None);
        }
        Ok(self.portone.observe(payment_id).map(|seen| {
            let all = self.portone.payments[&payment_id].seen();
            let said = format!("{} {all:?}", seen.transaction_id);
            Box::new((Uuid::new_v5(&payment_id.uuid(), said.as_bytes()), seen))
        }))
    }

    /// Records what PortOne said, and leaves what follows to a handler.
    pub fn observe(&mut self, payment_id: PaymentId, said: Option<Said>, now: Timestamp) {
        let Some((id, seen)) = said.map(|said| *said) else {
            return;
        };
        let command = AnyCommand::Payment(payment_id, PaymentCommand::Observe(Box::new(seen)));
        let request = state(&self.shop.payments, payment_id).request().cloned();
        let by = Sender {
            cause: None,
            order_id: request.map(|request| request.order_id),
            now,
        };
        let events = self.shop.execute(id, &command, by).expect("PortOne is always believed");
        self.drive(events);
    }

    /// Asks PortOne to give money back; `None` if no answer came.
    pub fn cancel(&mut self, request: &Request) -> Option<Answer> {
        let fate = if self.calm { 0 } else { self.random.random_range(0..8) };
        let how = if self.random.random_bool(0.3) {
            Standing::UnderWay
        } else {
            Standing::Succeeded
        };
        match fate {
            1 => {
                self.late.push(request.clone());
                None
            }
            2 => {
                self.portone.cancel(request, how, self.now);
                None
            }
            _ => {
                let answer = self.portone.cancel(request, how, self.now);
                self.webhooks.push(request.payment_id);
                Some(answer)
            }
        }
    }

    fn start(&mut self, task: Task) {
        let skew = if self.calm {
            0
        } else {
            self.random.random_range(-SKEW..=SKEW)
        };
        self.actors.push(Actor { skew, task });
    }

    fn drive(&mut self, events: Vec<Recorded<Event>>) {
        let inline = Inline {
            news: events.into(),
            ..Inline::default()
        };
        self.start(Task::Inline(inline));
    }

    fn start_runner(&mut self) {
        // The lease's epoch; whoever had it may not know yet.
        let newest = self.actors.iter().filter_map(|actor| match &actor.task {
            Task::Runner(runner) => Some(runner.epoch),
            _ => None,
        });
        let epoch = newest.max().unwrap_or_default().max(self.checkpoint.epoch) + 1;
        self.start(Task::Runner(Runner {
            epoch,
            ..Runner::default()
        }));
    }

    /// Twice where it can be: by id it counts once.
    fn send(&mut self, (id, command, cause): &Sending, now: Timestamp) -> Result<Vec<Recorded<Event>>, String> {
        let by = Sender {
            cause: Some(cause),
            order_id: None,
            now,
        };
        let first = self.shop.execute(*id, command, by)?;
        let second = self.shop.execute(*id, command, by)?;
        assert_eq!(first, second, "sent twice, it is answered twice the same");
        Ok(first)
    }

    /// One step of one process.
    fn act(&mut self, one: usize) {
        let Actor { skew, task } = self.actors.swap_remove(one);
        let now = self.now + TimeDelta::seconds(skew);
        let task = match task {
            Task::Runner(runner) => self.run(runner, now).map(Task::Runner),
            Task::Inline(inline) => self.go_on(inline, now).map(Task::Inline),
            Task::Settle(payment_id, None) => match self.reread(payment_id) {
                Ok(Some(said)) => Some(Task::Settle(payment_id, Some(said))),
                Ok(None) | Err(()) => None,
            },
            Task::Settle(payment_id, said) => {
                self.observe(payment_id, said, now);
                None
            }
            Task::Timer(working) => working.step(self, now).map(Task::Timer),
        };
        if let Some(task) = task {
            self.actors.push(Actor { skew, task });
        }
    }

    /// Reads, sends one command, or saves; `None` once it was overtaken.
    fn run(&mut self, mut runner: Runner, now: Timestamp) -> Option<Runner> {
        if let Some(sending) = runner.sends.pop_front() {
            if let Err(error) = self.send(&sending, now) {
                self.failures.push(format!("{:?}: {error}", sending.1));
            }
        } else if runner.through > runner.from {
            let ours = self.checkpoint.position == runner.from && self.checkpoint.epoch <= runner.epoch;
            if !ours {
                self.overtaken += 1;
                return None;
            }
            self.checkpoint.position = runner.through;
            self.checkpoint.epoch = runner.epoch;
            for (order_id, checkout) in std::mem::take(&mut runner.states) {
                let json = serde_json::to_string(&checkout).expect("a state is JSON");
                self.checkpoint.states.insert(order_id, json);
            }
            for (order_id, work, due_at) in std::mem::take(&mut runner.work) {
                self.timers.set(order_id, work, due_at);
            }
            runner.from = runner.through;
        } else {
            self.read(&mut runner);
        }
        Some(runner)
    }

    fn read(&mut self, runner: &mut Runner) {
        let count = if self.calm { 50 } else { self.random.random_range(1..8) };
        runner.from = self.checkpoint.position;
        runner.through = (runner.from + count).min(self.shop.log.len());
        for event in self.shop.log[runner.from..runner.through].iter().cloned() {
            if !Checkout::EVENT_TYPES.contains(&event.payload.name()) {
                continue;
            }
            let order_id = Checkout::key(&event).expect("an event of a checkout");
            let kept = &self.checkpoint.states;
            let checkout = runner.states.entry(order_id).or_insert_with(|| {
                let json = kept.get(&order_id).map(|json| serde_json::from_str(json));
                json.map_or_else(Checkout::default, |state| state.expect("a state reads back"))
            });
            for action in checkout.react(&event) {
                match action {
                    Action::Execute { step, source, command } => {
                        let id = command_id(source, &step);
                        runner.sends.push_back((id, *command, event.clone()));
                    }
                    Action::Schedule { timer, due_at } => runner.work.push((order_id, Work::from(timer), due_at)),
                    Action::Refund { payment_id, refund_id } => {
                        let work = Work::Refund {
                            payment_id,
                            refund_id,
                            cancellation_id: None,
                            asked_at: None,
                        };
                        runner.work.push((order_id, work, event.recorded_at));
                    }
                }
            }
        }
    }

    fn go_on(&mut self, mut inline: Inline, now: Timestamp) -> Option<Inline> {
        if let Some(sending) = inline.sends.pop_front() {
            // A handler that is refused something gives up; the runner finds out.
            inline.news.extend(self.send(&sending, now).ok()?);
            return Some(inline);
        }
        let event = inline.news.pop_front()?;
        for action in inline.checkout.react(&event) {
            if let Action::Execute { step, source, command } = action {
                inline
                    .sends
                    .push_back((command_id(source, &step), *command, event.clone()));
            }
        }
        Some(inline)
    }

    // How it ends.

    /// Everybody who is at it finishes; there is one runner, and it catches up.
    fn finish(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "something never ends");
            let busy = |task: &Task| !matches!(task, Task::Runner(_));
            let others = self.actors.iter().position(|actor| busy(&actor.task));
            match others {
                Some(one) => self.act(one),
                None if self.checkpoint.position == self.shop.log.len() => return,
                None if self.actors.is_empty() => self.start_runner(),
                None => self.act(0),
            }
        }
    }

    /// Nothing goes wrong any more, and two days pass.
    fn settle(&mut self) {
        self.calm = true;
        self.actors.clear();
        for _ in 0..60 {
            while let Some(taken) = self.timers.take(self.now) {
                self.start(Task::Timer(Working::new(taken)));
                self.finish();
            }
            self.resolve();
            let payments: Vec<PaymentId> = self.portone.payments.keys().copied().collect();
            for payment_id in payments {
                self.start(Task::Settle(payment_id, None));
            }
            self.finish();
            self.pass(TimeDelta::hours(1));
        }
    }

    fn check(&self) {
        assert_eq!(
            self.failures,
            Vec::<String>::new(),
            "the checkout was refused something"
        );
        assert_eq!(self.timers.0.len(), 0, "something is still to be done");
        let mut sold: BTreeMap<String, u32> = BTreeMap::new();
        for (order_id, (order, _)) in &self.shop.orders {
            let status = order.status().expect("it was placed");
            let over = !matches!(status, OrderStatus::Placed | OrderStatus::AwaitingPayment);
            assert!(over, "{order_id} is still {status}");
            let left = self
                .portone
                .payments
                .get(&PaymentId::of(*order_id, 1))
                .map_or(0, super::portone::Paid::left);
            let details = order.details().expect("it was placed");
            if status == OrderStatus::Confirmed {
                let remaining = order.sale().expect("it was sold").remaining().amount;
                assert_eq!(remaining, left, "{order_id} and PortOne differ");
                for line in &details.lines {
                    *sold.entry(line.sku.to_string()).or_default() += line.quantity;
                }
            } else {
                assert_eq!(left, 0, "{order_id} is {status}, and PortOne keeps {left}");
            }
            if self.shop.order_of(details.cart_id) == Some(*order_id) {
                let open = matches!(state(&self.shop.carts, details.cart_id), Cart::Open(_));
                assert_eq!(open, order.sale().is_none(), "the cart of {order_id}");
            }
        }
        for (text, received) in &self.shop.received {
            let stock = self.shop.stock_of(text);
            assert_eq!(stock.held(), 0, "{text} is held");
            assert_eq!(stock.on_hand + sold.get(*text).unwrap_or(&0), *received, "{text}");
        }
    }
}

#[test]
fn everybody_has_the_goods_or_the_money_back() {
    let (mut sold, mut given_back, mut overtaken) = (0, 0, 0);
    each_seed(1_000, |seed| {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.happen();
        }
        world.settle();
        world.check();
    });
    // Of the first seeds: all of it happens at all.
    for seed in 0..50 {
        let mut world = World::new(seed);
        (0..400).for_each(|_| world.happen());
        world.settle();
        let orders = world.shop.orders.values();
        sold += orders
            .filter(|(order, _)| order.status() == Some(OrderStatus::Confirmed))
            .count();
        let payments = world.portone.payments.values();
        given_back += payments.filter(|paid| !paid.cancellations.is_empty()).count();
        overtaken += world.overtaken;
    }
    assert!(
        sold > 50 && given_back > 50 && overtaken > 10,
        "{sold} {given_back} {overtaken}"
    );
}
