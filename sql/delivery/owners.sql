create or replace function pgrelay.owned_elsewhere(p_daemon_id bigint, p_webhook_ids bigint[])
returns bigint[] language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
-- Make a daemon the owner of those webhooks that nobody alive serves; of the others, return those that somebody else does.
--
-- An owner stays it until its daemon ends or is declared dead. That its lease is over is not enough: it may come back with
-- what it holds (the database was away, say), and there would be two. Its successor lets a second pass before the first
-- request, because the last ones of the owner before may just have gone out.
declare
    v_lost bigint[];
begin
    insert into pgrelay.webhook_owners as o (webhook_id, daemon_id)
    select w, p_daemon_id from unnest(p_webhook_ids) as w
    where (select o.daemon_id from pgrelay.webhook_owners o where o.webhook_id = w) is distinct from p_daemon_id
    order by w
    on conflict (webhook_id) do update set daemon_id = excluded.daemon_id, since = clock_timestamp()
    where not exists (select from pgrelay.daemons d where d.id = o.daemon_id and d.ended_at is null);
    select array_agg(o.webhook_id) into v_lost
    from unnest(p_webhook_ids) as w
    cross join lateral (select s.webhook_id from pgrelay.webhook_owners s where s.webhook_id = w and s.daemon_id <> p_daemon_id limit 1) as o;
    return v_lost;
end
$$;
comment on function pgrelay.owned_elsewhere(bigint, bigint[]) is 'Becomes the owner of webhooks that nobody serves; returns those that others do.';
