create or replace function pgrelay.claim(
    p_daemon_id bigint, p_webhook_ids bigint[], p_limits integer[], p_floors double precision[], p_encoding name default 'UTF8')
returns table (delivery_id bigint, lease_no integer, webhook_id bigint, webhook_version integer, event_id bigint, attempt integer,
               event_type text, idempotency_key text, body bytea, age_seconds double precision, due double precision, expires_in double precision,
               source bytea, resource_id bytea)
language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
-- Lease due deliveries to p_daemon_id: of each named webhook at most its limit, the longest due first.
--
-- p_floors (epoch seconds, one for each webhook): nothing due before it is looked at, so that a claim does not walk the
-- dead entries of everything claimed while an old snapshot is held. A floor is a hint the caller keeps; -infinity looks
-- everywhere. Rows that another daemon is claiming are skipped. attempts is counted here, so that a delivery which
-- kills its daemon does not do so for ever. `due` is when the row was due, in epoch seconds: the next floor.
--
-- Of a webhook that is held back nothing is leased; of one whose circuit is open one delivery, when its time has come. One
-- that has a limit of its own is served by one daemon at a time, which becomes its owner here.
--
-- source and resource_id are for webhooks whose payload_format needs them, else null.
--
-- Every table is read through a lateral subquery with a limit: row by row, by its key, whatever the planner's statistics say.
-- What is joined otherwise are the leased rows.
declare
    v_now timestamptz := clock_timestamp();
    v_limited bigint[];
    v_elsewhere bigint[];
    v_closed bigint[];
    v_probes bigint[] := '{}';
begin
    select array_agg(w.id) filter (where w.max_concurrency is not null or w.rate_limit_per_second is not null),
           array_agg(w.id) filter (where h.webhook_id is not null)
    into v_limited, v_closed
    from unnest(p_webhook_ids) as t (id)
    cross join lateral (select c.id, c.max_concurrency, c.rate_limit_per_second from pgrelay.webhook_configurations c
                        where c.id = t.id and c.is_active and not c.paused limit 1) as w
    left join lateral (select s.webhook_id from pgrelay.webhook_health s
                       where s.webhook_id = w.id and (s.held_until > v_now or s.probe_wait is not null) limit 1) as h on true;
    if v_limited is not null then v_elsewhere := pgrelay.owned_elsewhere(p_daemon_id, v_limited); end if;
    if v_closed is not null then
        -- what another daemon serves, that one probes
        v_probes := pgrelay.grant_probes(array(select c from unnest(v_closed) as c where v_elsewhere is null or c <> all (v_elsewhere)));
    end if;
    v_closed := v_closed || v_elsewhere;
    return query
    with picked as materialized (
        select q.id, q.next_attempt_at as due, w.version, w.payload_format
        from unnest(p_webhook_ids, p_limits, p_floors) as t (id, places, floor)
        cross join lateral (
            select c.id, c.version, c.payload_format from pgrelay.webhook_configurations c
            where c.id = t.id and c.is_active and not c.paused and (v_closed is null or c.id <> all (v_closed) or c.id = any (v_probes))
                -- limited since a moment ago: nobody has asked yet who serves it
                and (c.max_concurrency is null and c.rate_limit_per_second is null or c.id = any (v_limited)) limit 1) as w
        cross join lateral (
            select d.id, d.next_attempt_at from pgrelay.delivery_queue d
            where d.webhook_id = w.id and d.status = 'pending' and d.next_attempt_at <= v_now
                and d.next_attempt_at >= case when t.floor = '-infinity' then '-infinity'::timestamptz else to_timestamp(t.floor) end
            and (d.expires_at is null or d.expires_at > v_now)
            order by d.next_attempt_at, d.id limit case when t.id = any (v_probes) then 1 else t.places end for update skip locked) as q
    ), leased as (
        update pgrelay.delivery_queue d
        set status = 'in_flight', next_attempt_at = null, attempts = d.attempts + 1, lease_no = d.lease_no + 1, leased_by = p_daemon_id
        where d.id = any (array(select p.id from picked p))
        returning d.id, d.webhook_id, d.lease_no, d.event_id, d.event_slot, d.attempts, d.expires_at
    )
    select d.id, d.lease_no, d.webhook_id, p.version, d.event_id, d.attempts, e.event_type, e.idempotency_key,
           convert_to(e.body, p_encoding), extract(epoch from v_now - e.occurred_at)::double precision,
           extract(epoch from p.due)::double precision, extract(epoch from d.expires_at - v_now)::double precision,
           case when p.payload_format <> 'standard' then convert_to(e.source, p_encoding) end,
           case when p.payload_format <> 'standard' then convert_to(e.resource_id, p_encoding) end
    from leased d join picked p on p.id = d.id
    left join lateral (
        select o.event_type, o.idempotency_key, o.body, o.occurred_at, o.source, o.resource_id from pgrelay.outbox o
        where o.id = d.event_id and o.slot in (d.event_slot, -1)
        union all
        -- set_aside() committed while this statement ran: the delivery, locked as it is now, says -1, and the event is where it
        -- was when the statement began. Read only when the first half found nothing.
        select o.event_type, o.idempotency_key, o.body, o.occurred_at, o.source, o.resource_id from pgrelay.outbox o
        where d.event_slot = -1 and o.id = d.event_id
        limit 1) as e on true
    order by d.id;
end
$$;
comment on function pgrelay.claim(bigint, bigint[], integer[], double precision[], name) is
    'Leases due deliveries of the named webhooks. Called by the daemon.';
