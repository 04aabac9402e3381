create or replace function pgrelay.cancel_orphans()
returns integer language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
-- Cancel pending deliveries of webhooks that are gone or inactive: those that were in flight when that happened and
-- came back for another attempt. One index probe a webhook that has pending deliveries.
declare
    v_webhook bigint;
    v_count integer := 0;
begin
    for v_webhook in
        with recursive first as (
            (select q.webhook_id as id from pgrelay.delivery_queue q where q.status = 'pending' order by q.webhook_id limit 1)
            union all
            select n.id from first cross join lateral (
                select q.webhook_id as id from pgrelay.delivery_queue q
                where q.status = 'pending' and q.webhook_id > first.id order by q.webhook_id limit 1) as n
        )
        select first.id from first
        where not coalesce((select w.is_active from pgrelay.webhook_configurations w where w.id = first.id), false)
    loop
        v_count := v_count + pgrelay.finish_pending(
            array(select id from pgrelay.delivery_queue where webhook_id = v_webhook and status = 'pending' limit 10000),
            'cancelled', 'the webhook was deleted or made inactive');
    end loop;
    return v_count;
end
$$;
comment on function pgrelay.cancel_orphans() is 'Cancels pending deliveries of webhooks that are gone or inactive. Called by the daemon.';
