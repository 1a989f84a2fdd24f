-- Appends a batch in one call: one round trip whether or not the appender queues with others.
-- A function, since one plain statement cannot read the head under a lock that it takes itself: its
-- snapshot would be older than the lock. Every statement in here has a snapshot of its own.
--
-- `head` is where the batch is numbered from. Without `queue` the caller must have named it; with
-- `queue` appenders go one after the other and it is read once it is this one's turn. Positions of
-- commands count from it. Nothing is written unless the result says `taken`.
-- Events come first: all appenders meet at the next position before they touch anything else, so
-- none can deadlock. Batches without events do not meet there: commands go in the order of their ids.
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
