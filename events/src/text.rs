//! Text from outside: what may stand in an event.

use unicode_normalization::UnicodeNormalization;

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but white space.
    #[error("must not be empty")]
    Empty,
    /// More characters than allowed.
    #[error("must have at most {max} characters")]
    TooLong {
        /// The most characters (Unicode scalar values) allowed.
        max: usize,
    },
    /// A control character. U+0000 above all: PostgreSQL's `json` stores it and then fails on
    /// every read of that document.
    #[error("must not contain control characters")]
    Control,
}

/// Trims, composes (Unicode NFC) and checks one line of text of at most `max` characters.
pub fn line(text: &str, max: usize) -> Result<String, TextError> {
    // macOS writes Hangul in parts; the same word must be the same text for ever.
    let text: String = text.trim().nfc().collect();
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.chars().count() > max {
        return Err(TextError::TooLong { max });
    }
    if text.chars().any(char::is_control) {
        return Err(TextError::Control);
    }
    Ok(text)
}
