create or replace view pgrelay.deliveries as
select q.id, q.event_id, q.webhook_id,
       case when q.status = 'in_flight' and d.ended_at is null and d.lease_until > clock_timestamp() then 'in_flight' else 'pending' end as status,
       q.attempts, nullif(q.next_attempt_at, 'infinity') as next_attempt_at,
       case when q.status = 'in_flight' then d.lease_until end as leased_until,
       case when q.status = 'in_flight' then d.name end as leased_by,
       q.created_at, null::timestamptz as finished_at, q.last_status_code, q.last_error, q.replay_id
from pgrelay.delivery_queue q left join pgrelay.daemons d on d.id = q.leased_by
union all
select h.id, h.event_id, h.webhook_id, h.status, h.attempts, null, null, null, h.created_at, h.finished_at, h.last_status_code, h.last_error, h.replay_id
from pgrelay.delivery_history h;
comment on view pgrelay.deliveries is 'One row a delivery, finished ones included: what is owed to whom, where it stands, when it is tried next.';
comment on column pgrelay.deliveries.status is 'pending, in_flight, succeeded, failed (attempts used up), cancelled or expired.';
comment on column pgrelay.deliveries.attempts is 'Requests made in the current round, the one in flight included.';
comment on column pgrelay.deliveries.next_attempt_at is 'When it is tried next, while pending; null too while it waits for an earlier one of its resource.';
comment on column pgrelay.deliveries.leased_by is 'The daemon that is sending it now.';
comment on column pgrelay.deliveries.replay_id is 'The replay that made it; null for live traffic.';
comment on column pgrelay.deliveries.last_error is 'Why the last attempt failed; details in delivery_attempts.';
