//! The read side: tables that anyone may read, that anyone may throw away, and that the log can
//! always make again.
//!
//! A projection is one file: what its table is for, how events change it, and the queries. Rows are
//! written by [`builds::advance`], in one transaction with the checkpoint that says how far they are.
//! A row is written by one partition only, and nothing here sends mail, money or messages.

pub mod builds;
pub mod catalog;
pub mod korea;
pub mod order_history;
pub mod page;
pub mod sales;
pub mod stock_levels;
#[cfg(test)]
mod testing;

use std::pin::Pin;

use jangbu_events::{Event, Recorded};
use sqlx::PgConnection;

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
}

type Applied<'a> = Pin<Box<dyn Future<Output = sqlx::Result<()>> + Send + 'a>>;

/// A [`Projection`] as a value, so that workers can treat all alike.
pub struct Registered {
    /// [`Projection::NAME`].
    pub name: &'static str,
    /// [`Projection::CODE_VERSION`].
    pub code_version: i32,
    /// [`Projection::SCHEMA`].
    pub schema: &'static str,
    /// [`Projection::EVENT_TYPES`].
    pub event_types: &'static [&'static str],
    apply: for<'a> fn(&'a mut PgConnection, i16, &'a [Recorded<Event>]) -> Applied<'a>,
}

impl Registered {
    /// Takes a projection's constants and its `apply`.
    pub const fn of<P: Projection>() -> Self {
        Self {
            name: P::NAME,
            code_version: P::CODE_VERSION,
            schema: P::SCHEMA,
            event_types: P::EVENT_TYPES,
            apply: |db, partition, batch| Box::pin(P::apply(db, partition, batch)),
        }
    }

    /// [`Projection::apply`].
    pub async fn apply(&self, db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        (self.apply)(db, partition, batch).await
    }
}

/// Every projection of this binary, in a fixed order.
pub fn all() -> &'static [Registered] {
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
            assert!(builds::activate(&db, &build).await.expect("an answer"));
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
