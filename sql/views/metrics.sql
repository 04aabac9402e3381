create or replace view pgrelay.metrics as
select webhook_id, minute, sum(attempts)::bigint as attempts, sum(attempts_failed)::bigint as attempts_failed,
       sum(deliveries_succeeded)::bigint as deliveries_succeeded, sum(deliveries_failed)::bigint as deliveries_failed,
       sum(duration_ms_sum)::bigint as duration_ms_sum,
       sum(duration_buckets[1])::bigint as le_5_ms, sum(duration_buckets[2])::bigint as le_10_ms, sum(duration_buckets[3])::bigint as le_25_ms,
       sum(duration_buckets[4])::bigint as le_50_ms, sum(duration_buckets[5])::bigint as le_100_ms, sum(duration_buckets[6])::bigint as le_250_ms,
       sum(duration_buckets[7])::bigint as le_500_ms, sum(duration_buckets[8])::bigint as le_1000_ms, sum(duration_buckets[9])::bigint as le_2500_ms,
       sum(duration_buckets[10])::bigint as le_5000_ms, sum(duration_buckets[11])::bigint as le_10000_ms, sum(duration_buckets[12])::bigint as gt_10000_ms
from (select webhook_id, minute, attempts, attempts_failed, deliveries_succeeded, deliveries_failed, duration_ms_sum, duration_buckets from pgrelay.metric_minutes
      union all
      select webhook_id, minute, attempts, attempts_failed, deliveries_succeeded, deliveries_failed, duration_ms_sum, duration_buckets from pgrelay.metric_deltas) as x
group by webhook_id, minute;
comment on view pgrelay.metrics is 'Attempts and deliveries per webhook and minute, with request durations in buckets (each counts its own range).';
comment on column pgrelay.metrics.le_10_ms is 'Requests that took more than 5 and at most 10 ms.';
