//! The payment lists, which a shop's reconciliation walks.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::attempt::Attempt;
use super::errors::ApiError;
use super::payment::Payment;
use super::view;
use crate::config::ChannelType;

/// `(number + 1) × size` may not pass this.
const REACH_MAX: u64 = 60_000;
/// The largest page; PortOne documents none.
const PAGE_SIZE_MAX: u64 = 1_000;
const PAGE_SIZE_DEFAULT: u64 = 10;
/// `from` is so long before `until` if it is not given.
const WINDOW: TimeDelta = TimeDelta::days(90);

/// Filters that are not simulated are refused by name rather than ignored: ignoring one gives wrong answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ListBody {
    page: Page,
    filter: Filter,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    number: Option<u64>,
    size: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Filter {
    merchant_id: Option<String>,
    store_id: Option<String>,
    timestamp_type: Option<TimestampType>,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    status: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    is_test: Option<bool>,
    sort_by: Option<SortBy>,
    sort_order: Option<SortOrder>,
    version: Option<String>,
    currency: Option<String>,
    text_search: Option<Vec<TextSearch>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum TimestampType {
    CreatedAt,
    StatusChangedAt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum SortBy {
    RequestedAt,
    StatusChangedAt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum SortOrder {
    Asc,
    Desc,
}

#[derive(Debug, Deserialize)]
struct TextSearch {
    field: TextField,
    value: String,
}

/// The search fields that are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum TextField {
    All,
    PaymentId,
    TxId,
    PgTxId,
    OrderName,
    CustomerName,
    CustomerEmail,
    CustomerPhoneNumber,
    VirtualAccountNumber,
    FailReason,
    CancelReason,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct CursorBody {
    store_id: Option<String>,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    cursor: Option<String>,
    size: Option<u64>,
}

fn parse<T: for<'de> Deserialize<'de>>(body: Value) -> Result<T, ApiError> {
    // An array would be read as the fields in their order.
    if !body.is_object() {
        return Err(ApiError::InvalidRequest("requestBody must be an object".to_owned()));
    }
    serde_json::from_value(body).map_err(|error| ApiError::InvalidRequest(format!("requestBody: {error}")))
}

/// Removes `null`s, which the API treats as absent.
fn without_nulls(body: Value) -> Value {
    match body {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}

impl Filter {
    fn admits(&self, payment: &Payment, attempt: &Attempt, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let opening = &attempt.opening;
        let at = match self.timestamp_type.unwrap_or(TimestampType::CreatedAt) {
            TimestampType::CreatedAt => attempt.requested_at,
            TimestampType::StatusChangedAt => attempt.status_changed_at,
        };
        let among = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref()
                .is_none_or(|list| list.is_empty() || list.iter().any(|wanted| wanted == name))
        };
        let is_test = opening.channel_type == ChannelType::Test;
        (from..=until).contains(&at)
            && among(&self.status, attempt.status.filter_name())
            && among(&self.methods, opening.method.filter_name())
            && self.is_test.is_none_or(|wanted| wanted == is_test)
            && self.version.as_deref().is_none_or(|version| version == "V2")
            && self
                .currency
                .as_ref()
                .is_none_or(|currency| *currency == opening.currency)
            && self.merchant_id.as_deref().is_none_or(|id| id == view::MERCHANT_ID)
            && self
                .text_search
                .iter()
                .flatten()
                .all(|search| search.finds(payment, attempt))
    }
}

impl TextSearch {
    /// Ids match as a whole, texts in part.
    fn finds(&self, payment: &Payment, attempt: &Attempt) -> bool {
        let wanted = self.value.as_str();
        let customer = |name: &str| {
            attempt.opening.customer[name]
                .as_str()
                .is_some_and(|text| text.contains(wanted))
        };
        let one = |field: TextField| match field {
            TextField::All => false,
            TextField::PaymentId => payment.id == wanted,
            TextField::TxId => payment.attempts.iter().any(|attempt| attempt.transaction_id == wanted),
            TextField::PgTxId => attempt.pg_tx_id.as_deref() == Some(wanted),
            TextField::OrderName => attempt.opening.order_name.contains(wanted),
            TextField::CustomerName => customer("name"),
            TextField::CustomerEmail => customer("email"),
            TextField::CustomerPhoneNumber => customer("phoneNumber"),
            TextField::VirtualAccountNumber => attempt.account.as_ref().is_some_and(|account| account.number == wanted),
            TextField::FailReason => attempt
                .failure
                .as_ref()
                .is_some_and(|failure| failure.reason.contains(wanted)),
            TextField::CancelReason => payment.cancellations.iter().any(|done| done.reason.contains(wanted)),
        };
        match self.field {
            TextField::All => {
                use TextField as F;
                let ids = [F::PaymentId, F::TxId, F::PgTxId, F::VirtualAccountNumber];
                let texts = [F::OrderName, F::CustomerName, F::CustomerEmail, F::CustomerPhoneNumber];
                let reasons = [F::FailReason, F::CancelReason];
                ids.into_iter().chain(texts).chain(reasons).any(one)
            }
            field => one(field),
        }
    }
}

/// Place in a list: time, then arrival.
type Place = (DateTime<Utc>, u64);

impl Sandbox {
    /// `GET /payments`.
    pub(super) fn list(&self, body: Value) -> Result<Value, ApiError> {
        let ListBody { page, filter } = parse(without_nulls(body))?;
        let (number, size) = (page.number.unwrap_or(0), page.size.unwrap_or(PAGE_SIZE_DEFAULT));
        check_size(size)?;
        if number.saturating_add(1).saturating_mul(size) > REACH_MAX {
            return Err(ApiError::InvalidRequest(format!(
                "(number + 1) * size must be at most {REACH_MAX}"
            )));
        }
        self.own_store(filter.store_id.as_deref())?;
        let until = filter.until.unwrap_or_else(|| self.config.clock.now());
        let from = filter.from.unwrap_or(until - WINDOW);
        let mut found = self.matching(|payment, attempt| {
            filter
                .admits(payment, attempt, from, until)
                .then(|| match filter.sort_by.unwrap_or(SortBy::RequestedAt) {
                    SortBy::RequestedAt => attempt.requested_at,
                    SortBy::StatusChangedAt => attempt.status_changed_at,
                })
        });
        if filter.sort_order.unwrap_or(SortOrder::Desc) == SortOrder::Desc {
            found.reverse();
        }
        let skip = usize::try_from(number * size).expect("at most 60000");
        let take = usize::try_from(size).expect("at most 1000");
        let total_count = found.len();
        let page_of = found.into_iter().skip(skip).take(take);
        let items: Vec<Value> = page_of.filter_map(|(_, id)| self.shown(&id)).collect();
        Ok(json!({"items": items, "page": {"number": number, "size": size, "totalCount": total_count}}))
    }

    /// `GET /payments-by-cursor`: in order of request, each with the cursor to go on from.
    pub(super) fn list_by_cursor(&self, body: Value) -> Result<Value, ApiError> {
        let body: CursorBody = parse(without_nulls(body))?;
        let size = body.size.unwrap_or(PAGE_SIZE_DEFAULT);
        check_size(size)?;
        self.own_store(body.store_id.as_deref())?;
        let until = body.until.unwrap_or_else(|| self.config.clock.now());
        let from = body.from.unwrap_or(until - WINDOW);
        let after = match body.cursor.as_deref().map(read_cursor) {
            None => None,
            Some(Some(place)) => Some(place),
            Some(None) => return Err(ApiError::InvalidRequest("cursor is not one of ours".to_owned())),
        };
        let found = self.matching(|payment, attempt| {
            let at = attempt.requested_at;
            let place = (at.timestamp_millis(), payment.sequence);
            ((from..=until).contains(&at) && after.is_none_or(|after| place > after)).then_some(at)
        });
        let items: Vec<Value> = found
            .into_iter()
            .take(usize::try_from(size).expect("at most 1000"))
            .filter_map(|((at, sequence), id)| {
                let payment = self.shown(&id)?;
                Some(json!({"payment": payment, "cursor": format!("{}-{sequence}", at.timestamp_millis())}))
            })
            .collect();
        Ok(json!({"items": items}))
    }

    /// This store's payments that are wanted, in rising order of the time that `want` gives.
    fn matching(&self, want: impl Fn(&Payment, &Attempt) -> Option<DateTime<Utc>>) -> Vec<(Place, String)> {
        let mut found = Vec::new();
        self.store.each(|payment| {
            if payment.store_id == self.config.store_id
                && let Some(attempt) = payment.current()
                && let Some(at) = want(payment, attempt)
            {
                found.push(((at, payment.sequence), payment.id.clone()));
            }
        });
        found.sort_unstable_by_key(|(place, _)| *place);
        found
    }
}

fn check_size(size: u64) -> Result<(), ApiError> {
    if (1..=PAGE_SIZE_MAX).contains(&size) {
        Ok(())
    } else {
        Err(ApiError::InvalidRequest(format!(
            "size must be from 1 to {PAGE_SIZE_MAX}"
        )))
    }
}

fn read_cursor(text: &str) -> Option<(i64, u64)> {
    let (millis, sequence) = text.split_once('-')?;
    Some((millis.parse().ok()?, sequence.parse().ok()?))
}
