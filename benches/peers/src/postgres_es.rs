//! Stock postgres-es: `CqrsFramework` over its repository and the table that it documents.

use cqrs_es::{
    Aggregate, AggregateError, CqrsFramework, DomainEvent, event_sink::EventSink, persist::PersistedEventStore,
};
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};
use sqlx::{Executor as _, PgPool};

use crate::{database::Database, work::Peer};

type Store = PersistedEventStore<PostgresEventRepository, Product>;

/// postgres-es.
pub struct PostgresEs(CqrsFramework<Product, Store>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Product {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Renamed {
    name: String,
}

#[derive(Debug, thiserror::Error)]
#[error("it is called so already")]
struct Unchanged;

impl DomainEvent for Renamed {
    fn event_type(&self) -> String {
        "product.renamed".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Product {
    const TYPE: &'static str = "product";
    type Command = String;
    type Event = Renamed;
    type Error = Unchanged;
    type Services = ();

    async fn handle(&mut self, name: String, (): &(), sink: &EventSink<Self>) -> Result<(), Unchanged> {
        if self.name == name {
            return Err(Unchanged);
        }
        sink.write(Renamed { name }, self).await;
        Ok(())
    }

    fn apply(&mut self, event: Renamed) {
        self.name = event.name;
    }
}

impl Peer for PostgresEs {
    const NAME: &'static str = "postgres-es 0.5";

    async fn open(database: &Database) -> anyhow::Result<Self> {
        // As db/init.sql of its repository.
        database
            .pool
            .execute(
                "create table events (
                    aggregate_type text                         not null,
                    aggregate_id   text                         not null,
                    sequence       bigint check (sequence >= 0) not null,
                    event_type     text                         not null,
                    event_version  text                         not null,
                    payload        json                         not null,
                    metadata       json                         not null,
                    primary key (aggregate_type, aggregate_id, sequence))",
            )
            .await?;
        let store = PersistedEventStore::new_event_store(PostgresEventRepository::new(database.pool.clone()));
        Ok(Self(CqrsFramework::new(store, Vec::new(), ())))
    }

    async fn rename(&self, product: u64, name: String) -> anyhow::Result<bool> {
        match self.0.execute(&product.to_string(), name).await {
            Ok(()) => Ok(true),
            Err(AggregateError::AggregateConflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn renamed(&self, db: &PgPool) -> anyhow::Result<Vec<(u64, String)>> {
        // It has no order but that of each stream.
        let rows: Vec<(String, String)> =
            sqlx::query_as("select aggregate_id, payload ->> 'name' from events order by aggregate_id, sequence")
                .fetch_all(db)
                .await?;
        rows.into_iter().map(|(id, name)| Ok((id.parse()?, name))).collect()
    }
}
