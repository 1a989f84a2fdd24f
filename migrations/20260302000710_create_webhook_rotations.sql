-- Requests that gave an endpoint a new secret: a repeat makes no further one, also where another request
-- has made one since.
create table webhook_rotations (
    endpoint_id     uuid        not null references webhook_endpoints on delete cascade,
    request         uuid        not null,
    -- Keyed, of its body: another body under the same key is refused.
    request_hash    bytea       not null check (octet_length(request_hash) = 32),
    primary key (endpoint_id, request)
);
