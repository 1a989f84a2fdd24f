-- One row per sku, for whoever runs the warehouse.
create table stock_levels (
    sku             text        collate "C" primary key,
    -- Range of slots that writes this row.
    partition       smallint    not null,
    product_id      text        collate "C" not null,
    -- In the warehouse.
    on_hand         bigint      not null,
    -- Not held by any order.
    available       bigint      not null,
    -- How many times an order asked for more than there was.
    refusals        bigint      not null,
    -- When goods last came, went or were set aside; null while there were only refusals.
    moved_at        timestamptz,
    sequence        bigint      not null
-- Stock moves with every order and only the key is indexed, so updates stay on their page.
) with (fillfactor = 70);
