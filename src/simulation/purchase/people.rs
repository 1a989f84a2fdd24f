//! What people do, and what goes wrong.

use chrono::TimeDelta;
use jangbu_domain::{AnyCommand, OrderCommand, PaymentCommand, Refunding, order::OrderStatus};
use jangbu_events::{CancelReason, OrderId, PaymentId, RefundReason};
use rand::Rng as _;

use super::{CARTS, SKEW, Task, World};
use crate::{
    simulation::{
        shop::{RANGE, cart, state},
        timers::Working,
    },
    timers::core::Standing,
};

impl World {
    fn latest(&mut self) -> Option<(OrderId, PaymentId)> {
        let cart = cart(self.random.random_range(1..=CARTS));
        let order_id = self.shop.order_of(cart)?;
        Some((order_id, PaymentId::of(order_id, 1)))
    }

    /// Refusals are answers to people; only the checkout's own commands must never be refused.
    fn trade(&mut self) {
        let one = cart(self.random.random_range(1..=CARTS));
        let now = self.now;
        match self.random.random_range(0..20) {
            0..4 => {
                let (text, _) = RANGE[self.random.random_range(0..RANGE.len())];
                let quantity = self.random.random_range(1..4);
                _ = self.shop.fill(one, text, quantity, now);
            }
            4..9 => {
                if let Ok(events) = self.shop.check_out(one, now) {
                    self.drive(events);
                }
            }
            9..15 => self.pay(),
            15 => {
                let Some((order_id, _)) = self.latest() else { return };
                let cancel = OrderCommand::Cancel {
                    reason: CancelReason::Customer,
                };
                if let Ok(events) = self.shop.ask(&AnyCommand::Order(order_id, cancel), now) {
                    self.drive(events);
                }
            }
            16 => self.operator_refunds(),
            17 => self.console_refunds(),
            _ => {
                let (text, _) = RANGE[self.random.random_range(0..RANGE.len())];
                let quantity = self.random.random_range(1..4);
                self.shop.receive(text, quantity, now);
            }
        }
    }

    fn pay(&mut self) {
        let Some((_, payment_id)) = self.latest() else { return };
        let payment = state(&self.shop.payments, payment_id);
        let Some(request) = payment.request() else { return };
        let off = match self.random.random_range(0..8) {
            0 => 1,
            1 => -1,
            _ => 0,
        };
        let refusals = self.random.random_range(0..3);
        self.portone
            .pay(payment_id, request.due.amount + off, self.now, refusals);
        let webhooks = self.random.random_range(0..3);
        self.webhooks.extend(std::iter::repeat_n(payment_id, webhooks));
    }

    fn is_sold(&self, order_id: OrderId) -> bool {
        state(&self.shop.orders, order_id).status() == Some(OrderStatus::Confirmed)
    }

    fn operator_refunds(&mut self) {
        let Some((order_id, payment_id)) = self.latest() else {
            return;
        };
        let part = self.random.random_range(1..20_000);
        let amount = self.random.random_bool(0.5).then_some(part);
        let refund = PaymentCommand::RequestRefund {
            payment_id,
            refund: Refunding::Next,
            amount,
            reason: RefundReason::Operator,
            account: None,
        };
        if self.is_sold(order_id) {
            _ = self.shop.ask(&AnyCommand::Payment(payment_id, refund), self.now);
        }
    }

    fn console_refunds(&mut self) {
        let Some((order_id, payment_id)) = self.latest() else {
            return;
        };
        let amount = self.random.random_range(1..20_000);
        if self.is_sold(order_id) {
            let how = if self.random.random_bool(0.5) {
                Standing::UnderWay
            } else {
                Standing::Succeeded
            };
            self.portone.cancel_in_console(payment_id, amount, how, self.now);
            self.webhooks.push(payment_id);
        }
    }

    fn disturb(&mut self) {
        match self.random.random_range(0..20) {
            0..6 if !self.actors.is_empty() => {
                let one = self.random.random_range(0..self.actors.len());
                self.actors.swap_remove(one);
            }
            6..9 if !self.actors.is_empty() => {
                let one = self.random.random_range(0..self.actors.len());
                self.actors[one].skew = self.random.random_range(-SKEW..=SKEW);
            }
            9..11 => self.arrive_late(),
            11 if !self.webhooks.is_empty() => {
                let lost = self.random.random_range(0..self.webhooks.len());
                self.webhooks.swap_remove(lost);
            }
            12 => {
                let minutes = self.random.random_range(40..400);
                self.pass(TimeDelta::minutes(minutes));
            }
            13..15 => self.resolve(),
            _ => self.start_runner(),
        }
    }

    fn arrive_late(&mut self) {
        if !self.late.is_empty() {
            let which = self.random.random_range(0..self.late.len());
            let request = self.late.swap_remove(which);
            self.portone.cancel(&request, Standing::Succeeded, self.now);
        }
    }

    /// What is under way at PortOne comes to its end; the PG may refuse it even now.
    pub(super) fn resolve(&mut self) {
        let payments: Vec<PaymentId> = self.portone.payments.keys().copied().collect();
        for payment_id in payments {
            let fails = !self.calm && self.random.random_bool(0.2);
            if self.portone.resolve(payment_id, fails, self.now) {
                self.webhooks.push(payment_id);
            }
        }
    }

    /// What was given up does not arrive after hours, and nobody who has decided to ask for money back
    /// stands still for hours before doing so: PortOne forgets the key meanwhile, and there is no way to
    /// look and ask in one.
    pub(super) fn pass(&mut self, time: TimeDelta) {
        if time >= TimeDelta::minutes(3) {
            while !self.late.is_empty() {
                self.arrive_late();
            }
            self.actors
                .retain(|actor| !matches!(&actor.task, Task::Timer(working) if working.is_asking()));
        }
        self.now += time;
    }

    pub(super) fn happen(&mut self) {
        let seconds = self.random.random_range(0..20);
        self.pass(TimeDelta::seconds(seconds));
        match self.random.random_range(0..100) {
            0..14 => self.trade(),
            14..18 => self.disturb(),
            18..22 if !self.webhooks.is_empty() => {
                let which = self.random.random_range(0..self.webhooks.len());
                let payment_id = self.webhooks.swap_remove(which);
                self.start(Task::Settle(payment_id, None));
            }
            22..26 => {
                let ahead = TimeDelta::seconds(self.random.random_range(-SKEW..=SKEW));
                if let Some(taken) = self.timers.take(self.now + ahead) {
                    self.start(Task::Timer(Working::new(taken)));
                }
            }
            _ if !self.actors.is_empty() => {
                let one = self.random.random_range(0..self.actors.len());
                self.act(one);
            }
            _ => self.start_runner(),
        }
    }
}
