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
