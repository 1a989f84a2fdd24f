-- Programs of others that are told what happens. See docs/decisions/0019.
create table webhook_endpoints (
    endpoint_id     uuid        primary key,
    url             text        not null,
    -- Only of these types; empty is all, those of the future too.
    event_types     text[]      not null,
    enabled         boolean     not null,
    -- When the receiver said 410; null once it is enabled again.
    gone_at         timestamptz,
    -- Sealed with the master key, as is the former one, which signs too until its time is over.
    secret          bytea       not null,
    former_secret   bytea,
    former_until    timestamptz,
    -- Which request made the secret, so that its repeat is answered alike.
    secret_of       uuid        not null,
    request_hash    bytea       not null,
    -- Every event up to here was taken, is of no interest, or belongs to a held aggregate.
    position        bigint      not null check (position >= 0),
    -- The lease's, under which it is served: whoever is late cannot write.
    epoch           bigint      not null default 0,
    -- Raised by every change from outside, so that whoever serves it begins anew from what is here.
    revision        bigint      not null default 1,
    created_at      timestamptz not null,
    updated_at      timestamptz not null
);

-- Aggregates of which an endpoint did not take an event. Everything before `position` was taken, nothing
-- of it from there on; it waits in the log.
create table webhook_held (
    endpoint_id     uuid        not null references webhook_endpoints on delete cascade,
    aggregate_type  text        collate "C" not null,
    aggregate_id    text        collate "C" not null,
    position        bigint      not null,
    attempts        integer     not null,
    since           timestamptz not null,
    next_at         timestamptz not null,
    -- Given up, until somebody wants it tried again.
    parked          boolean     not null,
    error           text        not null,
    primary key (endpoint_id, aggregate_type, aggregate_id)
);

-- The latest attempts of every endpoint, for people. Nothing depends on them.
create table webhook_attempts (
    endpoint_id     uuid        not null references webhook_endpoints on delete cascade,
    attempt         bigint      generated always as identity,
    position        bigint      not null,
    event_id        uuid        not null,
    event_type      text        not null,
    tried_at        timestamptz not null,
    milliseconds    integer     not null,
    -- Of the answer, if there was one.
    status          smallint,
    -- Why it was not taken; null where it was.
    error           text,
    primary key (endpoint_id, attempt)
);
