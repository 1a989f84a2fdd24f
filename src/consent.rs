//! The wording that buyers agree to, kept here with its version and hash: an event that says
//! somebody agreed must be able to say to what (KOREA U3, G1).

use jangbu_events::ConsentKind;
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

/// The terms that a member agrees to.
pub const TERMS: Wording = Wording {
    version: "2026-03-01",
    text: "[이용약관 동의 (필수)]\n\
        회원은 만 14세 이상이어야 하며, 본인의 정보로 가입해야 합니다. \
        회원은 언제든지 탈퇴를 신청할 수 있고, 탈퇴가 완료되면 계정과 로그인 정보가 삭제됩니다. \
        주문, 결제, 청약철회 및 환불은 관계 법령과 쇼핑몰의 안내를 따릅니다.\n\
        동의를 거부할 수 있으나, 거부하면 회원으로 가입할 수 없습니다. 비회원으로 주문할 수는 있습니다.",
};

/// Collection and use of personal data for membership.
pub const MEMBER_PRIVACY: Wording = Wording {
    version: "2026-03-01",
    text: "[개인정보 수집·이용 동의 (필수)]\n\
        수집 항목: 이름, 이메일, 비밀번호(암호화하여 저장), 휴대전화번호(선택), 배송지(선택)\n\
        이용 목적: 회원 식별, 로그인, 주문과 배송, 고객 문의 응대\n\
        보유 기간: 회원 탈퇴 시까지. 다만 전자상거래 등에서의 소비자보호에 관한 법률에 따라 주문에 남는 \
        계약·결제 기록은 5년간 보관 후 지체 없이 파기합니다.\n\
        동의를 거부할 수 있으나, 거부하면 회원으로 가입할 수 없습니다.",
};

/// Advertising by e-mail.
pub const MARKETING_EMAIL: Wording = Wording {
    version: "2026-03-01",
    text: "[이메일 광고 수신 동의 (선택)]\n\
        할인과 새 상품 소식을 이메일로 받습니다. 동의하지 않아도 서비스를 이용할 수 있고, 언제든지 철회할 수 있습니다.",
};

/// Advertising by SMS and the like.
pub const MARKETING_SMS: Wording = Wording {
    version: "2026-03-01",
    text: "[문자 광고 수신 동의 (선택)]\n\
        할인과 새 상품 소식을 문자 메시지로 받습니다. 동의하지 않아도 서비스를 이용할 수 있고, 언제든지 철회할 수 있습니다.",
};

/// Advertising at night.
pub const MARKETING_NIGHT: Wording = Wording {
    version: "2026-03-01",
    text: "[야간 광고 수신 동의 (선택)]\n\
        오후 9시부터 다음 날 오전 8시까지도 광고를 받습니다. 동의하지 않아도 서비스를 이용할 수 있고, \
        언제든지 철회할 수 있습니다.",
};

/// Passing personal data on.
pub const THIRD_PARTY: Wording = Wording {
    version: "2026-03-01",
    text: "[개인정보 제3자 제공 동의 (선택)]\n\
        제공받는 자: 쇼핑몰이 개인정보 처리방침에 밝힌 제휴사\n\
        제공 항목: 이름, 이메일\n이용 목적: 제휴 혜택 안내\n보유 기간: 동의를 철회하거나 탈퇴할 때까지\n\
        동의하지 않아도 서비스를 이용할 수 있고, 언제든지 철회할 수 있습니다.",
};

/// What a member agrees to, kind by kind.
pub const fn of(kind: ConsentKind) -> Wording {
    match kind {
        ConsentKind::Terms => TERMS,
        ConsentKind::Privacy => MEMBER_PRIVACY,
        ConsentKind::MarketingEmail => MARKETING_EMAIL,
        ConsentKind::MarketingSms => MARKETING_SMS,
        ConsentKind::MarketingNight => MARKETING_NIGHT,
        ConsentKind::ThirdParty => THIRD_PARTY,
    }
}

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
