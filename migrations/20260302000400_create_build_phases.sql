-- What a build is for at the moment. See docs/decisions/0016.
--   filling: `jangbu rebuild` brings it to the head of the log; nobody reads it, no worker feeds it.
--   live:    workers feed it; queries read it if it is active.
--   retired: another took its place. It is kept as it was then, so that one can go back.
alter table builds
    add column phase text not null default 'live' check (phase in ('filling', 'live', 'retired')),
    -- Statements that make the indexes which a filling build does not have yet; null once it has them.
    add column indexes text[],
    add column activated_at timestamptz,
    add column retired_at timestamptz;

update builds set phase = 'retired', retired_at = created_at where not active;
update builds set activated_at = created_at where active;

alter table builds add constraint builds_active_are_live check (not active or phase = 'live');

-- Whoever reads or feeds builds hears of every change as soon as it is committed.
create function builds_changed() returns trigger language plpgsql as $$
begin
    perform pg_notify('jangbu_builds', '');
    return null;
end
$$;

create trigger builds_changed
    after insert or update or delete on builds
    for each statement execute function builds_changed();
