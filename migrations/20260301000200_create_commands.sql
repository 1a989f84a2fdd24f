-- Every command that was carried out, with what came of it: a repeat finds its first result here.
-- A keyed command that changed nothing leaves a row too (events = 0).
create table commands (
    command_id      uuid        primary key,
    store_id        uuid        not null,
    aggregate_type  text collate "C" not null,
    aggregate_id    text collate "C" not null,
    -- Of the stream after the command.
    sequence        bigint      not null,
    -- Of the last event; for a command without events, the head when it was recorded.
    position        bigint      not null,
    -- How many events it made: they end at `sequence` and at `position`.
    events          integer     not null check (events >= 0),
    -- Keyed hash of the request; another request under the same key is refused. Keyed, since requests
    -- hold personal data that a plain hash would let anybody guess at; may be forgotten, never changed.
    body_hash       bytea       check (octet_length(body_hash) = 32),
    recorded_at     timestamptz not null
);

create function refuse_command_change() returns trigger
language plpgsql as $$
begin
    if tg_op = 'UPDATE' and new.body_hash is null then
        old.body_hash := null;
        if old is not distinct from new then
            return new;
        end if;
    end if;
    raise exception 'commands is insert-only' using errcode = 'restrict_violation';
end
$$;

create trigger commands_are_never_changed
    before update or delete on commands
    for each row execute function refuse_command_change();

create trigger commands_are_never_truncated
    before truncate on commands
    for each statement execute function refuse_change();
