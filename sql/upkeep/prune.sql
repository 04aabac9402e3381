create or replace function pgrelay.prune(p_retention_seconds double precision)
returns void language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- Small tables, in small bites: feed positions but the last hundred, old minutes, daemons and deadline firings past
-- retention, replays that ended, yesterday's idempotency keys.
declare
    v_before timestamptz := clock_timestamp() - p_retention_seconds * interval '1 second';
    v_bite integer := 20000;
begin
    delete from pgrelay.feed_windows where id = any (array(
        select id from pgrelay.feed_windows where id < (select max(id) - 100 from pgrelay.feed_windows) order by id limit v_bite));
    delete from pgrelay.metric_minutes where ctid = any (array(
        select ctid from pgrelay.metric_minutes where minute < v_before limit v_bite));
    delete from pgrelay.daemons where ended_at < v_before
        or ended_at < clock_timestamp() - interval '1 day' and id < (select max(id) - 1000 from pgrelay.daemons);
    delete from pgrelay.deadline_fires where ctid = any (array(
        select ctid from pgrelay.deadline_fires where fired_at < v_before and fire_at < v_before limit v_bite));
    delete from pgrelay.capture_errors where ctid = any (array(
        select ctid from pgrelay.capture_errors where recaptured_at < v_before limit v_bite));
    delete from pgrelay.replays where id = any (array(
        select r.id from pgrelay.replays r where r.ended_at < v_before and not exists (select from pgrelay.delivery_queue q where q.replay_id = r.id)
        order by r.id limit v_bite for update skip locked));
    delete from pgrelay.idempotency_keys where created_at < now() - interval '1 day';
end
$$;
comment on function pgrelay.prune(double precision) is 'Deletes old rows of the small tables. Called by the daemon every minute.';
