//! The goods of the golf shop, and how they come onto the shelf.

use std::collections::BTreeMap;

use jangbu_domain::{Product, ProductCommand, ProductStatus, StockCommand, StockItem};
use jangbu_events::{Metadata, Money, ProductId, Sku, StoreId, TaxClass};
use uuid::Uuid;

use super::DemoError;
use crate::executor::{CommandEnvelope, Executor};

/// Ids of the commands that fill the shop derive from it: filling it twice changes nothing.
const NAMESPACE: Uuid = Uuid::from_u128(0x6a61_6e67_6275_7000_8000_0000_0000_0003);
/// Below so many left, more are received.
const AVAILABLE_MIN: u32 = 10;

/// One of the goods.
pub(super) struct Good {
    pub sku: &'static str,
    pub name: &'static str,
    pub category: &'static str,
    /// In won, VAT included.
    pub price: i64,
    /// Received when the shop opens.
    pub stock: u32,
    pub brand: &'static str,
}

const fn good(
    sku: &'static str,
    name: &'static str,
    category: &'static str,
    price: i64,
    stock: u32,
    brand: &'static str,
) -> Good {
    Good {
        sku,
        name,
        category,
        price,
        stock,
        brand,
    }
}

/// All of them.
pub(super) const PRODUCTS: &[Good] = &[
    good("DRIVER-105", "한라 드라이버 10.5도", "클럽", 459_000, 20, "한라골프"),
    good("IRON-SET-7", "백두 아이언 세트 (5번-PW)", "클럽", 890_000, 12, "백두"),
    good("PUTTER-34", "청송 퍼터 34인치", "클럽", 189_000, 25, "청송"),
    good("BALL-TOUR-12", "동해 투어 골프공 12구", "골프공", 48_000, 200, "동해"),
    good("BALL-SOFT-12", "동해 소프트 골프공 12구", "골프공", 29_000, 200, "동해"),
    good("GLOVE-L-22", "양피 장갑 왼손 22호", "용품", 19_000, 100, "남산"),
    good("BAG-STAND-9", "남산 스탠드백 9인치", "가방", 219_000, 15, "남산"),
    good("CAP-SUN-F", "햇살 골프 모자", "의류", 35_000, 80, "햇살"),
];

/// Makes sure that the log is empty or holds this very shop.
pub(super) async fn refuse_foreign(executor: &Executor) -> Result<(), DemoError> {
    let log = executor.log();
    if log.head().await?.position == 0 {
        return Ok(());
    }
    let first = step_id("register", &sku(&PRODUCTS[0]));
    if log.commands(&[first]).await?.is_empty() {
        return Err(DemoError::ForeignShop);
    }
    Ok(())
}

/// Registers, publishes and receives what is not there yet; `false` if all of it was.
pub(super) async fn seed(executor: &Executor) -> Result<bool, DemoError> {
    let before = executor.log().head().await?.position;
    for good in PRODUCTS {
        put_on_shelf(executor, good)
            .await
            .map_err(|error| DemoError::Seed(error.to_string()))?;
    }
    Ok(executor.log().head().await?.position > before)
}

async fn put_on_shelf(executor: &Executor, good: &Good) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let sku = sku(good);
    let product = ProductId::of(StoreId::DEFAULT, &sku);
    let register = ProductCommand::Register {
        sku: sku.clone(),
        name: good.name.to_owned(),
        category: good.category.to_owned(),
        price: Money::won(good.price),
        tax_class: TaxClass::Taxable,
        attributes: BTreeMap::from([("brand".to_owned(), good.brand.to_owned())]),
    };
    let publish = ProductCommand::Revise {
        name: None,
        price: None,
        status: Some(ProductStatus::Published),
    };
    let receive = |quantity| StockCommand::Receive {
        sku: sku.clone(),
        quantity,
    };
    let envelope = |id: Uuid| CommandEnvelope::new(id, metadata(), executor.log().surroundings().now());
    executor
        .execute::<Product>(product, register, envelope(step_id("register", &sku)))
        .await?;
    executor
        .execute::<Product>(product, publish, envelope(step_id("publish", &sku)))
        .await?;
    let stock = executor
        .execute::<StockItem>(
            product.stock_item(),
            receive(good.stock),
            envelope(step_id("receive", &sku)),
        )
        .await?;
    let now = if stock.duplicate {
        executor.load::<StockItem>(product.stock_item()).await?.state
    } else {
        stock.state
    };
    if now.available() < AVAILABLE_MIN {
        let again = executor.log().surroundings().ids.uuid();
        executor
            .execute::<StockItem>(product.stock_item(), receive(good.stock), envelope(again))
            .await?;
    }
    Ok(())
}

fn sku(good: &Good) -> Sku {
    good.sku.parse().expect("the demo's skus are skus")
}

fn step_id(step: &str, sku: &Sku) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{step}:{sku}").as_bytes())
}

fn metadata() -> Metadata {
    Metadata {
        actor_kind: "system".to_owned(),
        channel: "cli".to_owned(),
        ..Metadata::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goods_are_fit_to_be_sold() {
        let mut skus: Vec<Sku> = PRODUCTS.iter().map(sku).collect();
        skus.sort();
        skus.dedup();
        assert_eq!(skus.len(), PRODUCTS.len());
        assert!(
            PRODUCTS
                .iter()
                .all(|good| good.price > 0 && good.stock >= AVAILABLE_MIN)
        );
    }
}
