create or replace function pgrelay.fold_metrics(p_limit integer default 20000)
returns integer language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- Fold counted deltas into one row a webhook and minute, and into the lifetime totals. One daemon at a time.
--
-- The latest first: while an old snapshot is held, all that was folded lies dead before them. Older ones, left by a
-- transaction that was slow to commit or a time without daemons, are looked for when there are no others. For the same reason
-- totals are not updated, but written anew and the row before deleted: the latest is found first.
declare
    v_ids bigint[];
    v_floor bigint := coalesce(pg_sequence_last_value('pgrelay.metric_deltas_id_seq'), 0) - 100000;
begin
    if not pg_try_advisory_xact_lock(hashtext('pgrelay'), hashtext('fold')) then return 0; end if;
    v_ids := array(select id from pgrelay.metric_deltas where id > v_floor order by id limit p_limit);
    if cardinality(v_ids) = 0 then
        v_ids := array(select id from pgrelay.metric_deltas where id <= v_floor order by id limit p_limit);
    end if;
    if cardinality(v_ids) = 0 then return 0; end if;
    insert into pgrelay.metric_minutes as m (webhook_id, minute, attempts, attempts_failed, deliveries_succeeded, deliveries_failed, duration_ms_sum, duration_buckets)
    select d.webhook_id, d.minute, sum(d.attempts), sum(d.attempts_failed), sum(d.deliveries_succeeded), sum(d.deliveries_failed), sum(d.duration_ms_sum),
           array[sum(d.duration_buckets[1]), sum(d.duration_buckets[2]), sum(d.duration_buckets[3]), sum(d.duration_buckets[4]), sum(d.duration_buckets[5]),
                 sum(d.duration_buckets[6]), sum(d.duration_buckets[7]), sum(d.duration_buckets[8]), sum(d.duration_buckets[9]), sum(d.duration_buckets[10]),
                 sum(d.duration_buckets[11]), sum(d.duration_buckets[12])]
    from pgrelay.metric_deltas d where d.id = any (v_ids) group by d.webhook_id, d.minute order by d.webhook_id, d.minute
    on conflict (webhook_id, minute) do update set
        attempts = m.attempts + excluded.attempts, attempts_failed = m.attempts_failed + excluded.attempts_failed,
        deliveries_succeeded = m.deliveries_succeeded + excluded.deliveries_succeeded,
        deliveries_failed = m.deliveries_failed + excluded.deliveries_failed, duration_ms_sum = m.duration_ms_sum + excluded.duration_ms_sum,
        duration_buckets = array(select a + b from unnest(m.duration_buckets, excluded.duration_buckets) with ordinality as u(a, b, n) order by n);
    with counted as materialized (
        select d.webhook_id, sum(d.attempts) as attempts, sum(d.deliveries_succeeded) as ok, sum(d.deliveries_failed) as failed, max(d.last_attempt_at) as at
        from pgrelay.metric_deltas d where d.id = any (v_ids) group by d.webhook_id
    ), known as materialized (
        select c.*, t.ctid as place, t.attempts as attempts_before, t.successful_deliveries as ok_before, t.failed_deliveries as failed_before,
               t.last_triggered_at as at_before
        from counted c left join lateral (
            select w.ctid, w.* from pgrelay.webhook_totals w where w.webhook_id = c.webhook_id order by w.webhook_id desc, w.id desc limit 1) as t on true
    ), gone as (
        delete from pgrelay.webhook_totals t where t.ctid = any (array(select k.place from known k where k.place is not null))
    )
    insert into pgrelay.webhook_totals (webhook_id, attempts, successful_deliveries, failed_deliveries, last_triggered_at)
    select k.webhook_id, k.attempts + coalesce(k.attempts_before, 0), k.ok + coalesce(k.ok_before, 0), k.failed + coalesce(k.failed_before, 0),
           greatest(k.at, k.at_before)
    from known k order by k.webhook_id;
    delete from pgrelay.metric_deltas where id = any (v_ids);
    return cardinality(v_ids);
end
$$;
comment on function pgrelay.fold_metrics(integer) is 'Folds metric_deltas into metric_minutes and webhook_totals. Called by the daemon.';
