//! Proof that tables are what the log says: rebuilt to the same position, they have the same hash.

use sqlx::{Executor, PgPool, Row};

use super::Build;

/// A hash of every row that one partition wrote, over all tables of a build. Equal rows give equal
/// hashes in whatever order, and by whatever batches, they were written. Reads every row, in one
/// snapshot; meaningful only beside the partition's checkpoint of that moment.
pub async fn table_hash(db: &PgPool, build: &Build, partition: i16) -> sqlx::Result<String> {
    let mut tx = db.begin_with("begin isolation level repeatable read read only").await?;
    // Rows are hashed in their text form, which must not depend on who asks.
    tx.execute("set local timezone = 'UTC'; set local datestyle = 'ISO'")
        .await?;
    let tables = sqlx::query_scalar!(
        r#"select tablename::text as "name!" from pg_catalog.pg_tables where schemaname = $1 order by 1"#,
        build.schema_name
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut hashes = Vec::with_capacity(tables.len());
    for table in tables {
        // Sums of hashes need neither a sort nor memory, however long the table is. The names come
        // from the catalog of the database, and from constants of this program before that.
        let schema = &build.schema_name;
        let statement = format!(
            "select count(*) || ':' || coalesce(sum(h.high), 0) || ':' || coalesce(sum(h.low), 0)
             from {schema}.{table} as t
             cross join lateral md5(t::text) as m (digest)
             cross join lateral (
                 select ('x' || left(m.digest, 16))::bit(64)::bigint, ('x' || right(m.digest, 16))::bit(64)::bigint)
                 as h (high, low)
             where t.partition = $1"
        );
        let row = sqlx::query(&statement).bind(partition).fetch_one(&mut *tx).await?;
        let hash: String = row.try_get(0)?;
        hashes.push(format!("{table}={hash}"));
    }
    tx.commit().await?;
    Ok(hashes.join(" "))
}
