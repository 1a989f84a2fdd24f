//! What a purchase costs: sums over its lines, and the VAT inside them (KOREA M1 to M4).

#[cfg(test)]
mod tests;

use jangbu_events::{Money, OrderLine, OrderTotals, Sku, TaxClass};

/// Why lines cannot be priced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// A sum passes [`Money::AMOUNT_MAX`].
    #[error("the amount passes {}", Money::won(Money::AMOUNT_MAX))]
    TooMuch,
    /// The discount is negative, or more than the goods cost.
    #[error("a discount of {discount} on {goods}")]
    Discount {
        /// The discount.
        discount: Money,
        /// Price times quantity.
        goods: Money,
    },
    /// A line's total is not its price times its quantity less its discount.
    #[error("the line of {sku} says {stated}, but comes to {expected}")]
    LineTotal {
        /// Which line.
        sku: Sku,
        /// What it says.
        stated: Money,
        /// What it comes to.
        expected: Money,
    },
}

/// What a line costs: `unit_price * quantity - discount`, never below zero.
pub fn line_total(unit_price: Money, quantity: u32, discount: Money) -> Result<Money, PricingError> {
    let goods = goods(unit_price, quantity)?;
    if !(0..=goods.amount).contains(&discount.amount) {
        return Err(PricingError::Discount { discount, goods });
    }
    Ok(Money::won(goods.amount - discount.amount))
}

/// Sums over the lines of an order, without delivery. VAT is a tenth of the supply, that is an
/// eleventh of what is taxed, rounded half up to the won once per order (KOREA M3); the supply is
/// the rest, so that `total = supply + vat + tax_free` holds to the won.
pub fn totals(lines: &[OrderLine]) -> Result<OrderTotals, PricingError> {
    let (mut all_goods, mut discount, mut tax_free) = (Money::ZERO, Money::ZERO, Money::ZERO);
    for line in lines {
        let expected = line_total(line.unit_price, line.quantity, line.discount)?;
        if line.total != expected {
            return Err(PricingError::LineTotal {
                sku: line.sku.clone(),
                stated: line.total,
                expected,
            });
        }
        all_goods = add(all_goods, goods(line.unit_price, line.quantity)?)?;
        discount = add(discount, line.discount)?;
        if line.tax_class == TaxClass::TaxFree {
            tax_free = add(tax_free, line.total)?;
        }
    }
    // None of these can be below zero: each line's discount is at most its goods, and the tax-free
    // lines are some of all lines.
    let total = Money::won(all_goods.amount - discount.amount);
    let taxed = Money::won(total.amount - tax_free.amount);
    let vat = vat_inside(taxed);
    Ok(OrderTotals {
        goods: all_goods,
        discount,
        shipping: Money::ZERO,
        total,
        tax_free,
        supply: Money::won(taxed.amount - vat.amount),
        vat,
    })
}

/// The VAT inside a taxed amount of zero or more: an eleventh, rounded half up.
pub fn vat_inside(taxed: Money) -> Money {
    Money::won((taxed.amount * 2 + 11) / 22)
}

fn goods(unit_price: Money, quantity: u32) -> Result<Money, PricingError> {
    unit_price
        .checked_mul(quantity)
        .filter(|amount| in_range(*amount))
        .ok_or(PricingError::TooMuch)
}

fn add(sum: Money, more: Money) -> Result<Money, PricingError> {
    sum.checked_add(more)
        .filter(|amount| in_range(*amount))
        .ok_or(PricingError::TooMuch)
}

fn in_range(amount: Money) -> bool {
    (0..=Money::AMOUNT_MAX).contains(&amount.amount)
}
