//! What can be wrong with a row. Codes are stable, for scripts; the texts are for people.

use std::fmt;

use jangbu_domain::PricingError;
use jangbu_events::{Money, Sku, text::TextError};

use super::rows::{ROW_BYTES_MAX, Unreadable};

/// Why a row, and with it its basket or product, was not imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its quotes do not match.
    #[error("a quote is left open, or something follows a closing quote")]
    Quoting,
    /// It is longer than any row should be.
    #[error("the row is longer than {ROW_BYTES_MAX} bytes")]
    RowTooLong,
    /// A comma too many or too few.
    #[error("the row has {found} fields, the header has {expected}")]
    FieldCount {
        /// As many as the header.
        expected: usize,
        /// As many as there are.
        found: usize,
    },
    /// Bytes that are no text; Korean Excel writes CP949 unless told otherwise.
    #[error("{column} is not UTF-8: save the file as \"CSV UTF-8\"")]
    NotUtf8 {
        /// Which.
        column: String,
    },
    /// A required column is blank.
    #[error("{column} is missing")]
    Missing {
        /// Which.
        column: String,
    },
    /// Too long, or with control characters.
    #[error("{column} {source}")]
    Text {
        /// Which.
        column: String,
        /// What is wrong.
        source: TextError,
    },
    /// Not a sku.
    #[error("{0} is no sku: 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    Sku(Quoted),
    /// Not a whole number from 1 to 99.
    #[error("the quantity is {0}; it must be a whole number from 1 to 99")]
    Quantity(Quoted),
    /// Several lines of one sku come to more than 99.
    #[error("{sku} comes to {quantity} in this basket; 99 is the most")]
    QuantitySum {
        /// Which.
        sku: Sku,
        /// In all.
        quantity: u32,
    },
    /// Not a whole number of won.
    #[error(
        "the price is {0}; it must be whole won from 0 to {max}, without commas",
        max = Money::AMOUNT_MAX
    )]
    Price(Quoted),
    /// A local time: nobody can tell when that was.
    #[error("{0} has no offset from UTC; write it as 2017-03-01T00:17:09+09:00")]
    TimeWithoutOffset(Quoted),
    /// Not a time, or before 1970.
    #[error("{0} is not a time since 1970 such as 2017-03-01T00:17:09+09:00")]
    Time(Quoted),
    /// Has not come yet.
    #[error("{0} is in the future")]
    FutureTime(Quoted),
    /// No such product in the catalog.
    #[error("the catalog has no {0}: import the products first")]
    UnknownSku(Sku),
    /// A basket has one buyer and one time.
    #[error("{column} is not the one of line {line} of the same basket")]
    Disagrees {
        /// Which.
        column: &'static str,
        /// The basket's first row.
        line: u64,
    },
    /// More different skus than an order may have.
    #[error("the basket has more than {max} different skus")]
    TooManyLines {
        /// The most there may be.
        max: usize,
    },
    /// Sums that cannot be kept.
    #[error(transparent)]
    Pricing(#[from] PricingError),
    /// The order would be too large an event.
    #[error("the order would have {bytes} bytes; {max} is the most")]
    TooLarge {
        /// Of JSON.
        bytes: usize,
        /// The most there may be.
        max: usize,
    },
    /// What is in the log cannot be forgotten.
    #[error("{column} holds an e-mail address or a mobile number; personal data cannot be erased from past orders")]
    Personal {
        /// Which.
        column: String,
    },
    /// An imported order is never changed.
    #[error("this basket was imported before with another buyer, time, skus or quantities")]
    ImportedDifferently,
    /// Something else has this order's id.
    #[error("the log has another stream under this id")]
    IdTaken,
    /// The sku stands in the file twice, with different facts.
    #[error("line {line} has the same sku and says something else")]
    DuplicateSku {
        /// The first of the two.
        line: u64,
    },
    /// Sales by category would change afterwards.
    #[error("the category is {was} in the catalog and cannot be changed")]
    CategoryFixed {
        /// What it is.
        was: Quoted,
    },
    /// A product that is out of the range for good is not revised.
    #[error("the product is archived")]
    Archived,
    /// The log does not take it.
    #[error("the log refused it: {0}")]
    Refused(String),
    /// Another row of the same basket is at fault.
    #[error("line {line} of the same basket: {code}")]
    Neighbour {
        /// Which row.
        line: u64,
        /// What is wrong there.
        code: &'static str,
    },
}

impl Fault {
    /// For scripts.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Quoting => "bad_quoting",
            Self::RowTooLong => "row_too_long",
            Self::FieldCount { .. } => "field_count",
            Self::NotUtf8 { .. } => "not_utf8",
            Self::Missing { .. } => "missing_value",
            Self::Text { .. } => "bad_text",
            Self::Sku(_) => "bad_sku",
            Self::Quantity(_) | Self::QuantitySum { .. } => "bad_quantity",
            Self::Price(_) => "bad_price",
            Self::TimeWithoutOffset(_) => "time_without_offset",
            Self::Time(_) => "bad_time",
            Self::FutureTime(_) => "future_time",
            Self::UnknownSku(_) => "unknown_sku",
            Self::Disagrees { .. } => "basket_disagrees",
            Self::TooManyLines { .. } => "too_many_lines",
            Self::Pricing(_) => "amount_too_large",
            Self::TooLarge { .. } => "too_large",
            Self::Personal { .. } => "personal_data",
            Self::ImportedDifferently => "imported_differently",
            Self::IdTaken => "id_taken",
            Self::DuplicateSku { .. } => "duplicate_sku",
            Self::CategoryFixed { .. } => "category_fixed",
            Self::Archived => "archived",
            Self::Refused(_) => "refused",
            Self::Neighbour { .. } => "basket_rejected",
        }
    }
}

impl From<Unreadable> for Fault {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Quoting => Self::Quoting,
            Unreadable::TooLong => Self::RowTooLong,
        }
    }
}

/// A text of the file inside a reason: in quotes, on one line, at most 40 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    /// Cuts it.
    pub fn new(text: &str) -> Self {
        let mut chars = text.chars();
        let mut short: String = chars.by_ref().take(40).collect();
        if chars.next().is_some() {
            short.push('…');
        }
        Self(short)
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
