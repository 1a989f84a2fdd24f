-- Every command that was carried out, with what came of it: a repeat finds its first result here.
-- A keyed command that changed nothing leaves a row too (events = 0).
create table commands (
    command_id      uuid        primary key,
    store_id        uuid        not null,
    aggregate_type  text        not null,
    aggregate_id    text        not null,
    -- Of the stream after the command.
    sequence        bigint      not null,
    -- Of the last event; for a command without events, the head when it was recorded.
    position        bigint      not null,
    -- How many events it made: they end at `sequence` and at `position`.
    events          integer     not null check (events >= 0),
    -- SHA-256 of the request; another request under the same key is refused.
    body_hash       bytea       check (octet_length(body_hash) = 32),
    recorded_at     timestamptz not null
);

create trigger commands_are_never_changed
    before update or delete on commands
    for each row execute function refuse_change();
