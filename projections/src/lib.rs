//! The read side: tables that anyone may read, that anyone may throw away, and that the log can
//! always make again.
//!
//! A projection is one file: what its table is for, how events change it, and the queries. Rows are
//! written by [`builds::advance`], in one transaction with the checkpoint that says how far they are.
//! A row is written by one partition only, and nothing here sends mail, money or messages.

pub mod analyst;
pub mod builds;
pub mod catalog;
pub mod korea;
pub mod order_history;
pub mod page;
pub mod sales;
pub mod stock_levels;
#[cfg(test)]
mod testing;

use std::{pin::Pin, sync::OnceLock};

use jangbu_events::{Event, Recorded};
use sqlx::PgConnection;

use crate::analyst::Analyst;

/// Tables and how events change them.
pub trait Projection: Send + Sync + 'static {
    /// Unique and for ever: part of schema names, checkpoints, queues and leases. `[a-z_]+`.
    const NAME: &'static str;
    /// Raised with every change of [`Self::SCHEMA`] or of what `apply` does; from 1.
    const CODE_VERSION: i32;
    /// Creates the tables, with unqualified names that no other projection uses. Every table has a
    /// column `partition`.
    const SCHEMA: &'static str;
    /// What `apply` wants to see. Others are passed over, but an event that this version of the
    /// program does not know at all stops the projection.
    const EVENT_TYPES: &'static [&'static str];

    /// Applies events of one partition in position order to the tables in the search path, in the
    /// caller's transaction. Events that were applied before change nothing, so a batch may be told
    /// again in whole or in part.
    fn apply(
        db: &mut PgConnection,
        partition: i16,
        batch: &[Recorded<Event>],
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Applies events of one aggregate that was parked: never applied before, although later events
    /// of other aggregates were. [`Self::apply`] does, unless it knows what it has seen by position.
    fn apply_late(
        db: &mut PgConnection,
        partition: i16,
        batch: &[Recorded<Event>],
    ) -> impl Future<Output = sqlx::Result<()>> + Send {
        Self::apply(db, partition, batch)
    }
}

type Applied<'a> = Pin<Box<dyn Future<Output = sqlx::Result<()>> + Send + 'a>>;
type Apply = for<'a> fn(&'a mut PgConnection, i16, &'a [Recorded<Event>]) -> Applied<'a>;

/// How a projection is told events.
#[derive(Clone, Copy)]
enum Telling {
    /// By code of this program.
    Code(Apply),
    /// By statements of an analyst, whenever it is.
    Analyst(&'static Analyst),
}

impl Telling {
    async fn tell(self, db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        match self {
            Self::Code(apply) => apply(db, partition, batch).await,
            Self::Analyst(analyst) => analyst.tell(db, partition, batch).await,
        }
    }
}

/// A [`Projection`] or an [`Analyst`]'s as a value, so that workers can treat all alike.
#[derive(Clone, Copy)]
pub struct Registered {
    /// [`Projection::NAME`].
    pub name: &'static str,
    /// [`Projection::CODE_VERSION`].
    pub code_version: i32,
    /// [`Projection::SCHEMA`].
    pub schema: &'static str,
    /// [`Projection::EVENT_TYPES`].
    pub event_types: &'static [&'static str],
    apply: Telling,
    apply_late: Telling,
}

impl Registered {
    /// Takes a projection's constants and its `apply`.
    pub const fn of<P: Projection>() -> Self {
        Self {
            name: P::NAME,
            code_version: P::CODE_VERSION,
            schema: P::SCHEMA,
            event_types: P::EVENT_TYPES,
            apply: Telling::Code(|db, partition, batch| Box::pin(P::apply(db, partition, batch))),
            apply_late: Telling::Code(|db, partition, batch| Box::pin(P::apply_late(db, partition, batch))),
        }
    }

    /// What it is in SQL, if it is no code of this program.
    pub const fn analyst(&self) -> Option<&'static Analyst> {
        match self.apply {
            Telling::Code(_) => None,
            Telling::Analyst(analyst) => Some(analyst),
        }
    }

    /// [`Projection::apply`].
    pub async fn apply(&self, db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        self.apply.tell(db, partition, batch).await
    }

    /// [`Projection::apply_late`].
    pub async fn apply_late(
        &self,
        db: &mut PgConnection,
        partition: i16,
        batch: &[Recorded<Event>],
    ) -> sqlx::Result<()> {
        self.apply_late.tell(db, partition, batch).await
    }
}

static EVERY: OnceLock<Vec<Registered>> = OnceLock::new();

/// Every projection that this process knows: those of the program, in a fixed order, and behind them
/// what was [`install`]ed.
pub fn all() -> &'static [Registered] {
    EVERY.get().map_or_else(built_in, Vec::as_slice)
}

/// Adds projections in SQL to [`all`], once and before anybody asks; false if that was done before.
pub fn install(analysts: impl IntoIterator<Item = Analyst>) -> bool {
    let mut every = built_in().to_vec();
    every.extend(analysts.into_iter().map(Analyst::register));
    EVERY.set(every).is_ok()
}

/// The projections of the program itself, which its queries read.
pub fn built_in() -> &'static [Registered] {
    const ALL: &[Registered] = &[
        Registered::of::<catalog::Catalog>(),
        Registered::of::<order_history::OrderHistory>(),
        Registered::of::<sales::Sales>(),
        Registered::of::<stock_levels::StockLevels>(),
    ];
    ALL
}

/// Reads a stored text as what was written there; a failure is a defect of the table, never of a request.
fn parsed<T>(text: &str) -> sqlx::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use jangbu_events::{AggregateId, CustomerId, OrderId, samples};
    use sqlx::PgPool;
    use uuid::Uuid;

    use super::*;
    use crate::testing::{PARTITIONS, now, query_pool, random_history, with_database};

    /// Requests and workers are moved between threads while they wait: this would not compile otherwise.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_runs_on_any_thread() {
        with_database(async |db| {
            tokio::spawn(feed(db.clone())).await.expect("no panic");
            let queries = query_pool(&db).await;
            tokio::spawn(ask(queries)).await.expect("no panic");
        })
        .await;
    }

    async fn feed(db: PgPool) {
        let history = random_history(1, 50);
        for projection in all() {
            let build = builds::ensure(&db, projection, PARTITIONS, now())
                .await
                .expect("a build");
            let taken = builds::take_over(&db, &build, 0, 1, now()).await.expect("an answer");
            assert_eq!(taken, Some(0));
            let raw = history.raw(0);
            let step = builds::advance(&db, projection, &build, 0, 1, 0, history.head(), &raw, now()).await;
            assert_eq!(step.expect("applied"), builds::Advanced::Moved);
            let switch = builds::Switch::begin(&db, projection, &build, now()).await;
            assert!(matches!(switch.expect("an answer"), builds::Begun::Active));
            builds::table_hash(&db, &build, 0).await.expect("a hash");
            assert_eq!(builds::checkpoints(&db, &build).await.expect("checkpoints").len(), 4);
        }
        let names: Vec<_> = all().iter().map(|projection| projection.name).collect();
        assert_eq!(
            builds::positions(&db, &names).await.expect("positions").len(),
            all().len()
        );
    }

    async fn ask(db: PgPool) {
        let sku = samples::sku();
        let product = samples::line().product_id;
        let wanted = catalog::Wanted::default();
        catalog::list(&db, wanted, catalog::Sort::Name, None, 1)
            .await
            .expect("a page");
        catalog::admin_list(&db, None, wanted, None, 1).await.expect("a page");
        catalog::by_id(&db, product, catalog::Viewer::Shopper)
            .await
            .expect("an answer");
        catalog::by_sku(&db, &sku, catalog::Viewer::Shopper)
            .await
            .expect("an answer");
        let nobody = CustomerId::from_uuid(Uuid::nil());
        order_history::by_customer(&db, nobody, None, 1).await.expect("a page");
        order_history::by_guest(&db, "", None, 1).await.expect("a page");
        let any = order_history::OrderFilter::default();
        order_history::admin_list(&db, any, None, 1).await.expect("a page");
        order_history::by_id(&db, OrderId::from_uuid(Uuid::nil()))
            .await
            .expect("an answer");
        order_history::by_number(&db, "").await.expect("an answer");
        let days = korea::DayRange::new(NaiveDate::MIN, NaiveDate::MAX);
        sales::report(&db, days, sales::By::Day, None).await.expect("a report");
        stock_levels::list(&db, None, None, 1).await.expect("a page");
        stock_levels::by_sku(&db, &sku).await.expect("an answer");
    }
}
