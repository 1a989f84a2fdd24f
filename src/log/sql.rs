//! The appender's statements.

use std::collections::{HashMap, HashSet};

use jangbu_events::{AggregateId, Timestamp};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    core::{Findings, Place, Turn},
    rows::{CommandRow, Head, NewCommand},
};

/// Reads the end of the log.
pub async fn read_head(db: &mut PgConnection) -> sqlx::Result<Head> {
    let row = sqlx::query!("select position, recorded_at from events order by position desc limit 1")
        .fetch_optional(db)
        .await?;
    Ok(row.map_or(
        Head {
            position: 0,
            recorded_at: None,
        },
        |row| Head {
            position: row.position,
            recorded_at: Some(row.recorded_at),
        },
    ))
}

/// The database's clock.
pub async fn read_clock(db: &mut PgConnection) -> sqlx::Result<Timestamp> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(db)
        .await
}

/// A server process that works for one connection.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    pid: i32,
    started: Timestamp,
}

/// Which process works for this connection.
pub async fn backend(db: &mut PgConnection) -> sqlx::Result<Backend> {
    sqlx::query_as!(
        Backend,
        r#"select pid as "pid!", backend_start as "started!" from pg_stat_activity where pid = pg_backend_pid()"#
    )
    .fetch_one(db)
    .await
}

/// Ends a server process, and fails unless it is gone: whatever it was asked to do is done by then, or never will be.
pub async fn end_backend(db: &mut PgConnection, backend: Backend) -> sqlx::Result<()> {
    let gone = sqlx::query_scalar!(
        r#"select coalesce(bool_and(pg_terminate_backend(pid, 3000)), true) as "gone!"
        from pg_stat_activity
        where pid = $1 and backend_start = $2"#,
        backend.pid,
        backend.started,
    )
    .fetch_one(db)
    .await?;
    if gone {
        Ok(())
    } else {
        Err(sqlx::Error::Protocol(
            "an old connection's backend does not end".to_owned(),
        ))
    }
}

/// Events of a batch, one array a column.
#[derive(Default)]
struct EventColumns<'a> {
    aggregate_types: Vec<&'a str>,
    aggregate_ids: Vec<&'a str>,
    sequences: Vec<i64>,
    event_types: Vec<&'a str>,
    event_versions: Vec<&'a str>,
    payloads: Vec<&'a str>,
    metadata: Vec<&'a str>,
    slots: Vec<i16>,
    store_ids: Vec<Uuid>,
    event_ids: Vec<Uuid>,
    command_ids: Vec<Uuid>,
    causation_ids: Vec<Option<Uuid>>,
    correlation_ids: Vec<Option<Uuid>>,
    occurred_at: Vec<Timestamp>,
}

/// Commands of a batch, one array a column.
#[derive(Default)]
struct CommandColumns<'a> {
    ids: Vec<Uuid>,
    stores: Vec<Uuid>,
    types: Vec<&'a str>,
    aggregates: Vec<&'a str>,
    sequences: Vec<i64>,
    /// From where the batch stands.
    positions: Vec<i64>,
    events: Vec<i32>,
    hashes: Vec<Option<&'a [u8]>>,
}

/// What must be in the log for a batch to continue its streams: the last event that each stream's
/// first command was decided on. Without it a command decided on one that was then refused would
/// leave a hole in its stream for ever.
#[derive(Default)]
struct Continued<'a> {
    types: Vec<&'a str>,
    ids: Vec<&'a str>,
    sequences: Vec<i64>,
}

fn continued<'a>(commands: &[&'a NewCommand]) -> Continued<'a> {
    let mut continued = Continued::default();
    let mut ends = HashSet::new();
    for command in commands.iter().filter(|command| !command.events.is_empty()) {
        let stream = (command.aggregate_type, command.aggregate_id.as_str());
        let events = i64::try_from(command.events.len()).expect("a command is small");
        if command.expected_sequence > 0 && !ends.contains(&(stream, command.expected_sequence)) {
            continued.types.push(stream.0);
            continued.ids.push(stream.1);
            continued.sequences.push(command.expected_sequence);
        }
        ends.insert((stream, command.expected_sequence + events));
    }
    continued
}

/// Turns a batch into columns.
fn columns<'a>(commands: &[&'a NewCommand]) -> (EventColumns<'a>, CommandColumns<'a>) {
    let mut e = EventColumns::default();
    let mut c = CommandColumns::default();
    let mut position = 0;
    for command in commands {
        for (index, event) in command.events.iter().enumerate() {
            e.aggregate_types.push(command.aggregate_type);
            e.aggregate_ids.push(&command.aggregate_id);
            e.sequences
                .push(command.expected_sequence + 1 + i64::try_from(index).expect("a command is small"));
            e.event_types.push(&event.event_type);
            e.event_versions.push(&event.event_version);
            e.payloads.push(&event.payload);
            e.metadata.push(&command.metadata);
            e.slots.push(command.slot.column());
            e.store_ids.push(command.store_id.uuid());
            e.event_ids.push(command.event_id(index));
            e.command_ids.push(command.command_id);
            e.causation_ids.push(command.causation_id);
            e.correlation_ids.push(command.correlation_id);
            e.occurred_at.push(event.occurred_at.unwrap_or(command.occurred_at));
        }
        c.ids.push(command.command_id);
        c.stores.push(command.store_id.uuid());
        c.types.push(command.aggregate_type);
        c.aggregates.push(command.aggregate_id.as_str());
        let events = i32::try_from(command.events.len()).expect("a command is small");
        position += i64::from(events);
        c.sequences.push(command.expected_sequence + i64::from(events));
        c.positions.push(position);
        c.events.push(events);
        c.hashes.push(command.body_hash.as_ref().map(<[u8; 32]>::as_slice));
    }
    (e, c)
}

/// How an append ended.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Whether the batch is in the log.
    pub taken: bool,
    /// Where it stands, or would have stood.
    pub after: i64,
    /// When it was recorded; of the head if it was not taken.
    pub recorded_at: Option<Timestamp>,
}

/// Appends a batch in one call of the function `append`, which does all its work in one transaction.
/// Not taken: the head had moved, or a stream is shorter than a command expects. A unique violation is
/// an error like any other here.
pub async fn append(db: &mut PgConnection, commands: &[&NewCommand], place: Place, turn: Turn) -> sqlx::Result<Sent> {
    let (e, c) = columns(commands);
    let continued = continued(commands);
    let keys: Vec<_> = commands
        .iter()
        .flat_map(|c| c.unique_keys.iter().map(|key| (c.store_id.uuid(), key)))
        .collect();
    let persons: Vec<_> = commands
        .iter()
        .flat_map(|c| c.personal_keys.iter().map(|key| (c.store_id.uuid(), key)))
        .collect();
    sqlx::query_as!(
        Sent,
        r#"select head as "after!", recorded as recorded_at, taken as "taken!"
        from append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
            $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40)"#,
        turn == Turn::Queue,
        place.after,
        place.recorded_at,
        &e.aggregate_types as _,
        &e.aggregate_ids as _,
        &e.sequences,
        &e.event_types as _,
        &e.event_versions as _,
        &e.payloads as _,
        &e.metadata as _,
        &e.slots,
        &e.store_ids,
        &e.event_ids,
        &e.command_ids,
        &e.causation_ids as _,
        &e.correlation_ids as _,
        &e.occurred_at,
        &c.ids,
        &c.stores,
        &c.types as _,
        &c.aggregates as _,
        &c.sequences,
        &c.positions,
        &c.events,
        &c.hashes as _,
        &continued.types as _,
        &continued.ids as _,
        &continued.sequences,
        &keys.iter().map(|(store, _)| *store).collect::<Vec<_>>(),
        keys.iter().map(|(_, key)| key.scope).collect::<Vec<_>>() as _,
        keys.iter().map(|(_, key)| key.value.as_str()).collect::<Vec<_>>() as _,
        keys.iter().map(|(_, key)| key.owner.as_str()).collect::<Vec<_>>() as _,
        &persons.iter().map(|(_, key)| key.key_id).collect::<Vec<_>>(),
        &persons.iter().map(|(store, _)| *store).collect::<Vec<_>>(),
        persons
            .iter()
            .map(|(_, key)| key.person_id.as_str())
            .collect::<Vec<_>>() as _,
        persons.iter().map(|(_, key)| key.retention_class).collect::<Vec<_>>() as _,
        persons.iter().map(|(_, key)| key.live.as_slice()).collect::<Vec<_>>() as _,
        persons.iter().map(|(_, key)| key.hold.as_slice()).collect::<Vec<_>>() as _,
        persons
            .iter()
            .map(|(_, key)| key.phone_hash.as_deref())
            .collect::<Vec<_>>() as _,
        beside(commands),
    )
    .fetch_one(db)
    .await
}

/// What the batch changes besides, as the function `append_beside` reads it; `None` for most.
fn beside(commands: &[&NewCommand]) -> Option<Value> {
    if commands.iter().all(|command| command.beside.is_empty()) {
        return None;
    }
    let (mut released, mut passwords, mut sessions) = (Vec::new(), Vec::new(), Vec::new());
    for command in commands {
        let (store, beside) = (command.store_id.uuid(), &command.beside);
        released.extend(
            beside
                .released_keys
                .iter()
                .map(|key| json!({"store_id": store, "scope": key.scope, "value": key.value, "owner": key.owner})),
        );
        passwords.extend(
            beside
                .password
                .iter()
                .map(|row| json!({"customer_id": row.customer_id, "password_hash": row.hash})),
        );
        sessions.extend(
            beside.ended_sessions.iter().map(
                |ended| json!({"customer_id": ended.customer_id, "except_id": ended.except, "reason": ended.reason}),
            ),
        );
    }
    Some(json!({"released_keys": released, "passwords": passwords, "ended_sessions": sessions}))
}

/// Looks at everything a batch touches, in one snapshot, and at the head.
pub async fn find(db: &mut PgConnection, commands: &[&NewCommand]) -> sqlx::Result<(Findings, Head)> {
    let mut tx = db.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(&mut *tx)
        .await?;
    let found = commands_by_id(&mut tx, &commands.iter().map(|c| c.command_id).collect::<Vec<_>>()).await?;

    let streams: HashSet<(&str, &str)> = commands
        .iter()
        .map(|c| (c.aggregate_type, c.aggregate_id.as_str()))
        .collect();
    let (types, ids): (Vec<&str>, Vec<&str>) = streams.into_iter().unzip();
    let sequences = sqlx::query!(
        r#"select t.aggregate_type as "aggregate_type!", t.aggregate_id as "aggregate_id!",
            (select e.sequence from events e
             where e.aggregate_type = t.aggregate_type and e.aggregate_id = t.aggregate_id
             order by e.sequence desc limit 1) as sequence
        from unnest($1::text[], $2::text[]) as t (aggregate_type, aggregate_id)"#,
        types as _,
        ids as _,
    )
    .fetch_all(&mut *tx)
    .await?;

    let keys: Vec<_> = commands
        .iter()
        .flat_map(|c| c.unique_keys.iter().map(|k| (c.store_id.uuid(), k)))
        .collect();
    let taken = sqlx::query!(
        "select k.scope, k.value, k.owner
        from unique_keys k
        join unnest($1::uuid[], $2::text[], $3::text[]) as t (store_id, scope, value)
            on k.store_id = t.store_id and k.scope = t.scope and k.value = t.value",
        &keys.iter().map(|(store, _)| *store).collect::<Vec<_>>(),
        keys.iter().map(|(_, key)| key.scope).collect::<Vec<_>>() as _,
        keys.iter().map(|(_, key)| key.value.as_str()).collect::<Vec<_>>() as _,
    )
    .fetch_all(&mut *tx)
    .await?;

    let head = read_head(&mut tx).await?;
    tx.commit().await?;
    let findings = Findings {
        commands: found,
        sequences: sequences
            .into_iter()
            .filter_map(|row| Some(((row.aggregate_type, row.aggregate_id), row.sequence?)))
            .collect(),
        taken: taken
            .into_iter()
            .map(|row| ((row.scope, row.value), row.owner))
            .collect(),
    };
    Ok((findings, head))
}

/// Which of these commands are in the log, with what came of them.
pub async fn commands_by_id(db: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<HashMap<Uuid, CommandRow>> {
    let rows = sqlx::query_as!(
        CommandRow,
        "select command_id, aggregate_type, aggregate_id, sequence, position, events, body_hash, recorded_at
        from commands
        where command_id = any($1)",
        ids,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.command_id, row)).collect())
}
