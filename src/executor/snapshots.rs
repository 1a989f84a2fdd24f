//! Where folding of a long stream may begin: states kept every [`EVERY`] events, with the version of
//! the code that folded them. The log alone counts; losing a snapshot costs time and nothing else.

use std::{collections::HashMap, sync::Arc};

use jangbu_domain::Decide;
use jangbu_events::Slot;
use sqlx::PgPool;

use super::cache::Folded;

/// Events between two snapshots of a stream: what a load has to fold at most.
pub const EVERY: i64 = 500;

/// Whether a stream that grew from one sequence to another wants a snapshot.
pub const fn is_due(before: i64, after: i64) -> bool {
    before / EVERY != after / EVERY
}

/// How far a snapshot may go.
#[derive(Debug, Clone, Copy)]
pub struct Through {
    /// Of its stream.
    pub sequence: i64,
    /// Of the log.
    pub position: i64,
}

impl Through {
    /// However far there is one.
    pub const NOW: Self = Self {
        sequence: i64::MAX,
        position: i64::MAX,
    };
}

/// The latest snapshot of each of these streams that has one, by the stream's id.
pub async fn latest<A: Decide>(
    db: &PgPool,
    ids: &[String],
    through: Through,
) -> sqlx::Result<HashMap<String, Folded<A>>> {
    let Some(version) = A::SNAPSHOT_VERSION else {
        return Ok(HashMap::new());
    };
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        r#"select s.aggregate_id as "aggregate_id!", s.sequence, s.position, s.slot, s.state::text as "state!"
        from unnest($2::text[]) as t (aggregate_id)
        cross join lateral (
            select *
            from snapshots
            where aggregate_type = $1 and aggregate_id = t.aggregate_id and code_version = $3
                and sequence <= $4 and position <= $5
            order by sequence desc
            limit 1
        ) as s"#,
        A::TYPE,
        ids,
        version,
        through.sequence,
        through.position,
    )
    .fetch_all(db)
    .await?;
    let folded = rows
        .into_iter()
        .filter_map(|row| match serde_json::from_str::<A>(&row.state) {
            Ok(state) => {
                let folded = Folded {
                    state: Arc::new(state),
                    sequence: row.sequence,
                    position: row.position,
                    slot: Slot::from_column(row.slot),
                };
                Some((row.aggregate_id, folded))
            }
            Err(error) => {
                let aggregate = A::TYPE;
                tracing::warn!(aggregate, aggregate.id = row.aggregate_id, %error, "a snapshot is passed over");
                None
            }
        });
    Ok(folded.collect())
}

/// Keeps a state that is in the log, in the background: nobody waits for it.
pub fn keep<A: Decide>(db: &PgPool, id: A::Id, folded: &Folded<A>) {
    let (Some(version), Some(slot)) = (A::SNAPSHOT_VERSION, folded.slot) else {
        return;
    };
    let (db, folded) = (db.clone(), folded.clone());
    tokio::spawn(async move {
        let kept = match serde_json::to_string(&*folded.state) {
            Ok(state) => sqlx::query!(
                "insert into snapshots (aggregate_type, aggregate_id, code_version, sequence, position, slot, state)
                values ($1, $2, $3, $4, $5, $6, $7::text::json)
                on conflict do nothing",
                A::TYPE,
                id.to_string(),
                version,
                folded.sequence,
                folded.position,
                slot.column(),
                state,
            )
            .execute(&db)
            .await
            .map(drop),
            Err(error) => Err(sqlx::Error::Encode(Box::new(error))),
        };
        if let Err(error) = kept {
            tracing::warn!(aggregate = A::TYPE, %error, "a snapshot was not kept");
        }
    });
}
