//! What mails say.

use std::fmt::Write as _;

use crate::{
    accounts::{codes, links},
    config::Secret,
};

/// Between the languages.
const RULE: &str = "\n----------------------------------------\n\n";

/// A mail. Its link or code is a secret, and `Debug` does not show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mail {
    /// Shows by a click that an address is one's own.
    VerifyEmail {
        /// With the token.
        link: Secret,
    },
    /// Sets another password.
    ResetPassword {
        /// With the token.
        link: Secret,
    },
    /// Six digits to type.
    OneTimeCode {
        /// The digits.
        code: Secret,
    },
}

impl Mail {
    /// For logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "verify_email",
            Self::ResetPassword { .. } => "reset_password",
            Self::OneTimeCode { .. } => "one_time_code",
        }
    }

    /// Says what it is about and nothing secret: locked phones show it.
    pub const fn subject(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "이메일 주소를 확인해 주세요 / Confirm your e-mail address",
            Self::ResetPassword { .. } => "비밀번호 재설정 / Reset your password",
            Self::OneTimeCode { .. } => "인증번호 / Your code",
        }
    }

    /// The whole text.
    pub fn text(&self) -> String {
        let (korean, english, secret) = match self {
            Self::VerifyEmail { link } => {
                let hours = links::Purpose::VerifyEmail.lifetime().num_hours();
                (
                    format!("아래 주소를 열면 이메일 확인이 끝납니다. {hours}시간 안에 한 번만 쓸 수 있습니다."),
                    format!("Open this address to confirm your e-mail. It works once, within {hours} hours."),
                    link,
                )
            }
            Self::ResetPassword { link } => {
                let minutes = links::Purpose::ResetPassword.lifetime().num_minutes();
                (
                    format!("아래 주소에서 새 비밀번호를 정하세요. {minutes}분 안에 한 번만 쓸 수 있습니다."),
                    format!("Set a new password at this address. It works once, within {minutes} minutes."),
                    link,
                )
            }
            Self::OneTimeCode { code } => {
                let minutes = codes::LIFETIME.num_minutes();
                (
                    format!("인증번호를 {minutes}분 안에 입력하세요. 누구에게도 알려 주지 마세요."),
                    format!("Enter this code within {minutes} minutes. Do not tell it to anybody."),
                    code,
                )
            }
        };
        let secret = secret.expose();
        let mut text = String::new();
        let not_asked = "요청하신 적이 없다면 이 메일을 무시하세요. 아무 일도 일어나지 않습니다.";
        write!(text, "{korean}\n\n{secret}\n\n{not_asked}\n{RULE}").expect("a string takes whatever is written");
        let not_asked = "If you did not ask for this, ignore this mail and nothing will happen.";
        write!(text, "{english}\n\n{secret}\n\n{not_asked}\n").expect("a string takes whatever is written");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_says_the_same_in_both_languages_and_its_subject_nothing_secret() {
        let secret = || Secret::new("https://shop.example/v?t=s3cret");
        for (mail, time) in [
            (Mail::VerifyEmail { link: secret() }, "24"),
            (Mail::ResetPassword { link: secret() }, "30"),
            (Mail::OneTimeCode { code: secret() }, "10"),
        ] {
            let text = mail.text();
            let (korean, english) = text.split_once(RULE).unwrap();
            for part in [korean, english] {
                assert!(part.contains("s3cret") && part.contains(time), "{part}");
            }
            assert!(korean.contains("메일") && english.is_ascii());
            assert!(!mail.subject().contains("s3cret") && !format!("{mail:?}").contains("s3cret"));
        }
    }
}
