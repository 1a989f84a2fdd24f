use proptest::prelude::*;

use super::*;
use crate::fixtures::order_line;

fn named(names: &[&str]) -> String {
    let lines: Vec<OrderLine> = names
        .iter()
        .map(|name| OrderLine {
            name: (*name).to_owned(),
            ..order_line("A", 1, 1)
        })
        .collect();
    order_name(&lines)
}

#[test]
fn the_first_line_gives_the_name_and_the_others_are_counted() {
    assert_eq!(named(&["손뜨개 가방"]), "손뜨개 가방");
    assert_eq!(named(&["손뜨개 가방", "모자"]), "손뜨개 가방 외 1건");
    assert_eq!(named(&["가방"; 500]), "가방 외 499건");
}

#[test]
fn a_long_name_is_cut_between_letters() {
    assert_eq!(named(&["가나다라마바사아자차카타파하"]), "가나다라마바사아자차카타파");
    assert_eq!(
        named(&["가나다라마바사아자차카타파하", "모자"]),
        "가나다라마바사아자차 외 1건"
    );
    // The cut would leave a space at the end.
    assert_eq!(named(&["가나다라마바사아자차카타파 하"]), "가나다라마바사아자차카타파");
    assert_eq!(named(&["1234567890123456789012345678901234567890"]).len(), 40);
}

#[test]
fn what_a_pg_forbids_becomes_a_space() {
    assert_eq!(
        named(&["[특가] 드라이버-10.5 & 커버 100%"]),
        "특가 드라이버 10.5 커버 100"
    );
    assert_eq!(named(&["$$$"]), "상품");
    assert_eq!(named(&[""]), "상품");
    assert_eq!(named(&["가방\u{7}\n소"]), "가방 소");
}

proptest! {
    #[test]
    fn every_pg_takes_it(name in any::<String>(), count in 1_usize..=500) {
        let names = vec![name.as_str(); count];
        let given = named(&names);
        prop_assert!(!given.is_empty());
        prop_assert!(given.len() <= 40, "{} bytes", given.len());
        prop_assert_eq!(given.trim(), given.as_str());
        prop_assert!(!given.contains(['%', '&', '|', '$', '-', '+', '=', '[', ']', '\0']));
    }
}
