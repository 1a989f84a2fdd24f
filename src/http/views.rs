//! What answers look like: plain values with stable names, times in Korean time, money in won.

mod carts;
mod orders;
mod payments;
mod products;

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::SecondsFormat;
use jangbu_events::{Money, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

pub use self::{
    carts::{CartView, NewCartView},
    orders::{LookedUpOrderView, OrderListItem, OrderView, OrdererView, People, RecipientView, ShortageView},
    payments::{PaymentView, SettledView},
    products::{AdminProductView, ProductView, StockLevelView},
};
use crate::{clock::korean_time, executor::Committed};

/// How far the answering side had come in the log.
pub const POSITION: HeaderName = HeaderName::from_static("jangbu-position");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({"amount": 39000, "currency": "KRW"}))]
pub struct MoneyView {
    /// Whole won.
    pub amount: i64,
    /// Always `KRW`.
    pub currency: &'static str,
}

impl From<Money> for MoneyView {
    fn from(money: Money) -> Self {
        Self {
            amount: money.amount,
            currency: "KRW",
        }
    }
}

/// An amount as clients may send it: `{"amount": 39000, "currency": "KRW"}`, or just `39000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = Object, example = json!({"amount": 39000, "currency": "KRW"}))]
pub struct Won(pub i64);

impl Won {
    /// As money.
    pub const fn money(self) -> Money {
        Money::won(self.0)
    }
}

impl<'de> Deserialize<'de> for Won {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Won;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("whole won, as a number or as {\"amount\", \"currency\": \"KRW\"}")
            }
            fn visit_i64<E: de::Error>(self, amount: i64) -> Result<Won, E> {
                Ok(Won(amount))
            }
            fn visit_u64<E: de::Error>(self, amount: u64) -> Result<Won, E> {
                // Far outside of what any amount may be; refused as such where it is used.
                Ok(Won(i64::try_from(amount).unwrap_or(i64::MAX)))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Won, A::Error> {
                let money = Money::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Won(money.amount))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// RFC 3339 in Korean time: `2026-03-02T13:05:06.000+09:00`.
pub fn time(at: Timestamp) -> String {
    korean_time(at).to_rfc3339_opts(SecondsFormat::Millis, false)
}

/// The word that JSON has for a plain enum.
pub fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("a plain enum is a word in JSON, not {other:?}"),
    }
}

/// Some rows of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<R> {
    /// The rows.
    pub data: Vec<R>,
    /// How to go on.
    pub page: PageView,
}

/// How a list goes on.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageView {
    /// What to pass as `after` for the next page; null at the end.
    pub next: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}

impl<R> List<R> {
    /// Of a page of a projection.
    pub fn of<S>(page: jangbu_projections::page::Page<S>, view: impl FnMut(S) -> R) -> Self {
        Self {
            page: PageView {
                has_more: page.next.is_some(),
                next: page.next,
            },
            data: page.rows.into_iter().map(view).collect(),
        }
    }
}

/// The answer to a command, or to a question about one thing.
#[derive(Debug)]
pub struct Answer<V> {
    status: StatusCode,
    view: V,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl<V> Answer<V> {
    /// 200, without a position.
    pub const fn ok(view: V) -> Self {
        Self {
            status: StatusCode::OK,
            view,
            headers: Vec::new(),
        }
    }

    /// 200 to a command: where it stands in the log, and whether it had been carried out before.
    pub fn to<A: jangbu_domain::Decide>(committed: &Committed<A>, view: V) -> Self {
        Self::ok(view).at(committed.position).replayed(committed.duplicate)
    }

    /// Another status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// 201, and where the new thing is.
    #[must_use]
    pub fn created(self, location: &str) -> Self {
        let location = HeaderValue::from_str(location).expect("addresses of ids are plain");
        self.status(StatusCode::CREATED).header(header::LOCATION, location)
    }

    /// How far in the log the answer is.
    #[must_use]
    pub fn at(self, position: i64) -> Self {
        self.header(POSITION, position.into())
    }

    /// Whether this is the answer of an earlier request with the same key.
    #[must_use]
    pub fn replayed(self, duplicate: bool) -> Self {
        if duplicate {
            self.header(REPLAYED, HeaderValue::from_static("true"))
        } else {
            self
        }
    }

    /// The version for `If-Match`.
    #[must_use]
    pub fn version(self, sequence: i64) -> Self {
        let tag = HeaderValue::from_str(&format!("\"v{sequence}\"")).expect("digits are plain");
        self.header(header::ETAG, tag)
    }

    fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl<V: Serialize> IntoResponse for Answer<V> {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.view)).into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use jangbu_events::PayMethod;

    use super::*;

    #[test]
    fn times_are_korean() {
        let at = "2026-03-01T15:00:00.123456Z".parse().expect("a time");
        assert_eq!(time(at), "2026-03-02T00:00:00.123+09:00");
    }

    #[test]
    fn an_amount_may_be_a_number_or_money() {
        let won = |json: &str| serde_json::from_str::<Won>(json).ok();
        assert_eq!(won("39000"), Some(Won(39_000)));
        assert_eq!(won(r#"{"amount":39000,"currency":"KRW"}"#), Some(Won(39_000)));
        assert_eq!(won("-1"), Some(Won(-1)));
        assert_eq!(won("18446744073709551615"), Some(Won(i64::MAX)));
        for bad in [
            "39000.0",
            "1e3",
            "\"39000\"",
            r#"{"amount":1,"currency":"USD"}"#,
            r#"{"amount":1}"#,
            "null",
        ] {
            assert_eq!(won(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_enum_is_its_word() {
        assert_eq!(word(PayMethod::VirtualAccount), "VIRTUAL_ACCOUNT");
    }
}
