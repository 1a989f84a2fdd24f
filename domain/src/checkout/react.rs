//! What follows from each event.

use jangbu_events::{
    CartEvent, CartId, Event, Money, OrderEvent, OrderId, OrderLine, PaymentEvent, PaymentId, Recorded, RefundReason,
    RejectReason, ReleaseReason, ReopenReason, Sku, StockEvent, Timestamp, order::ExtensionReason,
};
use uuid::Uuid;

use super::{
    ACCOUNT_LIFETIME, ACCOUNT_LIFETIME_MAX, ACCOUNT_SLACK, Action, AnyCommand, BACKSTOP, Checkout, Fate, Hold, Line,
    Placed, Timer,
};
use crate::{CartCommand, OrderCommand, PaymentCommand, StockCommand, order::PlaceOrder, payment::Refunding};

impl Checkout {
    /// Takes note of an event of this checkout ([`Checkout::key`]) and says what follows.
    pub fn react(&mut self, event: &Recorded<Event>) -> Vec<Action> {
        let Some(order_id) = Self::key(event) else {
            return Vec::new();
        };
        match &event.payload {
            Event::Cart(cart) => place(event, order_id, cart),
            Event::Order(order) => self.order(event, order_id, order),
            Event::Payment(payment) => event.id().map_or_else(
                |_| Vec::new(),
                |payment_id| Self::payment(event, order_id, payment_id, payment),
            ),
            Event::Stock(StockEvent::Held { sku, .. }) => self.answered(event.event_id, order_id, sku, Hold::Held),
            Event::Stock(StockEvent::HoldRefused { sku, available, .. }) => {
                let available = *available;
                self.answered(event.event_id, order_id, sku, Hold::Refused { available })
            }
            Event::Stock(_) | Event::Product(_) | Event::Customer(_) => Vec::new(),
        }
    }

    fn order(&mut self, event: &Recorded<Event>, order_id: OrderId, order: &OrderEvent) -> Vec<Action> {
        let source = event.event_id;
        match order {
            OrderEvent::Placed {
                cart_id,
                lines,
                totals,
                pay_method,
                expires_at,
                ..
            } => {
                self.order
                    .get_or_insert_with(|| Placed::new(source, *cart_id, *pay_method, totals.tax_free, lines));
                hold(source, order_id, lines, *expires_at)
            }
            OrderEvent::AwaitingPayment {
                payment_id,
                due,
                expires_at,
            } => {
                let Some(placed) = &self.order else {
                    return Vec::new();
                };
                let request = PaymentCommand::Request {
                    order_id,
                    cart_id: placed.cart_id,
                    due: *due,
                    tax_free: placed.tax_free,
                    pay_method: placed.pay_method,
                    order_name: placed.order_name.clone(),
                };
                let deadline = Timer::OrderDeadline {
                    order_id,
                    payment_id: *payment_id,
                };
                vec![
                    execute(source, "request_payment", AnyCommand::Payment(*payment_id, request)),
                    schedule(deadline, *expires_at),
                ]
            }
            OrderEvent::DeadlineExtended { expires_at, .. } => {
                let payment_id = PaymentId::of(order_id, 1);
                vec![
                    schedule(Timer::OrderDeadline { order_id, payment_id }, *expires_at),
                    // Or the goods of a virtual account of three days would alarm after one.
                    schedule(Timer::HoldBackstop { order_id }, *expires_at + BACKSTOP),
                ]
            }
            OrderEvent::Confirmed { .. } => self.commit(source, order_id),
            OrderEvent::PaymentRejected { payment_id, reason, .. } => {
                let refund = PaymentCommand::RequestRefund {
                    payment_id: *payment_id,
                    refund: Refunding::Rejection,
                    account: None,
                    amount: None,
                    reason: refund_reason(*reason),
                };
                let step = format!("refund:{payment_id}");
                vec![execute(source, step, AnyCommand::Payment(*payment_id, refund))]
            }
            OrderEvent::Refused { .. } => self.give_up(
                source,
                event.recorded_at,
                order_id,
                ReleaseReason::OrderRefused,
                ReopenReason::OrderRefused,
            ),
            OrderEvent::Expired {} => self.give_up(
                source,
                event.recorded_at,
                order_id,
                ReleaseReason::OrderExpired,
                ReopenReason::OrderExpired,
            ),
            OrderEvent::Cancelled {
                was_confirmed: false, ..
            } => self.give_up(
                source,
                event.recorded_at,
                order_id,
                ReleaseReason::OrderCancelled,
                ReopenReason::OrderCancelled,
            ),
            OrderEvent::Cancelled {
                was_confirmed: true, ..
            } => self.take_back(source, order_id),
            OrderEvent::Refunded { .. } | OrderEvent::Imported { .. } => Vec::new(),
        }
    }

    fn payment(
        event: &Recorded<Event>,
        order_id: OrderId,
        payment_id: PaymentId,
        payment: &PaymentEvent,
    ) -> Vec<Action> {
        let (step, command) = match payment {
            PaymentEvent::VirtualAccountIssued { expires_at, .. } => {
                // The account's end is set in the buyer's browser, and the stock is held until then.
                let latest = event.recorded_at + ACCOUNT_LIFETIME_MAX;
                let expires_at = expires_at.map_or(event.recorded_at + ACCOUNT_LIFETIME, |end| {
                    end.min(latest) + ACCOUNT_SLACK
                });
                let reason = ExtensionReason::VirtualAccount;
                let extend = OrderCommand::ExtendDeadline { expires_at, reason };
                ("extend_deadline".to_owned(), extend)
            }
            PaymentEvent::Confirmed {
                paid, paid_at, means, ..
            } => {
                let confirm = OrderCommand::Confirm {
                    payment_id,
                    paid: *paid,
                    paid_at: *paid_at,
                    channel: means.channel,
                };
                ("confirm".to_owned(), confirm)
            }
            PaymentEvent::Cancelled {
                cancellation_id,
                amount,
                cancelled_at,
                ..
            } => {
                // An order takes won alone; what came in another currency was never its own, and
                // it answers this with no event.
                let record = OrderCommand::RecordRefund {
                    payment_id,
                    cancellation_id: cancellation_id.clone(),
                    amount: Money::won(*amount),
                    cancelled_at: *cancelled_at,
                };
                (format!("record_refund:{cancellation_id}"), record)
            }
            PaymentEvent::CancellationRequested { refund_id, .. }
            | PaymentEvent::RefundAccountGiven {
                waiting_refund_id: Some(refund_id),
                ..
            } => {
                return vec![Action::Refund {
                    payment_id,
                    refund_id: refund_id.clone(),
                }];
            }
            PaymentEvent::Requested { .. }
            | PaymentEvent::Failed { .. }
            | PaymentEvent::Refused { .. }
            | PaymentEvent::RefundAccountGiven {
                waiting_refund_id: None,
                ..
            }
            | PaymentEvent::CancellationFailed { .. } => return Vec::new(),
        };
        vec![execute(event.event_id, step, AnyCommand::Order(order_id, command))]
    }

    /// The stock answered one of the holds.
    fn answered(&mut self, source: Uuid, order_id: OrderId, sku: &Sku, answer: Hold) -> Vec<Action> {
        let Some(placed) = &mut self.order else {
            return Vec::new();
        };
        let Some(line) = placed
            .lines
            .iter_mut()
            .find(|line| line.sku == *sku && line.hold == Hold::Asked)
        else {
            return Vec::new();
        };
        line.hold = answer;
        match (placed.fate, answer) {
            (Fate::Open, _) => placed.all_answered(order_id),
            (Fate::Sold, Hold::Held) => vec![line.commit(source, order_id)],
            // It came to nothing before this was known to be held.
            (Fate::GivenUp(reason), Hold::Held) => vec![line.release(source, order_id, reason)],
            (Fate::Sold | Fate::GivenUp(_), Hold::Asked | Hold::Refused { .. }) => Vec::new(),
        }
    }

    /// The order is paid for: what is held is sold.
    fn commit(&mut self, source: Uuid, order_id: OrderId) -> Vec<Action> {
        let Some(placed) = self.order.as_mut().filter(|placed| placed.fate == Fate::Open) else {
            return Vec::new();
        };
        placed.fate = Fate::Sold;
        placed.held().map(|line| line.commit(source, order_id)).collect()
    }

    /// The order came to nothing before it was paid for: what is held goes back, and the cart is a
    /// cart again. Holds that are not answered yet are released as well, since the answer may be in
    /// the log already; one that comes later still is released when it is told.
    fn give_up(
        &mut self,
        source: Uuid,
        at: Timestamp,
        order_id: OrderId,
        released: ReleaseReason,
        reopened: ReopenReason,
    ) -> Vec<Action> {
        let Some(placed) = self.order.as_mut().filter(|placed| placed.fate == Fate::Open) else {
            return Vec::new();
        };
        placed.fate = Fate::GivenUp(released);
        let mut actions: Vec<Action> = placed
            .lines
            .iter()
            .filter(|line| !matches!(line.hold, Hold::Refused { .. }))
            .map(|line| line.release(source, order_id, released))
            .collect();
        let reopen = CartCommand::Reopen {
            order_id,
            reason: reopened,
        };
        actions.push(execute(source, "reopen", AnyCommand::Cart(placed.cart_id, reopen)));
        let payment_id = PaymentId::of(order_id, 1);
        actions.push(schedule(Timer::CloseAccount { order_id, payment_id }, at));
        actions
    }

    /// The order was paid for and all its money went back: the goods are for sale again.
    fn take_back(&mut self, source: Uuid, order_id: OrderId) -> Vec<Action> {
        let Some(placed) = self.order.as_mut().filter(|placed| placed.fate == Fate::Sold) else {
            return Vec::new();
        };
        placed.fate = Fate::GivenUp(ReleaseReason::OrderCancelled);
        placed
            .held()
            .map(|line| {
                let quantity = line.quantity;
                line.execute(source, "return", StockCommand::Return { order_id, quantity })
            })
            .collect()
    }
}

impl Placed {
    fn held(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.hold == Hold::Held)
    }

    /// When the last hold is answered: wait for money, or refuse with everything that is short.
    fn all_answered(&self, order_id: OrderId) -> Vec<Action> {
        let Some(shortages) = self.shortages() else {
            return Vec::new();
        };
        let (step, command) = if shortages.is_empty() {
            let payment_id = PaymentId::of(order_id, 1);
            ("await_payment", OrderCommand::AwaitPayment { payment_id })
        } else {
            ("refuse", OrderCommand::Refuse { shortages })
        };
        vec![execute(self.event_id, step, AnyCommand::Order(order_id, command))]
    }
}

impl Line {
    fn execute(&self, source: Uuid, step: &str, command: StockCommand) -> Action {
        let step = format!("{step}:{}", self.sku);
        execute(source, step, AnyCommand::Stock(self.stock, command))
    }

    fn commit(&self, source: Uuid, order_id: OrderId) -> Action {
        self.execute(source, "commit", StockCommand::Commit { order_id })
    }

    fn release(&self, source: Uuid, order_id: OrderId, reason: ReleaseReason) -> Action {
        self.execute(source, "release", StockCommand::Release { order_id, reason })
    }
}

fn execute(source: Uuid, step: impl Into<String>, command: AnyCommand) -> Action {
    Action::Execute {
        step: step.into(),
        source,
        command: Box::new(command),
    }
}

const fn schedule(timer: Timer, due_at: Timestamp) -> Action {
    Action::Schedule { timer, due_at }
}

fn place(event: &Recorded<Event>, order_id: OrderId, cart: &CartEvent) -> Vec<Action> {
    let CartEvent::CheckedOut {
        order_number,
        attempt,
        owner,
        lines,
        totals,
        orderer,
        recipient,
        consents,
        pay_method,
        expires_at,
        ..
    } = cart
    else {
        return Vec::new();
    };
    let Ok(cart_id) = event.id::<CartId>() else {
        return Vec::new();
    };
    let order = PlaceOrder {
        order_number: order_number.clone(),
        cart_id,
        attempt: *attempt,
        owner: owner.clone(),
        lines: lines.clone(),
        totals: *totals,
        orderer: orderer.clone(),
        recipient: recipient.clone(),
        consents: consents.clone(),
        pay_method: *pay_method,
        expires_at: *expires_at,
    };
    let command = AnyCommand::Order(order_id, OrderCommand::Place(Box::new(order)));
    vec![execute(event.event_id, "place", command)]
}

fn hold(source: Uuid, order_id: OrderId, lines: &[OrderLine], expires_at: Timestamp) -> Vec<Action> {
    let backstop_at = expires_at + BACKSTOP;
    let mut actions: Vec<Action> = lines
        .iter()
        .map(|line| {
            let hold = StockCommand::Hold {
                sku: line.sku.clone(),
                order_id,
                quantity: line.quantity,
                backstop_at,
            };
            let command = AnyCommand::Stock(line.product_id.stock_item(), hold);
            execute(source, format!("hold:{}", line.sku), command)
        })
        .collect();
    actions.push(schedule(Timer::HoldBackstop { order_id }, backstop_at));
    // Also while the stock has not answered: an order that is stuck on its way ends like any other.
    let payment_id = PaymentId::of(order_id, 1);
    actions.push(schedule(Timer::OrderDeadline { order_id, payment_id }, expires_at));
    actions
}

const fn refund_reason(reason: RejectReason) -> RefundReason {
    match reason {
        RejectReason::OrderExpired => RefundReason::OrderExpired,
        RejectReason::OrderCancelled => RefundReason::OrderCancelled,
        RejectReason::OrderRefused => RefundReason::OrderRefused,
        RejectReason::AlreadyPaid => RefundReason::AlreadyPaid,
        RejectReason::WrongAmount => RefundReason::WrongAmount,
    }
}
