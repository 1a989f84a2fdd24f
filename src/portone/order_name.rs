//! The name under which a purchase appears on the shopper's receipt.

/// The longest order name that every payment gateway takes, in UTF-8 bytes: 13 Korean letters.
pub const ORDER_NAME_BYTES_MAX: usize = 40;

/// What stands for an item whose name has no usable letter.
const NAMELESS: &str = "상품";

/// `<first item>` or `<first item> 외 n건`, at most [`ORDER_NAME_BYTES_MAX`] bytes and never empty; `more` is the number
/// of further items. The item's name gives way to the count, and the signs that NICE forbids become spaces.
pub fn order_name(first_item: &str, more: usize) -> String {
    let count = if more == 0 {
        String::new()
    } else {
        format!(" 외 {more}건")
    };
    let name = plain(first_item);
    let name = cut(&name, ORDER_NAME_BYTES_MAX - count.len());
    format!("{}{count}", if name.is_empty() { NAMELESS } else { name })
}

/// Words with single spaces between them, free of control characters and of `% & | $ - + = [ ]`.
fn plain(text: &str) -> String {
    let is_gap = |letter: char| {
        letter.is_whitespace()
            || letter.is_control()
            || matches!(letter, '%' | '&' | '|' | '$' | '-' | '+' | '=' | '[' | ']')
    };
    text.split(is_gap)
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The longest start of `text` of at most `bytes_max` bytes that ends between letters, without a space at its end.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    text[..end].trim_end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_names_stay_as_they_are() {
        assert_eq!(order_name("손뜨개 가방", 0), "손뜨개 가방");
        assert_eq!(order_name("손뜨개 가방", 1), "손뜨개 가방 외 1건");
    }

    #[test]
    fn a_long_name_gives_way_to_the_count() {
        let name = "투어스테이지 드라이버 남성용 한정판 세트";
        assert_eq!(order_name(name, 0), "투어스테이지 드라이버 남성");
        assert_eq!(order_name(name, 12), "투어스테이지 드라이 외 12건");
        assert!(order_name(name, usize::MAX).ends_with(&format!(" 외 {}건", usize::MAX)));
    }

    #[test]
    fn forbidden_signs_become_single_spaces() {
        assert_eq!(
            order_name("[특가] 공 50%+볼마커 & 티 - A|B=$9", 0),
            "특가 공 50 볼마커 티 A B 9"
        );
        assert_eq!(order_name("한\n줄\u{0}과\t탭", 0), "한 줄 과 탭");
    }

    #[test]
    fn a_name_without_letters_is_still_a_name() {
        assert_eq!(order_name("", 0), "상품");
        assert_eq!(order_name(" [-] ", 3), "상품 외 3건");
    }

    proptest! {
        #[test]
        fn any_name_fits_and_is_plain(name in ".*", more in any::<usize>()) {
            let order_name = order_name(&name, more);
            prop_assert!(!order_name.trim().is_empty());
            prop_assert!(order_name.len() <= ORDER_NAME_BYTES_MAX);
            prop_assert_eq!(order_name.trim(), order_name.as_str());
            prop_assert!(!order_name.contains(['%', '&', '|', '$', '-', '+', '=', '[', ']', '\n', '\0']));
            prop_assert_eq!(order_name.ends_with(&format!(" 외 {more}건")), more > 0);
        }
    }
}
