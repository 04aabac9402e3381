create or replace function pgrelay.release_lapsed()
returns table (daemon_id bigint, pending integer, failed integer) language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Declare daemons dead whose lease ended without a heartbeat, and take back what they held.
--
-- Nobody knows how those requests ended, so each is an attempt of kind lapsed; the delivery is pending again, failed if
-- that was its last attempt, cancelled if its webhook is gone. The queue is read as a whole only when somebody died.
declare
    v_daemon pgrelay.daemons;
begin
    for v_daemon in select * from pgrelay.daemons where ended_at is null and lease_until < clock_timestamp() order by id for update skip locked loop
        update pgrelay.daemons set ended_at = clock_timestamp(), note = 'died: no heartbeat within its lease' where id = v_daemon.id;
        daemon_id := v_daemon.id;
        with held as materialized (
            select q.id, w.id is null or not w.is_active as gone, q.attempts >= w.max_retry_attempts as last
            from pgrelay.delivery_queue q left join pgrelay.webhook_configurations w on w.id = q.webhook_id
            where q.leased_by = v_daemon.id and q.status = 'in_flight' order by q.id for update of q
        ), noted as (
            insert into pgrelay.delivery_attempts (delivery_id, event_id, webhook_id, attempt, started_at, error_kind, error_message, daemon)
            select q.id, q.event_id, q.webhook_id, q.attempts, v_daemon.heartbeat_at, 'lapsed',
                   'the daemon died before it recorded the outcome; the request may or may not have arrived', v_daemon.name
            from pgrelay.delivery_queue q join held h on h.id = q.id
        ), ended as (
            delete from pgrelay.delivery_queue q using held h where q.id = h.id and (h.gone or h.last) returning q.*, h.gone
        ), history as (
            insert into pgrelay.delivery_history (id, webhook_id, event_id, event_slot, status, attempts, lease_no, last_status_code, last_error, created_at)
            select e.id, e.webhook_id, e.event_id, e.event_slot, case when e.gone then 'cancelled' else 'failed' end, e.attempts, e.lease_no,
                   e.last_status_code, 'lapsed: the daemon died before it recorded the outcome', e.created_at from ended e
        ), figures as (
            insert into pgrelay.metric_deltas (webhook_id, minute, attempts, attempts_failed, deliveries_succeeded, deliveries_failed,
                duration_ms_sum, duration_buckets, last_attempt_at)
            select q.webhook_id, date_trunc('minute', clock_timestamp()), count(*), count(*), 0,
                   count(*) filter (where h.last and not h.gone), 0, array_fill(0, array[12]), v_daemon.heartbeat_at
            from pgrelay.delivery_queue q join held h on h.id = q.id group by q.webhook_id
        ), again as (
            update pgrelay.delivery_queue q
            set status = 'pending', leased_by = null, lease_no = lease_no + 1, next_attempt_at = clock_timestamp(),
                last_error = 'lapsed: the daemon died before it recorded the outcome'
            from held h where q.id = h.id and not (h.gone or h.last) returning q.id
        )
        select (select count(*) from again), (select count(*) from ended) into pending, failed;
        return next;
    end loop;
end
$$;
comment on function pgrelay.release_lapsed() is 'Takes back the deliveries of daemons that died. Called by every daemon every few seconds.';
