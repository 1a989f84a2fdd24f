-- Who may do what only one may do at a time: publish, run process managers, feed a partition.
-- Taking a lease over raises its epoch; work is fenced by the epoch it was begun under.
create table leases (
    name        text        primary key,
    holder      uuid        not null,
    epoch       bigint      not null,
    expires_at  timestamptz not null
);

-- How far the relay has published with confirms: everything up to `position` is at the broker.
create table relay_checkpoint (
    only_one    boolean primary key default true check (only_one),
    position    bigint  not null default 0,
    epoch       bigint  not null default 0
);

insert into relay_checkpoint default values;
