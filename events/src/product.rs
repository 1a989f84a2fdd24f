//! What happens to a product.

use std::collections::BTreeMap;

use cqrs_es::DomainEvent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Money, Sku, TaxClass, event::current_version};

/// A product is registered once, then described, priced and shown or hidden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum ProductEvent {
    /// It exists; not for sale yet.
    #[serde(rename = "product.registered")]
    Registered {
        /// For ever.
        sku: Sku,
        /// Shown to shoppers.
        name: String,
        /// One flat category.
        category: String,
        /// What a shopper pays for one, VAT included.
        price: Money,
        /// How VAT applies.
        tax_class: TaxClass,
        /// Anything else the shop knows about it (brand, department …).
        attributes: BTreeMap<String, String>,
    },
    /// It has a new name; past orders keep the old one.
    #[serde(rename = "product.renamed")]
    Renamed {
        /// The new name.
        name: String,
    },
    /// It has a new price; past orders keep the old one.
    #[serde(rename = "product.repriced")]
    Repriced {
        /// What it cost before.
        previous_price: Money,
        /// What it costs now.
        price: Money,
    },
    /// Shoppers can see and buy it.
    #[serde(rename = "product.published")]
    Published {},
    /// Shoppers cannot see or buy it for now.
    #[serde(rename = "product.hidden")]
    Hidden {},
    /// It is gone from the range for good.
    #[serde(rename = "product.archived")]
    Archived {},
}

impl DomainEvent for ProductEvent {
    fn event_type(&self) -> String {
        self.name().to_owned()
    }
    fn event_version(&self) -> String {
        current_version(self.name()).to_owned()
    }
}

impl ProductEvent {
    /// The stored name, as in the `event_type` column.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "product.registered",
            Self::Renamed { .. } => "product.renamed",
            Self::Repriced { .. } => "product.repriced",
            Self::Published {} => "product.published",
            Self::Hidden {} => "product.hidden",
            Self::Archived {} => "product.archived",
        }
    }
}
