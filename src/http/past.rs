//! `?as_of=`: what was to be seen at a moment of the past. Single things are folded from their streams up to
//! there; reports are made by the projection's own code from the log, in tables that are gone with the answer.

use std::time::Duration;

use axum::{extract::FromRequestParts, http::request::Parts};
use jangbu_domain::{Decide, Product, ProductStatus, StockItem};
use jangbu_events::ProductId;
use jangbu_projections::builds::{AdvanceError, Replay};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Postgres, Transaction};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::Admin,
    extract::Query,
    problem::{Code, FieldError, Problem, Text},
    products::IdOrSku,
    views::ProductView,
};
use crate::{
    as_of::{self, AsOf, Moment, ResolveError},
    executor::{LoadError, Loaded},
    log::reading,
    replay::{self, FillError},
};

/// The longest log that is read through for one answer. Some seconds: longer ones are for `jangbu replay`.
pub const POSITIONS_MAX: i64 = 500_000;
/// How long that may take, waiting for others included.
const WITHIN: Duration = Duration::from_secs(20);

/// Which moment.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PastQuery {
    /// As it was then: a time (`2026-08-01T00:00:00+09:00`), the end of a day in Korea (`2026-07-31`), or a
    /// position of the log.
    #[param(value_type = Option<String>)]
    pub as_of: Option<AsOf>,
}

/// Something, and of which moment, if one was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Dated<V> {
    /// The thing itself.
    #[serde(flatten)]
    pub view: V,
    /// The moment it is shown as of; absent where it is shown as it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOfView>,
}

/// A moment of the past. Asked for by its position, the same answer comes again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"position": 7259, "recorded_at": "2026-07-31T23:58:12.345678+09:00"}))]
pub struct AsOfView {
    /// Everything up to here counts.
    pub position: i64,
    /// When that was recorded, to the microsecond; null before the first event.
    pub recorded_at: Option<String>,
}

impl From<Moment> for AsOfView {
    fn from(moment: Moment) -> Self {
        Self {
            position: moment.position,
            recorded_at: moment.recorded_at.map(as_of::exactly),
        }
    }
}

impl<V> Dated<V> {
    /// As of then, or as of now.
    pub fn new(view: V, moment: Option<Moment>) -> Self {
        Self {
            view,
            as_of: moment.map(Into::into),
        }
    }
}

/// The moment that was asked for, found in the log.
pub async fn moment(app: &App, as_of: Option<AsOf>) -> Result<Option<Moment>, Problem> {
    let Some(as_of) = as_of else { return Ok(None) };
    let found = as_of.resolve(app.log.pool(), app.surroundings.now()).await;
    let refuse = |code, english: String, korean: String| {
        Problem::field(FieldError::parameter("as_of", code, Text::new(english, korean)))
    };
    found.map(Some).map_err(|error| match error {
        ResolveError::BeyondHead { head } => refuse(
            "beyond_the_log",
            error.to_string(),
            format!("로그는 {head}번 위치까지 있습니다."),
        ),
        ResolveError::Future => refuse(
            "in_the_future",
            error.to_string(),
            "아직 오지 않은 시점입니다.".to_owned(),
        ),
        ResolveError::Unavailable(error) => error.into(),
        ResolveError::Hole { .. } => Problem::internal(error),
    })
}

/// An aggregate as it was then, or as it is now.
pub async fn load<A: Decide>(app: &App, id: A::Id, moment: Option<Moment>) -> Result<Loaded<A>, LoadError> {
    match moment {
        Some(moment) => app.executor.load_as_of::<A>(id, moment.position).await,
        None => app.executor.load::<A>(id).await,
    }
}

/// The moment that an admin asked for: how things sold in the past is nobody else's business. Without
/// one, anybody may ask.
#[derive(Debug)]
pub struct PastForAdmins(pub Option<Moment>);

impl FromRequestParts<App> for PastForAdmins {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Query(query) = Query::<PastQuery>::from_request_parts(parts, app).await?;
        if query.as_of.is_some() {
            Admin::from_request_parts(parts, app).await?;
        }
        moment(app, query.as_of).await.map(Self)
    }
}

/// What shoppers were shown of a product.
pub async fn product(app: &App, which: &IdOrSku, position: i64) -> Result<ProductView, Problem> {
    for id in which.ids() {
        let product = app.executor.load_as_of::<Product>(id, position).await?;
        let published = matches!(
            &*product.state,
            Product::Registered {
                status: ProductStatus::Published,
                ..
            }
        );
        if published {
            return published_view(app, id, &product, position).await;
        }
    }
    Err(Code::ProductNotFound.into())
}

async fn published_view(
    app: &App,
    id: ProductId,
    product: &Loaded<Product>,
    position: i64,
) -> Result<ProductView, Problem> {
    let stock = app.executor.load_as_of::<StockItem>(id.stock_item(), position).await?;
    // A product does not remember when it came into the range; its first event does.
    let first = reading::stream(app.log.pool(), "product", &id.to_string(), 0, 1).await?;
    let registered_at = first.first().map(|event| event.occurred_at);
    registered_at
        .and_then(|at| ProductView::of(id, &product.state, stock.state.available().into(), at))
        .ok_or_else(|| Code::ProductNotFound.into())
}

/// Makes tables of the past, one answer at a time: each reads much of the log.
#[derive(Debug)]
pub struct Reports(Semaphore);

impl Default for Reports {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

/// Tables of a projection as of a moment; gone when this is dropped.
pub struct Tables<'a> {
    transaction: Transaction<'static, Postgres>,
    _turn: tokio::sync::SemaphorePermit<'a>,
}

impl Tables<'_> {
    /// Where unqualified names mean them.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

impl Reports {
    /// Tells the projection the log up to the moment. Refused where that is too much for one answer.
    pub async fn tables(&self, app: &App, projection: &str, moment: Moment) -> Result<Tables<'_>, Problem> {
        if moment.position > POSITIONS_MAX {
            return Err(too_long(moment));
        }
        let making = async {
            let Ok(turn) = self.0.acquire().await else {
                return Err(Problem::internal("nobody closes the semaphore"));
            };
            let projection = jangbu_projections::all().iter().find(|known| known.name == projection);
            let projection = projection.ok_or_else(|| Problem::internal("no such projection"))?;
            // One partition: what is added up when it is read need not be kept apart.
            let replay = Replay::new(projection, 1);
            let mut transaction = app.log.pool().begin().await?;
            replay.create(&mut transaction, "pg_temp").await?;
            replay::fill(&mut transaction, replay, moment.position).await?;
            Ok(Tables {
                transaction,
                _turn: turn,
            })
        };
        tokio::time::timeout(WITHIN, making)
            .await
            .unwrap_or_else(|_| Err(Problem::new(Code::Busy).retry_after(10)))
    }
}

fn too_long(moment: Moment) -> Problem {
    Problem::new(Code::LogTooLong)
        .detail(
            format!("At most {POSITIONS_MAX} positions are read for one answer. Use `jangbu replay` instead."),
            format!("한 번에 {POSITIONS_MAX}개 위치까지만 읽습니다. `jangbu replay`를 사용해 주세요."),
        )
        .fact("position", moment.position)
        .fact("positions_max", POSITIONS_MAX)
}

impl From<FillError> for Problem {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Unavailable(error) | FillError::Apply(AdvanceError::Database(error)) => error.into(),
            FillError::Hole { .. } | FillError::Apply(_) | FillError::Copy(_) => Self::internal(error),
        }
    }
}
