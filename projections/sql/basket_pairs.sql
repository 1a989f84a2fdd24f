-- projection: basket_pairs
-- version: 1
-- description: Which two products are bought together, how often, and how much oftener than chance would have it.
--
-- Of each order the first 40 different products count: pairs grow with the square. What goes back stays counted.
--
--   select * from basket_pairs_v1_b1.bought_together where baskets >= 5 order by lift desc limit 20;

-- Many orders add to one row, so each partition has rows of its own, and views add them up.
create table pairs (
    partition   smallint    not null,
    sku         text        collate "C" not null,
    other_sku   text        collate "C" not null check (sku < other_sku),
    baskets     bigint      not null,
    primary key (partition, sku, other_sku)
) with (fillfactor = 80);

create table products (
    partition   smallint    not null,
    sku         text        collate "C" not null,
    baskets     bigint      not null,
    primary key (partition, sku)
) with (fillfactor = 80);

create table baskets (
    partition   smallint    primary key,
    baskets     bigint      not null
) with (fillfactor = 50);

-- A lift of 1 is chance: so many baskets would hold both if neither had anything to do with the other.
create view bought_together as
with product as (
    select sku, sum(baskets) as baskets from products group by sku
),
pair as (
    select sku, other_sku, sum(baskets) as baskets from pairs group by sku, other_sku
)
select pair.sku, pair.other_sku, pair.baskets,
    one.baskets as sku_baskets,
    other.baskets as other_sku_baskets,
    round(pair.baskets * (select sum(baskets) from baskets) / (one.baskets * other.baskets), 3) as lift
from pair
join product as one on one.sku = pair.sku
join product as other on other.sku = pair.other_sku;

-- on order.confirmed v1, order.imported v1
insert into baskets (partition, baskets)
values (:partition, 1)
on conflict (partition) do update set baskets = baskets.baskets + 1;

insert into products (partition, sku, baskets)
select :partition, line ->> 'sku', 1
from jsonb_array_elements(:payload.lines) with ordinality as listed (line, nth)
group by line ->> 'sku'
order by min(nth)
limit 40
on conflict (partition, sku) do update set baskets = products.baskets + 1;

with product as (
    select (line ->> 'sku') collate "C" as sku
    from jsonb_array_elements(:payload.lines) with ordinality as listed (line, nth)
    group by 1
    order by min(nth)
    limit 40
)
insert into pairs (partition, sku, other_sku, baskets)
select :partition, one.sku, other.sku, 1
from product as one
join product as other on one.sku < other.sku
on conflict (partition, sku, other_sku) do update set baskets = pairs.baskets + 1;
