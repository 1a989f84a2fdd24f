-- Process managers: how far each has read the log, and what it remembers.
create table process_checkpoints (
    process     text    primary key,
    position    bigint  not null default 0,
    epoch       bigint  not null default 0
);

create table process_states (
    process     text    not null,
    key         text    not null,
    state       jsonb   not null,
    primary key (process, key)
);

-- A command that a process manager could not get through; an operator must look.
create table process_failures (
    command_id  uuid        primary key,
    process     text        not null,
    key         text        not null,
    position    bigint      not null,
    step        text        not null,
    error       text        not null,
    failed_at   timestamptz not null
);

-- Work that is due at a time: deadlines, refunds. Taken with `for update skip locked`, given back
-- with a later `due_at` until it is done, so it survives any crash; doing it twice is harmless.
create table timers (
    timer_id    uuid        primary key,
    kind        text        not null,
    key         text        not null,
    payload     jsonb       not null,
    due_at      timestamptz not null,
    attempts    integer     not null default 0,
    last_error  text
);

create index timers_due on timers (due_at);
