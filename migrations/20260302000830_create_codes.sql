-- Six digits that were sent somewhere. The newest of a purpose and a subject is the only one.
create table one_time_codes (
    purpose     text        not null,
    -- Keyed hash of whom or what it opens.
    subject     bytea       not null check (octet_length(subject) = 32),
    code_id     uuid        not null unique,
    -- Keyed: a million codes are tried in no time by whoever has only a plain hash.
    code_hash   bytea       not null check (octet_length(code_hash) = 32),
    attempts    integer     not null default 0,
    expires_at  timestamptz not null,
    primary key (purpose, subject)
);
create index one_time_codes_by_expiry on one_time_codes (expires_at);

-- Links in mails. The newest of a customer and a purpose is the only one; it works once.
create table link_tokens (
    customer_id text        collate "C" not null,
    purpose     text        not null,
    -- SHA-256 of 256 random bits.
    token_hash  bytea       not null unique check (octet_length(token_hash) = 32),
    -- Keyed hash of what the link is about, as the address it was sent to: another one is not proven by it.
    about       bytea       not null check (octet_length(about) = 32),
    expires_at  timestamptz not null,
    primary key (customer_id, purpose)
);
create index link_tokens_by_expiry on link_tokens (expires_at);
