create or replace function pgrelay.pending_webhooks(p_after bigint default 0, p_limit integer default 500)
returns table (webhook_id bigint, due_in double precision, due double precision)
language plpgsql stable set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
-- Webhooks that have pending deliveries, with when the first is due, by id after p_after: in seconds from
-- now (negative: overdue) and in epoch seconds.
--
-- One index probe a webhook, however many deliveries it has. Paused ones are left out.
declare
    v_now timestamptz := clock_timestamp();
begin
    return query
    with recursive first as (
        (select q.webhook_id as id, q.next_attempt_at as due from pgrelay.delivery_queue q
         where q.status = 'pending' and q.webhook_id > p_after order by q.webhook_id, q.next_attempt_at, q.id limit 1)
        union all
        select n.* from first cross join lateral (
            select q.webhook_id, q.next_attempt_at from pgrelay.delivery_queue q
            where q.status = 'pending' and q.webhook_id > first.id order by q.webhook_id, q.next_attempt_at, q.id limit 1) as n
    )
    select first.id, extract(epoch from first.due - v_now)::double precision, extract(epoch from first.due)::double precision
    from first join pgrelay.webhook_configurations w on w.id = first.id and w.is_active and not w.paused
    limit p_limit;
end
$$;
comment on function pgrelay.pending_webhooks(bigint, integer) is 'Webhooks with pending deliveries, and when the first is due.';
