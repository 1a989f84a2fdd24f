//! Proof that tables are what the log says: rebuilt to the same position, they have the same hash.

use std::collections::BTreeMap;

use sqlx::{Executor, PgConnection, PgPool, Row};

use super::Build;

/// Parts that the rows of a table are dealt into by their keys, to find those that differ.
const BUCKET_BITS: usize = 12;
/// Rows are hashed in their text form, which must not depend on who asks.
const PLAIN: &str = "set local timezone = 'UTC'; set local datestyle = 'ISO'";

/// A hash of every row that one partition wrote, over all tables of a build. Equal rows give equal
/// hashes in whatever order, and by whatever batches, they were written. Reads every row, in one
/// snapshot; meaningful only beside the partition's checkpoint of that moment.
pub async fn table_hash(db: &PgPool, build: &Build, partition: i16) -> sqlx::Result<String> {
    let mut tx = db.begin_with("begin isolation level repeatable read read only").await?;
    let hash = hash_in(&mut tx, &build.schema_name, partition).await?;
    tx.commit().await?;
    Ok(hash)
}

/// The same of any schema that holds a projection's tables, in the caller's transaction.
pub async fn hash_in(tx: &mut PgConnection, schema: &str, partition: i16) -> sqlx::Result<String> {
    tx.execute(PLAIN).await?;
    let mut hashes = Vec::new();
    for table in tables_in(tx, schema).await? {
        // The names come from the catalog of the database, and from constants of this program before that.
        let statement = format!(
            "select {SUMS} from {schema}.{} as t {DIGEST} where t.partition = $1",
            quoted(&table)
        );
        let row = sqlx::query(&statement).bind(partition).fetch_one(&mut *tx).await?;
        let hash: String = row.try_get(0)?;
        hashes.push(format!("{table}={hash}"));
    }
    Ok(hashes.join(" "))
}

/// Sums of hashes need neither a sort nor memory, however long the table is.
const SUMS: &str = "count(*) || ':' || coalesce(sum(h.high), 0) || ':' || coalesce(sum(h.low), 0)";
const DIGEST: &str = "cross join lateral md5(t::text) as m (digest)
     cross join lateral (
         select ('x' || left(m.digest, 16))::bit(64)::bigint, ('x' || right(m.digest, 16))::bit(64)::bigint)
         as h (high, low)";

/// The tables in a schema, by name.
pub async fn tables_in(db: &mut PgConnection, schema: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select tablename::text as "name!" from pg_catalog.pg_tables where schemaname = $1 order by 1"#,
        schema
    )
    .fetch_all(db)
    .await
}

/// The columns of a table's primary key, in its order.
pub async fn key_of(db: &mut PgConnection, schema: &str, table: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select a.attname::text as "name!"
         from pg_catalog.pg_index as i
         join pg_catalog.pg_class as c on c.oid = i.indrelid
         join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
         cross join unnest(i.indkey::smallint[]) with ordinality as k (attnum, nth)
         join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
         where i.indisprimary and n.nspname = $1 and c.relname = $2
         order by k.nth"#,
        schema,
        table
    )
    .fetch_all(db)
    .await
}

/// Tables and columns of analysts may be called as they like.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Which part of a table a row is in, by its key.
fn bucket(key: &[String]) -> String {
    let columns: Vec<String> = key.iter().map(|column| format!("t.{}", quoted(column))).collect();
    let row = if columns.is_empty() {
        "t::text".to_owned()
    } else {
        format!("row({})::text", columns.join(", "))
    };
    format!("('x' || left(md5({row}), 8))::bit({BUCKET_BITS})::integer")
}

/// A hash of each part of what one partition wrote into a table, in the caller's transaction.
pub async fn buckets_in(
    tx: &mut PgConnection,
    schema: &str,
    table: &str,
    key: &[String],
    partition: i16,
) -> sqlx::Result<BTreeMap<i32, String>> {
    tx.execute(PLAIN).await?;
    let statement = format!(
        "select {} as bucket, {SUMS} from {schema}.{} as t {DIGEST} where t.partition = $1 group by 1",
        bucket(key),
        quoted(table)
    );
    let rows = sqlx::query(&statement).bind(partition).fetch_all(tx).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The rows of one part as JSON texts, in the caller's transaction.
pub async fn rows_in(
    tx: &mut PgConnection,
    schema: &str,
    table: &str,
    key: &[String],
    partition: i16,
    part: i32,
) -> sqlx::Result<Vec<String>> {
    tx.execute(PLAIN).await?;
    let statement = format!(
        "select to_jsonb(t)::text from {schema}.{} as t where t.partition = $1 and {} = $2",
        quoted(table),
        bucket(key)
    );
    let rows = sqlx::query(&statement).bind(partition).bind(part).fetch_all(tx).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
