//! Jangbu: commands through the executor.

use jangbu::{
    clock::Surroundings,
    executor::{CommandEnvelope, ExecuteError, Executor},
    log::Log,
    node,
};
use jangbu_domain::product::{Product, ProductCommand};
use jangbu_events::{Metadata, Money, ProductId, Sku, StoreId, TaxClass};
use sqlx::PgPool;

use crate::{
    database::Database,
    work::{CLIENTS, CONNECTIONS, PRODUCTS, Peer},
};

/// Products that clients may rename, of which they take fewer where each has one.
const RANGE: u64 = (CLIENTS * PRODUCTS[0]) as u64;

/// Ours.
pub struct Jangbu {
    executor: Executor,
    surroundings: Surroundings,
}

impl Jangbu {
    async fn execute(&self, id: ProductId, command: ProductCommand) -> anyhow::Result<bool> {
        let metadata = Metadata {
            actor_kind: "admin".to_owned(),
            channel: "http".to_owned(),
            ..Metadata::default()
        };
        let envelope = CommandEnvelope::new(self.surroundings.ids.uuid(), metadata, self.surroundings.now());
        match self.executor.execute::<Product>(id, command, envelope).await {
            Ok(_) => Ok(true),
            Err(ExecuteError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn sku(product: u64) -> Sku {
    format!("PEER-{product}").parse().expect("it is a sku")
}

fn id(product: u64) -> ProductId {
    ProductId::of(StoreId::DEFAULT, &sku(product))
}

impl Peer for Jangbu {
    const NAME: &'static str = "Jangbu";

    async fn open(database: &Database) -> anyhow::Result<Self> {
        node::migrate(&database.pool).await?;
        let surroundings = Surroundings::system();
        let pool = node::pool(&database.options, CONNECTIONS).await?;
        let log = Log::open(database.options.clone(), pool, surroundings.clone()).await?;
        let peer = Self {
            executor: Executor::new(log),
            surroundings,
        };
        // A product has to be in the range before it can have another name.
        for product in 0..RANGE {
            let command = ProductCommand::Register {
                sku: sku(product),
                name: "product".to_owned(),
                category: "golf".to_owned(),
                price: Money::won(1_000),
                tax_class: TaxClass::Taxable,
                attributes: std::collections::BTreeMap::new(),
            };
            peer.execute(id(product), command).await?;
        }
        Ok(peer)
    }

    async fn rename(&self, product: u64, name: String) -> anyhow::Result<bool> {
        let command = ProductCommand::Revise {
            name: Some(name),
            price: None,
            status: None,
        };
        self.execute(id(product), command).await
    }

    async fn renamed(&self, db: &PgPool) -> anyhow::Result<Vec<(u64, String)>> {
        let products: std::collections::HashMap<String, u64> =
            (0..RANGE).map(|product| (id(product).to_string(), product)).collect();
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select aggregate_id, payload ->> 'name' from events where event_type = 'product.renamed' order by position",
        )
        .fetch_all(db)
        .await?;
        Ok(rows.into_iter().map(|(id, name)| (products[&id], name)).collect())
    }
}
