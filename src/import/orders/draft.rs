//! What the rows of a basket say together, without the catalog.

use std::collections::BTreeMap;

use jangbu_domain::Cart;
use jangbu_events::{AggregateId, OrderId, Sku, Timestamp};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::import::{
    baskets::Basket,
    fault::Fault,
    table::{Columns, Row},
    values,
};

/// The longest basket or household id, in characters.
const ID_CHARS_MAX: usize = 200;

/// A basket that reads well.
#[derive(Debug)]
pub struct Draft {
    /// `UUIDv5` of (source, basket).
    pub order_id: OrderId,
    /// As in the file.
    pub basket_id: String,
    /// The household, if it is known.
    pub customer: Option<String>,
    /// When.
    pub ordered_at: Timestamp,
    /// One for each sku, in the order of their first rows.
    pub lines: Vec<Wanted>,
    /// Other columns: the value that all rows share, or else a JSON array of each row's.
    pub reference: BTreeMap<String, String>,
    /// SHA-256 of buyer, time, skus and quantities: what makes it the same order again. Rows in
    /// another order, or other external references, are the same.
    pub fingerprint: [u8; 32],
}

/// A line before it is priced.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub sku: Sku,
    /// In all rows of the basket.
    pub quantity: u32,
    /// Index of its first row in the basket.
    pub row: usize,
}

impl Draft {
    /// The same for every import of this basket.
    pub fn command_id(&self) -> Uuid {
        Uuid::new_v5(&self.order_id.uuid(), b"import")
    }
}

/// What one row says.
struct Line<'a> {
    customer: &'a str,
    ordered_at: Timestamp,
    sku: Sku,
    quantity: u32,
}

/// Reads a basket, or says which of its rows are at fault: at least one, in file order.
pub fn draft(
    basket: &Basket,
    columns: &Columns<5>,
    source: &str,
    now: Timestamp,
) -> Result<Draft, Vec<(usize, Fault)>> {
    let mut faults = Vec::new();
    let mut head: Option<(u64, &str, Timestamp)> = None;
    let mut lines: Vec<Wanted> = Vec::new();
    for (index, row) in basket.iter().enumerate() {
        let line = match line(row, columns, now) {
            Ok(line) => line,
            Err(fault) => {
                faults.push((index, fault));
                continue;
            }
        };
        let (first, customer, ordered_at) = *head.get_or_insert((row.line, line.customer, line.ordered_at));
        let differs = if customer != line.customer {
            Some("household_id")
        } else if ordered_at != line.ordered_at {
            Some("ordered_at")
        } else {
            None
        };
        if let Some(column) = differs {
            faults.push((index, Fault::Disagrees { column, line: first }));
        } else if let Some(known) = lines.iter_mut().find(|known| known.sku == line.sku) {
            // A till lists what it scans: the same sku again is more of it.
            known.quantity = known.quantity.saturating_add(line.quantity);
        } else if lines.len() == Cart::LINES_MAX {
            faults.push((index, Fault::TooManyLines { max: Cart::LINES_MAX }));
            break;
        } else {
            lines.push(Wanted {
                sku: line.sku,
                quantity: line.quantity,
                row: index,
            });
        }
    }
    let (Some((_, customer, ordered_at)), true) = (head, faults.is_empty()) else {
        return Err(faults);
    };
    let reference = reference(basket, &columns.others).map_err(|fault| vec![fault])?;
    let whole = |fault| vec![(0, fault)];
    let basket_id = basket[0].text(columns.required[0]).map_err(whole)?;
    let basket_id = values::line("basket_id", basket_id, ID_CHARS_MAX).map_err(whole)?;
    let customer = (!customer.is_empty()).then(|| customer.to_owned());
    Ok(Draft {
        order_id: OrderId::imported(source, &basket_id),
        fingerprint: fingerprint(customer.as_deref(), ordered_at, &lines),
        basket_id,
        customer,
        ordered_at,
        lines,
        reference,
    })
}

fn line<'a>(row: &'a Row, columns: &Columns<5>, now: Timestamp) -> Result<Line<'a>, Fault> {
    let [basket_id, household_id, ordered_at, sku, quantity] = columns.required;
    values::line("basket_id", row.text(basket_id)?, ID_CHARS_MAX)?;
    let customer = row.text(household_id)?.trim();
    if !customer.is_empty() {
        values::line("household_id", customer, ID_CHARS_MAX)?;
        values::not_personal("household_id", customer)?;
    }
    Ok(Line {
        customer,
        ordered_at: values::past_time(row.text(ordered_at)?, now)?,
        sku: values::sku(row.text(sku)?)?,
        quantity: values::quantity(row.text(quantity)?)?,
    })
}

/// The other columns of all rows.
fn reference(basket: &Basket, others: &[(usize, String)]) -> Result<BTreeMap<String, String>, (usize, Fault)> {
    let mut reference = BTreeMap::new();
    for (column, name) in others {
        let mut notes = Vec::with_capacity(basket.len());
        for (index, row) in basket.iter().enumerate() {
            let note = row.text(*column).and_then(|text| values::note(name, text));
            let note = note.and_then(|note| values::not_personal(name, note).map(|()| note));
            notes.push(note.map_err(|fault| (index, fault))?);
        }
        let value = if notes.windows(2).all(|pair| pair[0] == pair[1]) {
            notes[0].to_owned()
        } else {
            serde_json::to_string(&notes).expect("texts are JSON")
        };
        if !value.is_empty() {
            reference.insert(name.clone(), value);
        }
    }
    Ok(reference)
}

fn fingerprint(customer: Option<&str>, ordered_at: Timestamp, lines: &[Wanted]) -> [u8; 32] {
    let mut sorted: Vec<(&str, u32)> = lines.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
    sorted.sort_unstable();
    let said = serde_json::to_vec(&(customer, ordered_at.timestamp_micros(), sorted)).expect("texts and numbers");
    Sha256::digest(said).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(others: &[&str]) -> Columns<5> {
        Columns {
            required: [0, 1, 2, 3, 4],
            others: (5..).zip(others.iter().map(ToString::to_string)).collect(),
        }
    }

    fn basket(rows: &[&str]) -> Basket {
        (2..)
            .zip(rows)
            .map(|(line, row)| Row {
                line,
                fields: row.split(',').collect(),
                fault: None,
            })
            .collect()
    }

    fn read(rows: &[&str], others: &[&str]) -> Result<Draft, Vec<(usize, Fault)>> {
        let now = "2020-01-01T00:00:00Z".parse().expect("a time");
        draft(&basket(rows), &columns(others), "import", now)
    }

    const TIME: &str = "2017-03-01T00:17:09+09:00";

    #[test]
    fn the_same_sku_again_is_more_of_it() {
        let rows = [
            format!("b,7,{TIME},A,60"),
            format!("b,7,{TIME},B,1"),
            format!("b,7,{TIME},A,39"),
        ];
        let draft = read(&rows.each_ref().map(String::as_str), &[]).expect("it reads");
        let lines: Vec<_> = draft
            .lines
            .iter()
            .map(|line| (line.sku.as_str(), line.quantity, line.row))
            .collect();
        assert_eq!(lines, [("A", 99, 0), ("B", 1, 1)]);
    }

    #[test]
    fn a_basket_is_the_same_whatever_the_order_of_its_rows() {
        let (a, b) = (format!("b,7,{TIME},A,1"), "b,7,2017-02-28T15:17:09Z,B,2");
        let one = read(&[&a, b], &[]).expect("it reads");
        let other = read(&[b, &a], &[]).expect("it reads");
        assert_eq!(one.fingerprint, other.fingerprint);
        assert_eq!(one.command_id(), other.command_id());
        let more = read(&[&a, "b,7,2017-02-28T15:17:09Z,B,3"], &[]).expect("it reads");
        assert_ne!(one.fingerprint, more.fingerprint);
    }

    #[test]
    fn other_columns_are_kept_as_one_value_or_as_each_row_s() {
        let draft = read(
            &[&format!("b,,{TIME},A,1,359,x,"), &format!("b,,{TIME},B,1,359,y \" z,")],
            &["store", "memo", "blank"],
        )
        .expect("it reads");
        assert_eq!(draft.customer, None);
        assert_eq!(
            draft.reference.into_iter().collect::<Vec<_>>(),
            [
                ("memo".into(), r#"["x","y \" z"]"#.into()),
                ("store".into(), "359".into())
            ]
        );
    }

    #[test]
    fn a_basket_that_disagrees_with_itself_says_where() {
        let faults = read(
            &[
                &format!("b,7,{TIME},A,1"),
                &format!("b,8,{TIME},B,1"),
                "b,7,2017-03-02T00:00:00Z,C,1",
            ],
            &[],
        )
        .expect_err("it is refused");
        let disagrees = |column| Fault::Disagrees { column, line: 2 };
        assert_eq!(faults, [(1, disagrees("household_id")), (2, disagrees("ordered_at"))]);
    }

    #[test]
    fn a_basket_has_at_most_500_skus() {
        let rows: Vec<String> = (0..=Cart::LINES_MAX).map(|n| format!("b,7,{TIME},SKU-{n},1")).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        assert_eq!(
            read(&rows, &[]).expect_err("it is refused"),
            [(500, Fault::TooManyLines { max: 500 })]
        );
        assert!(read(&rows[1..], &[]).is_ok());
    }
}
