//! Money: whole won, never a float.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// ISO 4217 code. The shop sells in won alone; other codes appear only as text in refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Currency {
    /// South Korean won; it has no minor unit.
    KRW,
}

/// An amount in the smallest unit of its currency (won), written `{"amount": 39000, "currency": "KRW"}`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// In the smallest unit; negative only where a difference is meant.
    pub amount: i64,
    /// What it is counted in.
    pub currency: Currency,
}

impl Money {
    /// The most that one amount may be (1 trillion won), so that sums over any number of lines and
    /// orders of one stream cannot overflow.
    pub const AMOUNT_MAX: i64 = 1_000_000_000_000;
    /// Nothing.
    pub const ZERO: Self = Self::won(0);

    /// Whole won.
    pub const fn won(amount: i64) -> Self {
        Self {
            amount,
            currency: Currency::KRW,
        }
    }

    /// `None` where the sum leaves 64 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.amount.checked_add(other.amount).map(Self::won)
    }

    /// `None` where the difference leaves 64 bits.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.amount.checked_sub(other.amount).map(Self::won)
    }

    /// Price times quantity; `None` where it leaves 64 bits.
    pub fn checked_mul(self, quantity: u32) -> Option<Self> {
        self.amount.checked_mul(i64::from(quantity)).map(Self::won)
    }

    /// Splits the amount over `weights` to the won by largest remainder: the shares sum to the
    /// amount exactly, and equal remainders go to the earlier weight. All-zero weights share
    /// nothing but the first, which takes it all.
    pub fn spread(self, weights: &[i64]) -> Vec<Self> {
        let whole: i128 = weights.iter().map(|w| i128::from(*w)).sum();
        if whole == 0 {
            let mut shares = vec![Self::ZERO; weights.len()];
            if let Some(first) = shares.first_mut() {
                *first = self;
            }
            return shares;
        }
        let exact: Vec<i128> = weights
            .iter()
            .map(|w| i128::from(self.amount) * i128::from(*w))
            .collect();
        let mut shares: Vec<i128> = exact.iter().map(|e| e.div_euclid(whole)).collect();
        let left = i128::from(self.amount) - shares.iter().sum::<i128>();
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(exact[i].rem_euclid(whole)), i));
        for &i in order.iter().take(usize::try_from(left).unwrap_or(0)) {
            shares[i] += 1;
        }
        shares
            .into_iter()
            .map(|share| Self::won(i64::try_from(share).expect("a share is never more than the amount")))
            .collect()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.amount.unsigned_abs().to_string();
        if self.amount < 0 {
            f.write_str("-")?;
        }
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        f.write_str("원")
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn money_is_written_in_won_with_commas() {
        assert_eq!(Money::won(1_234_567).to_string(), "1,234,567원");
        assert_eq!(Money::won(-999).to_string(), "-999원");
        assert_eq!(Money::ZERO.to_string(), "0원");
    }

    #[test]
    fn money_refuses_fractions_and_texts() {
        for bad in [
            r#"{"amount":1.0,"currency":"KRW"}"#,
            r#"{"amount":"1","currency":"KRW"}"#,
            r#"{"amount":1,"currency":"USD"}"#,
        ] {
            assert!(serde_json::from_str::<Money>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_amount(amount in 0_i64..1_000_000_000, weights in proptest::collection::vec(0_i64..1_000_000, 1..40)) {
            let shares = Money::won(amount).spread(&weights);
            prop_assert_eq!(shares.iter().map(|s| s.amount).sum::<i64>(), amount);
            prop_assert!(shares.iter().all(|s| s.amount >= 0));
        }
    }
}
