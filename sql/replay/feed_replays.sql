create or replace function pgrelay.feed_replays(p_limit integer default 200, p_id bigint default null)
returns table (replay_id bigint, webhook_id bigint, added integer, status text, events bigint, queued bigint, skipped bigint, note text)
language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
-- Queue the next deliveries of running replays (or of p_id alone); one row for each that got on, ended, or had to be stopped.
--
-- Of each replay, so many that its webhook has about a second's worth of due deliveries waiting (replay_pace()), live ones
-- included: they go out in due order, so a live one waits about a second behind a replay, and a replay waits for a live backlog
-- to end. Nothing is queued while the webhook is paused or held back, or while a thousand deliveries of the replay are unfinished
-- (they wait for another attempt).
--
-- Exactly once: a replay's row is locked, its deliveries and its cursor are one transaction; a replay that another daemon is at,
-- or a person is stopping, is left alone. The cursor goes by event id through a set that was settled when it was started: up
-- to last_id, of transactions visible in as_of. At most 2,000 ids are looked at in a step of one replay, 20,000 in all, for the
-- tenant's events may lie far apart; those that got on longest ago are first.
declare
    c_step constant integer := 2000;
    v_now timestamptz := clock_timestamp();
    r pgrelay.replays;
    w record;
    v_pace double precision;
    v_room bigint;
    v_next bigint;
    v_seen bigint;
    v_left integer := 20000;
    v_added_any boolean := false;
    v_judge_until timestamptz := pgrelay.judge_until();
begin
    for r in
        select p.* from pgrelay.replays p
        left join pgrelay.webhook_configurations c on c.id = p.webhook_id
        left join pgrelay.webhook_health h on h.webhook_id = p.webhook_id
        where p.status = 'running' and (p_id is null or p.id = p_id)
            and (not coalesce(c.is_active, false) or not c.paused and h.probe_wait is null and (h.held_until is null or h.held_until <= v_now))
        order by p.fed_at nulls first, p.id limit p_limit for update of p skip locked
    loop
        select c.ordering, c.subscribed_events, c.filter into w
        from pgrelay.webhook_configurations c where c.id = r.webhook_id and c.is_active and c.company_id = r.company_id;
        if not found then
            update pgrelay.replays p set status = 'stopped', ended_at = v_now, note = 'its webhook was deleted or made inactive'
            where p.id = r.id returning p.* into r;
            added := 0;
        else
            v_pace := pgrelay.replay_pace(r.webhook_id);
            select least(ceil(v_pace)::bigint
                         - (select count(*) from (select from pgrelay.delivery_queue q where q.webhook_id = r.webhook_id and q.status = 'pending'
                                and q.next_attempt_at <= v_now limit 1000) as due)
                         - (select count(*) from (select from pgrelay.delivery_queue q where q.webhook_id = r.webhook_id and q.status = 'pending'
                                and q.next_attempt_at = 'infinity' limit 1000) as behind_others)
                         - count(*) filter (where u.status = 'in_flight'), 1000 - count(*))
            into v_room from (select q.status from pgrelay.delivery_queue q where q.replay_id = r.id limit 1000) as u;
            continue when v_room < 1;
            with seen as materialized (
                select o.id, o.slot, o.event_type, o.source, o.resource_id, o.company_id, o.occurred_at, o.only_webhook, o.xid,
                       case when r.filter is not null or w.filter is not null then o.body end as body
                from pgrelay.outbox o where o.id > r.after_id and o.id <= r.last_id order by o.id limit c_step
            ), wanted as materialized (
                select s.id, s.slot, case when w.ordering = 'resource' then pgrelay.order_key(s.source, s.resource_id) end as order_key
                from seen s cross join lateral pgrelay.event_patterns(s.event_type) as p (patterns)
                where s.company_id = r.company_id and s.only_webhook is null and s.occurred_at >= r.since and s.occurred_at < r.until
                    and pg_visible_in_snapshot(s.xid, r.as_of) and r.subscribed_events && p.patterns and w.subscribed_events && p.patterns
                    and (r.event_types is null or r.event_types && p.patterns)
                    and (r.filter is null or pgrelay.filter_matches(r.filter, s.body, v_judge_until))
                    and (w.filter is null or w.filter is not distinct from r.filter or pgrelay.filter_matches(w.filter, s.body, v_judge_until))
                order by s.id limit v_room
            ), queued as (
                insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot, order_key, next_attempt_at, replay_id)
                select r.webhook_id, n.id, n.slot, n.order_key, case when n.order_key is null then v_now else 'infinity' end, r.id
                from wanted n order by n.id
            ), first_of_each as (
                insert into pgrelay.order_releases (webhook_id, order_key)
                select distinct r.webhook_id, n.order_key from wanted n where n.order_key is not null
            )
            select count(*), (select count(*) from seen),
                   -- the last one looked at: where there was no more room, the last one queued
                   case when count(*) = v_room then max(n.id) when (select count(*) from seen) = c_step then (select max(id) from seen) end
            into added, v_seen, v_next from wanted n;
            v_left := v_left - v_seen;
            update pgrelay.replays p
            set after_id = coalesce(v_next, p.last_id), queued = p.queued + added, per_second = v_pace, fed_at = v_now,
                status = case when coalesce(v_next, p.last_id) >= p.last_id then 'done' else 'running' end,
                ended_at = case when coalesce(v_next, p.last_id) >= p.last_id then v_now end,
                skipped = case when coalesce(v_next, p.last_id) >= p.last_id then greatest(0, p.events - p.queued - added) else p.skipped end
            where p.id = r.id returning p.* into r;
            v_added_any := v_added_any or added > 0;
        end if;
        replay_id := r.id;
        webhook_id := r.webhook_id;
        status := r.status;
        events := r.events;
        queued := r.queued;
        skipped := r.skipped;
        note := r.note;
        return next;
        exit when v_left <= 0;
    end loop;
    if v_added_any then perform pgrelay.ring_bell(); end if;
end
$$;
comment on function pgrelay.feed_replays(integer, bigint) is 'Queues the next deliveries of running replays. Called by the daemon, again and again while there are any.';
