//! Substring search that an ordinary index serves: a text holds another one only if it holds each
//! of its pairs of characters. The index narrows down by pairs, `like` decides. Needs no extension
//! and knows no languages; Korean words are short, so pairs narrow well.

use std::collections::BTreeSet;

/// Stands between rows of a text; no name or sku contains it.
const SEPARATOR: char = '\n';

/// What is searched for a product.
pub(super) fn text(name: &str, sku: &str) -> String {
    format!("{}{SEPARATOR}{}", lower(name), lower(sku))
}

/// Every one and two characters in a row of a [`text()`], joined by new lines.
pub(super) fn grams(text: &str) -> String {
    let grams: BTreeSet<String> = text
        .split(SEPARATOR)
        .flat_map(|row| singles(row).chain(pairs(row)))
        .collect();
    let grams: Vec<String> = grams.into_iter().collect();
    grams.join("\n")
}

/// What a search asks of the two.
pub(super) struct Pattern {
    /// All of these are among the grams.
    pub grams: Vec<String>,
    /// And the text is like this.
    pub like: String,
}

impl Pattern {
    /// `None` if nothing is asked for.
    pub fn of(q: &str) -> Option<Self> {
        if q.is_empty() {
            return None;
        }
        let q = lower(q);
        let mut grams: Vec<String> = pairs(&q).collect();
        if grams.is_empty() {
            grams.extend(singles(&q));
        }
        let mut like = String::with_capacity(q.len() + 2);
        like.push('%');
        for c in q.chars() {
            if matches!(c, '%' | '_' | '\\') {
                like.push('\\');
            }
            like.push(c);
        }
        like.push('%');
        Some(Self { grams, like })
    }
}

/// Character by character, so that a part of a text is lowered as it is in the whole.
fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

fn singles(row: &str) -> impl Iterator<Item = String> {
    row.chars().map(String::from)
}

fn pairs(row: &str) -> impl Iterator<Item = String> {
    row.chars()
        .zip(row.chars().skip(1))
        .map(|(a, b)| String::from_iter([a, b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grams_do_not_reach_from_the_name_into_the_sku() {
        assert_eq!(grams(&text("공A", "B-1")), "-\n-1\n1\na\nb\nb-\n공\n공a");
    }

    #[test]
    fn a_pattern_takes_every_character_for_itself() {
        let pattern = Pattern::of(r"5%_\A").expect("a question");
        assert_eq!(pattern.like, r"%5\%\_\\a%");
        assert_eq!(pattern.grams, ["5%", "%_", r"_\", r"\a"]);
        assert_eq!(Pattern::of("공").expect("a letter").grams, ["공"]);
        assert!(Pattern::of("").is_none());
    }
}
