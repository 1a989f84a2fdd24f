//! Orders, for whoever runs the shop. Opening an order's personal data leaves a line in the log.

use axum::extract::State;
use chrono::NaiveDate;
use jangbu_domain::Order;
use jangbu_events::{CancelReason, OrderId, Orderer, RefundReason};
use jangbu_projections::{
    korea::DayRange,
    order_history::{self, OrderFilter, OrderRow, OrderStatus, Origin},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Admin,
    checks::Checks,
    context::RequestContext,
    extract::{Path, Query},
    keys::{Command, json_body},
    orders::{self, Reader, Whole},
    past::{self, Dated, PastQuery},
    problem::{Code, FieldError, Problem, Text},
    products::limit,
    progress::MinPosition,
    refund_account::{self, RefundAccountInput},
    views::{Answer, List, OrderListItem, OrderView, OrdererView, PageView, Won},
};
use crate::as_of::AsOf;

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// `placed`, `awaiting_payment`, `confirmed`, `cancelled`, `refused`, `expired` or `imported`.
    status: Option<String>,
    /// Placed on this day in Korea or later.
    from: Option<NaiveDate>,
    /// Placed on this day in Korea or earlier.
    to: Option<NaiveDate>,
    /// With exactly this number.
    number: Option<String>,
    /// Imported, of exactly this buyer.
    external_customer: Option<String>,
    /// 1 to 1,000; 50 by default.
    limit: Option<u32>,
    /// `page.next` of the page before.
    after: Option<String>,
    /// As it was then: a time (`2026-08-01T00:00:00+09:00`), the end of a day in Korea (`2026-07-31`), or a
    /// position of the log. Then `after` needs the position that the first page came to.
    #[param(value_type = Option<String>)]
    as_of: Option<AsOf>,
}

/// Why the shop calls an order off or gives money back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The shop's own.
    #[default]
    Operator,
    /// The buyer asked for it.
    Customer,
}

/// Calls an order off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "operator"}))]
pub struct CancelOrder {
    /// `operator` by default.
    #[serde(default)]
    reason: Reason,
    /// Where the money goes to. Needed where it came by bank transfer; passed over, and not kept,
    /// where it goes back the way it came.
    refund_account: Option<RefundAccountInput>,
}

/// Gives some money back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"amount": {"amount": 10_000, "currency": "KRW"}, "reason": "customer"}))]
pub struct RefundOrder {
    /// 1 won to what is left.
    amount: Won,
    /// `operator` by default.
    #[serde(default)]
    reason: Reason,
    /// Where it goes to, as with `cancel`.
    refund_account: Option<RefundAccountInput>,
}

json_body!(key required: CancelOrder, RefundOrder);

impl From<Reason> for CancelReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Operator => Self::Operator,
            Reason::Customer => Self::Customer,
        }
    }
}

impl From<Reason> for RefundReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Operator => Self::Operator,
            Reason::Customer => Self::Customer,
        }
    }
}

/// The shop's orders, newest first, with masked names, as they are or as they were at a moment of the past.
#[utoipa::path(get, path = "/api/v1/admin/orders", tag = "admin", security(("admin" = [])),
    params(ListQuery, ("Jangbu-Min-Position" = Option<i64>, Header)),
    responses((status = 200, body = Dated<List<OrderListItem>>),
        (status = 422, description = "validation_failed, log_too_long"), (status = 503, description = "busy"),
        (status = 504, description = "projection_behind")))]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    min: MinPosition,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Dated<List<OrderListItem>>>, Problem> {
    let limit = limit(query.limit, 50, 1_000)?;
    let status = match query.status.as_deref().map(str::parse::<OrderStatus>) {
        Some(Err(error)) => {
            let detail = Text::new(error.to_string(), "허용되지 않는 값입니다.");
            return Err(Problem::field(FieldError::parameter("status", "not_allowed", detail)));
        }
        Some(Ok(status)) => Some(status),
        None => None,
    };
    let days = (query.from.is_some() || query.to.is_some())
        .then(|| DayRange::new(query.from.unwrap_or(NaiveDate::MIN), query.to.unwrap_or(NaiveDate::MAX)));
    let moment = past::moment(&app, query.as_of).await?;
    let filter = OrderFilter {
        status,
        days,
        order_number: query.number.as_deref().map(without_null),
        external_customer: query.external_customer.as_deref().map(without_null),
    };
    let after = query.after.as_deref();
    let (position, page) = if let Some(moment) = moment {
        let mut tables = app.reports.tables(&app, "order_history", moment).await?;
        let page = order_history::admin_list(tables.connection(), filter, after, limit).await?;
        (moment.position, page)
    } else {
        let position = app.progress.of(&app, "order_history", min).await?;
        let page = order_history::admin_list(app.query_pool().pool(), filter, after, limit).await?;
        (position, page)
    };
    let orderers = orderers(&app, &page.rows).await?;
    let data = page.rows.into_iter().zip(orderers);
    let list = List {
        data: data.map(|(row, orderer)| OrderListItem::of(row, orderer)).collect(),
        page: PageView {
            has_more: page.next.is_some(),
            next: page.next,
        },
    };
    Ok(Answer::ok(Dated::new(list, moment)).at(position))
}

/// PostgreSQL takes no U+0000 in a text, and nothing is called so.
fn without_null(text: &str) -> &str {
    if text.contains('\0') { "-" } else { text }
}

/// Who ordered each, masked; opened with one read.
async fn orderers(app: &App, rows: &[OrderRow]) -> Result<Vec<Option<OrdererView>>, Problem> {
    let sealed = |row: &OrderRow| match &row.origin {
        Origin::Shop(order) => Some(order.orderer.clone()),
        Origin::Imported { .. } => None,
    };
    let mut ids: Vec<_> = rows.iter().filter_map(sealed).map(|orderer| orderer.key_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let keys = if ids.is_empty() {
        std::collections::HashMap::new()
    } else {
        app.sealer.keys(app.log.pool(), &ids).await?
    };
    rows.iter()
        .map(|row| {
            let Some(orderer) = sealed(row) else { return Ok(None) };
            let Some(key) = keys.get(&orderer.key_id) else {
                return Ok(None);
            };
            let opened: Orderer = key.open("orderer", &orderer)?;
            Ok(Some(OrdererView::masked(&opened)))
        })
        .collect()
}

/// One order as it is now, or was at a moment of the past, with its personal data in clear.
#[utoipa::path(get, path = "/api/v1/admin/orders/{order_id}", tag = "admin", security(("admin" = [])),
    params(("order_id" = String, Path, description = "`ord_…`"), PastQuery),
    responses((status = 200, body = Dated<OrderView>), (status = 404, description = "order_not_found"),
        (status = 422, description = "validation_failed")))]
pub async fn one(
    State(app): State<App>,
    context: RequestContext,
    admin: Admin,
    Path(id): Path<OrderId>,
    Query(query): Query<PastQuery>,
) -> Result<Answer<Dated<OrderView>>, Problem> {
    let moment = past::moment(&app, query.as_of).await?;
    let whole = Whole::load_as_of(&app, id, moment).await?;
    let view = whole.view(&app, Reader::Entitled).await?;
    opened(&context, &admin, id, "read");
    let position = moment.map_or(whole.position(), |moment| moment.position);
    Ok(Answer::ok(Dated::new(view, moment)).at(position))
}

/// Who saw whose personal data, and why (KOREA S1).
pub fn opened(context: &RequestContext, admin: &Admin, id: OrderId, purpose: &'static str) {
    tracing::info!(
        target: "jangbu::audit",
        { request.id = context.id(), actor.id = admin.0, order.id = %id, purpose },
        "personal data was opened"
    );
}

/// Calls an order off: at once while it is not paid for, otherwise by asking for all its money to go
/// back.
#[utoipa::path(post, path = "/api/v1/admin/orders/{order_id}/cancel", tag = "admin", security(("admin" = [])),
    params(("order_id" = String, Path, description = "`ord_…`"),
        ("Idempotency-Key" = String, Header, description = "chosen by the client, required")),
    request_body = CancelOrder,
    responses((status = 200, body = OrderView), (status = 400, description = "idempotency_key_required"),
        (status = 404, description = "order_not_found"),
        (status = 409, description = "order_ended, order_imported, refund_in_progress"),
        (status = 422, description = "refund_account_required, validation_failed")))]
pub async fn cancel(
    State(app): State<App>,
    context: RequestContext,
    admin: Admin,
    Path(id): Path<OrderId>,
    command: Command<CancelOrder>,
) -> Result<Answer<OrderView>, Problem> {
    let whole = existing(&app, id).await?;
    let account = refund_account::sealed_if_given(&app, whole.order(), command.body.refund_account.as_ref()).await?;
    let reason = command.body.reason;
    let answer = orders::call_off(&app, whole, (reason.into(), reason.into()), account, &command).await?;
    opened(&context, &admin, id, "cancel");
    Ok(answer)
}

/// Asks for some of an order's money to go back. When all has, the order is cancelled.
#[utoipa::path(post, path = "/api/v1/admin/orders/{order_id}/refund", tag = "admin", security(("admin" = [])),
    params(("order_id" = String, Path, description = "`ord_…`"),
        ("Idempotency-Key" = String, Header, description = "chosen by the client, required")),
    request_body = RefundOrder,
    responses((status = 200, body = OrderView), (status = 400, description = "idempotency_key_required"),
        (status = 404, description = "order_not_found"),
        (status = 409, description = "payment_not_paid, refund_exceeds_rest, refund_in_progress, order_imported"),
        (status = 422, description = "refund_account_required, validation_failed")))]
pub async fn refund(
    State(app): State<App>,
    context: RequestContext,
    admin: Admin,
    Path(id): Path<OrderId>,
    command: Command<RefundOrder>,
) -> Result<Answer<OrderView>, Problem> {
    let mut checks = Checks::default();
    let amount = command.body.amount.0;
    checks.amount("/amount", amount, 1);
    checks.done()?;
    let whole = existing(&app, id).await?;
    if matches!(whole.order(), Order::Imported(_)) {
        return Err(Code::OrderImported.into());
    }
    let account = refund_account::sealed_if_given(&app, whole.order(), command.body.refund_account.as_ref()).await?;
    let reason = command.body.reason.into();
    let answer = orders::refund(&app, whole, Some(amount), reason, account, &command).await?;
    opened(&context, &admin, id, "refund");
    Ok(answer)
}

async fn existing(app: &App, id: OrderId) -> Result<Whole, Problem> {
    let whole = Whole::load(app, id).await?;
    if matches!(whole.order(), Order::NotPlaced) {
        return Err(Code::OrderNotFound.into());
    }
    Ok(whole)
}
