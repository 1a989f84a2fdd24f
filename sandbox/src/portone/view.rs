//! Payments as the API shows them. The official description is the authority for names and required fields.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::attempt::{Attempt, Status};
use super::cancel::{Cancellation, CancellationStatus};
use super::payment::{Dispute, Payment};

/// The merchant of every simulated store.
pub(crate) const MERCHANT_ID: &str = "merchant-jangbu-sandbox";

/// RFC 3339 in UTC with milliseconds, as PortOne writes times.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The payment, unless no window was opened yet: a payment that is only pre-registered does not exist for readers.
pub(crate) fn payment(payment: &Payment) -> Option<Value> {
    let attempt = payment.current()?;
    let mut view = attempt_fields(payment, attempt);
    view.insert("id".to_owned(), payment.id.as_str().into());
    view.insert("transactionId".to_owned(), attempt.transaction_id.as_str().into());
    view.insert(
        "origin".to_owned(),
        json!({"platformType": attempt.opening.platform, "ipAddress": "127.0.0.1"}),
    );
    if attempt.status == Status::Paid {
        view.insert("disputes".to_owned(), payment.disputes.iter().map(dispute).collect());
        if !payment.cancellations.is_empty() {
            view.insert(
                "cancellations".to_owned(),
                payment.cancellations.iter().map(cancellation).collect(),
            );
        }
    }
    Some(Value::Object(view))
}

/// One attempt, as `GET /payments/{id}/transactions` lists it.
pub(crate) fn transaction(payment: &Payment, attempt: &Attempt) -> Value {
    let mut view = attempt_fields(payment, attempt);
    view.insert("id".to_owned(), attempt.transaction_id.as_str().into());
    view.insert("paymentId".to_owned(), payment.id.as_str().into());
    Value::Object(view)
}

/// What both views share.
fn attempt_fields(payment: &Payment, attempt: &Attempt) -> Map<String, Value> {
    let opening = &attempt.opening;
    let mut view = Map::new();
    let mut put = |name: &str, value: Value| view.insert(name.to_owned(), value);
    put("status", attempt.status.name().into());
    put("merchantId", MERCHANT_ID.into());
    put("storeId", payment.store_id.as_str().into());
    put("version", "V2".into());
    put("channel", channel(attempt));
    put("requestedAt", time(attempt.requested_at).into());
    put("updatedAt", time(attempt.updated_at).into());
    put("statusChangedAt", time(attempt.status_changed_at).into());
    put("orderName", opening.order_name.as_str().into());
    put("amount", amount(payment, attempt));
    put("currency", opening.currency.as_str().into());
    put("customer", opening.customer.clone());
    if attempt.status != Status::Ready {
        let phone = opening.customer["phoneNumber"].as_str();
        put(
            "method",
            opening.method.view(&attempt.approval, phone, attempt.account.as_ref()),
        );
    }
    if let Some(data) = &opening.custom_data {
        put("customData", data.as_str().into());
    }
    if let Some(pg_tx_id) = &attempt.pg_tx_id {
        put("pgTxId", pg_tx_id.as_str().into());
    }
    if let Some(paid_at) = attempt.paid_at {
        put("paidAt", time(paid_at).into());
        put(
            "receiptUrl",
            format!("https://receipts.invalid/{}", attempt.transaction_id).into(),
        );
    }
    match attempt.status {
        Status::Failed => {
            put("failedAt", time(attempt.status_changed_at).into());
            put("failure", failure(attempt));
        }
        Status::PartialCancelled | Status::Cancelled => {
            let at = payment
                .cancelled_at()
                .or(attempt.closed_at)
                .unwrap_or(attempt.status_changed_at);
            put("cancelledAt", time(at).into());
            put(
                "cancellations",
                payment.cancellations.iter().map(cancellation).collect(),
            );
        }
        Status::Ready | Status::PayPending | Status::VirtualAccountIssued | Status::Paid => {}
    }
    let webhooks = payment
        .webhooks
        .iter()
        .filter(|sent| sent.webhook.transaction_id == attempt.transaction_id);
    put("webhooks", webhooks.map(crate::webhooks::WebhookRecord::view).collect());
    view
}

fn channel(attempt: &Attempt) -> Value {
    let kind = attempt.opening.channel_type.name();
    json!({
        "type": kind,
        "id": "channel-id-jangbu-sandbox",
        "key": attempt.opening.channel_key,
        "name": "샌드박스 채널",
        "pgProvider": "TOSSPAYMENTS",
        "pgMerchantId": "sandbox01",
    })
}

fn amount(payment: &Payment, attempt: &Attempt) -> Value {
    let opening = &attempt.opening;
    let vat = opening.vat();
    let is_settled = attempt.paid_at.is_some();
    let (cancelled, cancelled_tax_free) = if is_settled { payment.cancelled() } else { (0, 0) };
    json!({
        "total": opening.total,
        "taxFree": opening.tax_free,
        "vat": vat,
        "supply": opening.total - opening.tax_free - vat,
        "discount": attempt.discount,
        "paid": if is_settled { opening.total - attempt.discount } else { 0 },
        "cancelled": cancelled,
        "cancelledTaxFree": cancelled_tax_free,
    })
}

fn failure(attempt: &Attempt) -> Value {
    match &attempt.failure {
        Some(failure) => {
            json!({"reason": failure.reason, "pgCode": failure.pg_code, "pgMessage": failure.pg_message})
        }
        None => json!({}),
    }
}

/// A cancellation, as the payment lists it and as the cancel call answers.
pub(crate) fn cancellation(cancellation: &Cancellation) -> Value {
    let mut view = json!({
        "status": cancellation.status.name(),
        "id": cancellation.id,
        "pgCancellationId": format!("simcancel-{}", cancellation.id),
        "totalAmount": cancellation.total,
        "taxFreeAmount": cancellation.tax_free,
        "vatAmount": cancellation.vat,
        "reason": cancellation.reason,
        "requestedAt": time(cancellation.requested_at),
        "trigger": cancellation.trigger.name(),
    });
    if let Some(at) = cancellation.cancelled_at {
        view["cancelledAt"] = time(at).into();
    }
    if cancellation.status == CancellationStatus::Succeeded {
        view["receiptUrl"] = format!("https://receipts.invalid/{}", cancellation.id).into();
    }
    view
}

fn dispute(dispute: &Dispute) -> Value {
    let mut view = json!({
        "status": if dispute.resolved_at.is_some() { "RESOLVED" } else { "UNRESOLVED" },
        "reason": dispute.reason,
        "createdAt": time(dispute.created_at),
    });
    if let Some(at) = dispute.resolved_at {
        view["resolvedAt"] = time(at).into();
    }
    view
}
