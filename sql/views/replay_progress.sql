-- Why a replay waits is spelt out here, and is no function, for a function in a view is called with the rights of whoever reads.
create or replace view pgrelay.replay_progress as
select r.id, r.webhook_id, w.name as webhook_name, r.company_id, r.since, r.until, r.event_types, r.status, r.events, r.queued, r.skipped,
       d.succeeded, d.failed, d.cancelled, d.unfinished,
       case when r.status = 'running' then (r.events - r.queued) / nullif(r.per_second, 0) end as estimated_seconds,
       case when r.status <> 'running' then null
            when w.id is null or not w.is_active then 'its webhook is deleted or inactive: the daemon stops it'
            when w.paused then 'its webhook is paused'
            when h.probe_wait is not null then 'the circuit of its webhook is open'
            when h.held_until > clock_timestamp() then 'its receiver asked to be left alone (Retry-After)'
            when not exists (select from pgrelay.daemons a where a.ended_at is null and a.lease_until > clock_timestamp()) then 'no daemon is running'
            when d.unfinished >= 1000 then 'its deliveries wait for another attempt'
            when d.due_before_it >= r.per_second then 'live deliveries go first' end as waits_because,
       r.note, r.created_at, r.created_by, r.started_at, r.ended_at
from pgrelay.replays r
left join pgrelay.webhook_configurations w on w.id = r.webhook_id
left join pgrelay.webhook_health h on h.webhook_id = r.webhook_id
cross join lateral (
    select (select count(*) from pgrelay.delivery_queue q where q.replay_id = r.id) as unfinished,
           (select count(*) from pgrelay.delivery_history x where x.replay_id = r.id and x.status = 'succeeded') as succeeded,
           (select count(*) from pgrelay.delivery_history x where x.replay_id = r.id and x.status = 'failed') as failed,
           (select count(*) from pgrelay.delivery_history x where x.replay_id = r.id and x.status in ('cancelled', 'expired')) as cancelled,
           (select count(*) from (select from pgrelay.delivery_queue q where q.webhook_id = r.webhook_id and q.status = 'pending'
                and q.next_attempt_at <= now() and q.replay_id is null limit 500) as live) as due_before_it) as d;
comment on view pgrelay.replay_progress is 'Replays: how far each is, what became of its deliveries, why it waits.';
comment on column pgrelay.replay_progress.events is 'Events it consists of, counted when it was started.';
comment on column pgrelay.replay_progress.queued is 'How many of them became deliveries so far.';
comment on column pgrelay.replay_progress.skipped is 'How many did not, because retention had emptied them or the webhook no longer subscribes to them; known in the end.';
comment on column pgrelay.replay_progress.succeeded is 'Of its deliveries, for as long as the history is kept; likewise failed and cancelled.';
comment on column pgrelay.replay_progress.unfinished is 'Deliveries of it that are pending or in flight.';
comment on column pgrelay.replay_progress.estimated_seconds is 'Until the last one is queued, at the pace of now.';
comment on column pgrelay.replay_progress.waits_because is 'Why nothing more is queued at the moment; null if nothing stands in the way.';
comment on column pgrelay.replay_progress.note is 'Who or what stopped it.';
