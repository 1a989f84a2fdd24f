//! Stock, for whoever runs the warehouse.

use axum::extract::State;
use jangbu_domain::{StockCommand, StockItem};
use jangbu_events::{AdjustReason, ProductId, Sku};
use jangbu_projections::stock_levels;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    admin_products::{require_product, require_product_as_of},
    auth::Admin,
    checks::Checks,
    extract::{Path, Query},
    keys::{Command, json_body},
    past::{self, Dated, PastQuery},
    problem::{Problem, Text},
    products::limit,
    progress::MinPosition,
    views::{Answer, List, StockLevelView},
};
use crate::{as_of::AsOf, executor::Committed};

/// Goods arrived.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"quantity": 100}))]
pub struct Receive {
    /// How many, at least 1.
    quantity: u32,
}

/// A count found more or fewer than the books say.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"delta": -2, "reason": "count"}))]
pub struct Adjust {
    /// To add, or to take away when negative; not 0.
    delta: i64,
    /// `count`, `damaged`, `lost`, `found`, `customer_return` or `other`: no free text, which may name a
    /// person.
    #[schema(value_type = String, example = "count")]
    reason: AdjustReason,
}

json_body!(Receive, Adjust);

/// Which stock to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only what has at most so many left: 0 is what is sold out.
    available_at_most: Option<i64>,
    /// 1 to 1,000; 50 by default.
    limit: Option<u32>,
    /// `page.next` of the page before.
    after: Option<String>,
    /// As it was then: a time (`2026-08-01T00:00:00+09:00`), the end of a day in Korea (`2026-07-31`), or a
    /// position of the log. Then `after` needs the position that the first page came to.
    #[param(value_type = Option<String>)]
    as_of: Option<AsOf>,
}

/// What is there of every sku, or was at a moment of the past.
#[utoipa::path(get, path = "/api/v1/admin/stock", tag = "admin", security(("admin" = [])),
    params(ListQuery, ("Jangbu-Min-Position" = Option<i64>, Header)),
    responses((status = 200, body = Dated<List<StockLevelView>>),
        (status = 422, description = "validation_failed, log_too_long"), (status = 503, description = "busy"),
        (status = 504, description = "projection_behind")))]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    min: MinPosition,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Dated<List<StockLevelView>>>, Problem> {
    let limit = limit(query.limit, 50, 1_000)?;
    let moment = past::moment(&app, query.as_of).await?;
    let (most, after) = (query.available_at_most, query.after.as_deref());
    let (position, page) = if let Some(moment) = moment {
        let mut tables = app.reports.tables(&app, "stock_levels", moment).await?;
        let page = stock_levels::list(tables.connection(), most, after, limit).await?;
        (moment.position, page)
    } else {
        let position = app.progress.of(&app, "stock_levels", min).await?;
        (
            position,
            stock_levels::list(app.query_pool().pool(), most, after, limit).await?,
        )
    };
    let list = List::of(page, StockLevelView::from);
    Ok(Answer::ok(Dated::new(list, moment)).at(position))
}

/// What is there of one sku now, or was at a moment of the past.
#[utoipa::path(get, path = "/api/v1/admin/stock/{sku}", tag = "admin", security(("admin" = [])),
    params(("sku" = String, Path), PastQuery),
    responses((status = 200, body = Dated<StockLevelView>), (status = 404, description = "product_not_found"),
        (status = 422, description = "validation_failed")))]
pub async fn one(
    State(app): State<App>,
    _: Admin,
    Path(sku): Path<Sku>,
    Query(query): Query<PastQuery>,
) -> Result<Answer<Dated<StockLevelView>>, Problem> {
    let moment = past::moment(&app, query.as_of).await?;
    let product = require_product_as_of(&app, &sku, moment).await?;
    let stock = past::load::<StockItem>(&app, product.stock_item(), moment).await?;
    let view = StockLevelView::of(&sku, product, &stock.state, stock.sequence);
    let answer = Answer::ok(Dated::new(view, moment));
    Ok(match moment {
        Some(moment) => answer.at(moment.position),
        None => answer.at(stock.position).version(stock.sequence),
    })
}

/// Takes in goods that arrived.
#[utoipa::path(post, path = "/api/v1/admin/stock/{sku}/receive", tag = "admin", security(("admin" = [])),
    params(("sku" = String, Path)), request_body = Receive,
    responses((status = 200, body = StockLevelView), (status = 404, description = "product_not_found"),
        (status = 422, description = "validation_failed, stock_too_many")))]
pub async fn receive(
    State(app): State<App>,
    _: Admin,
    Path(sku): Path<Sku>,
    command: Command<Receive>,
) -> Result<Answer<StockLevelView>, Problem> {
    let mut checks = Checks::default();
    let quantity = command.body.quantity;
    checks.in_range("/quantity", quantity.into(), 1, StockItem::ON_HAND_MAX.into());
    checks.done()?;
    let product = require_product(&app, &sku).await?;
    let change = StockCommand::Receive {
        sku: sku.clone(),
        quantity,
    };
    let item = product.stock_item();
    let committed = app
        .executor
        .execute::<StockItem>(item, change, command.envelope(&app))
        .await?;
    Ok(answer(&sku, product, &committed))
}

/// Corrects the books after a count.
#[utoipa::path(post, path = "/api/v1/admin/stock/{sku}/adjust", tag = "admin", security(("admin" = [])),
    params(("sku" = String, Path)), request_body = Adjust,
    responses((status = 200, body = StockLevelView), (status = 404, description = "product_not_found"),
        (status = 409, description = "stock_below_held"), (status = 422, description = "validation_failed, stock_too_many")))]
pub async fn adjust(
    State(app): State<App>,
    _: Admin,
    Path(sku): Path<Sku>,
    command: Command<Adjust>,
) -> Result<Answer<StockLevelView>, Problem> {
    let mut checks = Checks::default();
    let (delta, most) = (command.body.delta, i64::from(StockItem::ON_HAND_MAX));
    checks.in_range("/delta", delta, -most, most);
    if delta == 0 {
        checks.refuse("/delta", "out_of_range", Text::new("must not be 0", "0일 수 없습니다."));
    }
    checks.done()?;
    let product = require_product(&app, &sku).await?;
    let change = StockCommand::Adjust {
        sku: sku.clone(),
        delta,
        reason: command.body.reason,
    };
    let item = product.stock_item();
    let committed = app
        .executor
        .execute::<StockItem>(item, change, command.envelope(&app))
        .await?;
    Ok(answer(&sku, product, &committed))
}

fn answer(sku: &Sku, product: ProductId, committed: &Committed<StockItem>) -> Answer<StockLevelView> {
    let view = StockLevelView::of(sku, product, &committed.state, committed.sequence);
    Answer::to(committed, view).version(committed.sequence)
}
