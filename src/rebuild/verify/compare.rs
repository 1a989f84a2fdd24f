//! Finds the first row that differs between two schemas of the same tables.

use std::collections::BTreeMap;

use jangbu_projections::builds::proof;
use serde_json::{Map, Value};
use sqlx::PgConnection;

use super::Kind;

/// A row that is not the same in both.
pub struct Found {
    pub table: String,
    pub key: BTreeMap<String, Value>,
    pub kind: Kind,
    pub columns: Vec<String>,
}

/// What one partition wrote in `live` beside what it wrote in `told`, each as its transaction sees it.
/// Rows are compared part by part, so that no table has to fit into memory.
pub async fn first_difference(
    live: &mut PgConnection,
    live_schema: &str,
    told: &mut PgConnection,
    told_schema: &str,
    partition: i16,
) -> sqlx::Result<Option<Found>> {
    for table in proof::tables_in(live, live_schema).await? {
        let key = proof::key_of(live, live_schema, &table).await?;
        let is = proof::buckets_in(live, live_schema, &table, &key, partition).await?;
        let should_be = proof::buckets_in(told, told_schema, &table, &key, partition).await?;
        let parts = is.keys().chain(should_be.keys());
        let Some(part) = parts.filter(|part| is.get(part) != should_be.get(part)).min() else {
            continue;
        };
        let is = proof::rows_in(live, live_schema, &table, &key, partition, *part).await?;
        let should_be = proof::rows_in(told, told_schema, &table, &key, partition, *part).await?;
        let (is, should_be) = (keyed(&is, &key)?, keyed(&should_be, &key)?);
        if let Some((row, kind, columns)) = compare(&is, &should_be) {
            let key = key_of(row, &key);
            return Ok(Some(Found {
                table,
                key,
                kind,
                columns,
            }));
        }
    }
    Ok(None)
}

type Rows = BTreeMap<String, Map<String, Value>>;

fn key_of(row: &Map<String, Value>, key: &[String]) -> BTreeMap<String, Value> {
    row.iter()
        .filter(|(column, _)| key.is_empty() || key.contains(column))
        .map(|(column, value)| (column.clone(), value.clone()))
        .collect()
}

fn keyed(rows: &[String], key: &[String]) -> sqlx::Result<Rows> {
    let decode = |error: serde_json::Error| sqlx::Error::Decode(Box::new(error));
    rows.iter()
        .map(|text| {
            let row: Map<String, Value> = serde_json::from_str(text).map_err(decode)?;
            let key = serde_json::to_string(&key_of(&row, key)).map_err(decode)?;
            Ok((key, row))
        })
        .collect()
}

fn compare<'a>(is: &'a Rows, should_be: &'a Rows) -> Option<(&'a Map<String, Value>, Kind, Vec<String>)> {
    let keys: std::collections::BTreeSet<&String> = is.keys().chain(should_be.keys()).collect();
    keys.into_iter()
        .find_map(|key| match (is.get(key), should_be.get(key)) {
            (Some(is), Some(should_be)) if is == should_be => None,
            (Some(is), Some(should_be)) => {
                let differs = |column: &&String| is.get(*column) != should_be.get(*column);
                let columns = should_be.keys().filter(differs).cloned().collect();
                Some((should_be, Kind::Differs, columns))
            }
            (Some(is), None) => Some((is, Kind::Surplus, Vec::new())),
            (None, should_be) => should_be.map(|row| (row, Kind::Missing, Vec::new())),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&str]) -> Rows {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        keyed(&texts, &["sku".to_owned()]).unwrap()
    }

    #[test]
    fn the_first_row_that_differs_is_named() {
        let said = rows(&[
            r#"{"sku": "A", "units": 1, "won": 5}"#,
            r#"{"sku": "B", "units": 1, "won": 5}"#,
        ]);
        assert!(compare(&said, &said).is_none());
        let other = rows(&[r#"{"sku": "A", "units": 2, "won": 5}"#]);
        let (row, kind, columns) = compare(&other, &said).unwrap();
        assert_eq!(
            (&row["sku"], kind, columns),
            (&Value::from("A"), Kind::Differs, vec!["units".to_owned()])
        );
        let fewer = rows(&[r#"{"sku": "A", "units": 1, "won": 5}"#]);
        let (row, kind, _) = compare(&fewer, &said).unwrap();
        assert_eq!((&row["sku"], kind), (&Value::from("B"), Kind::Missing));
        let (row, kind, _) = compare(&said, &fewer).unwrap();
        assert_eq!((&row["sku"], kind), (&Value::from("B"), Kind::Surplus));
    }
}
