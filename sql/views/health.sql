create or replace function pgrelay.unexpanded_events()
returns bigint language plpgsql stable set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- Committed events that no daemon has turned into deliveries yet.
declare
    v_last pgrelay.feed_windows;
    v_from pg_snapshot;
    v_late xid8[];
    v_count bigint;
begin
    select * into v_last from pgrelay.feed_windows order by id desc limit 1;
    v_from := case when v_last.after_id is null then v_last.to_snapshot else v_last.from_snapshot end;
    v_late := array(select pg_snapshot_xip(v_from));
    select count(*) into v_count from (
        select from pgrelay.outbox o where o.xid >= pg_snapshot_xmax(v_from)
            and (v_last.after_id is null or o.id > v_last.after_id or not pg_visible_in_snapshot(o.xid, v_last.to_snapshot))
        union all
        select from pgrelay.outbox o where o.xid = any (v_late)
            and (v_last.after_id is null or o.id > v_last.after_id or not pg_visible_in_snapshot(o.xid, v_last.to_snapshot))) as x;
    return v_count;
end
$$;
comment on function pgrelay.unexpanded_events() is 'How many committed events are not yet turned into deliveries.';

create or replace view pgrelay.health as
select (select count(*) from pgrelay.daemons where ended_at is null and lease_until > clock_timestamp()) as daemons_alive,
       (select max(heartbeat_at) from pgrelay.daemons) as last_heartbeat_at,
       pgrelay.unexpanded_events() as events_waiting,
       (select count(*) from pgrelay.delivery_queue where status = 'pending') as deliveries_pending,
       (select count(*) from pgrelay.delivery_queue where status = 'in_flight') as deliveries_in_flight,
       (select min(created_at) from pgrelay.delivery_queue where attempts = 0 and status = 'pending'
            and webhook_id in (select id from pgrelay.webhook_configurations where not paused)) as oldest_untried_at,
       (select count(*) from pgrelay.delivery_history where status = 'failed' and finished_at > clock_timestamp() - interval '1 day') as failed_last_day,
       (select count(*) from pgrelay.capture_errors where recaptured_at is null) as capture_errors_open,
       (select count(*) from pgrelay.deadlines where fire_at < clock_timestamp()) as deadlines_overdue,
       pg_notification_queue_usage() as notification_queue_usage,
       (select count(*) from pgrelay.webhook_health where probe_wait is not null) as circuits_open,
       (select count(*) from pgrelay.webhook_health where probe_wait is null and held_until > clock_timestamp()) as webhooks_held,
       (select count(*) from pgrelay.webhook_configurations where disabled_at > clock_timestamp() - interval '7 days') as disabled_last_week;
comment on view pgrelay.health is 'One row: is anybody running, what waits, what went wrong.';
comment on column pgrelay.health.events_waiting is 'Committed events not yet turned into deliveries.';
comment on column pgrelay.health.oldest_untried_at is 'Since when the oldest delivery waits for its first attempt (paused webhooks left out).';
comment on column pgrelay.health.circuits_open is 'Webhooks whose attempts all failed, and that are only probed.';
comment on column pgrelay.health.webhooks_held is 'Webhooks whose receiver asked to be left alone for a while (Retry-After).';
comment on column pgrelay.health.disabled_last_week is 'Webhooks that pgrelay made inactive within seven days, and that still are.';
