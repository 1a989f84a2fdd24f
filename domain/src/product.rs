//! A product of the range: what it is called, what it costs, and whether shoppers see it. Its stock
//! is another aggregate ([`crate::stock_item`]), so that selling never contends with describing.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cqrs_es::{Aggregate, event_sink::EventSink};
use jangbu_events::{AggregateId, Money, ProductEvent, ProductId, Sku, TaxClass};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Decide;

/// Where a product stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Product {
    /// Nobody has registered it.
    #[default]
    NotRegistered,
    /// It exists.
    Registered {
        /// For ever.
        sku: Sku,
        /// As it stands now.
        name: String,
        /// One flat category.
        category: String,
        /// What a shopper pays for one, VAT included.
        price: Money,
        /// How VAT applies.
        tax_class: TaxClass,
        /// Anything else the shop knows about it.
        attributes: BTreeMap<String, String>,
        /// Whether shoppers see it.
        status: ProductStatus,
    },
}

/// Whether shoppers see a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProductStatus {
    /// Not yet.
    Draft,
    /// They do.
    Published,
    /// Not for now.
    Hidden,
    /// Never again.
    Archived,
}

/// What can be asked of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProductCommand {
    /// Bring it into the range, as a draft.
    Register {
        /// For ever.
        sku: Sku,
        /// Shown to shoppers.
        name: String,
        /// One flat category.
        category: String,
        /// What a shopper pays for one, VAT included: 0 to [`Money::AMOUNT_MAX`].
        price: Money,
        /// How VAT applies.
        tax_class: TaxClass,
        /// Anything else the shop knows about it.
        attributes: BTreeMap<String, String>,
    },
    /// Change some of it; what is `None`, or is so already, stays.
    Revise {
        /// A new name.
        name: Option<String>,
        /// A new price: 0 to [`Money::AMOUNT_MAX`].
        price: Option<Money>,
        /// Show, hide or archive it.
        status: Option<ProductStatus>,
    },
}

/// Why a product refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProductError {
    /// It exists, and with other facts than these.
    #[error("the product is registered already")]
    AlreadyRegistered,
    /// There is no such product.
    #[error("the product is not registered")]
    NotRegistered,
    /// It is out of the range for good.
    #[error("the product is archived")]
    Archived,
    /// A price is 0 to [`Money::AMOUNT_MAX`].
    #[error("a price is 0 to {}", Money::won(Money::AMOUNT_MAX))]
    PriceOutOfRange,
    /// What was published, hidden or archived once is no draft again.
    #[error("a product does not become a draft again")]
    NoWayBackToDraft,
}

impl Aggregate for Product {
    const TYPE: &'static str = "product";
    type Command = ProductCommand;
    type Event = ProductEvent;
    type Error = ProductError;
    type Services = ();

    async fn handle(&mut self, command: ProductCommand, (): &(), sink: &EventSink<Self>) -> Result<(), ProductError> {
        for event in self.decide(&command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ProductEvent) {
        match event {
            ProductEvent::Registered {
                sku,
                name,
                category,
                price,
                tax_class,
                attributes,
            } => {
                *self = Self::Registered {
                    sku,
                    name,
                    category,
                    price,
                    tax_class,
                    attributes,
                    status: ProductStatus::Draft,
                };
            }
            ProductEvent::Renamed { name: new } => {
                if let Self::Registered { name, .. } = self {
                    *name = new;
                }
            }
            ProductEvent::Repriced { price: new, .. } => {
                if let Self::Registered { price, .. } = self {
                    *price = new;
                }
            }
            ProductEvent::Published {} => self.become_status(ProductStatus::Published),
            ProductEvent::Hidden {} => self.become_status(ProductStatus::Hidden),
            ProductEvent::Archived {} => self.become_status(ProductStatus::Archived),
        }
    }
}

impl Decide for Product {
    type Id = ProductId;

    fn decide(&self, command: &ProductCommand) -> Result<Vec<ProductEvent>, ProductError> {
        match command {
            ProductCommand::Register {
                sku,
                name,
                category,
                price,
                tax_class,
                attributes,
            } => {
                check_price(*price)?;
                let registered = ProductEvent::Registered {
                    sku: sku.clone(),
                    name: name.clone(),
                    category: category.clone(),
                    price: *price,
                    tax_class: *tax_class,
                    attributes: attributes.clone(),
                };
                match self {
                    Self::NotRegistered => Ok(vec![registered]),
                    Self::Registered { .. } if self.facts().as_ref() == Some(&registered) => Ok(Vec::new()),
                    Self::Registered { .. } => Err(ProductError::AlreadyRegistered),
                }
            }
            ProductCommand::Revise { name, price, status } => self.revise(name.as_ref(), *price, *status),
        }
    }

    fn partition_key(id: ProductId, _: &ProductCommand) -> Uuid {
        id.uuid()
    }
}

impl Product {
    fn revise(
        &self,
        new_name: Option<&String>,
        new_price: Option<Money>,
        new_status: Option<ProductStatus>,
    ) -> Result<Vec<ProductEvent>, ProductError> {
        let Self::Registered {
            name, price, status, ..
        } = self
        else {
            return Err(ProductError::NotRegistered);
        };
        let mut events = Vec::new();
        if let Some(new_name) = new_name.filter(|new_name| *new_name != name) {
            events.push(ProductEvent::Renamed { name: new_name.clone() });
        }
        if let Some(new_price) = new_price {
            check_price(new_price)?;
            if new_price != *price {
                events.push(ProductEvent::Repriced {
                    previous_price: *price,
                    price: new_price,
                });
            }
        }
        if let Some(new_status) = new_status.filter(|new_status| new_status != status) {
            events.push(match new_status {
                ProductStatus::Published => ProductEvent::Published {},
                ProductStatus::Hidden => ProductEvent::Hidden {},
                ProductStatus::Archived => ProductEvent::Archived {},
                ProductStatus::Draft if *status == ProductStatus::Archived => return Err(ProductError::Archived),
                ProductStatus::Draft => return Err(ProductError::NoWayBackToDraft),
            });
        }
        if *status == ProductStatus::Archived && !events.is_empty() {
            return Err(ProductError::Archived);
        }
        Ok(events)
    }

    /// What registering it as it stands now would say.
    fn facts(&self) -> Option<ProductEvent> {
        match self {
            Self::NotRegistered => None,
            Self::Registered {
                sku,
                name,
                category,
                price,
                tax_class,
                attributes,
                status: _,
            } => Some(ProductEvent::Registered {
                sku: sku.clone(),
                name: name.clone(),
                category: category.clone(),
                price: *price,
                tax_class: *tax_class,
                attributes: attributes.clone(),
            }),
        }
    }

    fn become_status(&mut self, new: ProductStatus) {
        if let Self::Registered { status, .. } = self {
            *status = new;
        }
    }
}

fn check_price(price: Money) -> Result<(), ProductError> {
    if (0..=Money::AMOUNT_MAX).contains(&price.amount) {
        Ok(())
    } else {
        Err(ProductError::PriceOutOfRange)
    }
}
