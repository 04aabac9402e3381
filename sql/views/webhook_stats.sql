create or replace view pgrelay.webhook_stats as
select w.id as webhook_id, w.company_id, w.name, w.is_active, w.paused,
       coalesce(t.ok, 0) + coalesce(t.failed, 0) as total_deliveries, coalesce(t.ok, 0) as successful_deliveries, coalesce(t.failed, 0) as failed_deliveries,
       round(100.0 * t.ok / nullif(t.ok + t.failed, 0), 2) as success_rate, coalesce(t.attempts, 0) as attempts, t.last_triggered_at,
       coalesce(q.pending, 0) as pending_deliveries, q.oldest_pending_at
from pgrelay.webhook_configurations w
left join (select webhook_id, sum(attempts)::bigint as attempts, sum(ok)::bigint as ok, sum(failed)::bigint as failed, max(at) as last_triggered_at
           from (select webhook_id, attempts, successful_deliveries as ok, failed_deliveries as failed, last_triggered_at as at from pgrelay.webhook_totals
                 union all
                 select webhook_id, attempts, deliveries_succeeded, deliveries_failed, last_attempt_at from pgrelay.metric_deltas) as x
           group by webhook_id) as t on t.webhook_id = w.id
left join (select webhook_id, count(*) as pending, min(created_at) as oldest_pending_at from pgrelay.delivery_queue group by webhook_id) as q on q.webhook_id = w.id;
comment on view pgrelay.webhook_stats is 'Lifetime counts and success rate of each webhook, and what waits for it.';
comment on column pgrelay.webhook_stats.total_deliveries is 'How often deliveries ended, succeeded or failed: one that failed and was retried counts again.';
comment on column pgrelay.webhook_stats.failed_deliveries is 'How often deliveries were given up, those included that succeeded when somebody retried them.';
comment on column pgrelay.webhook_stats.success_rate is 'Percent of those that succeeded.';
