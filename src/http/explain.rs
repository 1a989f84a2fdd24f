//! `GET /admin/orders/{id}/explain`: how an order came to be what it is.

use axum::extract::State;
use jangbu_events::OrderId;

use super::{
    App,
    auth::Admin,
    extract::Path,
    problem::{Code, Problem},
    views::Answer,
};
use crate::explain::{self, ExplainError, Explanation};

/// Every command, who gave it, the events that it left and what followed from them, without anything that
/// names a person.
#[utoipa::path(get, path = "/api/v1/admin/orders/{order_id}/explain", tag = "admin", security(("admin" = [])),
    params(("order_id" = String, Path, description = "`ord_…`")),
    responses((status = 200, body = Explanation), (status = 404, description = "order_not_found")))]
pub async fn one(State(app): State<App>, _: Admin, Path(id): Path<OrderId>) -> Result<Answer<Explanation>, Problem> {
    let explanation = explain::explain(&app.log, id).await?;
    let position = explanation.position;
    Ok(Answer::ok(explanation).at(position))
}

impl From<ExplainError> for Problem {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::NotFound => Code::OrderNotFound.into(),
            ExplainError::Load(error) => error.into(),
        }
    }
}
