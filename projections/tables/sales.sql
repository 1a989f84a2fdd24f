-- Sums over orders, in won. Many orders add to one row, so each partition has rows of its own and a
-- reader adds them up. An order is counted in exactly one event and a sku or a category once in it, so
-- counts of distinct orders add up as well.

create table sales_by_hour (
    -- Begins the hour; Korea is whole hours from UTC, so its hours are the same.
    hour        timestamptz not null,
    partition   smallint    not null,
    orders      bigint      not null,
    units       bigint      not null,
    gross       bigint      not null,
    cancelled   bigint      not null,
    primary key (hour, partition)
) with (fillfactor = 80);

create table sales_by_category (
    -- In Korea.
    day         date        not null,
    category    text        collate "C" not null,
    partition   smallint    not null,
    orders      bigint      not null,
    units       bigint      not null,
    gross       bigint      not null,
    cancelled   bigint      not null,
    primary key (day, category, partition)
) with (fillfactor = 80);

create table sales_by_product (
    -- In Korea.
    day         date        not null,
    sku         text        collate "C" not null,
    partition   smallint    not null,
    orders      bigint      not null,
    units       bigint      not null,
    gross       bigint      not null,
    cancelled   bigint      not null,
    primary key (day, sku, partition)
) with (fillfactor = 80);

-- The last event whose amounts are in the sums: an event told again is not added again.
create table sales_counted (
    partition   smallint    primary key,
    position    bigint      not null
) with (fillfactor = 50);
