//! Carts.

use jangbu_domain::{Cart, cart::CartLine};
use jangbu_events::{CartId, Money};
use serde::Serialize;
use utoipa::ToSchema;

use super::MoneyView;

/// A cart.
#[derive(Debug, Serialize, ToSchema)]
pub struct CartView {
    /// `crt_…`.
    #[schema(example = "crt_019cb3f0a1b27c3d8e4f5a6b7c8d9e0f")]
    pub id: String,
    /// `open`, or `checked_out` while it is an order.
    #[schema(example = "open")]
    pub status: &'static str,
    /// For `If-Match: "v<version>"`.
    pub version: i64,
    /// The order it became, while it is one.
    pub order_id: Option<String>,
    /// By sku.
    pub lines: Vec<CartLineView>,
    /// Prices times quantities, as the lines say; checkout prices anew.
    pub total: MoneyView,
}

/// A line of a cart.
#[derive(Debug, Serialize, ToSchema)]
pub struct CartLineView {
    /// `lin_…`; the order made of the cart keeps it.
    pub line_id: String,
    /// `prd_…`.
    pub product_id: String,
    /// The shop's own name.
    pub sku: String,
    /// When it was put in.
    pub name: String,
    /// Of one, VAT included, when it was put in.
    pub unit_price: MoneyView,
    /// 1 to 99.
    pub quantity: u32,
    /// Price times quantity.
    pub total: MoneyView,
}

/// A cart that was just taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewCartView {
    /// For `Authorization: Bearer`; null for a member, who has a token already. Keep it: it is the only
    /// way to this cart and its orders.
    pub token: Option<String>,
    /// The cart.
    #[serde(flatten)]
    pub cart: CartView,
}

impl CartView {
    /// Of a cart that was taken.
    pub fn of(id: CartId, cart: &Cart, sequence: i64) -> Self {
        let contents = cart.contents();
        let order_id = match cart {
            Cart::CheckedOut { order_id, .. } => Some(order_id.to_string()),
            Cart::NotOpened | Cart::Open(_) => None,
        };
        let lines: Vec<CartLineView> = contents
            .into_iter()
            .flat_map(|contents| contents.lines.values())
            .map(CartLineView::of)
            .collect();
        Self {
            id: id.to_string(),
            status: if order_id.is_some() { "checked_out" } else { "open" },
            version: sequence,
            order_id,
            total: Money::won(lines.iter().map(|line| line.total.amount).sum()).into(),
            lines,
        }
    }
}

impl CartLineView {
    fn of(line: &CartLine) -> Self {
        Self {
            line_id: line.line_id.to_string(),
            product_id: line.product_id.to_string(),
            sku: line.sku.to_string(),
            name: line.name.clone(),
            unit_price: line.unit_price.into(),
            quantity: line.quantity,
            // At most a trillion won, 99 times.
            total: Money::won(line.unit_price.amount * i64::from(line.quantity)).into(),
        }
    }
}
