-- Uniqueness across streams (order number, e-mail, phone, coupon code): claimed in the append that
-- needs it. Personal values are stored as keyed hashes only.
create table unique_keys (
    store_id    uuid not null,
    scope       text collate "C" not null,
    value       text collate "C" not null,
    owner       text not null,
    primary key (store_id, scope, value)
);
