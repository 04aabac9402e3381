create or replace function pgrelay.start_replay(
    p_webhook_id bigint, p_since timestamptz, p_until timestamptz default clock_timestamp(), p_event_types text[] default null,
    p_created_by text default session_user)
returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Send past events to one webhook again, delivered before or not: the same bodies and keys, as new deliveries. Returns the replay's id.
--
-- Which events is settled here and now: those that are committed, up to the highest id. What is captured or committed later
-- belongs to the live traffic. About a second's worth of them is queued at once, the rest by daemons: see feed_replays().
-- Raises PGR20 when the webhook is gone or inactive.
declare
    c_first constant timestamptz := '0001-01-02Z';
    v_now timestamptz := clock_timestamp();
    w record;
    v_id bigint;
begin
    select c.company_id, c.subscribed_events, c.filter into w from pgrelay.webhook_configurations c where c.id = p_webhook_id and c.is_active;
    if not found then
        raise exception using errcode = 'PGR20', message = format('webhook %s does not exist or is inactive', p_webhook_id),
            hint = format('If it is there: select pgrelay.set_active(%s, true), then replay.', p_webhook_id);
    end if;
    -- Moments that programs cannot read (infinity, or before our era) are kept as what they amount to.
    -- One statement, so that the snapshot that is kept is the one that was counted by
    insert into pgrelay.replays (webhook_id, company_id, since, until, event_types, subscribed_events, filter, status, ended_at, events, after_id, last_id,
        as_of, per_second, created_by)
    select p_webhook_id, w.company_id, case when p_since < c_first then least(e.first_at, v_now) else least(p_since, v_now) end,
           least(greatest(p_until, c_first), v_now), p_event_types, w.subscribed_events, w.filter,
           case when e.events > 0 then 'running' else 'done' end, case when e.events = 0 then v_now end,
           e.events, e.first_id - 1, e.last_id, pg_current_snapshot(), pgrelay.replay_pace(p_webhook_id), p_created_by
    from (select count(*) as events, coalesce(min(r.event_id), 1) as first_id, coalesce(max(r.event_id), 0) as last_id, min(r.occurred_at) as first_at
          from pgrelay.replay_events(p_webhook_id, p_since, p_until, p_event_types) as r
          where pg_visible_in_snapshot(r.xid, pg_current_snapshot())) as e
    returning id into v_id;
    perform pgrelay.feed_replays(1, v_id);
    return v_id;
end
$$;
comment on function pgrelay.start_replay(bigint, timestamptz, timestamptz, text[], text) is
    'Sends past events to one webhook again, behind its live traffic. Returns the id of the replay, see pgrelay.replay_progress.';

create or replace function pgrelay.replay(p_webhook_id bigint, p_since timestamptz, p_until timestamptz default clock_timestamp())
returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- start_replay() in short, for who wants to know how many events that are.
declare
    v_id bigint := pgrelay.start_replay(p_webhook_id, p_since, p_until);
begin
    return (select events from pgrelay.replays where id = v_id);
end
$$;
comment on function pgrelay.replay(bigint, timestamptz, timestamptz) is
    'Sends past events to one webhook again: pgrelay.replay(3, ''2026-11-01'', ''2026-11-02''). Returns how many; see replay_progress.';
