-- Who competes for the leases of a group just now, so that they can be shared out. A member that
-- does not renew its row is gone when its time is up; its leases run out at the same moment.
create table lease_members (
    group_name  text        not null,
    holder      uuid        not null,
    expires_at  timestamptz not null,
    primary key (group_name, holder)
) with (fillfactor = 50);
