//! The appender's statements.

use std::collections::{HashMap, HashSet};

use jangbu_events::{AggregateId, Timestamp};
use sqlx::{Connection, PgConnection, postgres::PgQueryResult};
use uuid::Uuid;

use super::{
    core::{Findings, Place, appended},
    rows::{CommandRow, Head, NewCommand},
};

/// Serialises processes that append to one database and collide; any 64-bit number will do.
const APPEND_LOCK: i64 = 0x6a61_6e67_6275;

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

/// Begins a transaction, takes the append lock and reads the head under it. One plain statement
/// could not: its snapshot would be older than its lock.
pub async fn lock_and_read_head(db: &mut PgConnection) -> sqlx::Result<Head> {
    sqlx::query!("select pg_advisory_xact_lock($1)", APPEND_LOCK)
        .execute(&mut *db)
        .await?;
    read_head(db).await
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
    positions: Vec<i64>,
    events: Vec<i32>,
    hashes: Vec<Option<&'a [u8]>>,
}

impl EventColumns<'_> {
    fn count(&self) -> i64 {
        i64::try_from(self.sequences.len()).expect("a batch is small")
    }
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

/// Numbers a batch and turns it into columns.
fn columns<'a>(commands: &[&'a NewCommand], place: Place) -> (EventColumns<'a>, CommandColumns<'a>) {
    let mut e = EventColumns::default();
    let mut c = CommandColumns::default();
    for (command, appended) in commands.iter().zip(appended(commands, place)) {
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
        c.sequences.push(appended.sequence);
        c.positions.push(appended.position);
        c.events
            .push(i32::try_from(command.events.len()).expect("a command is small"));
        c.hashes.push(command.body_hash.as_ref().map(<[u8; 32]>::as_slice));
    }
    (e, c)
}

/// Inserts a batch in one statement; `true` if it is in the log, `false` if the head had moved or a
/// stream is shorter than a command expects. A unique violation is an error like any other here.
///
/// Events come first: every appender meets the others at the next position before it touches
/// anything else. Batches without events do not meet there, so commands go in the order of their
/// ids. That way two appenders cannot deadlock.
pub async fn insert(db: &mut PgConnection, commands: &[&NewCommand], place: Place) -> sqlx::Result<bool> {
    // Most batches claim no key, and the shorter statement is cheaper for them.
    let plain = commands
        .iter()
        .all(|command| command.unique_keys.is_empty() && command.personal_keys.is_empty());
    let done = if plain {
        insert_plain(db, commands, place).await?
    } else {
        insert_with_keys(db, commands, place).await?
    };
    Ok(done.rows_affected() == commands.len() as u64)
}

async fn insert_plain(db: &mut PgConnection, commands: &[&NewCommand], place: Place) -> sqlx::Result<PgQueryResult> {
    let (e, c) = columns(commands, place);
    let continued = continued(commands);
    sqlx::query!(
        "with e as (
            insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
                payload, metadata, slot, store_id, event_id, command_id, causation_id, correlation_id,
                occurred_at, recorded_at)
            select $1 + n, aggregate_type, aggregate_id, sequence, event_type, event_version,
                payload::json, metadata::json, slot, store_id, event_id, command_id, causation_id, correlation_id,
                occurred_at, $2
            from unnest($3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
                    $10::smallint[], $11::uuid[], $12::uuid[], $13::uuid[], $14::uuid[], $15::uuid[],
                    $16::timestamptz[])
                with ordinality as t (aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                    metadata, slot, store_id, event_id, command_id, causation_id, correlation_id, occurred_at, n)
            where (select coalesce(max(position), 0) from events) = $1
                and not exists (
                    select from unnest($26::text[], $27::text[], $28::bigint[]) as c (type, id, sequence)
                    where (
                        select e.sequence
                        from events e
                        where e.aggregate_type = c.type and e.aggregate_id = c.id and e.sequence = c.sequence
                    ) is null
                )
            order by n
            returning 1
        )
        insert into commands (command_id, store_id, aggregate_type, aggregate_id, sequence, position, events,
            body_hash, recorded_at)
        select command_id, store_id, aggregate_type, aggregate_id, sequence, position, events, body_hash, $2
        from unnest($17::uuid[], $18::uuid[], $19::text[], $20::text[], $21::bigint[], $22::bigint[], $23::int[],
                $24::bytea[])
            as c (command_id, store_id, aggregate_type, aggregate_id, sequence, position, events, body_hash)
        where (select count(*) from e) = $25
            and (select coalesce(max(position), 0) from events) = $1
        order by command_id",
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
        e.count(),
        &continued.types as _,
        &continued.ids as _,
        &continued.sequences,
    )
    .execute(db)
    .await
}

#[expect(clippy::too_many_lines, reason = "it is one statement")]
async fn insert_with_keys(
    db: &mut PgConnection,
    commands: &[&NewCommand],
    place: Place,
) -> sqlx::Result<PgQueryResult> {
    let (e, c) = columns(commands, place);
    let continued = continued(commands);
    let keys: Vec<_> = commands
        .iter()
        .flat_map(|c| c.unique_keys.iter().map(|key| (c.store_id.uuid(), key)))
        .collect();
    let persons: Vec<_> = commands
        .iter()
        .flat_map(|c| c.personal_keys.iter().map(|key| (c.store_id.uuid(), key)))
        .collect();
    sqlx::query!(
        "with e as (
            insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
                payload, metadata, slot, store_id, event_id, command_id, causation_id, correlation_id,
                occurred_at, recorded_at)
            select $1 + n, aggregate_type, aggregate_id, sequence, event_type, event_version,
                payload::json, metadata::json, slot, store_id, event_id, command_id, causation_id, correlation_id,
                occurred_at, $2
            from unnest($3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
                    $10::smallint[], $11::uuid[], $12::uuid[], $13::uuid[], $14::uuid[], $15::uuid[],
                    $16::timestamptz[])
                with ordinality as t (aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                    metadata, slot, store_id, event_id, command_id, causation_id, correlation_id, occurred_at, n)
            where (select coalesce(max(position), 0) from events) = $1
                and not exists (
                    select from unnest($37::text[], $38::text[], $39::bigint[]) as c (type, id, sequence)
                    where (
                        select e.sequence
                        from events e
                        where e.aggregate_type = c.type and e.aggregate_id = c.id and e.sequence = c.sequence
                    ) is null
                )
            order by n
            returning 1
        ),
        fits as (
            select (select count(*) from e) = $25
                and (select coalesce(max(position), 0) from events) = $1 as fits
        ),
        k as (
            insert into unique_keys (store_id, scope, value, owner)
            select store_id, scope, value, owner
            from unnest($26::uuid[], $27::text[], $28::text[], $29::text[]) as k (store_id, scope, value, owner)
            where (select fits from fits)
        ),
        live as (
            insert into personal_keys (key_id, store_id, person_id, retention_class, wrapped_key, phone_hash,
                created_at)
            select key_id, store_id, person_id, retention_class, live, phone_hash, $2
            from unnest($30::uuid[], $31::uuid[], $32::text[], $33::text[], $34::bytea[], $36::bytea[])
                as p (key_id, store_id, person_id, retention_class, live, phone_hash)
            where (select fits from fits)
        ),
        hold as (
            insert into personal_keys_hold (key_id, store_id, person_id, retention_class, wrapped_key, created_at)
            select key_id, store_id, person_id, retention_class, hold, $2
            from unnest($30::uuid[], $31::uuid[], $32::text[], $33::text[], $35::bytea[])
                as p (key_id, store_id, person_id, retention_class, hold)
            where (select fits from fits)
        )
        insert into commands (command_id, store_id, aggregate_type, aggregate_id, sequence, position, events,
            body_hash, recorded_at)
        select command_id, store_id, aggregate_type, aggregate_id, sequence, position, events, body_hash, $2
        from unnest($17::uuid[], $18::uuid[], $19::text[], $20::text[], $21::bigint[], $22::bigint[], $23::int[],
                $24::bytea[])
            as c (command_id, store_id, aggregate_type, aggregate_id, sequence, position, events, body_hash)
        where (select fits from fits)
        order by command_id",
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
        e.count(),
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
        &continued.types as _,
        &continued.ids as _,
        &continued.sequences,
    )
    .execute(db)
    .await
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
        "select k.scope, k.value
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
        taken: taken.into_iter().map(|row| (row.scope, row.value)).collect(),
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
