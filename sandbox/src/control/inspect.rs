//! The simulator's own view of its payments, for tests.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{LINES_DEFAULT, Selection, ok, refused};
use crate::portone::Sandbox;
use crate::portone::attempt::Refusal;
use crate::portone::payment::{Call, Payment};
use crate::portone::view::{self, time};

fn call(call: &Call) -> Value {
    json!({
        "operation": call.operation,
        "idempotencyKey": call.idempotency_key,
        "status": call.status,
        "replayed": call.replayed,
        "at": time(call.at),
    })
}

/// Everything the simulator knows of one payment; `payment` is what the API shows.
fn inside(payment: &Payment) -> Value {
    let fixed = payment
        .pre_registered
        .as_ref()
        .map(|fixed| json!({"totalAmount": fixed.total, "taxFreeAmount": fixed.tax_free, "currency": fixed.currency}));
    json!({
        "id": payment.id,
        "storeId": payment.store_id,
        "status": payment.current().map(|attempt| attempt.status.name()),
        "preRegistered": fixed,
        "payment": view::payment(payment),
        "transactions": payment.attempts.iter().map(|attempt| view::transaction(payment, attempt)).collect::<Vec<_>>(),
        "cancellations": payment.cancellations.iter().map(view::cancellation).collect::<Vec<_>>(),
        "cancelEffects": payment.cancel_effects,
        "callCounts": payment.call_counts,
        "calls": payment.calls.iter().map(call).collect::<Vec<_>>(),
    })
}

pub(super) async fn payment(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> Response {
    match sandbox.store.with(&id, |payment| inside(payment)) {
        Some(view) => ok(&view),
        None => refused(&Refusal::new("PaymentNotFound", "there is no such payment")),
    }
}

/// A line of the list of payments.
pub(crate) struct Line {
    pub(crate) sequence: u64,
    pub(crate) id: String,
    pub(crate) status: Option<&'static str>,
    pub(crate) order_name: String,
    pub(crate) total: Option<i64>,
    pub(crate) currency: String,
    pub(crate) cancelled: i64,
    pub(crate) attempts: usize,
    pub(crate) cancel_effects: u32,
}

impl Sandbox {
    /// The latest payments, newest first, and how many there are.
    pub(crate) fn latest(&self, limit: usize) -> (Vec<Line>, usize) {
        let mut newest: Vec<(u64, String)> = Vec::new();
        self.store
            .each(|payment| newest.push((payment.sequence, payment.id.clone())));
        newest.sort_unstable_by(|one, other| other.cmp(one));
        let count = newest.len();
        let lines = newest.into_iter().take(limit).filter_map(|(sequence, id)| {
            self.store.with(&id, |payment| {
                let current = payment.current().map(|attempt| &attempt.opening);
                Line {
                    sequence,
                    id: payment.id.clone(),
                    status: payment.current().map(|attempt| attempt.status.name()),
                    order_name: current.map(|opening| opening.order_name.clone()).unwrap_or_default(),
                    total: current
                        .map(|opening| opening.total)
                        .or_else(|| payment.pre_registered.as_ref().and_then(|fixed| fixed.total)),
                    currency: current.map_or_else(|| "KRW".to_owned(), |opening| opening.currency.clone()),
                    cancelled: payment.cancelled().0,
                    attempts: payment.attempts.len(),
                    cancel_effects: payment.cancel_effects,
                }
            })
        });
        (lines.collect(), count)
    }
}

pub(super) async fn payments(State(sandbox): State<Sandbox>, Query(selection): Query<Selection>) -> Response {
    let (lines, count) = sandbox.latest(selection.limit.unwrap_or(LINES_DEFAULT));
    let wanted = |line: &&Line| selection.payment_id.as_ref().is_none_or(|id| *id == line.id);
    let view = |line: &Line| {
        json!({
            "id": line.id,
            "sequence": line.sequence,
            "status": line.status,
            "orderName": line.order_name,
            "total": line.total,
            "currency": line.currency,
            "cancelled": line.cancelled,
            "attempts": line.attempts,
            "cancelEffects": line.cancel_effects,
        })
    };
    let items: Vec<Value> = lines.iter().filter(wanted).map(view).collect();
    ok(&json!({"items": items, "totalCount": count}))
}
