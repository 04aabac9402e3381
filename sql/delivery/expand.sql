create or replace function pgrelay.expand(
    p_daemon_id bigint, p_limit integer, p_room integer, p_webhook_ids bigint[], p_free integer[], p_default_free integer,
    p_encoding name default 'UTF8')
returns table (delivery_id bigint, lease_no integer, webhook_id bigint, webhook_version integer, event_id bigint, attempt integer,
               event_type text, idempotency_key text, body bytea, age_seconds double precision, due double precision, expires_in double precision,
               source bytea, resource_id bytea)
language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
set plan_cache_mode = force_generic_plan
as $$
-- Turn new events into the deliveries they owe, one for each subscribed webhook, and lease what may go out at once.
--
-- From snapshot to snapshot: a step takes the events of exactly those transactions that became visible since the step
-- before, whatever their ids, clocks and lengths, so none is missed and none is taken twice. One daemon at a time
-- (another gets one row of nulls with attempt -1); the position is written in the same transaction as the deliveries. More than p_limit new
-- events (a bulk update) are taken in pages, in id order, within one window; and so are fewer, if they owe more than some
-- thousand deliveries: a tenant may have thousands of webhooks. One event's deliveries are always made together.
--
-- At most p_room rows are leased to p_daemon_id, of each webhook p_free (by p_webhook_ids), else p_default_free; the rest is
-- pending. Returns the leased rows, bodies in p_encoding, and one row with delivery_id null for each webhook that has
-- something pending now (attempt: how many of this step); one with webhook_id null too after every page: look again at
-- once, for a page says nothing about what was committed since its window was opened.
--
-- Not leased here is what has a condition that only claim() looks at closely: of webhooks that are held back, or that
-- another daemon serves, and what has outlived its valid_until.
--
-- A webhook's filter is asked for every event it subscribes to, tests excepted; see filter_matches(). source and
-- resource_id are for webhooks whose payload_format needs them, else null.
--
-- Order: ids of deliveries follow ids of events, which for one resource is the order of commits. Where a webhook wants
-- them in order, only the first of a resource is due (see order_after()). Planner settings are pinned because the
-- statistics of queue tables are always wrong.
declare
    v_last pgrelay.feed_windows;
    v_from pg_snapshot;
    v_to pg_snapshot;
    v_from_xmax xid8;
    v_to_xmax xid8;
    v_late xid8[];
    v_paged boolean;
    v_after bigint;
    v_until bigint;
    v_dense bigint;
    -- the events of this step, by what finds one: the partitions are gone through once here, and not for each way to read them
    v_slots smallint[];
    v_xids xid8[];
    v_ids bigint[];
    -- whether anybody has such a thing at all: what nobody has costs nothing
    v_ordered boolean;
    -- A step does what it sees in order_releases, and takes the snapshot of its window after that. So the step after a window
    -- has done all that is visible in it: what the last window but one shows is done, and not walked over.
    v_released_since xid8 := coalesce((select pg_snapshot_xmin(w.to_snapshot) from pgrelay.feed_windows w order by w.id desc offset 1 limit 1), '0');
    v_held boolean := exists (select from pgrelay.webhook_health);
    v_owned boolean := exists (select from pgrelay.webhook_owners);
    v_judge_until timestamptz := pgrelay.judge_until();
    c_most constant integer := 5000;
    v_wide boolean;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        -- the position would be read as of before the lock was had, and a window taken twice
        raise exception using errcode = 'PGR24', message = 'events are expanded at isolation level read committed only';
    end if;
    if not pg_try_advisory_xact_lock(hashtext('pgrelay'), hashtext('expand')) then
        attempt := -1;
        return next;
        return;
    end if;
    v_ordered := exists (select from pgrelay.webhook_configurations w where w.ordering = 'resource')
        or exists (select from pgrelay.order_releases r where r.xid >= v_released_since);
    if v_ordered then
        perform pgrelay.lock_order(false);
        perform pgrelay.order_released(v_released_since);
    end if;
    select * into v_last from pgrelay.feed_windows order by id desc limit 1;
    if not found then
        raise exception using errcode = 'PGR24', message = 'pgrelay.feed_windows is empty: nobody knows which events are done',
            hint = 'pgrelay adopt starts the feed anew.';
    end if;
    v_paged := v_last.after_id is not null;
    v_from := case when v_paged then v_last.from_snapshot else v_last.to_snapshot end;
    v_to := case when v_paged then v_last.to_snapshot else pg_current_snapshot() end;
    v_from_xmax := pg_snapshot_xmax(v_from);
    v_to_xmax := pg_snapshot_xmax(v_to);
    -- running when the window opened, finished when it closed
    v_late := array(select x from pg_snapshot_xip(v_from) as x where pg_visible_in_snapshot(x, v_to));
    v_after := v_last.after_id;
    v_until := v_last.last_id;
    v_dense := v_last.dense_id;

    if not v_paged then
        select array_agg(x.slot), array_agg(x.xid), array_agg(x.id) into v_slots, v_xids, v_ids from (
            select o.slot, o.xid, o.id from pgrelay.outbox o
            where o.xid >= v_from_xmax and o.xid < v_to_xmax and pg_visible_in_snapshot(o.xid, v_to) limit p_limit + 1) as x;
        if v_late <> '{}' then
            select v_slots || array_agg(x.slot), v_xids || array_agg(x.xid), v_ids || array_agg(x.id) into v_slots, v_xids, v_ids from (
                select o.slot, o.xid, o.id from pgrelay.outbox o where o.xid = any (v_late) limit p_limit + 1) as x;
        end if;
        if v_ids is null then return; end if;
        if cardinality(v_ids) > p_limit then
            select min(x.id) - 1, max(x.id), coalesce(min(x.id) filter (where not x.late) - 1, max(x.id))
            into v_after, v_until, v_dense from (
                select o.id, false as late from pgrelay.outbox o
                where o.xid >= v_from_xmax and o.xid < v_to_xmax and pg_visible_in_snapshot(o.xid, v_to)
                union all
                select o.id, true from pgrelay.outbox o where o.xid = any (v_late)) as x;
            v_paged := true;
        end if;
    end if;
    if v_paged then
        select array_agg(x.slot), array_agg(x.xid), array_agg(x.id) into v_slots, v_xids, v_ids from (
            select page.* from (
                -- A transaction that was open for an hour has few events among an hour's ids: by its own xid. Compared as rows,
                -- because the index on id alone, which reads the whole hour, would serve anything else as well.
                select o.* from unnest(v_late) as late (xid) cross join lateral (
                    select o.slot, o.xid, o.id from pgrelay.outbox o where (o.xid, o.id) > (late.xid, v_after) and (o.xid, o.id) <= (late.xid, v_dense)
                    order by o.xid, o.id limit p_limit) as o
                union all
                -- ids drawn since the window opened are nearly all of it; no condition here that the index on xid could serve
                (select o.slot, o.xid, o.id from pgrelay.outbox o where o.id > greatest(v_after, v_dense) and o.id <= v_until
                    and pg_visible_in_snapshot(o.xid, v_to) and not pg_visible_in_snapshot(o.xid, v_from)
                 order by o.id limit p_limit)) as page
            order by page.id limit p_limit) as x;
    end if;

    -- a page of events of whoever subscribes most is few enough if all together have few subscriptions
    v_wide := exists (select from pgrelay.subscriptions offset c_most / p_limit);
    return query
    with found as materialized (
        select o.*, case when not v_paged then e.xid = any (v_late) end as late
        from unnest(v_slots, v_xids, v_ids) as e (slot, xid, id)
        cross join lateral (
            select o.id, o.slot, o.event_type, o.company_id, o.idempotency_key, o.occurred_at, o.only_webhook, o.valid_until, o.source, o.resource_id, o.body
            -- -1: it was set aside meanwhile, because its slot is needed
            from pgrelay.outbox o where o.xid = e.xid and o.id = e.id and o.slot in (e.slot, -1) limit 1) as o
    ), fans as materialized (
        -- deliveries that an event of each tenant may owe
        select t.company_id, (select count(*) from (select from pgrelay.subscriptions s where s.company_id = t.company_id limit c_most) as x) as fan
        from (select distinct f.company_id from found f where v_wide) as t
    ), edge as materialized (
        -- the last event of the page that is made deliveries of now; null: all are
        select max(x.id) as id from (
            select y.id, sum(y.fan) over (order by y.id) - y.fan as before from (
                select f.id, case when f.only_webhook is null then (select n.fan from fans n where n.company_id = f.company_id) else 1 end as fan
                from found f where case when v_wide then (select max(n.fan) from fans n) * (select count(*) from found) > c_most end) as y) as x
        where x.before < c_most
    ), ev as not materialized (
        select f.* from found f where not v_wide or coalesce(f.id <= (select e.id from edge e), true)
    ), owed as not materialized (
        select ev.*, w.id as webhook, w.version, w.paused, w.payload_format,
               case when v_ordered and w.ordering = 'resource' then pgrelay.order_key(ev.source, ev.resource_id) end as order_key,
               not w.paused and ev.valid_until is null and h.webhook_id is null
               and (w.max_concurrency is null and w.rate_limit_per_second is null or o.daemon_id is not distinct from p_daemon_id) as simple,
               o.daemon_id <> p_daemon_id as elsewhere,
               row_number() over (partition by w.id order by ev.id) as place
        from ev cross join lateral (
            select distinct s.webhook_id as id from pgrelay.subscriptions s
            where ev.only_webhook is null and s.company_id = ev.company_id
                and s.pattern = any (pgrelay.event_patterns(ev.event_type)) and s.since <= ev.occurred_at
            union all
            select ev.only_webhook where ev.only_webhook is not null) as s
        -- each with a limit, so that webhooks are looked up one by one: where there were few of them when they were last
        -- analysed and are thousands now, a join would read them all for each
        cross join lateral (select c.id, c.version, c.paused, c.payload_format, c.ordering, c.max_concurrency, c.rate_limit_per_second
                            from pgrelay.webhook_configurations c where c.id = s.id and c.is_active
                                and (c.filter is null or ev.only_webhook is not null or pgrelay.filter_matches(c.filter, ev.body, v_judge_until))
                            limit 1) as w
        left join lateral (select h.webhook_id from pgrelay.webhook_health h
                           where v_held and h.webhook_id = w.id and (h.held_until is not null or h.probe_wait is not null) limit 1) as h on true
        left join lateral (select o.daemon_id from pgrelay.webhook_owners o where v_owned and o.webhook_id = w.id limit 1) as o on true
    ), lined_up as (
        select owed.*, order_key is not null and (
            lag(owed.id) over (partition by webhook, order_key order by owed.id) is not null
            or exists (select from pgrelay.delivery_queue q where q.webhook_id = owed.webhook and q.order_key = owed.order_key)) as waits
        from owed
    ), fits as (
        select l.*, simple and not waits
               and place <= coalesce(p_free[array_position(p_webhook_ids, webhook)], p_default_free) as may
        from lined_up l
    ), numbered as materialized (
        select x.*, nextval('pgrelay.delivery_queue_id_seq') as new_id,
               x.may and x.room <= p_room as leased, clock_timestamp() as at
        from (select fits.*, count(*) filter (where may) over (order by id, webhook rows unbounded preceding) as room
              from fits order by id, webhook) as x
    ), inserted as (
        insert into pgrelay.delivery_queue (id, webhook_id, event_id, event_slot, status, next_attempt_at, attempts, lease_no, leased_by, created_at,
            order_key, expires_at)
        select n.new_id, n.webhook, n.id, n.slot, case when n.leased then 'in_flight' else 'pending' end,
               case when n.waits then 'infinity' when not n.leased then n.at end, n.leased::integer, n.leased::integer,
               case when n.leased then p_daemon_id end, n.at, n.order_key, n.valid_until
        from numbered n
    ), moved_on as (
        insert into pgrelay.feed_windows (from_snapshot, to_snapshot, after_id, last_id, dense_id)
        select v_from, v_to, p.last, case when p.last is not null then coalesce(v_until, p.until) end,
               case when p.last is not null then coalesce(v_dense, p.dense) end
        from (select case when v_paged and count(*) = p_limit or (select e.id from edge e) < max(f.id)
                          then coalesce((select e.id from edge e), max(f.id)) end as last,
                     max(f.id) as until, coalesce(min(f.id) filter (where not f.late) - 1, max(f.id)) as dense from found f) as p
    )
    select n.new_id, 1, n.webhook, n.version, n.id, 1, n.event_type, n.idempotency_key, convert_to(n.body, p_encoding),
           extract(epoch from n.at - n.occurred_at)::double precision, null::double precision, null::double precision,
           case when n.payload_format <> 'standard' then convert_to(n.source, p_encoding) end,
           case when n.payload_format <> 'standard' then convert_to(n.resource_id, p_encoding) end
    from numbered n where n.leased
    union all
    select null, null, n.webhook, null, null, count(*)::integer, null, null, null, null, null, null, null, null
    from numbered n where not n.leased and not n.waits and not n.paused group by n.webhook
    union all
    select null, null, null, null, null, null, null, null, null, null, null, null, null, null
    where v_paged or (select e.id from edge e) < (select max(f.id) from found f)
    union all
    -- what another daemon serves: it is told
    select null, null, null, null, null, -2, pg_notify('pgrelay', 'work')::text, null, null, null, null, null, null, null
    from (select from numbered n where n.elsewhere and not n.waits limit 1) as x;
end
$$;
comment on function pgrelay.expand(bigint, integer, integer, bigint[], integer[], integer, name) is
    'Turns new events into deliveries and leases what may go out at once. Called by the daemon.';
