-- The log. Insert-only, dense and in commit order: see ARCHITECTURE.md and docs/decisions/0001.
-- Collation "C": a new C library with other sorting rules must not be able to break the index.
-- The seven columns that postgres-es names keep its names and types, so that it can read the table.
create table events (
    position        bigint      primary key,
    aggregate_type  text collate "C" not null,
    aggregate_id    text collate "C" not null,
    sequence        bigint      not null check (sequence > 0),
    event_type      text collate "C" not null,
    event_version   text        not null,
    payload         json        not null,
    metadata        json        not null,
    slot            smallint    not null check (slot between 0 and 255),
    store_id        uuid        not null,
    event_id        uuid        not null,
    command_id      uuid        not null,
    causation_id    uuid,
    correlation_id  uuid,
    occurred_at     timestamptz not null,
    recorded_at     timestamptz not null,
    constraint events_stream unique (aggregate_type, aggregate_id, sequence)
);

-- Positions only grow, so every page but the last is full for good; nothing is ever updated in place.
alter table events set (fillfactor = 100, autovacuum_freeze_min_age = 0);

create function refuse_change() returns trigger
language plpgsql as $$
begin
    raise exception '% is insert-only', tg_table_name using errcode = 'restrict_violation';
end
$$;

create trigger events_are_never_changed
    before update or delete on events
    for each row execute function refuse_change();

create trigger events_are_never_truncated
    before truncate on events
    for each statement execute function refuse_change();

revoke update, delete, truncate on events from public;
