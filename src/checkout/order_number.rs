//! Order numbers: `260302-7K3M9QXW`.

use jangbu_events::Timestamp;

use crate::clock::{Surroundings, korean_time};

/// Characters of an order number: Crockford's base 32, without letters that look like digits.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// `yymmdd-XXXXXXXX`: the Korean day and 40 random bits.
pub(super) fn draw(surroundings: &Surroundings, at: Timestamp) -> String {
    let mut bits = u64::from_be_bytes(surroundings.bytes()) & ((1 << 40) - 1);
    let mut random = String::with_capacity(8);
    for _ in 0..8 {
        random.push(char::from(CROCKFORD[usize::try_from(bits % 32).expect("below 32")]));
        bits /= 32;
    }
    format!("{}-{random}", korean_time(at).format("%y%m%d"))
}

/// As order numbers are written: Crockford's base 32 has no O, I and L, and reads them as digits. At
/// most as long as a number is, since it is kept to count guesses.
pub fn read_order_number(number: &str) -> String {
    number
        .trim()
        .chars()
        .take(32)
        .map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            '\0' => ' ',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_people_spell_it() {
        assert_eq!(read_order_number(" 260302-7k3m9qxo "), "260302-7K3M9QX0");
        assert_eq!(read_order_number("260302-IlO"), "260302-110");
        assert!(!read_order_number("a\0b").contains('\0'));
        assert_eq!(read_order_number(&"x".repeat(99)).len(), 32);
    }
}
