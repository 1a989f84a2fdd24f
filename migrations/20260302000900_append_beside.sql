-- Rows that a command about a customer changes in the same transaction as its events: keys given back before
-- others are claimed, the hash of a password, sessions that end. The `append` without them stays for
-- processes of the version before.
create function append_beside(beside jsonb, now timestamptz) returns void language plpgsql as $$
begin
    -- Nobody gives back what another has.
    delete from unique_keys u
    using jsonb_to_recordset(beside -> 'released_keys') as r (store_id uuid, scope text, value text, owner text)
    where u.store_id = r.store_id and u.scope = r.scope and u.value = r.value and u.owner = r.owner;

    insert into credentials (customer_id, password_hash, changed_at)
    select p.customer_id, p.password_hash, now
    from jsonb_to_recordset(beside -> 'passwords') as p (customer_id text, password_hash text)
    where p.password_hash is not null
    on conflict (customer_id) do update
    set password_hash = excluded.password_hash, changed_at = excluded.changed_at;

    delete from credentials c
    using jsonb_to_recordset(beside -> 'passwords') as p (customer_id text, password_hash text)
    where c.customer_id = p.customer_id and p.password_hash is null;

    update sessions s
    set ended_at = now, end_reason = e.reason
    from jsonb_to_recordset(beside -> 'ended_sessions') as e (customer_id text, except_id uuid, reason text)
    where s.customer_id = e.customer_id and s.ended_at is null and s.session_id is distinct from e.except_id;
end
$$;

create function append(
    queue               boolean,
    known_head          bigint,
    now                 timestamptz,
    -- Events, one array a column, in position order.
    e_aggregate_types   text[],
    e_aggregate_ids     text[],
    e_sequences         bigint[],
    e_types             text[],
    e_versions          text[],
    e_payloads          text[],
    e_metadata          text[],
    e_slots             smallint[],
    e_stores            uuid[],
    e_ids               uuid[],
    e_commands          uuid[],
    e_causes            uuid[],
    e_correlations      uuid[],
    e_occurred          timestamptz[],
    -- Commands; positions count from the head.
    c_ids               uuid[],
    c_stores            uuid[],
    c_aggregate_types   text[],
    c_aggregate_ids     text[],
    c_sequences         bigint[],
    c_positions         bigint[],
    c_events            integer[],
    c_hashes            bytea[],
    -- The last event that each stream's first command was decided on. Without it a command decided on
    -- one that was then refused would leave a hole in its stream for ever.
    b_aggregate_types   text[],
    b_aggregate_ids     text[],
    b_sequences         bigint[],
    -- Keys to claim.
    k_stores            uuid[],
    k_scopes            text[],
    k_values            text[],
    k_owners            text[],
    -- Keys of personal data, wrapped twice.
    p_ids               uuid[],
    p_stores            uuid[],
    p_persons           text[],
    p_classes           text[],
    p_live              bytea[],
    p_hold              bytea[],
    p_phones            bytea[],
    -- What few commands change besides; null for most batches.
    beside              jsonb,
    out head            bigint,
    -- Of the head if the batch was not taken; null in an empty log.
    out recorded        timestamptz,
    out taken           boolean
)
language plpgsql as $$
begin
    taken := false;
    if queue then
        -- Any number will do; it is the append lock's.
        perform pg_advisory_xact_lock(116966696641141);
    end if;
    select e.position, e.recorded_at into head, recorded from events e order by e.position desc limit 1;
    head := coalesce(head, 0);
    if not queue and head <> known_head then
        return;
    end if;
    if cardinality(b_sequences) > 0 and exists (
        select from unnest(b_aggregate_types, b_aggregate_ids, b_sequences) as b (type, id, sequence)
        where (
            select e.sequence
            from events e
            where e.aggregate_type = b.type and e.aggregate_id = b.id and e.sequence = b.sequence
        ) is null
    ) then
        return;
    end if;

    taken := true;
    -- Times never run backwards along positions.
    recorded := greatest(now, recorded);
    insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version,
        payload, metadata, slot, store_id, event_id, command_id, causation_id, correlation_id,
        occurred_at, recorded_at)
    select head + n, aggregate_type, aggregate_id, sequence, event_type, event_version,
        payload::json, metadata::json, slot, store_id, event_id, command_id, causation_id, correlation_id,
        occurred_at, recorded
    from unnest(e_aggregate_types, e_aggregate_ids, e_sequences, e_types, e_versions, e_payloads, e_metadata,
            e_slots, e_stores, e_ids, e_commands, e_causes, e_correlations, e_occurred)
        with ordinality as t (aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
            metadata, slot, store_id, event_id, command_id, causation_id, correlation_id, occurred_at, n)
    order by n;
    if beside is not null then
        perform append_beside(beside, recorded);
    end if;
    if cardinality(k_scopes) > 0 then
        insert into unique_keys (store_id, scope, value, owner)
        select * from unnest(k_stores, k_scopes, k_values, k_owners);
    end if;
    if cardinality(p_ids) > 0 then
        insert into personal_keys (key_id, store_id, person_id, retention_class, wrapped_key, phone_hash, created_at)
        select p.*, recorded from unnest(p_ids, p_stores, p_persons, p_classes, p_live, p_phones) as p;
        insert into personal_keys_hold (key_id, store_id, person_id, retention_class, wrapped_key, created_at)
        select p.*, recorded from unnest(p_ids, p_stores, p_persons, p_classes, p_hold) as p;
    end if;
    insert into commands (command_id, store_id, aggregate_type, aggregate_id, sequence, position, events,
        body_hash, recorded_at)
    select c.id, c.store, c.type, c.aggregate, c.sequence, head + c.position, c.events, c.hash, recorded
    from unnest(c_ids, c_stores, c_aggregate_types, c_aggregate_ids, c_sequences, c_positions, c_events, c_hashes)
        as c (id, store, type, aggregate, sequence, position, events, hash)
    order by c.id;
end
$$;
