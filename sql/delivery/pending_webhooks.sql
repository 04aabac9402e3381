create or replace function pgrelay.pending_webhooks(
    p_after bigint default 0, p_limit integer default 500, p_daemon_id bigint default null)
returns table (webhook_id bigint, due_in double precision, due double precision)
language plpgsql stable set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
-- Webhooks that have pending deliveries, with when the first is due, by id after p_after: in seconds from
-- now (negative: overdue) and in epoch seconds.
--
-- One index probe a webhook, however many deliveries it has. Left out are paused ones, those that another daemon than
-- p_daemon_id serves, and those where all wait for others. One that is held back is due no earlier than that ends.
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
    select first.id, extract(epoch from greatest(first.due, h.held_until) - v_now)::double precision, extract(epoch from first.due)::double precision
    from first
    -- one by one, whatever the planner's statistics say
    cross join lateral (select c.id from pgrelay.webhook_configurations c where c.id = first.id and c.is_active and not c.paused limit 1) as w
    left join lateral (select s.held_until from pgrelay.webhook_health s where s.webhook_id = w.id limit 1) as h on true
    left join lateral (select o.daemon_id from pgrelay.webhook_owners o where o.webhook_id = w.id and o.daemon_id <> p_daemon_id limit 1) as o on true
    left join lateral (select d.id from pgrelay.daemons d where d.id = o.daemon_id and d.ended_at is null limit 1) as elsewhere on true
    where first.due < 'infinity' and elsewhere.id is null
    limit p_limit;
end
$$;
comment on function pgrelay.pending_webhooks(bigint, integer, bigint) is 'Webhooks with pending deliveries, and when the first is due.';
