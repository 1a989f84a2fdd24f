//! Lists in pages: a cursor names the last row seen by its sort key, so that rows added or removed
//! meanwhile neither repeat nor hide others.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

/// Some rows of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<R> {
    /// At most as many as were asked for.
    pub rows: Vec<R>,
    /// What to pass as `after` for the rows behind these; `None` at the end.
    pub next: Option<String>,
}

/// A cursor that this list never gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`after` is not a cursor of this list in this order")]
pub struct CursorError;

/// Why a list has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The request's fault.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The database's.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Longer than any sort key that a table holds.
const CURSOR_LENGTH_MAX: usize = 4_096;

/// A cursor of the list and order called `kind`.
pub(crate) fn encode<K: Serialize>(kind: &str, key: &K) -> String {
    let json = serde_json::to_vec(&(kind, key)).expect("sort keys are texts and numbers");
    URL_SAFE_NO_PAD.encode(json)
}

/// Reads what [`encode`] wrote for the same `kind`.
pub(crate) fn decode<K: DeserializeOwned>(kind: &str, cursor: &str) -> Result<K, CursorError> {
    if cursor.len() > CURSOR_LENGTH_MAX {
        return Err(CursorError);
    }
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| CursorError)?;
    let json = String::from_utf8(json).map_err(|_| CursorError)?;
    // PostgreSQL takes no U+0000 in a text; JSON can only spell it like this, since raw control
    // characters are refused.
    if json.contains("\\u0000") {
        return Err(CursorError);
    }
    let (found, key): (String, K) = serde_json::from_str(&json).map_err(|_| CursorError)?;
    if found == kind { Ok(key) } else { Err(CursorError) }
}

/// How many rows to read for a page of `limit`: one more shows whether there is a next page.
pub(crate) fn rows_to_read(limit: u32) -> i64 {
    i64::from(limit) + 1
}

impl<R> Page<R> {
    /// Without rows.
    pub(crate) const fn empty() -> Self {
        Self {
            rows: Vec::new(),
            next: None,
        }
    }

    /// Of what was read with [`rows_to_read`]; `cursor` names a row.
    pub(crate) fn cut(mut rows: Vec<R>, limit: u32, cursor: impl FnOnce(&R) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(cursor);
        Self { rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Key = (String, i64);

    #[test]
    fn a_cursor_reads_back_in_its_own_list_only() {
        let key = ("드라이버".to_owned(), 7);
        let cursor = encode("name", &key);
        assert_eq!(decode::<Key>("name", &cursor), Ok(key));
        assert_eq!(decode::<Key>("price", &cursor), Err(CursorError));
        assert_eq!(decode::<(i64, i64)>("name", &cursor), Err(CursorError));
    }

    #[test]
    fn a_tampered_cursor_is_refused() {
        let cursor = encode("name", &("드라이버", 7));
        let null = encode("name", &("a\0b", 7));
        let long = encode("name", &("x".repeat(CURSOR_LENGTH_MAX), 7));
        for bad in [
            "",
            "!",
            &cursor[1..],
            &cursor[..cursor.len() - 3],
            &format!("{cursor}=="),
            &null,
            &long,
        ] {
            assert_eq!(decode::<Key>("name", bad), Err(CursorError), "{bad}");
        }
    }

    #[test]
    fn a_page_has_a_next_one_only_if_there_are_more_rows() {
        let cut = |rows: std::ops::Range<u8>, limit| Page::cut(rows.collect(), limit, ToString::to_string);
        assert_eq!(
            cut(0..3, 2),
            Page {
                rows: vec![0, 1],
                next: Some("1".to_owned())
            }
        );
        assert_eq!(
            cut(0..2, 2),
            Page {
                rows: vec![0, 1],
                next: None
            }
        );
        assert_eq!(cut(0..1, 0), Page::empty());
    }
}
