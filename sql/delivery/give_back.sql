create or replace function pgrelay.give_back(p_daemon_id bigint, p_delivery_ids bigint[])
returns integer language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
-- Return leased deliveries whose request was never started: pending again at once, and the attempt is not counted.
declare
    v_count integer;
begin
    update pgrelay.delivery_queue
    set status = 'pending', leased_by = null, attempts = attempts - 1, next_attempt_at = clock_timestamp()
    where id = any (p_delivery_ids) and leased_by = p_daemon_id and status = 'in_flight';
    get diagnostics v_count = row_count;
    if v_count > 0 then perform pgrelay.ring_bell(); end if;
    return v_count;
end
$$;
comment on function pgrelay.give_back(bigint, bigint[]) is 'Returns leased deliveries that were not started. Called by the daemon.';

create or replace function pgrelay.give_back_unknown(p_daemon_id bigint, p_known_ids bigint[])
returns integer language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Return what a daemon has leased without knowing: a claim was made, and its answer lost with the connection. As long
-- as that daemon lives, nobody else would take them. Reads the whole queue, so it is called after such a loss only.
begin
    return pgrelay.give_back(p_daemon_id, array(
        select id from pgrelay.delivery_queue
        where leased_by = p_daemon_id and status = 'in_flight' and not id = any (p_known_ids) order by id));
end
$$;
comment on function pgrelay.give_back_unknown(bigint, bigint[]) is
    'Returns deliveries that a daemon leased without learning of it. Called by the daemon after it lost the database.';
