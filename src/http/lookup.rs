//! A guest who has lost the token finds an order by its number and the orderer's phone (KOREA G2 to
//! G4). A wrong guess and an unknown order cannot be told apart, by what is said or by how long it
//! takes, and there are few guesses.

use std::time::Duration;

use axum::extract::{FromRequest, Request, State};
use jangbu_domain::Order;
use jangbu_events::{AggregateId, OrderId, Phone, StoreId};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    App,
    checks::Checks,
    context::RequestContext,
    extract::{json, read_body, require_json},
    orders::{Reader, Whole},
    problem::{Code, Problem},
    views::{Answer, LookedUpOrderView},
};
use crate::checkout::read_order_number;

/// No answer comes sooner, so that what the database happens to have in memory does not show.
const ANSWER_AFTER: Duration = Duration::from_millis(60);

/// Which order, and proof of being its orderer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"number": "260302-7K3M9QXW", "phone": "010-1234-5678"}))]
pub struct LookUp {
    /// `yymmdd-XXXXXXXX`, in upper or lower case.
    number: String,
    /// The orderer's, in any spelling.
    phone: String,
}

impl std::fmt::Debug for LookUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LookUp([personal])")
    }
}

impl FromRequest<App> for LookUp {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body).await?;
        require_json(&parts.headers)?;
        json(&bytes)
    }
}

/// Shows an order to whoever knows its number and the orderer's phone, with masked personal data.
/// Five wrong guesses in 15 minutes, by number and by address.
#[utoipa::path(post, path = "/api/v1/orders/lookup", tag = "orders", request_body = LookUp,
    responses((status = 200, body = LookedUpOrderView), (status = 404, description = "order_not_found"),
        (status = 422, description = "validation_failed"), (status = 429, description = "rate_limited")))]
pub async fn look_up(
    State(app): State<App>,
    context: RequestContext,
    body: LookUp,
) -> Result<Answer<LookedUpOrderView>, Problem> {
    let answer_at = Instant::now() + ANSWER_AFTER;
    let mut checks = Checks::default();
    let phone = checks.parse("/phone", &body.phone);
    let phone = checks.finish(phone)?;
    let number = read_order_number(&body.number);
    app.limits.lookup(context.address(), &number, app.surroundings.now())?;
    let found = find(&app, &number, &phone).await;
    tokio::time::sleep_until(answer_at).await;
    let Some(whole) = found? else {
        return Err(Code::OrderNotFound.into());
    };
    app.limits.lookup_found(context.address(), &number);
    let order = whole.view(&app, Reader::Stranger).await?;
    Ok(Answer::ok(LookedUpOrderView { order, masked: true }).at(whole.position()))
}

/// The same reads whether there is such an order or not: an order that is not there is looked for
/// under an id that nobody has.
async fn find(app: &App, number: &str, phone: &Phone) -> Result<Option<Whole>, Problem> {
    let owner = app.log.key_owner(StoreId::DEFAULT, "order_number", number).await?;
    let nobody = app.surroundings.ids.uuid();
    let id = owner
        .and_then(|owner| owner.parse().ok())
        .unwrap_or_else(|| OrderId::from_uuid(nobody));
    let order = app.executor.load::<Order>(id).await?;
    let key_id: Uuid = order.state.details().map_or(nobody, |details| details.orderer.key_id);
    let matches = app.sealer.phone_matches(app.log.pool(), key_id, phone).await?;
    if !matches {
        return Ok(None);
    }
    Whole::with_payment(app, id, order).await.map(Some)
}
