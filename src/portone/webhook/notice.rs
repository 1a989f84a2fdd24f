//! What a webhook says, in both versions of its body: `2024-04-25` and `2024-01-01`.

use serde_json::Value;

/// What a webhook is about. Only a hint to look: nothing in it may be acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something happened to a payment: re-read it.
    Transaction {
        /// The id that the shop chose, 1 to 255 characters without control characters. It may be a stranger's.
        payment_id: String,
        /// The store, if told. A foreign one is ignored.
        store_id: Option<String>,
        /// `PortOne`'s id of the attempt, if told.
        transaction_id: Option<String>,
        /// The cancellation that it is about, if told.
        cancellation_id: Option<String>,
        /// The type by its newer name, such as `Transaction.Paid`. For logs.
        event: String,
    },
    /// Something happened to a billing key.
    BillingKey,
    /// A type that did not exist when this was written, or another shape of JSON: answer 200 and log it.
    Unknown {
        /// The type as told, shortened to 64 characters; empty if there was none.
        kind: String,
    },
}

/// A body that is neither JSON nor, where it says so, a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the webhook's body is not JSON")]
pub struct ParseError;

/// What can follow `Transaction.`; the older version tells the same words as a status.
const TRANSACTION_EVENTS: [&str; 11] = [
    "Ready",
    "Paid",
    "VirtualAccountIssued",
    "Failed",
    "PayPending",
    "PartialCancelled",
    "Cancelled",
    "CancelPending",
    "DisputeCreated",
    "DisputeResolved",
    "Confirm",
];
const BILLING_KEY_EVENTS: [&str; 5] = ["Ready", "Issued", "Failed", "Deleted", "Updated"];

/// Reads a verified body. The older version may be a form, which `content_type` then says.
pub fn parse(body: &[u8], content_type: Option<&str>) -> Result<Notice, ParseError> {
    if is_form(content_type) {
        // A form cannot be malformed; a field that comes twice counts once.
        let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(body).map_err(|_| ParseError)?;
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)))
            .collect();
        return Ok(older(&Value::Object(fields)));
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| ParseError)?;
    Ok(if body.get("type").is_some() {
        newer(&body)
    } else {
        older(&body)
    })
}

fn is_form(content_type: Option<&str>) -> bool {
    let media_type = content_type
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Version `2024-04-25`: `{type, timestamp, data}`.
fn newer(body: &Value) -> Notice {
    let kind = body.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind.split_once('.') {
        Some(("Transaction", event)) => {
            transaction(kind, event, body.get("data").unwrap_or(&Value::Null), &NEWER_FIELDS)
        }
        Some(("BillingKey", event)) if BILLING_KEY_EVENTS.contains(&event) => Notice::BillingKey,
        _ => unknown(kind),
    }
}

/// Version `2024-01-01`: `{payment_id, tx_id, status}`.
fn older(body: &Value) -> Notice {
    let status = body.get("status").and_then(Value::as_str).unwrap_or_default();
    transaction(status, status, body, &OLDER_FIELDS)
}

/// The names of a notice's ids in one version.
struct Fields {
    payment: &'static str,
    store: &'static str,
    transaction: &'static str,
    cancellation: &'static str,
}

const NEWER_FIELDS: Fields = Fields {
    payment: "paymentId",
    store: "storeId",
    transaction: "transactionId",
    cancellation: "cancellationId",
};
const OLDER_FIELDS: Fields = Fields {
    payment: "payment_id",
    store: "store_id",
    transaction: "tx_id",
    cancellation: "cancellation_id",
};

fn transaction(kind: &str, event: &str, data: &Value, fields: &Fields) -> Notice {
    let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
    match text(fields.payment) {
        Some(payment_id) if TRANSACTION_EVENTS.contains(&event) && is_id(&payment_id) => Notice::Transaction {
            payment_id,
            store_id: text(fields.store),
            transaction_id: text(fields.transaction),
            cancellation_id: text(fields.cancellation),
            event: format!("Transaction.{event}"),
        },
        _ => unknown(kind),
    }
}

/// Whether a text can be an id that the shop gave: it goes into an address and a look-up, neither of which takes NUL.
fn is_id(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn unknown(kind: &str) -> Notice {
    Notice::Unknown {
        kind: kind.chars().take(64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Option<&str> = Some("application/json; charset=utf-8");

    fn json(body: &str) -> Notice {
        parse(body.as_bytes(), JSON).expect("JSON")
    }

    fn unknown_kind(body: &str) -> String {
        match json(body) {
            Notice::Unknown { kind } => kind,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn the_newer_version_is_read_with_all_its_ids() {
        let body = r#"{"type":"Transaction.Cancelled","timestamp":"2024-04-25T10:00:00.000Z","later":true,
            "data":{"paymentId":"p","storeId":"store-1","transactionId":"t","cancellationId":"c","more":[1]}}"#;
        let expected = Notice::Transaction {
            payment_id: "p".into(),
            store_id: Some("store-1".into()),
            transaction_id: Some("t".into()),
            cancellation_id: Some("c".into()),
            event: "Transaction.Cancelled".into(),
        };
        assert_eq!(json(body), expected);
        assert_eq!(
            parse(body.as_bytes(), None),
            Ok(expected),
            "without a content type it is JSON"
        );
    }

    #[test]
    fn every_known_type_is_known_and_needs_no_more_than_a_payment_id() {
        for event in TRANSACTION_EVENTS {
            let notice = json(&format!(
                r#"{{"type":"Transaction.{event}","data":{{"paymentId":"주문-1"}}}}"#
            ));
            let Notice::Transaction {
                payment_id,
                store_id: None,
                ..
            } = notice
            else {
                panic!("{event}: {notice:?}")
            };
            assert_eq!(payment_id, "주문-1");
        }
        for event in BILLING_KEY_EVENTS {
            assert_eq!(
                json(&format!(r#"{{"type":"BillingKey.{event}","data":{{}}}}"#)),
                Notice::BillingKey
            );
        }
    }

    #[test]
    fn the_older_version_is_read_from_json_and_from_a_form() {
        let expected = Notice::Transaction {
            payment_id: "주문/1 & 2".into(),
            store_id: None,
            transaction_id: Some("t".into()),
            cancellation_id: None,
            event: "Transaction.VirtualAccountIssued".into(),
        };
        assert_eq!(
            json(r#"{"payment_id":"주문/1 & 2","tx_id":"t","status":"VirtualAccountIssued"}"#),
            expected
        );
        let form = b"payment_id=%EC%A3%BC%EB%AC%B8%2F1+%26+2&tx_id=t&status=VirtualAccountIssued";
        assert_eq!(
            parse(form, Some("Application/X-WWW-Form-Urlencoded;charset=utf-8")),
            Ok(expected)
        );
    }

    #[test]
    fn unknown_types_and_shapes_are_unknown_not_errors() {
        assert_eq!(
            unknown_kind(r#"{"type":"Transaction.Teleported","data":{"paymentId":"p"}}"#),
            "Transaction.Teleported"
        );
        assert_eq!(
            unknown_kind(r#"{"type":"BillingKey.Melted","data":{}}"#),
            "BillingKey.Melted"
        );
        assert_eq!(unknown_kind(r#"{"type":"Settlement.Done"}"#), "Settlement.Done");
        assert_eq!(
            unknown_kind(r#"{"type":"Transaction.Paid","memo":"결제"}"#),
            "Transaction.Paid"
        );
        assert_eq!(unknown_kind(r#"{"type":7,"data":{"paymentId":"p"}}"#), "");
        assert_eq!(unknown_kind(r#"{"payment_id":"p","status":"Gone"}"#), "Gone");
        for body in ["{}", "[]", "null", "7", r#""text""#, r#"{"payment_id":"p"}"#] {
            assert_eq!(unknown_kind(body), "");
        }
        assert_eq!(
            unknown_kind(&format!(r#"{{"type":"{}"}}"#, "가".repeat(500))),
            "가".repeat(64)
        );
        assert_eq!(
            parse(b"a=1", Some("application/x-www-form-urlencoded")),
            Ok(unknown(""))
        );
    }

    #[test]
    fn a_payment_id_that_can_name_nothing_is_unknown() {
        let long = "p".repeat(256);
        for id in [
            r#""""#,
            r#""a\u0000b""#,
            r#""a\nb""#,
            "7",
            "null",
            &format!(r#""{long}""#),
        ] {
            assert_eq!(
                unknown_kind(&format!(r#"{{"type":"Transaction.Paid","data":{{"paymentId":{id}}}}}"#)),
                "Transaction.Paid"
            );
        }
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        for body in ["", "payment_id=p&status=Paid", "{", "{}{}", "\u{feff}{}"] {
            assert_eq!(parse(body.as_bytes(), JSON), Err(ParseError), "{body}");
        }
        assert_eq!(parse(b"\"\xff\"", JSON), Err(ParseError));
        assert_eq!(
            parse("[".repeat(60_000).as_bytes(), JSON),
            Err(ParseError),
            "deep nesting does not overflow the stack"
        );
    }
}
