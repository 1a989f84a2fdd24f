//! The wording that buyers agree to, kept here with its version and hash: an event that says
//! somebody agreed must be able to say to what (KOREA U3, G1).

use sha2::{Digest, Sha256};

use crate::hex::hex;

/// A wording that buyers agree to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wording {
    /// The day it came into force.
    pub version: &'static str,
    /// In Korean.
    pub text: &'static str,
}

/// Collection and use of personal data for one order.
pub const PRIVACY: Wording = Wording {
    version: "2026-03-01",
    text: "[개인정보 수집·이용 동의 (필수)]\n\
        수집 항목: 주문자 이름, 휴대전화번호, 이메일, 수령인 이름, 전화번호, 주소, 결제 정보\n\
        이용 목적: 주문 접수, 결제, 배송, 취소·환불 처리 및 고객 문의 응대\n\
        보유 기간: 전자상거래 등에서의 소비자보호에 관한 법률에 따라 계약·결제 기록은 5년, \
        소비자 불만·분쟁 처리 기록은 3년간 보관 후 지체 없이 파기합니다.\n\
        동의를 거부할 수 있으나, 거부하면 주문할 수 없습니다.",
};

impl Wording {
    /// SHA-256 of the text in UTF-8, 64 hex digits.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_wording_needs_a_new_version() {
        assert_eq!(
            (PRIVACY.version, PRIVACY.sha256().as_str()),
            (
                "2026-03-01",
                "354924435358a5718218c09016519952f415e82b9707c067f7f3d59693f5b638"
            )
        );
    }
}
