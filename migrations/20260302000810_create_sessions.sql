-- Who is signed in where. See docs/decisions/0025.
create table sessions (
    session_id          uuid        primary key,
    customer_id         text        collate "C" not null,
    -- How the refresh token travels.
    mode                text        not null check (mode in ('bearer', 'cookie')),
    -- Browser and system, no version: enough to recognise one's own devices.
    user_agent_class    text        not null check (length(user_agent_class) <= 64),
    -- Under the month's key, which is destroyed (ip_hash_keys); of the latest refresh.
    ip_hash             text        not null,
    created_at          timestamptz not null,
    last_seen_at        timestamptz not null,
    -- However busy it is.
    expires_at          timestamptz not null,
    ended_at            timestamptz,
    end_reason          text        check (end_reason in ('signed_out', 'revoked', 'reused', 'password_changed', 'closed')),
    -- By the database's clock, since processes with other clocks look for what is new.
    end_noted_at        timestamptz,
    check ((ended_at is null) = (end_reason is null))
);
create index sessions_by_customer on sessions (customer_id, created_at) where ended_at is null;
create index sessions_by_end on sessions (end_noted_at) where end_noted_at is not null;
create index sessions_by_expiry on sessions (expires_at);

-- A token is used once, and brings the next one of its session. Those that were used stay as long as the
-- session does: whoever shows one again has stolen it, or was stolen from.
create table refresh_tokens (
    -- SHA-256. The token has 256 random bits, so there is nothing to guess at.
    token_hash      bytea       primary key check (octet_length(token_hash) = 32),
    session_id      uuid        not null references sessions on delete cascade,
    created_at      timestamptz not null,
    used_at         timestamptz,
    -- With the token and the server's key it gives the next one again, for a repeat that was not answered.
    successor_salt  bytea,
    check ((used_at is null) = (successor_salt is null))
);
-- A session has one token to go on with.
create unique index refresh_tokens_unused on refresh_tokens (session_id) where used_at is null;
create index refresh_tokens_by_session on refresh_tokens (session_id);

-- Every process hears of an end when it is committed.
create function note_session_end() returns trigger language plpgsql as $$
begin
    new.end_noted_at := clock_timestamp();
    perform pg_notify('jangbu_session_ends', new.session_id::text);
    return new;
end
$$;
create trigger note_session_end before update of ended_at on sessions
    for each row when (old.ended_at is null and new.ended_at is not null)
    execute function note_session_end();
