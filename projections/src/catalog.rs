//! Catalog: every product with its price and what is left of it, for shoppers and for the shop.

mod changes;
mod queries;
mod search;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, str::FromStr};

use jangbu_events::{Event, Money, ProductId, Recorded, Sku, TaxClass, Timestamp};
use sqlx::PgConnection;

use crate::Projection;

pub use queries::{admin_list, by_id, by_sku, list};

/// One row per product, fed by its own stream and by that of its stock, which share a partition.
pub struct Catalog;

impl Projection for Catalog {
    const NAME: &'static str = "catalog";
    const CODE_VERSION: i32 = 1;
    const SCHEMA: &'static str = include_str!("../tables/catalog.sql");
    const EVENT_TYPES: &'static [&'static str] = &[
        "product.registered",
        "product.renamed",
        "product.repriced",
        "product.published",
        "product.hidden",
        "product.archived",
        "stock.received",
        "stock.adjusted",
        "stock.held",
        "stock.hold_refused",
        "stock.released",
        "stock.committed",
        "stock.returned",
    ];

    async fn apply(db: &mut PgConnection, partition: i16, batch: &[Recorded<Event>]) -> sqlx::Result<()> {
        changes::Changes::of(batch)?.write(db, partition).await
    }
}

/// Whether shoppers can see and buy a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProductStatus {
    /// Not yet: registered only.
    Draft,
    /// They can.
    Published,
    /// Not for now.
    Hidden,
    /// Never again.
    Archived,
}

impl ProductStatus {
    /// As it is stored and shown: `draft`, `published`, `hidden`, `archived`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Published => "published",
            Self::Hidden => "hidden",
            Self::Archived => "archived",
        }
    }
}

/// A text that is none of the values of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {0}")]
pub struct UnknownValue(pub &'static str);

impl FromStr for ProductStatus {
    type Err = UnknownValue;
    fn from_str(text: &str) -> Result<Self, UnknownValue> {
        [Self::Draft, Self::Published, Self::Hidden, Self::Archived]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(UnknownValue("draft, published, hidden, archived"))
    }
}

/// In which order shoppers see products. Ties go by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// By name in the order of Unicode, which for Korean is that of the dictionary.
    #[default]
    Name,
    /// The cheapest first.
    Cheapest,
    /// The dearest first.
    Dearest,
    /// The latest registered first.
    Newest,
}

impl Sort {
    /// As in a URL: `name`, `price`, `-price`, `newest`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Cheapest => "price",
            Self::Dearest => "-price",
            Self::Newest => "newest",
        }
    }
}

impl FromStr for Sort {
    type Err = UnknownValue;
    fn from_str(text: &str) -> Result<Self, UnknownValue> {
        [Self::Name, Self::Cheapest, Self::Dearest, Self::Newest]
            .into_iter()
            .find(|sort| sort.as_str() == text)
            .ok_or(UnknownValue("name, price, -price, newest"))
    }
}

/// Who asks for one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Sees what is published; anything else does not exist.
    Shopper,
    /// Sees all.
    Admin,
}

/// What a shopper looks for; `None` is anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Exactly this category.
    pub category: Option<&'a str>,
    /// A part of the name or of the sku, in any case.
    pub q: Option<&'a str>,
}

/// What is told of the stock to those who only want to buy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockState {
    /// More than [`FEW_LEFT_MAX`].
    InStock,
    /// Some, but no more than [`FEW_LEFT_MAX`].
    FewLeft,
    /// None.
    SoldOut,
}

/// From so many downwards a shopper is told that few are left.
pub const FEW_LEFT_MAX: i64 = 5;

impl StockState {
    /// Of so many that no order holds.
    pub const fn of(available: i64) -> Self {
        match available {
            ..=0 => Self::SoldOut,
            1..=FEW_LEFT_MAX => Self::FewLeft,
            _ => Self::InStock,
        }
    }

    /// As it is shown: `in_stock`, `few_left`, `sold_out`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InStock => "in_stock",
            Self::FewLeft => "few_left",
            Self::SoldOut => "sold_out",
        }
    }
}

/// A product and its stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// Of the product; its stock has the same bits.
    pub product_id: ProductId,
    /// For ever.
    pub sku: Sku,
    /// Shown to shoppers.
    pub name: String,
    /// One flat category.
    pub category: String,
    /// Of one, VAT included.
    pub price: Money,
    /// How VAT applies.
    pub tax_class: TaxClass,
    /// Anything else the shop knows about it.
    pub attributes: BTreeMap<String, String>,
    /// Whether shoppers can see it.
    pub status: ProductStatus,
    /// In the warehouse.
    pub on_hand: i64,
    /// Not held by any order.
    pub available: i64,
    /// Of `product.registered` in the log.
    pub registered_position: i64,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// When it was last revised; stock does not count.
    pub changed_at: Timestamp,
    /// Of the product's stream: its version for an edit.
    pub product_sequence: i64,
    /// Of the stock item's stream; 0 without one.
    pub stock_sequence: i64,
}

impl ProductRow {
    /// What is told of the stock to those who only want to buy.
    pub const fn stock_state(&self) -> StockState {
        StockState::of(self.available)
    }
}
