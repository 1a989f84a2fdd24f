-- Attempts to guess, by what is guessed at and by where from. Names neither: keys are keyed hashes.
create table throttles (
    key             bytea       primary key check (octet_length(key) = 32),
    attempts        integer     not null,
    blocked_until   timestamptz,
    last_at         timestamptz not null,
    -- Whether the latest attempt was let through; for the statement that made it.
    allowed         boolean     not null
);
create index throttles_by_age on throttles (last_at);

-- What one attempt makes of a row. A blocked one changes nothing but `allowed`: who hammers on does not
-- stay locked out for ever. From the attempt that uses up the free ones on, each blocks the next, twice as long.
-- A clock that was set back blocks for no longer than the policy says.
create function count_attempt(
    attempts_before integer, blocked_before timestamptz, last_before timestamptz, tried_at timestamptz,
    free integer, first_s integer, longest_s integer, forgotten_s integer,
    out attempts integer, out blocked_until timestamptz, out last_at timestamptz, out allowed boolean
) language plpgsql immutable as $$
begin
    if blocked_before > tried_at and blocked_before <= tried_at + make_interval(secs => longest_s) then
        attempts := attempts_before;
        blocked_until := blocked_before;
        last_at := last_before;
        allowed := false;
        return;
    end if;
    attempts := case when last_before < tried_at - make_interval(secs => forgotten_s) then 1
                     else least(attempts_before, 1000000) + 1 end;
    blocked_until := case when attempts >= free then
        tried_at + make_interval(secs => least(longest_s, first_s * power(2, least(attempts - free, 20)))) end;
    last_at := tried_at;
    allowed := true;
end
$$;
