//! disintegrate-postgres 4: a decision over the events of one product, validated by the same query.

use disintegrate::{Decision, Event, NoSnapshot, StateMutate, StateQuery, serde::json::Json};
use disintegrate_postgres::{PgDecisionMaker, PgEventStore};
use serde::{Deserialize, Serialize};
use sqlx::{Executor as _, PgPool, Row as _};

use crate::{database::Database, work::Peer};

/// As its own, but for a literal: `0xFFFFFFFF` is PostgreSQL 16's, and 15 refuses the function.
const BEGIN_EPOCH: &str = "
    create or replace function event_store_begin_epoch() returns void as $$
    declare
        id bigint;
        db_id int;
    begin
        select last_value into id from seq_event_event_id;
        select oid into db_id from pg_database where datname = current_database();
        perform pg_try_advisory_xact_lock_shared(db_id, 0);
        perform pg_try_advisory_xact_lock_shared(1, (id & 4294967295)::bit(32)::integer);
        perform pg_try_advisory_xact_lock_shared(2, (id >> 32)::bit(32)::integer);
    end;
    $$ language plpgsql";

/// disintegrate-postgres.
pub struct Disintegrate(PgDecisionMaker<ProductEvent, Json<ProductEvent>, NoSnapshot>);

#[derive(Debug, Clone, PartialEq, Eq, Event, Serialize, Deserialize)]
pub enum ProductEvent {
    Renamed {
        #[id]
        product_id: String,
        name: String,
    },
}

#[derive(Debug, Clone, Default, StateQuery, Serialize, Deserialize)]
#[state_query(ProductEvent)]
struct Product {
    #[id]
    product_id: String,
    name: String,
}

impl StateMutate for Product {
    fn mutate(&mut self, event: Self::Event) {
        let ProductEvent::Renamed { name, .. } = event;
        self.name = name;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it is called so already")]
struct Unchanged;

struct Rename {
    product_id: String,
    name: String,
}

impl Decision for Rename {
    type Event = ProductEvent;
    type StateQuery = Product;
    type Error = Unchanged;

    fn state_query(&self) -> Product {
        Product {
            product_id: self.product_id.clone(),
            name: String::new(),
        }
    }

    fn process(&self, product: &Product) -> Result<Vec<ProductEvent>, Unchanged> {
        if product.name == self.name {
            return Err(Unchanged);
        }
        Ok(vec![ProductEvent::Renamed {
            product_id: self.product_id.clone(),
            name: self.name.clone(),
        }])
    }
}

impl Peer for Disintegrate {
    const NAME: &'static str = "disintegrate-postgres 4";

    async fn open(database: &Database) -> anyhow::Result<Self> {
        let setup = database.options.clone().options([("check_function_bodies", "off")]);
        let setup = PgPool::connect_with(setup).await?;
        PgEventStore::<ProductEvent, _>::try_new(setup.clone(), Json::default()).await?;
        setup.close().await;
        database.pool.execute(BEGIN_EPOCH).await?;
        let store = PgEventStore::new_uninitialized(database.pool.clone(), Json::default());
        Ok(Self(disintegrate_postgres::decision_maker(store, NoSnapshot)))
    }

    async fn rename(&self, product: u64, name: String) -> anyhow::Result<bool> {
        let decision = Rename {
            product_id: product.to_string(),
            name,
        };
        match self.0.make(decision).await {
            Ok(_) => Ok(true),
            Err(disintegrate::DecisionError::StateStore(error)) if is_conflict(&*error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn renamed(&self, db: &PgPool) -> anyhow::Result<Vec<(u64, String)>> {
        let rows = sqlx::query("select payload from event order by event_id")
            .fetch_all(db)
            .await?;
        rows.into_iter()
            .map(|row| {
                let ProductEvent::Renamed { product_id, name } = serde_json::from_slice(row.try_get(0)?)?;
                Ok((product_id.parse()?, name))
            })
            .collect()
    }
}

/// Its transactions are serializable: a failure of serialization is a conflict as well.
fn is_conflict(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref::<disintegrate_postgres::Error>() {
        Some(disintegrate_postgres::Error::Concurrency) => true,
        Some(disintegrate_postgres::Error::Database(sqlx::Error::Database(error))) => {
            matches!(error.code().as_deref(), Some("40001" | "40P01"))
        }
        _ => false,
    }
}
