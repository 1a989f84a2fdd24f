//! Telling a projection much at once, before anybody reads its tables: no secondary indexes, large
//! batches, and whatever does not fit stops everything.

use jangbu_events::{Event, RawEvent, Recorded, Timestamp};
use sqlx::{Executor, PgConnection, PgPool, Postgres, Transaction};

use super::{AdvanceError, Advanced, Build, choose_schema};
use crate::Registered;

/// One stretch of one partition of the log, as the projection reads it.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// From 0.
    pub partition: i16,
    /// Everything up to here was told before.
    pub from: i64,
    /// Everything up to here is told afterwards.
    pub through: i64,
    /// What the projection reads of the events between, in position order.
    pub events: &'a [Recorded<Event>],
}

/// Creates the projection's tables in `schema`, which must be there, and takes off the indexes that
/// no statement of `apply` needs. Gives the statements that make these.
pub async fn create_bare_tables(
    tx: &mut Transaction<'_, Postgres>,
    projection: &Registered,
    schema: &str,
) -> sqlx::Result<Vec<String>> {
    choose_schema(tx, schema).await?;
    tx.execute(projection.schema).await?;
    // Keys stay: upserts need them.
    let secondary = sqlx::query!(
        r#"select format('drop index %I.%I', schemaname, indexname) as "drop!", indexdef as "definition!"
         from pg_catalog.pg_indexes
         join pg_catalog.pg_class c on c.relname = indexname
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = schemaname
         join pg_catalog.pg_index i on i.indexrelid = c.oid
         where schemaname = $1
           and not exists (select from pg_catalog.pg_constraint where conindid = c.oid)
         order by indexname"#,
        schema
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut statements = Vec::with_capacity(secondary.len());
    for index in secondary {
        tx.execute(index.drop.as_str()).await?;
        statements.push(again(&index.definition));
    }
    Ok(statements)
}

/// An index's definition as a statement that may come twice.
fn again(definition: &str) -> String {
    for (create, create_again) in [
        ("CREATE UNIQUE INDEX ", "CREATE UNIQUE INDEX IF NOT EXISTS "),
        ("CREATE INDEX ", "CREATE INDEX IF NOT EXISTS "),
    ] {
        if let Some(rest) = definition.strip_prefix(create) {
            return format!("{create_again}{rest}");
        }
    }
    definition.to_owned()
}

/// Applies a stretch to the tables in `schema`, in a transaction of its own. With a build, its
/// checkpoint moves with it, from `stretch.from`, or nothing is changed if it is not there.
pub async fn tell(
    db: &PgPool,
    projection: &Registered,
    schema: &str,
    build: Option<&Build>,
    stretch: Stretch<'_>,
    now: Timestamp,
) -> sqlx::Result<Advanced> {
    let mut tx = db.begin().await?;
    // Lost in a crash, it is told again: the checkpoint is lost with it.
    tx.execute("set local synchronous_commit = off").await?;
    if let Some(build) = build
        && !move_checkpoint(&mut tx, build, stretch, now).await?
    {
        tx.rollback().await?;
        return Ok(Advanced::Stale);
    }
    if !stretch.events.is_empty() {
        choose_schema(&mut tx, schema).await?;
        projection.apply(&mut tx, stretch.partition, stretch.events).await?;
    }
    tx.commit().await?;
    Ok(Advanced::Moved)
}

/// False if it is not where the stretch begins, or something is parked, which only workers do.
async fn move_checkpoint(
    db: &mut PgConnection,
    build: &Build,
    stretch: Stretch<'_>,
    now: Timestamp,
) -> sqlx::Result<bool> {
    let moved = sqlx::query!(
        "update checkpoints
         set position = $6, updated_at = $7
         where projection = $1 and code_version = $2 and build = $3 and partition = $4 and position = $5
           and parked = 0",
        build.projection,
        build.code_version,
        build.build,
        stretch.partition,
        stretch.from,
        stretch.through,
        now
    )
    .execute(db)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// What a projection reads of an event, decoded: nothing, the event, or what it means today.
pub fn decode(projection: &Registered, event: RawEvent) -> Result<Vec<Recorded<Event>>, AdvanceError> {
    let position = event.position;
    let mut decoded = event
        .into_decoded()
        .map_err(|source| AdvanceError::Undecodable { position, source })?;
    decoded.retain(|event| projection.event_types.contains(&event.payload.name()));
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_can_be_asked_for_twice() {
        assert_eq!(
            again("CREATE UNIQUE INDEX a ON s.t USING btree (x)"),
            "CREATE UNIQUE INDEX IF NOT EXISTS a ON s.t USING btree (x)"
        );
        assert_eq!(
            again("CREATE INDEX b ON s.t (x)"),
            "CREATE INDEX IF NOT EXISTS b ON s.t (x)"
        );
    }
}
