//! What may become a password. Length is what counts (NIST SP 800-63B, 5.1.1.2): no rule asks for symbols,
//! but what everybody tries first is refused.

use unicode_normalization::UnicodeNormalization;

use super::common;

/// The fewest characters, once normalised.
pub const LENGTH_MIN: usize = 10;
/// The most.
pub const LENGTH_MAX: usize = 128;
/// A text of more bytes is not looked at: no 128 characters have that many, even before they are normalised.
pub(super) const BYTES_MAX: usize = 4_096;
/// Shorter local parts and numbers are in too many good passwords.
const LOCAL_PART_MIN: usize = 4;
const NUMBER_DIGITS: usize = 8;

/// Whose password it is to be, so far as known.
#[derive(Clone, Copy, Default)]
pub struct About<'a> {
    /// E-mail address.
    pub email: Option<&'a str>,
    /// Phone number, in any spelling.
    pub phone: Option<&'a str>,
}

/// Why a text may not be a password. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Fewer characters than [`LENGTH_MIN`].
    #[error("a password has at least {LENGTH_MIN} characters")]
    TooShort,
    /// More than [`LENGTH_MAX`].
    #[error("a password has at most {LENGTH_MAX} characters")]
    TooLong,
    /// Among those that are tried first.
    #[error("this password is too easy to guess")]
    Common,
    /// Contains what stands before the `@`.
    #[error("a password must not contain the e-mail address")]
    ContainsEmail,
    /// Contains the phone number.
    #[error("a password must not contain the phone number")]
    ContainsPhone,
}

/// A text that may be a password, normalised. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct NewPassword(String);

impl NewPassword {
    /// The text, to be hashed.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewPassword([redacted])")
    }
}

/// NFKC: whoever types the same sees the same, whichever keyboard composes it.
pub(super) fn normalised(password: &str) -> String {
    password.nfkc().collect()
}

/// Whether a text may become somebody's password.
pub fn check(password: &str, about: About<'_>) -> Result<NewPassword, Weakness> {
    if password.len() > BYTES_MAX {
        return Err(Weakness::TooLong);
    }
    let password = normalised(password);
    match password.chars().count() {
        0..LENGTH_MIN => return Err(Weakness::TooShort),
        LENGTH_MIN..=LENGTH_MAX => {}
        _ => return Err(Weakness::TooLong),
    }
    let lower = password.to_lowercase();
    if about.email.is_some_and(|email| contains_local_part(&lower, email)) {
        return Err(Weakness::ContainsEmail);
    }
    if about.phone.is_some_and(|phone| contains_number(&lower, phone)) {
        return Err(Weakness::ContainsPhone);
    }
    if common::is_common(&lower) {
        return Err(Weakness::Common);
    }
    Ok(NewPassword(password))
}

fn contains_local_part(lower: &str, email: &str) -> bool {
    let email = normalised(email).to_lowercase();
    let local = email.rsplit_once('@').map_or(email.as_str(), |(local, _)| local);
    // What is appended with a plus names a folder, not the person.
    let local = local.split_once('+').map_or(local, |(name, _)| name);
    local.chars().count() >= LOCAL_PART_MIN && lower.contains(local)
}

/// The subscriber's part, the last eight digits, whatever stands between them.
fn contains_number(lower: &str, phone: &str) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let phone = digits(phone);
    phone
        .len()
        .checked_sub(NUMBER_DIGITS)
        .is_some_and(|start| digits(lower).contains(&phone[start..]))
}
