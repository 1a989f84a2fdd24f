//! Products, for whoever runs the shop. Every edit says which version it was made on.

use std::collections::BTreeMap;

use axum::extract::State;
use jangbu_domain::{Product, ProductCommand, ProductStatus};
use jangbu_events::{ProductId, Sku, StoreId, TaxClass};
use jangbu_projections::catalog::{self, Wanted};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Admin,
    checks::Checks,
    extract::{Path, Query, escaped},
    keys::{Command, json_body, required_version},
    past::{self, Dated, PastQuery},
    problem::{Code, Problem, Text},
    products::{IdOrSku, limit},
    progress::MinPosition,
    views::{AdminProductView, Answer, List, Won},
};
use crate::{
    as_of::{AsOf, Moment},
    executor::{Committed, Loaded},
};

/// The longest name, category and attribute, in characters.
const NAME_MAX: usize = 200;
const CATEGORY_MAX: usize = 100;
const ATTRIBUTE_MAX: usize = 500;
const ATTRIBUTES_MAX: usize = 50;

/// A new product.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"sku": "DRIVER-10.5", "name": "드라이버 10.5도", "category": "클럽",
    "price": {"amount": 390_000, "currency": "KRW"}, "status": "published"}))]
pub struct NewProduct {
    /// For ever: 1 to 64 of A-Z a-z 0-9 . _ -
    #[schema(value_type = String)]
    sku: Sku,
    /// Shown to shoppers, at most 200 characters.
    name: String,
    /// One flat category, at most 100 characters.
    category: String,
    /// Of one, VAT included.
    price: Won,
    /// `taxable` (default) or `tax_free`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    tax_class: TaxClass,
    /// Anything else: at most 50 names with at most 500 characters each.
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    /// `published` puts it on sale at once; `draft` by default.
    #[schema(value_type = Option<String>)]
    status: Option<ProductStatus>,
}

/// What to change of a product; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"price": {"amount": 350_000, "currency": "KRW"}, "version": 2}))]
pub struct ProductRevision {
    /// At most 200 characters.
    name: Option<String>,
    /// Of one, VAT included.
    price: Option<Won>,
    /// `published`, `hidden` or `archived` (for good).
    #[schema(value_type = Option<String>)]
    status: Option<ProductStatus>,
    /// On which version the edit was made, in place of `If-Match`.
    version: Option<i64>,
}

json_body!(NewProduct, ProductRevision);

/// Which products to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// `draft`, `published`, `hidden` or `archived`.
    #[param(value_type = Option<String>)]
    status: Option<ProductStatus>,
    /// Exactly this category.
    category: Option<String>,
    /// A part of the name or of the sku, in any case.
    q: Option<String>,
    /// 1 to 1,000; 50 by default.
    limit: Option<u32>,
    /// `page.next` of the page before.
    after: Option<String>,
    /// As it was then: a time (`2026-08-01T00:00:00+09:00`), the end of a day in Korea (`2026-07-31`), or a
    /// position of the log. Then `after` needs the position that the first page came to.
    #[param(value_type = Option<String>)]
    as_of: Option<AsOf>,
}

/// Brings a product into the range. The same facts again change nothing.
#[utoipa::path(post, path = "/api/v1/admin/products", tag = "admin", security(("admin" = [])),
    request_body = NewProduct,
    responses((status = 201, body = AdminProductView), (status = 409, description = "product_exists"),
        (status = 422, description = "validation_failed, price_out_of_range")))]
pub async fn register(
    State(app): State<App>,
    _: Admin,
    command: Command<NewProduct>,
) -> Result<Answer<AdminProductView>, Problem> {
    let body = &command.body;
    let registration = body.checked()?;
    let id = ProductId::of(StoreId::DEFAULT, &body.sku);
    let mut committed = app
        .executor
        .execute::<Product>(id, registration, command.envelope(&app))
        .await?;
    let duplicate = committed.duplicate;
    if let Some(status) = body.status.filter(|status| *status != ProductStatus::Draft) {
        // A command of its own; a repeat finds both.
        let revision = ProductCommand::Revise {
            name: None,
            price: None,
            status: Some(status),
        };
        let envelope = command.envelope_of_step(&app, "status");
        committed = app.executor.execute::<Product>(id, revision, envelope).await?;
    }
    let location = format!("/api/v1/admin/products/{id}");
    Ok(answer(id, &committed)?.replayed(duplicate).created(&location))
}

impl NewProduct {
    fn checked(&self) -> Result<ProductCommand, Problem> {
        let mut checks = Checks::default();
        let name = checks.line("/name", &self.name, NAME_MAX);
        let category = checks.line("/category", &self.category, CATEGORY_MAX);
        if self.attributes.len() > ATTRIBUTES_MAX {
            checks.refuse(
                "/attributes",
                "too_many",
                Text::new(
                    format!("must have at most {ATTRIBUTES_MAX} entries"),
                    format!("{ATTRIBUTES_MAX}개까지 쓸 수 있습니다."),
                ),
            );
        }
        let mut attributes = BTreeMap::new();
        for (key, value) in &self.attributes {
            let pointer = format!("/attributes/{}", escaped(key));
            let key = checks.line(&pointer, key, CATEGORY_MAX);
            let value = checks.line(&pointer, value, ATTRIBUTE_MAX);
            attributes.extend(key.zip(value));
        }
        let command = name.zip(category).map(|(name, category)| ProductCommand::Register {
            sku: self.sku.clone(),
            name,
            category,
            price: self.price.money(),
            tax_class: self.tax_class,
            attributes,
        });
        checks.finish(command)
    }
}

/// The shop's products, by sku, as they are or as they were at a moment of the past.
#[utoipa::path(get, path = "/api/v1/admin/products", tag = "admin", security(("admin" = [])),
    params(ListQuery, ("Jangbu-Min-Position" = Option<i64>, Header)),
    responses((status = 200, body = Dated<List<AdminProductView>>),
        (status = 422, description = "validation_failed, log_too_long"), (status = 503, description = "busy"),
        (status = 504, description = "projection_behind")))]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    min: MinPosition,
    Query(query): Query<ListQuery>,
) -> Result<Answer<Dated<List<AdminProductView>>>, Problem> {
    let limit = limit(query.limit, 50, 1_000)?;
    let moment = past::moment(&app, query.as_of).await?;
    let wanted = Wanted {
        category: query.category.as_deref(),
        q: query.q.as_deref(),
    };
    let status = query.status.map(|status| match status {
        ProductStatus::Draft => catalog::ProductStatus::Draft,
        ProductStatus::Published => catalog::ProductStatus::Published,
        ProductStatus::Hidden => catalog::ProductStatus::Hidden,
        ProductStatus::Archived => catalog::ProductStatus::Archived,
    });
    let after = query.after.as_deref();
    let (position, page) = if let Some(moment) = moment {
        let mut tables = app.reports.tables(&app, "catalog", moment).await?;
        let page = catalog::admin_list(tables.connection(), status, wanted, after, limit).await?;
        (moment.position, page)
    } else {
        let position = app.progress.of(&app, "catalog", min).await?;
        let page = catalog::admin_list(app.query_pool().pool(), status, wanted, after, limit).await?;
        (position, page)
    };
    let list = List::of(page, AdminProductView::from);
    Ok(Answer::ok(Dated::new(list, moment)).at(position))
}

/// One product as it is now, with its version as `ETag`, or as it was at a moment of the past.
#[utoipa::path(get, path = "/api/v1/admin/products/{id_or_sku}", tag = "admin", security(("admin" = [])),
    params(("id_or_sku" = String, Path), PastQuery),
    responses((status = 200, body = Dated<AdminProductView>), (status = 404, description = "product_not_found"),
        (status = 422, description = "validation_failed")))]
pub async fn one(
    State(app): State<App>,
    _: Admin,
    Path(which): Path<IdOrSku>,
    Query(query): Query<PastQuery>,
) -> Result<Answer<Dated<AdminProductView>>, Problem> {
    let moment = past::moment(&app, query.as_of).await?;
    let (id, product) = find(&app, &which, moment).await?;
    let view = AdminProductView::of(id, &product.state, product.sequence);
    let view = view.ok_or_else(|| Problem::new(Code::ProductNotFound))?;
    let answer = Answer::ok(Dated::new(view, moment));
    Ok(match moment {
        // No edit can be made on a version of the past.
        Some(moment) => answer.at(moment.position),
        None => answer.at(product.position).version(product.sequence),
    })
}

/// Renames, reprices, shows, hides or archives a product.
#[utoipa::path(patch, path = "/api/v1/admin/products/{id_or_sku}", tag = "admin", security(("admin" = [])),
    params(("id_or_sku" = String, Path), ("If-Match" = Option<String>, Header, description = "`\"v<version>\"`")),
    request_body = ProductRevision,
    responses((status = 200, body = AdminProductView), (status = 404, description = "product_not_found"),
        (status = 409, description = "product_archived, product_no_way_back_to_draft"),
        (status = 412, description = "version_stale"), (status = 422, description = "validation_failed"),
        (status = 428, description = "version_required")))]
pub async fn revise(
    State(app): State<App>,
    _: Admin,
    Path(which): Path<IdOrSku>,
    command: Command<ProductRevision>,
) -> Result<Answer<AdminProductView>, Problem> {
    let version = required_version(command.if_match, command.body.version)?;
    let mut checks = Checks::default();
    let name = command
        .body
        .name
        .as_deref()
        .map(|name| checks.line("/name", name, NAME_MAX));
    checks.done()?;
    let (id, _) = find(&app, &which, None).await?;
    let revision = ProductCommand::Revise {
        name: name.flatten(),
        price: command.body.price.map(Won::money),
        status: command.body.status,
    };
    let mut envelope = command.envelope(&app);
    envelope.expected_sequence = Some(version);
    let committed = app.executor.execute::<Product>(id, revision, envelope).await?;
    Ok(answer(id, &committed)?.replayed(committed.duplicate))
}

fn answer(id: ProductId, committed: &Committed<Product>) -> Result<Answer<AdminProductView>, Problem> {
    let view = AdminProductView::of(id, &committed.state, committed.sequence);
    let view = view.ok_or_else(|| Problem::new(Code::ProductNotFound))?;
    Ok(Answer::ok(view).at(committed.position).version(committed.sequence))
}

/// A product by its id or its sku, if it is registered now or was then.
async fn find(app: &App, which: &IdOrSku, moment: Option<Moment>) -> Result<(ProductId, Loaded<Product>), Problem> {
    for id in which.ids() {
        let product = past::load::<Product>(app, id, moment).await?;
        if !matches!(*product.state, Product::NotRegistered) {
            return Ok((id, product));
        }
    }
    Err(Code::ProductNotFound.into())
}

/// The id of a registered product.
pub async fn require_product(app: &App, sku: &Sku) -> Result<ProductId, Problem> {
    require_product_as_of(app, sku, None).await
}

/// The id of a product that is registered now, or was then.
pub async fn require_product_as_of(app: &App, sku: &Sku, moment: Option<Moment>) -> Result<ProductId, Problem> {
    let id = ProductId::of(StoreId::DEFAULT, sku);
    let product = past::load::<Product>(app, id, moment).await?;
    if matches!(*product.state, Product::NotRegistered) {
        return Err(Code::ProductNotFound.into());
    }
    Ok(id)
}
