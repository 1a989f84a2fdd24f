-- Up to when everything that changed at PortOne has been settled here.
create table reconciliation (
    only_one        boolean     primary key default true check (only_one),
    settled_until   timestamptz not null
);
