-- Aggregates that a read table cannot take. Everything before `position` of the aggregate is in the
-- tables of the build, nothing of it from there on; the rest of the partition goes on without it. A
-- retry tells it from the log what it missed. See docs/decisions/0018.
create table parked_aggregates (
    projection      text        not null,
    code_version    integer     not null,
    build           integer     not null,
    partition       smallint    not null,
    aggregate_type  text        collate "C" not null,
    aggregate_id    text        collate "C" not null,
    -- The first event that is not in the tables.
    position        bigint      not null,
    sequence        bigint      not null,
    -- What the database or the decoder objects to, by names: never a value, which may be personal.
    error           text        not null,
    -- How often it was told, the first time included.
    attempts        integer     not null default 1,
    parked_at       timestamptz not null,
    tried_at        timestamptz not null,
    primary key (projection, code_version, build, aggregate_type, aggregate_id),
    foreign key (projection, code_version, build) references builds on delete cascade
);

-- How many of the partition's aggregates are parked: where there are none, a step does not look.
alter table checkpoints add column parked integer not null default 0;

-- Why a worker cannot move it, such as an event that this program does not know; null where one can.
alter table checkpoints add column stopped text;
