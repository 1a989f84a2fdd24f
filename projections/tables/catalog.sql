-- One row per product, fed by its product stream and by the stream of its stock.
create table catalog_products (
    product_id          text        collate "C" primary key,
    -- Range of slots that writes this row.
    partition           smallint    not null,

    -- From the product stream. All null while only the stock stream has spoken.
    sku                 text        collate "C",
    name                text        collate "C",
    category            text        collate "C",
    -- Won, VAT included.
    price               bigint,
    tax_class           text        check (tax_class in ('taxable', 'tax_free')),
    attributes          jsonb,
    status              text        check (status in ('draft', 'published', 'hidden', 'archived')),
    -- What a search looks at: name and sku in lower case, each on a line of its own.
    search_text         text        collate "C",
    -- Every one and two characters in a row of `search_text`: a substring search that an index
    -- serves in any language and without an extension.
    search_grams        text[]      collate "C",
    -- Of product.registered in the log: the order in which products appeared, without ties.
    registered_position bigint,
    registered_at       timestamptz,
    changed_at          timestamptz,
    product_sequence    bigint      not null default 0,

    -- From the stock stream.
    on_hand             bigint      not null default 0,
    available           bigint      not null default 0,
    stock_sequence      bigint      not null default 0,

    constraint catalog_registered check (num_nulls(
        sku, name, category, price, tax_class, attributes, status, search_text, search_grams,
        registered_position, registered_at, changed_at) in (0, 12))
-- Stock moves with every order and is in no index, so those updates stay on their page.
) with (fillfactor = 70);

create unique index catalog_products_sku on catalog_products (sku);
create index catalog_products_grams on catalog_products using gin (search_grams) with (fastupdate = off);

-- What shoppers may ask for: each sort, with and without a category. Both directions of a price are one index.
create index catalog_products_by_name on catalog_products (name, product_id)
    where status = 'published';
create index catalog_products_by_price on catalog_products (price, product_id)
    where status = 'published';
create index catalog_products_by_age on catalog_products (registered_position, product_id)
    where status = 'published';
create index catalog_products_category_by_name on catalog_products (category, name, product_id)
    where status = 'published';
create index catalog_products_category_by_price on catalog_products (category, price, product_id)
    where status = 'published';
create index catalog_products_category_by_age on catalog_products (category, registered_position, product_id)
    where status = 'published';
