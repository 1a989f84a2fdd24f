//! `GET /banks`: the banks a shopper in Korea meets, with their Korean names.

use serde_json::{Value, json};

const BANKS: [(&str, &str); 24] = [
    ("KDB", "산업은행"),
    ("IBK", "기업은행"),
    ("KOOKMIN", "국민은행"),
    ("SUHYUP", "수협은행"),
    ("NONGHYUP", "농협은행"),
    ("LOCAL_NONGHYUP", "지역농협"),
    ("WOORI", "우리은행"),
    ("STANDARD_CHARTERED", "SC제일은행"),
    ("CITI", "씨티은행"),
    ("DAEGU", "iM뱅크(대구은행)"),
    ("BUSAN", "부산은행"),
    ("KWANGJU", "광주은행"),
    ("JEJU", "제주은행"),
    ("JEONBUK", "전북은행"),
    ("KYONGNAM", "경남은행"),
    ("KFCC", "새마을금고"),
    ("SHINHYUP", "신협"),
    ("SAVINGS_BANK", "저축은행"),
    ("POST", "우체국"),
    ("HANA", "하나은행"),
    ("SHINHAN", "신한은행"),
    ("K_BANK", "케이뱅크"),
    ("KAKAO", "카카오뱅크"),
    ("TOSS", "토스뱅크"),
];

/// The answer of `GET /banks`.
pub(crate) fn view() -> Value {
    let items: Vec<Value> = BANKS
        .iter()
        .map(|(bank, ko)| json!({"bank": bank, "name": {"ko": ko}}))
        .collect();
    json!({"items": items})
}

/// The Korean name of a bank, or its code if it is not in the list.
pub(crate) fn korean_name(code: &str) -> &str {
    BANKS
        .iter()
        .find(|(bank, _)| *bank == code)
        .map_or(code, |(_, name)| name)
}
