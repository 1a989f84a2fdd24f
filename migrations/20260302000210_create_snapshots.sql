-- Where folding of a long stream may begin. Written beside the log and derived from it: rows may be
-- deleted at any time, and a stream without one is folded from its first event.
create table snapshots (
    aggregate_type  text collate "C" not null,
    aggregate_id    text collate "C" not null,
    -- Of the code that folded: another has other states.
    code_version    integer     not null,
    -- Of the last event in it.
    sequence        bigint      not null check (sequence > 0),
    position        bigint      not null,
    slot            smallint    not null,
    state           json        not null,
    primary key (aggregate_type, aggregate_id, code_version, sequence)
);
