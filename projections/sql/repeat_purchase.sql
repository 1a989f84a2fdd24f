-- projection: repeat_purchase
-- version: 1
-- description: Of those who bought for the first time in a month, how many came again within 30, 90 and 365 days.
--
-- A buyer is a customer who is signed in, or whoever an imported order names. Guests cannot be known again and are
-- left out, and so are orders whose money all went back.
--
--   select * from repeat_purchase_v1_b1.repeat_purchase;

-- A buyer's orders are in any partitions, so each is a row of its own and they meet when they are read.
create table purchases (
    partition   smallint    not null,
    order_id    text        not null,
    -- cus_… of a customer; of an imported order the system it is from and the buyer's number there.
    buyer       text        not null,
    -- Null until it is paid for.
    bought_at   timestamptz,
    refunded    boolean     not null default false,
    primary key (partition, order_id)
);

create index purchases_of_buyer on purchases (buyer, bought_at);

-- Months and days are those of Korea, whoever reads.
create view repeat_purchase as
with purchase as (
    select buyer, bought_at at time zone 'Asia/Seoul' as at,
        row_number() over (partition by buyer order by bought_at, order_id) as nth
    from purchases
    where bought_at is not null and not refunded
),
buyer as (
    select min(at) filter (where nth = 1) as first_at, min(at) filter (where nth = 2) as second_at
    from purchase
    group by buyer
)
select date_trunc('month', first_at)::date as month,
    count(*) as buyers,
    count(*) filter (where second_at <= first_at + interval '30 days') as again_within_30_days,
    count(*) filter (where second_at <= first_at + interval '90 days') as again_within_90_days,
    count(*) filter (where second_at <= first_at + interval '365 days') as again_within_365_days
from buyer
group by 1
order by 1;

-- on order.placed v1
insert into purchases (partition, order_id, buyer)
select :partition, :aggregate_id, :payload.owner.customer_id
where :payload.owner.kind = 'member';

-- on order.confirmed v1
update purchases
set bought_at = :occurred_at
where partition = :partition and order_id = :aggregate_id;

-- on order.refunded v1
update purchases
set refunded = :payload.remaining.amount = 0
where partition = :partition and order_id = :aggregate_id;

-- on order.imported v1
insert into purchases (partition, order_id, buyer, bought_at)
select :partition, :aggregate_id, :payload.source || ':' || :payload.external_customer, :occurred_at
where :payload.external_customer is not null;
