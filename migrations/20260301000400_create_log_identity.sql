-- Which log this is. Renewed by `jangbu log fence` after a restore or a failover, so that no
-- message, queue or cursor of another history is ever taken for one of this.
create table log_identity (
    only_one    boolean     primary key default true check (only_one),
    log_id      uuid        not null,
    fenced_at   timestamptz not null
);

insert into log_identity (log_id, fenced_at) values (gen_random_uuid(), now());
