//! What an event says, in few words, and nothing of whoever it is about. There is no arm for all the rest: a
//! new event, and what of it may be shown, must be considered.

use jangbu_events::{
    CartEvent, CustomerEvent, Event, Money, OrderEvent, OrderLine, PaymentEvent, ProductEvent, StockEvent, Timestamp,
};
use serde::Serialize;

use crate::clock::korean_time;

/// In few words; may be empty.
pub fn of(event: &Event) -> String {
    match event {
        Event::Cart(event) => of_cart(event),
        Event::Customer(event) => of_customer(event),
        Event::Order(event) => of_order(event),
        Event::Payment(event) => of_payment(event),
        Event::Product(event) => of_product(event),
        Event::Stock(event) => of_stock(event),
    }
}

fn of_cart(event: &CartEvent) -> String {
    match event {
        CartEvent::Opened { .. } | CartEvent::Cleared {} => String::new(),
        CartEvent::LineAdded { sku, quantity, .. } | CartEvent::LineRemoved { sku, quantity, .. } => {
            format!("{sku} x {quantity}")
        }
        CartEvent::LineQuantityChanged {
            sku,
            previous_quantity,
            quantity,
            ..
        } => format!("{sku} x {quantity} instead of {previous_quantity}"),
        CartEvent::CheckedOut {
            lines,
            totals,
            pay_method,
            attempt,
            ..
        } => format!(
            "{}, {}, {}, attempt {attempt}",
            bought(lines),
            totals.total,
            word(pay_method)
        ),
        CartEvent::Reopened { reason, .. } => word(reason),
    }
}

fn of_customer(event: &CustomerEvent) -> String {
    match event {
        CustomerEvent::ConsentChanged { kind, given, .. } => {
            format!("{} {}", word(kind), if *given { "given" } else { "withdrawn" })
        }
        CustomerEvent::PasswordChanged { reason } => word(reason),
        CustomerEvent::SocialLinked { account } => word(&account.provider),
        CustomerEvent::SocialUnlinked { provider, .. } => word(provider),
        CustomerEvent::Suspended { reason } => word(reason),
        CustomerEvent::WithdrawalRequested { executes_at } => format!("at {}", time(*executes_at)),
        CustomerEvent::AddressAdded { address_id, .. }
        | CustomerEvent::AddressChanged { address_id, .. }
        | CustomerEvent::AddressRemoved { address_id, .. }
        | CustomerEvent::DefaultAddressChosen { address_id } => address_id.to_string(),
        CustomerEvent::EmailVerified { by, .. } | CustomerEvent::PhoneVerified { by, .. } => word(by),
        CustomerEvent::Registered { .. }
        | CustomerEvent::ProfileChanged { .. }
        | CustomerEvent::Reinstated {}
        | CustomerEvent::WithdrawalCancelled {}
        | CustomerEvent::WithdrawalCompleted {}
        | CustomerEvent::RoleGranted { .. }
        | CustomerEvent::RoleRevoked { .. } => String::new(),
    }
}

fn of_order(event: &OrderEvent) -> String {
    match event {
        OrderEvent::Placed { lines, totals, .. } => format!("{}, {}", bought(lines), totals.total),
        OrderEvent::AwaitingPayment { due, expires_at, .. } => format!("{due} due until {}", time(*expires_at)),
        OrderEvent::DeadlineExtended { expires_at, reason } => {
            format!("until {}: {}", time(*expires_at), word(reason))
        }
        OrderEvent::Confirmed { paid, paid_at, .. } => format!("{paid} paid at {}", time(*paid_at)),
        OrderEvent::PaymentRejected { paid, reason, .. } => format!("{paid}: {}", word(reason)),
        OrderEvent::Refunded { amount, remaining, .. } => format!("{amount} went back, {remaining} remain"),
        OrderEvent::Cancelled { reason, was_confirmed } => {
            let before = if *was_confirmed { "after" } else { "before" };
            format!("{}, {before} it was confirmed", word(reason))
        }
        OrderEvent::Refused { shortages } => {
            let short: Vec<String> = shortages
                .iter()
                .map(|short| format!("{} x {}, {} there", short.sku, short.requested, short.available))
                .collect();
            short.join("; ")
        }
        OrderEvent::Expired {} => String::new(),
        OrderEvent::Imported {
            source,
            source_id,
            lines,
            totals,
            ..
        } => format!("{source} {source_id}: {}, {}", bought(lines), totals.total),
    }
}

fn of_payment(event: &PaymentEvent) -> String {
    match event {
        PaymentEvent::Requested { due, pay_method, .. } => format!("{due}, {}", word(pay_method)),
        PaymentEvent::VirtualAccountIssued { bank, expires_at, .. } => {
            let until = expires_at.map_or(String::new(), |at| format!(", until {}", time(at)));
            format!("{}{until}", bank.as_deref().unwrap_or("a bank"))
        }
        PaymentEvent::Confirmed {
            paid, paid_at, means, ..
        } => format!("{paid} by {} at {}", means.method, time(*paid_at)),
        PaymentEvent::Failed { failed_at, pg_code, .. } => {
            let code = pg_code.as_ref().map_or(String::new(), |code| format!(": {code}"));
            format!("at {}{code}", time(*failed_at))
        }
        PaymentEvent::Refused {
            reason,
            due,
            paid_amount,
            paid_currency,
            ..
        } => format!(
            "{}: {} came, {due} were due",
            word(reason),
            amount(*paid_amount, paid_currency)
        ),
        PaymentEvent::CancellationRequested {
            refund_id,
            amount: asked,
            currency,
            reason,
            ..
        } => format!("{} to go back, {}, {refund_id}", amount(*asked, currency), word(reason)),
        PaymentEvent::RefundAccountGiven { waiting_refund_id, .. } => waiting_refund_id
            .as_ref()
            .map_or(String::new(), |id| format!("{id} waited for it")),
        PaymentEvent::CancellationFailed { refund_id, code, .. } => format!("{refund_id}: {code}"),
        PaymentEvent::Cancelled {
            cancellation_id,
            amount: back,
            currency,
            remaining,
            ..
        } => format!(
            "{} went back, {} remain, {cancellation_id}",
            amount(*back, currency),
            amount(*remaining, currency)
        ),
    }
}

fn of_product(event: &ProductEvent) -> String {
    match event {
        ProductEvent::Registered { sku, price, .. } => format!("{sku}, {price}"),
        ProductEvent::Repriced { previous_price, price } => format!("{price} instead of {previous_price}"),
        ProductEvent::Renamed { .. }
        | ProductEvent::Published {}
        | ProductEvent::Hidden {}
        | ProductEvent::Archived {} => String::new(),
    }
}

fn of_stock(event: &StockEvent) -> String {
    match event {
        StockEvent::Received {
            sku,
            quantity,
            available,
            ..
        }
        | StockEvent::Held {
            sku,
            quantity,
            available,
            ..
        }
        | StockEvent::Committed {
            sku,
            quantity,
            available,
            ..
        }
        | StockEvent::Returned {
            sku,
            quantity,
            available,
            ..
        } => format!("{sku} x {quantity}, {available} available"),
        StockEvent::Adjusted {
            sku,
            delta,
            reason,
            available,
            ..
        } => format!("{sku} {delta:+}, {}, {available} available", word(reason)),
        StockEvent::HoldRefused {
            sku,
            requested,
            available,
            ..
        } => format!("{sku} x {requested} wanted, {available} available"),
        StockEvent::Released {
            sku,
            quantity,
            available,
            reason,
            ..
        } => format!("{sku} x {quantity}, {available} available: {}", word(reason)),
    }
}

/// `DRIVER-10.5 x 1, CAP-SUN-F x 2`; of long orders the first lines.
fn bought(lines: &[OrderLine]) -> String {
    let mut shown: Vec<String> = lines
        .iter()
        .take(3)
        .map(|line| format!("{} x {}", line.sku, line.quantity))
        .collect();
    if lines.len() > shown.len() {
        shown.push(format!("{} more", lines.len() - shown.len()));
    }
    shown.join(", ")
}

fn amount(amount: i64, currency: &str) -> String {
    if currency == "KRW" {
        Money::won(amount).to_string()
    } else {
        format!("{amount} {currency}")
    }
}

fn time(at: Timestamp) -> String {
    korean_time(at).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// The word that JSON has for a plain enum.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jangbu_events::samples;

    use super::*;

    #[test]
    fn no_event_tells_more_than_it_may() {
        let mut told = String::new();
        for mut event in samples::all() {
            // Columns of another system may be anything, names included.
            if let Event::Order(OrderEvent::Imported {
                external_customer,
                external_reference,
                ..
            }) = &mut event
            {
                *external_customer = Some("홍길동".to_owned());
                external_reference.insert("memo".to_owned(), "홍길동".to_owned());
            }
            told += &of(&event);
            told.push('\n');
        }
        // What is sealed there, and the hashes of token and wording.
        for secret in ["홍길동", "memo", "c2VhbGVk", "9f86d081"] {
            assert!(!told.contains(secret), "{secret} in {told}");
        }
        assert!(told.contains("order_expired") && told.contains('원'), "{told}");
    }
}
