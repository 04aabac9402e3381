create or replace function pgrelay.unexpanded_events(out events bigint, out oldest_at timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- Committed events that no daemon has turned into deliveries yet, and when the oldest of them was captured.
declare
    v_last pgrelay.feed_windows;
    v_from pg_snapshot;
    v_late xid8[];
begin
    select * into v_last from pgrelay.feed_windows order by id desc limit 1;
    v_from := case when v_last.after_id is null then v_last.to_snapshot else v_last.from_snapshot end;
    v_late := array(select pg_snapshot_xip(v_from));
    select count(*), min(x.occurred_at) into events, oldest_at from (
        select o.occurred_at from pgrelay.outbox o where o.xid >= pg_snapshot_xmax(v_from)
            and (v_last.after_id is null or o.id > v_last.after_id or not pg_visible_in_snapshot(o.xid, v_last.to_snapshot))
        union all
        select o.occurred_at from pgrelay.outbox o where o.xid = any (v_late)
            and (v_last.after_id is null or o.id > v_last.after_id or not pg_visible_in_snapshot(o.xid, v_last.to_snapshot))) as x;
end
$$;
comment on function pgrelay.unexpanded_events() is 'How many committed events are not yet turned into deliveries, and since when the oldest of them waits.';

-- What an index could find is compared with now(), for clock_timestamp() is volatile, and is no condition of an index.
-- The queue is read once, whatever is asked of it: with a million deliveries waiting that took a third of a second.
create or replace view pgrelay.health as
select (select count(*) from pgrelay.daemons where ended_at is null and lease_until > clock_timestamp()) as daemons_alive,
       (select max(heartbeat_at) from pgrelay.daemons) as last_heartbeat_at,
       e.events as events_waiting,
       q.pending as deliveries_pending,
       q.in_flight as deliveries_in_flight,
       q.oldest_untried_at,
       (select count(*) from pgrelay.delivery_history where status = 'failed' and finished_at > now() - interval '1 day') as failed_last_day,
       (select count(*) from pgrelay.capture_errors where recaptured_at is null) as capture_errors_open,
       (select count(*) from pgrelay.deadlines where fire_at < now()) as deadlines_overdue,
       pg_notification_queue_usage() as notification_queue_usage,
       (select count(*) from pgrelay.webhook_health where probe_wait is not null) as circuits_open,
       (select count(*) from pgrelay.webhook_health where probe_wait is null and held_until > clock_timestamp()) as webhooks_held,
       (select count(*) from pgrelay.webhook_configurations where disabled_at > clock_timestamp() - interval '7 days') as disabled_last_week,
       e.oldest_at as oldest_event_at,
       q.oldest_due_at,
       (select min(fire_at) from pgrelay.deadlines where fire_at < now()) as oldest_deadline_at,
       (select count(*) from pgrelay.webhook_configurations where is_active and paused) as webhooks_paused,
       (select count(*) from pgrelay.replays where status = 'running') as replays_running,
       (select coalesce(sum(events - queued), 0)::bigint from pgrelay.replays where status = 'running') as replay_events_left,
       (select case when is_called then last_value else 0 end from pgrelay.filter_doubts) as filter_doubts
from pgrelay.unexpanded_events() as e cross join (
    select count(*) filter (where status = 'pending') as pending, count(*) filter (where status = 'in_flight') as in_flight,
           min(created_at) filter (where next_attempt_at < 'infinity' and attempts = 0 and served) as oldest_untried_at,
           min(next_attempt_at) filter (where next_attempt_at < clock_timestamp() and served) as oldest_due_at
    from (select d.*, d.webhook_id in (select id from pgrelay.webhook_configurations where is_active and not paused)
                 and d.webhook_id not in (select webhook_id from pgrelay.webhook_health where held_until > clock_timestamp()) as served
          from pgrelay.delivery_queue d) as d) as q;
comment on view pgrelay.health is 'One row: is anybody running, what waits and since when, what went wrong. The daemon serves it at /metrics.';
comment on column pgrelay.health.events_waiting is 'Committed events not yet turned into deliveries.';
comment on column pgrelay.health.oldest_untried_at is 'Since when the oldest delivery waits for its first attempt; left out: webhooks that are paused or held, and what waits for its turn.';
comment on column pgrelay.health.failed_last_day is 'Deliveries that used up their attempts within a day.';
comment on column pgrelay.health.notification_queue_usage is 'How full the notification queue of the server is, 0 to 1; a listener that does not read fills it.';
comment on column pgrelay.health.oldest_event_at is 'When the oldest event that is not yet turned into deliveries was captured.';
comment on column pgrelay.health.oldest_due_at is 'Since when the delivery is due that is overdue most, first attempts and retries alike; left out: webhooks that are paused or held.';
comment on column pgrelay.health.circuits_open is 'Webhooks whose attempts all failed, and that are only probed.';
comment on column pgrelay.health.webhooks_held is 'Webhooks whose receiver asked to be left alone for a while (Retry-After).';
comment on column pgrelay.health.disabled_last_week is 'Webhooks that pgrelay made inactive within seven days, and that still are.';
comment on column pgrelay.health.replays_running is 'Replays that have not queued all of their events yet.';
comment on column pgrelay.health.replay_events_left is 'Events that these have still to queue.';
comment on column pgrelay.health.filter_doubts is 'Times, ever, that an event was owed because its webhook''s filter could not be judged.';
comment on column pgrelay.health.oldest_deadline_at is 'The deadline that passed first and has not fired.';
