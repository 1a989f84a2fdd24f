use proptest::prelude::*;

use super::*;
use crate::fixtures::{order_line, sku, won};

#[test]
fn taxed_and_tax_free_lines_are_told_apart() {
    let mut rice = order_line("RICE", 30_000, 2);
    rice.tax_class = TaxClass::TaxFree;
    let mut cap = order_line("CAP", 20_000, 1);
    cap.discount = won(1_000);
    cap.total = won(19_000);
    assert_eq!(
        totals(&[rice, cap]),
        Ok(OrderTotals {
            goods: won(80_000),
            discount: won(1_000),
            shipping: Money::ZERO,
            total: won(79_000),
            tax_free: won(60_000),
            supply: won(17_273),
            vat: won(1_727),
        })
    );
}

#[test]
fn the_vat_of_1_to_110_won_is_the_nearest_eleventh() {
    // 11 is odd, so no amount lies half-way between two; the nearest is the only answer.
    for amount in 0..=110_i64 {
        let vat = vat_inside(won(amount)).amount;
        assert!((11 * vat - amount).abs() * 2 < 11, "{vat} of {amount}");
    }
    assert_eq!(vat_inside(won(110)), won(10));
    assert_eq!(vat_inside(won(5)), won(0));
    assert_eq!(vat_inside(won(6)), won(1));
}

#[test]
fn a_line_that_does_not_add_up_is_refused() {
    let mut line = order_line("A", 1_000, 3);
    line.total = won(2_999);
    assert_eq!(
        totals(&[line]),
        Err(PricingError::LineTotal {
            sku: sku("A"),
            stated: won(2_999),
            expected: won(3_000),
        })
    );
}

#[test]
fn a_discount_is_between_nothing_and_the_goods() {
    assert_eq!(line_total(won(1_000), 3, won(3_000)), Ok(Money::ZERO));
    for discount in [-1, 3_001] {
        let discount = won(discount);
        let goods = won(3_000);
        assert_eq!(
            line_total(won(1_000), 3, discount),
            Err(PricingError::Discount { discount, goods })
        );
    }
}

#[test]
fn no_amount_passes_a_trillion_won() {
    let half = Money::AMOUNT_MAX / 2;
    assert_eq!(line_total(won(half), 2, Money::ZERO), Ok(won(Money::AMOUNT_MAX)));
    assert_eq!(line_total(won(half), 3, Money::ZERO), Err(PricingError::TooMuch));
    assert_eq!(
        line_total(won(i64::MAX), u32::MAX, Money::ZERO),
        Err(PricingError::TooMuch)
    );
    assert_eq!(line_total(won(-1), 1, Money::ZERO), Err(PricingError::TooMuch));
    let lines = ["A", "B", "C"].map(|text| order_line(text, half, 1));
    assert!(totals(&lines[..2]).is_ok());
    assert_eq!(totals(&lines), Err(PricingError::TooMuch));
}

fn any_line() -> impl Strategy<Value = OrderLine> {
    (0_i64..5_000_000, 1_u32..100, any::<bool>(), 0_i64..1_000).prop_map(|(price, quantity, tax_free, discount)| {
        let mut line = order_line("A", price, quantity);
        line.discount = won(discount.min(line.total.amount));
        line.total = won(line.total.amount - line.discount.amount);
        if tax_free {
            line.tax_class = TaxClass::TaxFree;
        }
        line
    })
}

proptest! {
    #[test]
    fn a_total_is_supply_and_vat_and_what_is_tax_free(lines in proptest::collection::vec(any_line(), 1..40)) {
        let sums = totals(&lines).unwrap();
        let amount = |money: Money| money.amount;
        prop_assert_eq!(sums.total.amount, lines.iter().map(|line| line.total.amount).sum::<i64>());
        prop_assert_eq!(sums.total.amount, amount(sums.supply) + amount(sums.vat) + amount(sums.tax_free));
        prop_assert_eq!(sums.total.amount, amount(sums.goods) - amount(sums.discount) + amount(sums.shipping));
        prop_assert!((sums.vat.amount * 10 - sums.supply.amount).abs() <= 5);
        prop_assert!([sums.supply, sums.vat, sums.tax_free].iter().all(|part| part.amount >= 0));
    }
}
