create or replace function pgrelay.order_key(p_source text, p_resource_id text)
returns bigint language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- What deliveries of one resource have in common; null for an event of no resource. Two resources that share one, by
-- chance, wait for each other: no harm but time.
select case when p_resource_id is not null then hashtextextended(coalesce(p_source, '') || chr(31) || p_resource_id, 0) end
$$;
comment on function pgrelay.order_key(text, text) is 'What deliveries of one resource have in common.';

create or replace function pgrelay.lock_order(p_shared boolean)
returns void language sql set search_path = pg_catalog, pg_temp
as $$
-- Expanding, which lets deliveries wait for others, excludes deciding which one is next (shared), until either commits:
-- else one would wait for what has just ended, and nobody would wake it. For the daemon's short transactions alone; a
-- person's, which may stay open, leave a row in order_releases instead. Taken before any row is locked.
select case when p_shared then pg_advisory_xact_lock_shared(hashtext('pgrelay'), hashtext('order'))
            else pg_advisory_xact_lock(hashtext('pgrelay'), hashtext('order')) end
$$;
comment on function pgrelay.lock_order(boolean) is 'Excludes expanding while it is decided which delivery of a resource is next.';

create or replace function pgrelay.order_after(p_webhook_ids bigint[], p_order_keys bigint[])
returns integer language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
-- Deliveries of these webhooks and resources have ended: where nothing else of a resource is under way, the next, by id, is due.
--
-- Blocked deliveries have next_attempt_at = infinity, so that a claim never walks over them. Returns how many are due now.
declare
    v_count integer;
begin
    update pgrelay.delivery_queue d set next_attempt_at = clock_timestamp()
    where d.id = any (array(
        select n.id from (select distinct w, k from unnest(p_webhook_ids, p_order_keys) as u (w, k)) as ended
        cross join lateral (
            select q.id, q.next_attempt_at from pgrelay.delivery_queue q
            where q.webhook_id = ended.w and q.order_key = ended.k order by q.webhook_id, q.order_key, q.id limit 1) as n
        where n.next_attempt_at = 'infinity'
          and (select true from pgrelay.delivery_queue o
               where o.webhook_id = ended.w and o.order_key = ended.k and o.next_attempt_at is distinct from 'infinity' limit 1) is null));
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function pgrelay.order_after(bigint[], bigint[]) is 'Makes the next delivery of each of these resources due.';

create or replace function pgrelay.order_released(p_since xid8)
returns integer language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off
as $$
-- Do what order_releases asks for, what is older than p_since left aside. The caller holds lock_order().
declare
    v_webhooks bigint[];
    v_orders bigint[];
begin
    with taken as (delete from pgrelay.order_releases where xid >= p_since returning *)
    select array_agg(webhook_id), array_agg(order_key) into v_webhooks, v_orders from taken;
    if v_orders is null then return 0; end if;
    return pgrelay.order_after(v_webhooks, v_orders);
end
$$;
comment on function pgrelay.order_released(xid8) is 'Makes due what order_releases asks for.';
