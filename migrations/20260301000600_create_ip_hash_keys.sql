-- Keys of the address hashes in metadata, one a month: an address space is small enough to be hashed
-- whole, so the hashes mean nothing only once their key is destroyed.
create table ip_hash_keys (
    month       text        primary key check (month ~ '^[0-9]{4}-[0-9]{2}$'),
    key         bytea       not null check (octet_length(key) = 32),
    created_at  timestamptz not null
);
