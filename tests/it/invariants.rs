//! What must hold of any log, whatever was done to it: read from the tables themselves.

use sqlx::PgPool;

/// How much there is in a log that was found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub events: i64,
    pub commands: i64,
}

/// Panics unless the log is sound; says how large it is.
pub async fn check(db: &PgPool) -> Size {
    for (rule, violations) in RULES {
        let found: Vec<String> = sqlx::query_scalar(violations)
            .fetch_all(db)
            .await
            .unwrap_or_else(|error| panic!("{rule}: {error}"));
        assert!(
            found.is_empty(),
            "{rule}, but not here: {:?}",
            &found[..found.len().min(5)]
        );
    }
    let (events, commands) = sqlx::query_as("select (select count(*) from events), (select count(*) from commands)")
        .fetch_one(db)
        .await
        .expect("the log can be counted");
    Size { events, commands }
}

/// A rule, and a query for what breaks it.
const RULES: &[(&str, &str)] = &[
    (
        "positions are dense from 1",
        "select 'position ' || position || ' is number ' || n
        from (select position, row_number() over (order by position) as n from events) as e
        where position <> n",
    ),
    (
        "sequences are dense from 1 in each stream, in the order of positions",
        "select aggregate_id || ' sequence ' || sequence || ' is number ' || n
        from (
            select aggregate_id, sequence,
                row_number() over (partition by aggregate_type, aggregate_id order by position) as n
            from events
        ) as e
        where sequence <> n",
    ),
    (
        "recorded_at never runs backwards along positions",
        "select 'position ' || position
        from (select position, recorded_at, lag(recorded_at) over (order by position) as before from events) as e
        where recorded_at < before",
    ),
    (
        "a stream keeps its slot and its store",
        "select aggregate_id
        from events
        group by aggregate_type, aggregate_id
        having min(slot) <> max(slot) or count(distinct store_id) > 1",
    ),
    (
        "event ids are unique",
        "select event_id::text from events group by event_id having count(*) > 1",
    ),
    (
        "events belong to a command that is in the log",
        "select 'position ' || e.position
        from events e
        left join commands c on c.command_id = e.command_id
        where c.command_id is null",
    ),
    (
        "the events of a command stand together, and its row says where",
        "select c.command_id::text
        from commands c
        left join (
            select command_id, count(*) as events, min(position) as first, max(position) as last,
                max(sequence) as sequence, min(aggregate_type) as aggregate_type, min(aggregate_id) as aggregate_id,
                count(distinct (aggregate_type, aggregate_id)) as streams, min(recorded_at) as earliest,
                max(recorded_at) as latest
            from events
            group by command_id
        ) as e on e.command_id = c.command_id
        where c.events <> coalesce(e.events, 0)
            or c.events > 0 and (
                e.streams <> 1
                or e.last - e.first + 1 <> e.events
                or (c.position, c.sequence, c.aggregate_type, c.aggregate_id, c.recorded_at, c.recorded_at)
                    is distinct from
                    (e.last, e.sequence, e.aggregate_type, e.aggregate_id, e.earliest, e.latest)
            )",
    ),
    (
        "a command without events stands at a position and a moment that the log had reached",
        "select c.command_id::text
        from commands c
        left join events e on e.position = c.position
        where c.events = 0 and c.position > 0 and (e.position is null or e.recorded_at > c.recorded_at)",
    ),
];
