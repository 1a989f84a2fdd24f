-- A build is one materialisation of a projection's code version, in a schema of its own.
create table builds (
    projection      text        not null,
    code_version    integer     not null,
    build           integer     not null,
    -- The schema that holds its tables.
    schema_name     text        not null unique,
    -- Partitions it was built for; another number means a new build.
    partitions      smallint    not null check (partitions between 1 and 256),
    -- One active build a (projection, code version): the one that queries read.
    active          boolean     not null default false,
    created_at      timestamptz not null,
    primary key (projection, code_version, build)
);

create unique index builds_active on builds (projection, code_version) where active;

-- How far each partition of a build is: everything up to `position` is in its tables.
create table checkpoints (
    projection      text        not null,
    code_version    integer     not null,
    build           integer     not null,
    partition       smallint    not null,
    position        bigint      not null default 0,
    -- Of the lease under which a worker may move it.
    epoch           bigint      not null default 0,
    updated_at      timestamptz not null,
    primary key (projection, code_version, build, partition),
    foreign key (projection, code_version, build) references builds on delete cascade
) with (fillfactor = 50);
