-- How customers prove who they are. A hash tells nothing of the password; it is still no part of the
-- log, since a copy of the log must not be something to try passwords on.
create table credentials (
    customer_id     text        collate "C" primary key,
    -- PHC string: algorithm, parameters, salt, hash.
    password_hash   text        not null check (password_hash like '$argon2id$%'),
    changed_at      timestamptz not null
);
