//! `GET /api/v1/events`: everything that happens, for programs of others. In pages, or as a stream of
//! server-sent events that goes on as long as both sides like.

mod stream;

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderMap, header, request::Parts},
    response::{IntoResponse, Response},
};
use jangbu_events::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use self::stream::{Streams, give_up_on_the_silent};
use super::{
    App,
    auth::Admin,
    extract::Query,
    problem::{Code, FieldError, Problem, Text},
    products::limit,
    views::Answer,
};
use crate::feed::{
    pages::{self, Cursor, PageError, Types},
    public::PublicEvent,
};

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// What was seen: `next` of the page before, or a position of the log. From the beginning without it.
    after: Option<String>,
    /// Only of these types, with commas between them: `order.confirmed,order.cancelled`.
    types: Option<String>,
    /// 1 to 1,000; 100 by default. A page of large events has fewer. Of no meaning to a stream.
    limit: Option<u32>,
}

/// Some events of the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventPage {
    /// In position order. Without `types` no position is missing.
    data: Vec<PublicEvent>,
    /// How to go on.
    page: EventPageView,
}

/// How far the log was looked at.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"next": "019cb3f0a1b27c3d8e4f5a6b7c8d9e0f:7259", "position": 7259, "head": 7300, "has_more": true,
    "log_id": "019cb3f0a1b27c3d8e4f5a6b7c8d9e0f"}))]
pub struct EventPageView {
    /// What to pass as `after` next, now or once there is more. Never null: it moves on also where no
    /// event is of the types.
    next: String,
    /// The position in it.
    position: i64,
    /// The last position of the log.
    head: i64,
    /// Whether there is more to look at now.
    has_more: bool,
    /// Which log the positions are of; another one after a restore.
    log_id: String,
}

/// From where, and what.
#[derive(Debug)]
pub struct Asked {
    after: Cursor,
    types: Types,
    limit: i64,
    stream: bool,
    /// When the token ends, if it ever does.
    token_ends_at: Option<Timestamp>,
}

impl FromRequestParts<App> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        // Before anything else: what is wrong with a stranger's request is not for the stranger to know.
        Admin::from_request_parts(parts, app).await?;
        let Query(query) = Query::<EventsQuery>::from_request_parts(parts, app).await?;
        let stream = wants_a_stream(&parts.headers);
        let mut after = cursor("after", query.after.as_deref())?;
        if stream {
            // A browser comes back with its first address and the id of the last event that it has seen.
            let seen = parts
                .headers
                .get("last-event-id")
                .map(|value| value.to_str().unwrap_or("?"));
            after = cursor("Last-Event-ID", seen.filter(|text| !text.is_empty()))?.or(after);
        }
        Ok(Self {
            after: after.unwrap_or(Cursor::START),
            types: types(query.types.as_deref())?,
            limit: limit(query.limit, 100, 1_000)?.into(),
            stream,
            token_ends_at: app.tokens.ends_at(&parts.headers),
        })
    }
}

fn cursor(name: &str, text: Option<&str>) -> Result<Option<Cursor>, Problem> {
    let wrong = |error: pages::CursorError| {
        let korean = "앞선 응답이 준 커서이거나 로그의 위치여야 합니다.";
        Problem::field(FieldError::parameter(
            name,
            "wrong_type",
            Text::new(error.to_string(), korean),
        ))
    };
    text.map(str::parse).transpose().map_err(wrong)
}

fn types(text: Option<&str>) -> Result<Types, Problem> {
    let names = text.into_iter().flat_map(|text| text.split(','));
    Types::named(names).map_err(|unknown| unknown_type(&unknown).at_parameter("types"))
}

/// No event is called so.
pub fn unknown_type(names: &[String]) -> Problem {
    let list = names.join(", ");
    Problem::new(Code::UnknownEventType)
        .detail(
            format!("There is no event type {list:?}."),
            format!("{list:?} 종류의 이벤트는 없습니다."),
        )
        .fact("unknown", names)
}

/// Whether the client says that it takes a stream; anything else gets pages.
fn wants_a_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| {
            let name = range.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("text/event-stream")
        })
}

/// What happened, in order. With `Accept: text/event-stream` it is a stream: `id` is the cursor, `data` an
/// event, `Last-Event-ID` takes it up again. Names, phones, addresses and accounts are not in it.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", security(("admin" = [])),
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "Of a stream: goes before `after`")),
    responses((status = 200, content((EventPage = "application/json"), (String = "text/event-stream"))),
        (status = 400, description = "unknown_event_type"), (status = 409, description = "cursor_of_another_log"),
        (status = 422, description = "validation_failed"), (status = 503, description = "too_many_streams")))]
pub async fn list(State(app): State<App>, asked: Asked) -> Result<Response, Problem> {
    let Asked {
        after,
        types,
        limit,
        stream,
        token_ends_at,
    } = asked;
    if stream {
        return stream::open(app, after, types, token_ends_at).await;
    }
    let page = pages::page(app.log.pool(), after, &types, limit).await?;
    let answer = EventPage {
        page: EventPageView {
            next: Cursor::new(page.log, page.through).to_string(),
            position: page.through,
            head: page.head,
            has_more: page.through < page.head,
            log_id: page.log.simple().to_string(),
        },
        data: page
            .events
            .iter()
            .map(PublicEvent::of)
            .collect::<Result<_, _>>()
            .map_err(Problem::internal)?,
    };
    Ok(Answer::ok(answer).into_response())
}

impl From<PageError> for Problem {
    fn from(error: PageError) -> Self {
        match error {
            PageError::OtherLog { log, head } => Self::new(Code::CursorOfAnotherLog)
                .detail(
                    "The log was restored since: compare what you have with what is there now, from the beginning.",
                    "그 뒤에 로그가 복구되었습니다. 처음부터 다시 읽어 가진 것과 맞춰 보세요.",
                )
                .fact("log_id", log.simple().to_string())
                .fact("head", head),
            PageError::BeyondHead { head } => Self::field(FieldError::parameter(
                "after",
                "beyond_the_log",
                Text::new(
                    format!("the log ends at {head}"),
                    format!("로그는 {head}번 위치까지 있습니다."),
                ),
            )),
            PageError::Hole { .. } => Self::internal(error),
            PageError::Database(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_for_those_who_say_so() {
        let accepts = |value: &'static str| {
            let headers = [(header::ACCEPT, value.parse().expect("a value"))];
            wants_a_stream(&headers.into_iter().collect())
        };
        assert!(accepts("text/event-stream"));
        assert!(accepts("application/json;q=0.5, Text/Event-Stream; q=0.9"));
        for other in ["*/*", "application/json", "", "text/*"] {
            assert!(!accepts(other), "{other}");
        }
        assert!(!wants_a_stream(&HeaderMap::new()));
    }
}
