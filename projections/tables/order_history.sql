-- One row per order, for its buyer's list and for the shop's.
create table order_history (
    order_id            text        collate "C" primary key,
    -- Range of slots that writes this row.
    partition           smallint    not null,

    -- Facts that never change. Orders of this shop have a number, a cart, people and a way to pay;
    -- imported ones have a source instead.
    order_number        text        collate "C",
    cart_id             text        collate "C",
    customer_id         text        collate "C",
    guest_token_hash    text        collate "C",
    source              text        collate "C",
    source_id           text        collate "C",
    external_customer   text        collate "C",
    external_reference  jsonb,
    -- Personal data stays sealed here; whoever may read it opens it elsewhere.
    orderer             jsonb,
    recipient           jsonb,
    pay_method          text,
    -- The event's lines; the first one's name and the number of lines stand for them in a list.
    lines               jsonb       not null,
    -- Won.
    goods               bigint      not null,
    discount            bigint      not null,
    shipping            bigint      not null,
    total               bigint      not null,
    tax_free            bigint      not null,
    supply              bigint      not null,
    vat                 bigint      not null,
    -- Business time: of an imported order, when it was placed in its own system.
    placed_at           timestamptz not null,

    -- What becomes of it.
    status              text        not null check (status in (
        'placed', 'awaiting_payment', 'confirmed', 'cancelled', 'refused', 'expired', 'imported')),
    payment_id          text        collate "C",
    expires_at          timestamptz,
    confirmed_at        timestamptz,
    -- When it was cancelled, refused or expired.
    ended_at            timestamptz,
    refunded            bigint      not null default 0,
    sequence            bigint      not null,

    constraint order_history_origin check ((order_number is null) = (source is not null))
) with (fillfactor = 80);

create unique index order_history_number on order_history (order_number);
create index order_history_by_time on order_history (placed_at, order_id);
create index order_history_by_status on order_history (status, placed_at, order_id);
create index order_history_by_customer on order_history (customer_id, placed_at, order_id)
    where customer_id is not null;
create index order_history_by_guest on order_history (guest_token_hash, placed_at, order_id)
    where guest_token_hash is not null;
create index order_history_by_external_customer on order_history (external_customer, placed_at, order_id)
    where external_customer is not null;
