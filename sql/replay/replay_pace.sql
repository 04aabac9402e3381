create or replace function pgrelay.replay_pace(p_webhook_id bigint)
returns double precision language sql stable set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- How many deliveries a second a replay may add to this webhook: what it does by its limits and its recent requests, at most 500.
--
-- A replay keeps about a second's worth of deliveries waiting, so a live one waits about a second behind them. Where
-- nothing is known of its requests they are taken for 100 ms; where it has no limit, for 16 at once: a replay is in no hurry.
select greatest(0.01, least(500, coalesce(w.max_concurrency, 16) * 1000 / greatest(1, coalesce(lately.mean_ms, 100)), w.rate_limit_per_second))
from pgrelay.webhook_configurations w
left join lateral (
    select sum(m.duration_ms_sum)::double precision / nullif(sum(m.attempts), 0) as mean_ms from pgrelay.metric_minutes m
    where m.webhook_id = w.id and m.minute > now() - interval '1 day') as lately on true
where w.id = p_webhook_id
$$;
comment on function pgrelay.replay_pace(bigint) is 'How many deliveries a second a replay may add to a webhook; null if there is none.';
