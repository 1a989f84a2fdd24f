//! What is in a cart, and how shoppers change it.

use std::collections::{BTreeMap, btree_map::Entry};

use jangbu_events::{CartEvent, LineId, Money, OrderLine, Owner, ProductId, Sku};
use serde::{Deserialize, Serialize};

use super::{Cart, CartError, NewLine};

/// What is in a cart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Whose it is.
    pub owner: Owner,
    /// By sku, in the order of skus.
    pub lines: BTreeMap<Sku, CartLine>,
    /// How many times it was checked out.
    pub attempts: u32,
}

/// One line of a cart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CartLine {
    /// `LineId::of(cart, sku)`.
    pub line_id: LineId,
    /// What.
    pub product_id: ProductId,
    /// What, in the shop's words.
    pub sku: Sku,
    /// Its name when it was put in.
    pub name: String,
    /// Its price when it was put in; checkout prices anew.
    pub unit_price: Money,
    /// How many: 1 to [`Cart::QUANTITY_MAX`].
    pub quantity: u32,
}

impl Contents {
    pub(super) fn new(owner: Owner) -> Self {
        Self {
            owner,
            lines: BTreeMap::new(),
            attempts: 0,
        }
    }

    /// Whether an order of `lines` would buy exactly what is in here.
    pub(super) fn matches(&self, lines: &[OrderLine]) -> bool {
        let wanted: BTreeMap<&Sku, u32> = lines.iter().map(|line| (&line.sku, line.quantity)).collect();
        lines.len() == self.lines.len()
            && wanted.len() == self.lines.len()
            && self
                .lines
                .iter()
                .all(|(sku, line)| wanted.get(sku) == Some(&line.quantity))
    }

    pub(super) fn add(&self, lines: &[NewLine]) -> Result<Vec<CartEvent>, CartError> {
        // One event per sku, in the order in which they are first named.
        let mut named: Vec<&NewLine> = Vec::new();
        let mut added: BTreeMap<&Sku, u32> = BTreeMap::new();
        for line in lines {
            in_range(&line.sku, line.quantity)?;
            match added.entry(&line.sku) {
                Entry::Vacant(vacant) => {
                    vacant.insert(line.quantity);
                    named.push(line);
                }
                Entry::Occupied(mut sum) => *sum.get_mut() = sum.get().saturating_add(line.quantity),
            }
        }
        let new = named.iter().filter(|line| !self.lines.contains_key(&line.sku)).count();
        if self.lines.len() + new > Cart::LINES_MAX {
            return Err(CartError::TooManyLines { max: Cart::LINES_MAX });
        }
        named
            .into_iter()
            .map(|line| {
                let sku = line.sku.clone();
                let more = added[&line.sku];
                let Some(present) = self.lines.get(&sku) else {
                    in_range(&sku, more)?;
                    return Ok(CartEvent::LineAdded {
                        line_id: line.line_id,
                        product_id: line.product_id,
                        sku,
                        name: line.name.clone(),
                        unit_price: line.unit_price,
                        quantity: more,
                    });
                };
                let quantity = present.quantity.saturating_add(more);
                in_range(&sku, quantity)?;
                Ok(present.changed_to(quantity))
            })
            .collect()
    }

    pub(super) fn change_quantity(&self, sku: &Sku, quantity: u32) -> Result<Vec<CartEvent>, CartError> {
        let line = self
            .lines
            .get(sku)
            .ok_or_else(|| CartError::UnknownLine { sku: sku.clone() })?;
        in_range(sku, quantity)?;
        if line.quantity == quantity {
            return Ok(Vec::new());
        }
        Ok(vec![line.changed_to(quantity)])
    }

    pub(super) fn remove(&self, sku: &Sku) -> Vec<CartEvent> {
        let removed = self.lines.get(sku).map(|line| CartEvent::LineRemoved {
            line_id: line.line_id,
            sku: sku.clone(),
            quantity: line.quantity,
        });
        Vec::from_iter(removed)
    }

    pub(super) fn clear(&self) -> Vec<CartEvent> {
        if self.lines.is_empty() {
            Vec::new()
        } else {
            vec![CartEvent::Cleared {}]
        }
    }
}

impl CartLine {
    fn changed_to(&self, quantity: u32) -> CartEvent {
        CartEvent::LineQuantityChanged {
            line_id: self.line_id,
            sku: self.sku.clone(),
            previous_quantity: self.quantity,
            quantity,
        }
    }
}

fn in_range(sku: &Sku, quantity: u32) -> Result<(), CartError> {
    if (1..=Cart::QUANTITY_MAX).contains(&quantity) {
        return Ok(());
    }
    Err(CartError::QuantityOutOfRange {
        sku: sku.clone(),
        quantity,
        max: Cart::QUANTITY_MAX,
    })
}
