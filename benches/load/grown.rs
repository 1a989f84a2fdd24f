//! Whether commands stay as fast when the log grows.

use jangbu::clock::Surroundings;
use jangbu_domain::product::Product;
use jangbu_events::{AggregateId as _, StoreId};
use sqlx::{Executor as _, PgPool};

use crate::{
    commands,
    database::Database,
    figure::{Against, Figure, Goal},
    measure::{Pace, Run, median},
};

/// Events before the first measurement and before the second.
const SIZES: [i64; 2] = [1_000_000, 10_000_000];
const SIZES_QUICK: [i64; 2] = [10_000, 100_000];
/// Events of each stream that fills the log.
const STREAM: i64 = 100;

/// Row 12.
pub async fn latency(surroundings: &Surroundings, pace: Pace, quick: bool) -> anyhow::Result<Vec<Figure>> {
    let database = Database::create(surroundings).await?;
    let sizes = if quick { SIZES_QUICK } else { SIZES };
    let measured = in_one(&database, surroundings, pace, sizes).await;
    database.drop().await?;
    measured
}

async fn in_one(
    database: &Database,
    surroundings: &Surroundings,
    pace: Pace,
    [small, large]: [i64; 2],
) -> anyhow::Result<Vec<Figure>> {
    fill(&database.pool, small).await?;
    let (young, mut verdict) = commands::among(database, surroundings, pace, 0).await?;
    fill(&database.pool, large).await?;
    let (old, its) = commands::among(database, surroundings, pace, pace.times).await?;
    verdict += its;
    let p50 = |runs: &[Run]| runs.iter().map(|run| run.percentile_us(50)).collect();
    let rate = |runs: &[Run]| runs.iter().map(|run| run.per_second).collect();
    let figure = |measure: &str, unit: &'static str, old: Vec<u64>, young: Vec<u64>, goal| Figure {
        row: "grown".into(),
        measure: format!("{measure}, with {large} events in the log"),
        value: median(old.clone()),
        unit: unit.into(),
        runs: old,
        limit: Some(Against {
            what: format!("the same with {small}"),
            value: median(young),
        }),
        goal,
        verdict: Some(verdict),
        notes: String::new(),
    };
    Ok(vec![
        figure(
            "one warm command, 1 client, p50",
            "µs",
            p50(&old[0]),
            p50(&young[0]),
            Goal::TimesAtMost(120),
        ),
        figure("commands, 32 clients", "/s", rate(&old[1]), rate(&young[1]), Goal::None),
    ])
}

/// Fills the log up to so many events, of streams that nobody touches again, as if each had been a command.
async fn fill(db: &PgPool, events: i64) -> anyhow::Result<()> {
    sqlx::query(
        "with filled as (
            insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                metadata, slot, store_id, event_id, command_id, occurred_at, recorded_at)
            select head + n, $2, 'filler_' || md5(((head + n) / $5)::text), (head + n) % $5 + 1, 'product.renamed', '1',
                json_build_object('type', 'product.renamed', 'name', rpad('filler ' || n, 262, 'x')),
                $3::text::json, (n % 256)::smallint, $4, gen_random_uuid(), gen_random_uuid(), now(), now()
            from (select coalesce(max(position), 0) as head from events) as log,
                generate_series(1, $1 - head) as n
            returning command_id, store_id, aggregate_type, aggregate_id, sequence, position, recorded_at
        )
        insert into commands (command_id, store_id, aggregate_type, aggregate_id, sequence, position, events,
            recorded_at)
        select command_id, store_id, aggregate_type, aggregate_id, sequence, position, 1, recorded_at
        from filled",
    )
    .bind(events)
    .bind(<Product as cqrs_es::Aggregate>::TYPE)
    .bind(serde_json::to_string(&commands::metadata())?)
    .bind(StoreId::DEFAULT.uuid())
    .bind(STREAM)
    .execute(db)
    .await?;
    // Not while something is measured.
    for statement in ["vacuum (analyze) events", "vacuum (analyze) commands", "checkpoint"] {
        db.execute(statement).await?;
    }
    Ok(())
}
