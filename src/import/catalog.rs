//! What the catalog says now about the skus that a file names, folded from the product streams.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use jangbu_domain::Product;
use jangbu_events::{Money, ProductId, Sku, StoreId, TaxClass};

use crate::executor::{Executor, LoadError};

/// Streams read at once.
const STREAMS_MAX: usize = 256;

/// A product as a past order is booked with it.
#[derive(Debug)]
pub struct Listed {
    /// Which.
    pub product_id: ProductId,
    /// Its name now.
    pub name: String,
    /// Its category.
    pub category: String,
    /// Its price now.
    pub price: Money,
    /// How VAT applies.
    pub tax_class: TaxClass,
}

/// Products that were looked up. Hidden and archived ones count: they were sold once. A product
/// keeps the price it had when it was first looked up, so that one import uses one price list.
#[derive(Default)]
pub struct Catalog(RwLock<HashMap<Sku, Arc<Listed>>>);

impl Catalog {
    /// A product, if there is one and it was looked up.
    pub fn get(&self, sku: &Sku) -> Option<Arc<Listed>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(sku)
            .map(Arc::clone)
    }

    /// Looks up those that are not known yet.
    pub async fn look_up(&self, executor: &Executor, skus: BTreeSet<&Sku>) -> Result<(), LoadError> {
        let missing: Vec<(&Sku, ProductId)> = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            skus.into_iter()
                .filter(|sku| !known.contains_key(*sku))
                .map(|sku| (sku, ProductId::of(StoreId::DEFAULT, sku)))
                .collect()
        };
        for some in missing.chunks(STREAMS_MAX) {
            let ids: Vec<ProductId> = some.iter().map(|(_, id)| *id).collect();
            let loaded = executor.load_many::<Product>(&ids).await?;
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            for ((sku, product_id), loaded) in some.iter().zip(loaded) {
                if let Product::Registered {
                    name,
                    category,
                    price,
                    tax_class,
                    ..
                } = &*loaded.state
                {
                    known.entry((*sku).clone()).or_insert_with(|| {
                        Arc::new(Listed {
                            product_id: *product_id,
                            name: name.clone(),
                            category: category.clone(),
                            price: *price,
                            tax_class: *tax_class,
                        })
                    });
                }
            }
        }
        Ok(())
    }
}
