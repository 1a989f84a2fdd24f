//! Products and their stock.

use std::collections::BTreeMap;

use jangbu_domain::{Product, StockItem};
use jangbu_events::{ProductId, Sku, Timestamp};
use jangbu_projections::{
    catalog::{ProductRow, StockState},
    stock_levels::StockLevelRow,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{MoneyView, time, word};

/// A product as shoppers see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProductView {
    /// `prd_…`.
    #[schema(example = "prd_5f0c2a1e9b7d5e3c8a6f4b2d1e0c9a8b")]
    pub id: String,
    /// The shop's own name.
    #[schema(example = "DRIVER-10.5")]
    pub sku: String,
    /// Shown to shoppers.
    #[schema(example = "드라이버 10.5도")]
    pub name: String,
    /// One flat category.
    #[schema(example = "클럽")]
    pub category: String,
    /// Of one, VAT included.
    pub price: MoneyView,
    /// What one costs in all: no fee is added later (KOREA M6).
    pub total_payable: MoneyView,
    /// `taxable` or `tax_free`.
    #[schema(example = "taxable")]
    pub tax_class: String,
    /// Anything else the shop tells about it.
    pub attributes: BTreeMap<String, String>,
    /// What is left.
    pub stock: StockView,
    /// When it came into the range.
    pub registered_at: String,
}

/// What is left of a product.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockView {
    /// `in_stock`, `few_left` or `sold_out`.
    #[schema(example = "in_stock")]
    pub state: &'static str,
    /// Not held by any order.
    pub available: i64,
}

/// A product as the shop sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminProductView {
    /// `prd_…`.
    pub id: String,
    /// For ever.
    pub sku: String,
    /// Shown to shoppers.
    pub name: String,
    /// One flat category.
    pub category: String,
    /// Of one, VAT included.
    pub price: MoneyView,
    /// `taxable` or `tax_free`.
    pub tax_class: String,
    /// Anything else the shop knows about it.
    pub attributes: BTreeMap<String, String>,
    /// `draft`, `published`, `hidden` or `archived`.
    #[schema(example = "published")]
    pub status: String,
    /// For `If-Match: "v<version>"`, or `version` in the body of an edit.
    pub version: i64,
}

/// The stock of a product.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockLevelView {
    /// Whose stock.
    pub sku: String,
    /// `prd_…`.
    pub product_id: String,
    /// In the warehouse.
    pub on_hand: i64,
    /// Held by orders that are not paid yet.
    pub held: i64,
    /// Not held by any order.
    pub available: i64,
    /// How many times an order asked for more than there was; only in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusals: Option<i64>,
    /// When goods last came, went or were set aside; only in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<String>,
    /// Of the stock.
    pub version: i64,
}

impl From<ProductRow> for ProductView {
    fn from(row: ProductRow) -> Self {
        Self {
            id: row.product_id.to_string(),
            sku: row.sku.to_string(),
            price: row.price.into(),
            total_payable: row.price.into(),
            tax_class: word(row.tax_class),
            stock: StockView {
                state: row.stock_state().as_str(),
                available: row.available,
            },
            registered_at: time(row.registered_at),
            name: row.name,
            category: row.category,
            attributes: row.attributes,
        }
    }
}

impl From<ProductRow> for AdminProductView {
    fn from(row: ProductRow) -> Self {
        Self {
            id: row.product_id.to_string(),
            sku: row.sku.to_string(),
            name: row.name,
            category: row.category,
            price: row.price.into(),
            tax_class: word(row.tax_class),
            attributes: row.attributes,
            status: row.status.as_str().to_owned(),
            version: row.product_sequence,
        }
    }
}

impl ProductView {
    /// Folded from its stream and that of its stock; `None` where nobody has registered it.
    pub fn of(id: ProductId, product: &Product, available: i64, registered_at: Timestamp) -> Option<Self> {
        let Product::Registered {
            sku,
            name,
            category,
            price,
            tax_class,
            attributes,
            status: _,
        } = product
        else {
            return None;
        };
        Some(Self {
            id: id.to_string(),
            sku: sku.to_string(),
            name: name.clone(),
            category: category.clone(),
            price: (*price).into(),
            total_payable: (*price).into(),
            tax_class: word(tax_class),
            attributes: attributes.clone(),
            stock: StockView {
                state: StockState::of(available).as_str(),
                available,
            },
            registered_at: time(registered_at),
        })
    }
}

impl AdminProductView {
    /// Folded from its stream; `None` where nobody has registered it.
    pub fn of(id: ProductId, product: &Product, sequence: i64) -> Option<Self> {
        let Product::Registered {
            sku,
            name,
            category,
            price,
            tax_class,
            attributes,
            status,
        } = product
        else {
            return None;
        };
        Some(Self {
            id: id.to_string(),
            sku: sku.to_string(),
            name: name.clone(),
            category: category.clone(),
            price: (*price).into(),
            tax_class: word(tax_class),
            attributes: attributes.clone(),
            status: word(status),
            version: sequence,
        })
    }
}

impl StockLevelView {
    /// Folded from its stream.
    pub fn of(sku: &Sku, product_id: ProductId, stock: &StockItem, sequence: i64) -> Self {
        Self {
            sku: sku.to_string(),
            product_id: product_id.to_string(),
            on_hand: stock.on_hand.into(),
            held: stock.held().into(),
            available: stock.available().into(),
            refusals: None,
            moved_at: None,
            version: sequence,
        }
    }
}

impl From<StockLevelRow> for StockLevelView {
    fn from(row: StockLevelRow) -> Self {
        Self {
            sku: row.sku.to_string(),
            product_id: row.product_id.to_string(),
            on_hand: row.on_hand,
            held: row.held(),
            available: row.available,
            refusals: Some(row.refusals),
            moved_at: row.moved_at.map(time),
            version: row.sequence,
        }
    }
}
