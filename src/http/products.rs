//! What shoppers can see and buy.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jangbu_events::{ProductId, Sku, StoreId};
use jangbu_projections::catalog::{self, ProductRow, Viewer, Wanted};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    extract::{Path, Query},
    past::{self, Dated, PastForAdmins, PastQuery},
    problem::{Code, FieldError, Problem, Text},
    progress::MinPosition,
    views::{List, POSITION, ProductView},
};
use crate::hex::hex;

/// What a shopper looks for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Exactly this category.
    category: Option<String>,
    /// A part of the name or of the sku, in any case.
    q: Option<String>,
    /// The order; by name by default.
    sort: Option<Sort>,
    /// 1 to 100; 20 by default.
    limit: Option<u32>,
    /// `page.next` of the page before, in the same order.
    after: Option<String>,
}

/// In which order.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
enum Sort {
    /// By name.
    #[default]
    #[serde(rename = "name")]
    Name,
    /// The cheapest first.
    #[serde(rename = "price")]
    Cheapest,
    /// The dearest first.
    #[serde(rename = "-price")]
    Dearest,
    /// The latest first.
    #[serde(rename = "newest")]
    Newest,
}

impl From<Sort> for catalog::Sort {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Name => Self::Name,
            Sort::Cheapest => Self::Cheapest,
            Sort::Dearest => Self::Dearest,
            Sort::Newest => Self::Newest,
        }
    }
}

/// A row by its id or by its sku. A sku may look like an id.
#[derive(Debug, Clone)]
pub struct IdOrSku(String);

impl std::str::FromStr for IdOrSku {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(Self(text.to_owned()))
    }
}

impl IdOrSku {
    /// If it can be an id.
    pub fn id(&self) -> Option<ProductId> {
        self.0.parse().ok()
    }

    /// If it can be a sku.
    pub fn sku(&self) -> Option<Sku> {
        self.0.parse().ok()
    }

    /// The products that it may name, the likelier first.
    pub fn ids(&self) -> impl Iterator<Item = ProductId> {
        let by_sku = self.sku().map(|sku| ProductId::of(StoreId::DEFAULT, &sku));
        self.id().into_iter().chain(by_sku)
    }
}

/// What shoppers see.
#[utoipa::path(get, path = "/api/v1/products", tag = "products",
    params(ListQuery, ("Jangbu-Min-Position" = Option<i64>, Header), ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = List<ProductView>), (status = 304, description = "as the reader has it"),
        (status = 422, description = "validation_failed"), (status = 504, description = "projection_behind")))]
pub async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    min: MinPosition,
    Query(query): Query<ListQuery>,
) -> Result<Response, Problem> {
    let limit = limit(query.limit, 20, 100)?;
    let position = app.progress.of(&app, "catalog", min).await?;
    let wanted = Wanted {
        category: query.category.as_deref(),
        q: query.q.as_deref(),
    };
    let sort = query.sort.unwrap_or_default().into();
    let page = catalog::list(app.query_pool().pool(), wanted, sort, query.after.as_deref(), limit).await?;
    representation(&headers, &List::of(page, ProductView::from), position)
}

/// One product, by its id or its sku; for admins also as shoppers saw it at a moment of the past.
#[utoipa::path(get, path = "/api/v1/products/{id_or_sku}", tag = "products",
    params(("id_or_sku" = String, Path), PastQuery, ("Jangbu-Min-Position" = Option<i64>, Header),
        ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = Dated<ProductView>), (status = 304, description = "as the reader has it"),
        (status = 401, description = "unauthenticated (with as_of)"), (status = 403, description = "forbidden (with as_of)"),
        (status = 404, description = "product_not_found"), (status = 422, description = "validation_failed"),
        (status = 504, description = "projection_behind")))]
pub async fn one(
    State(app): State<App>,
    headers: HeaderMap,
    min: MinPosition,
    Path(which): Path<IdOrSku>,
    PastForAdmins(past): PastForAdmins,
) -> Result<Response, Problem> {
    if let Some(moment) = past {
        let view = past::product(&app, &which, moment.position).await?;
        return representation(&headers, &Dated::new(view, past), moment.position);
    }
    let position = app.progress.of(&app, "catalog", min).await?;
    let row = find(&app, &which)
        .await?
        .ok_or_else(|| Problem::new(Code::ProductNotFound))?;
    representation(&headers, &ProductView::from(row), position)
}

async fn find(app: &App, which: &IdOrSku) -> sqlx::Result<Option<ProductRow>> {
    if let Some(id) = which.id()
        && let Some(row) = catalog::by_id(app.query_pool().pool(), id, Viewer::Shopper).await?
    {
        return Ok(Some(row));
    }
    match which.sku() {
        Some(sku) => catalog::by_sku(app.query_pool().pool(), &sku, Viewer::Shopper).await,
        None => Ok(None),
    }
}

/// With an `ETag` over the bytes: whoever has them already is told so.
fn representation(headers: &HeaderMap, view: &impl Serialize, position: i64) -> Result<Response, Problem> {
    let body = serde_json::to_vec(view).map_err(Problem::internal)?;
    let tag = format!("\"{}\"", hex(&Sha256::digest(&body)[..12]));
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag);
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        (
            [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            body,
        )
            .into_response()
    };
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits are plain");
    response.headers_mut().insert(header::ETAG, tag);
    // May be kept, and must be asked for anew each time.
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert(POSITION, position.into());
    Ok(response)
}

/// How many rows of a list: 1 to `max`.
pub fn limit(given: Option<u32>, default: u32, max: u32) -> Result<u32, Problem> {
    let limit = given.unwrap_or(default);
    if (1..=max).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::field(FieldError::parameter(
        "limit",
        "out_of_range",
        Text::new(format!("must be 1 to {max}"), format!("1에서 {max} 사이여야 합니다.")),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_bytes_is_told_so() {
        let answer = |known: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(known) = known {
                headers.insert(header::IF_NONE_MATCH, known.parse().expect("a value"));
            }
            representation(&headers, &serde_json::json!({"a": 1}), 7).expect("an answer")
        };
        let first = answer(None);
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].to_str().expect("text").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let again = answer(Some(&known));
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(
                (&again.headers()[header::ETAG], &again.headers()[POSITION]),
                (&first.headers()[header::ETAG], &7.into())
            );
        }
        assert_eq!(answer(Some("\"x\"")).status(), StatusCode::OK);
    }

    #[test]
    fn a_page_has_a_size() {
        assert_eq!(limit(None, 20, 100).ok(), Some(20));
        assert_eq!(limit(Some(100), 20, 100).ok(), Some(100));
        assert!(limit(Some(0), 20, 100).is_err() && limit(Some(101), 20, 100).is_err());
    }
}
