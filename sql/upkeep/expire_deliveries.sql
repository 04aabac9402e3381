create or replace function pgrelay.expire_deliveries(p_limit integer default 1000)
returns integer language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off
as $$
-- End pending deliveries whose event has outlived its valid_for. Returns how many.
declare
    v_now timestamptz := clock_timestamp();
begin
    return pgrelay.finish_pending(array(
        select id from pgrelay.delivery_queue
        where expires_at is not null and status = 'pending' and expires_at <= v_now order by expires_at limit p_limit),
        'expired', 'its event is older than its valid_for');
end
$$;
comment on function pgrelay.expire_deliveries(integer) is 'Ends pending deliveries whose event is too old to be sent. Called by the daemon.';
