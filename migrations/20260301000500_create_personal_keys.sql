-- Data keys of sealed personal data, each wrapped twice: here for daily work, until its person
-- withdraws; in personal_keys_hold for what the law makes a shop keep, until the last duty ends.
-- Two tables, so that the hold path can have a database role of its own.
-- Unlike the log, these rows are meant to be destroyed.
create table personal_keys (
    key_id          uuid        primary key,
    store_id        uuid        not null,
    -- The customer, or for a guest the order: a guest order is a person of its own.
    person_id       text        not null,
    -- Why it is kept: RET_CONTRACT …
    retention_class text        not null,
    -- The data key under the live key derived from the master key.
    wrapped_key     bytea       not null,
    -- Keyed hash of the orderer's phone, for a guest's look-up; destroyed with the row.
    phone_hash      bytea,
    created_at      timestamptz not null
);

create index personal_keys_person on personal_keys (store_id, person_id);

create table personal_keys_hold (
    key_id          uuid        primary key,
    store_id        uuid        not null,
    person_id       text        not null,
    retention_class text        not null,
    -- The data key under the hold key derived from the master key.
    wrapped_key     bytea       not null,
    created_at      timestamptz not null
);

create index personal_keys_hold_person on personal_keys_hold (store_id, person_id);
