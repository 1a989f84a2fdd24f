//! esrs 0.18: `AggregateManager` over `PgStore`, optimistic.

use esrs::{
    Aggregate, AggregateState,
    manager::AggregateManager,
    store::postgres::{PgStore, PgStoreBuilder, PgStoreError},
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{database::Database, work::Peer};

/// esrs.
pub struct Esrs(AggregateManager<PgStore<Product>>);

pub struct Product;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Renamed {
    name: String,
}

#[derive(Debug, thiserror::Error)]
#[error("it is called so already")]
pub struct Unchanged;

impl Aggregate for Product {
    const NAME: &'static str = "product";
    type State = String;
    type Command = String;
    type Event = Renamed;
    type Error = Unchanged;

    fn handle_command(state: &String, name: String) -> Result<Vec<Renamed>, Unchanged> {
        if *state == name {
            return Err(Unchanged);
        }
        Ok(vec![Renamed { name }])
    }

    fn apply_event(_: String, event: Renamed) -> String {
        event.name
    }
}

impl Peer for Esrs {
    const NAME: &'static str = "esrs 0.18";

    async fn open(database: &Database) -> anyhow::Result<Self> {
        let store = PgStoreBuilder::new(database.pool.clone()).try_build().await?;
        Ok(Self(AggregateManager::new(store)))
    }

    async fn rename(&self, product: u64, name: String) -> anyhow::Result<bool> {
        let id = Uuid::from_u128(u128::from(product));
        let state = self.0.load(id).await?.unwrap_or_else(|| AggregateState::with_id(id));
        match self.0.handle_command(state, name).await {
            Ok(decided) => {
                decided?;
                Ok(true)
            }
            Err(PgStoreError::Sqlx(sqlx::Error::Database(error))) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn renamed(&self, db: &PgPool) -> anyhow::Result<Vec<(u64, String)>> {
        let rows: Vec<(Uuid, String)> = sqlx::query_as(
            "select aggregate_id, payload ->> 'name' from product_events order by aggregate_id, sequence_number",
        )
        .fetch_all(db)
        .await?;
        rows.into_iter()
            .map(|(id, name)| Ok((u64::try_from(id.as_u128())?, name)))
            .collect()
    }
}
