create or replace function pgrelay.release_ended()
returns table (daemon_id bigint, pending integer, failed integer) language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Take back every delivery that is leased by a daemon which has ended, however it ended, or which nobody knows.
--
-- Nobody knows how those requests ended, so each is an attempt of kind lapsed; the delivery is pending again, failed if
-- that was its last attempt, cancelled if its webhook is gone. Rows locked in id order; one that is locked already is
-- left for the next time. Reads the queue as a whole, once.
declare
    v_held bigint[];
begin
    select array_agg(q.id) into v_held
    from pgrelay.delivery_queue q left join pgrelay.daemons d on d.id = q.leased_by
    where q.status = 'in_flight' and (d.id is null or d.ended_at is not null);
    if v_held is null then return; end if;
    return query
    with held as materialized (
        select q.id, q.leased_by, coalesce(d.heartbeat_at, clock_timestamp()) as at, d.name,
               not coalesce(w.is_active, false) as gone, coalesce(q.attempts >= w.max_retry_attempts, true) as last
        from pgrelay.delivery_queue q
        left join pgrelay.daemons d on d.id = q.leased_by
        left join pgrelay.webhook_configurations w on w.id = q.webhook_id
        where q.id = any (v_held) and q.status = 'in_flight' and (d.id is null or d.ended_at is not null)
        order by q.id for update of q skip locked
    ), noted as (
        insert into pgrelay.delivery_attempts (delivery_id, event_id, webhook_id, attempt, started_at, error_kind, error_message, daemon)
        select q.id, q.event_id, q.webhook_id, q.attempts, h.at, 'lapsed',
               'the daemon died before it recorded the outcome; the request may or may not have arrived', h.name
        from pgrelay.delivery_queue q join held h on h.id = q.id where q.id = any (array(select id from held))
    ), ended as (
        delete from pgrelay.delivery_queue q using held h
        where q.id = any (array(select id from held)) and q.id = h.id and (h.gone or h.last) returning q.*, h.gone
    ), waited_for as (
        insert into pgrelay.order_releases (webhook_id, order_key) select distinct e.webhook_id, e.order_key from ended e where e.order_key is not null
    ), history as (
        insert into pgrelay.delivery_history (id, webhook_id, event_id, event_slot, status, attempts, lease_no, last_status_code, last_error, created_at, replay_id)
        select e.id, e.webhook_id, e.event_id, e.event_slot, case when e.gone then 'cancelled' else 'failed' end, e.attempts, e.lease_no,
               e.last_status_code, 'lapsed: the daemon died before it recorded the outcome', e.created_at, e.replay_id from ended e
    ), figures as (
        insert into pgrelay.metric_deltas (webhook_id, minute, attempts, attempts_failed, deliveries_succeeded, deliveries_failed,
            duration_ms_sum, duration_buckets, last_attempt_at)
        select q.webhook_id, date_trunc('minute', clock_timestamp()), count(*), count(*), 0,
               count(*) filter (where h.last and not h.gone), 0, array_fill(0, array[12]), max(h.at)
        from pgrelay.delivery_queue q join held h on h.id = q.id where q.id = any (array(select id from held)) group by q.webhook_id
    ), again as (
        update pgrelay.delivery_queue q
        set status = 'pending', leased_by = null, lease_no = lease_no + 1, next_attempt_at = clock_timestamp(),
            last_error = 'lapsed: the daemon died before it recorded the outcome'
        from held h where q.id = any (array(select id from held)) and q.id = h.id and not (h.gone or h.last)
    )
    select h.leased_by, count(*) filter (where not (h.gone or h.last))::integer, count(*) filter (where h.gone or h.last)::integer
    from held h group by h.leased_by;
    if found then perform pgrelay.ring_bell(); end if;
    perform pgrelay.tell_failed(v_held);
end
$$;
comment on function pgrelay.release_ended() is 'Takes back the deliveries of daemons that ended. Called by release_lapsed(), sign_off() and sweep().';

create or replace function pgrelay.release_lapsed()
returns table (daemon_id bigint, pending integer, failed integer) language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Declare daemons dead whose lease ended without a heartbeat, and take back what they held: one row for each of them.
--
-- The queue is read only when somebody died. What a dead daemon leases after that (it was stopped, woke up, and has not
-- heard yet) is found by the next sweep().
declare
    v_dead bigint[];
begin
    with dead as (
        update pgrelay.daemons set ended_at = clock_timestamp(), note = 'died: no heartbeat within its lease'
        where id = any (array(select d.id from pgrelay.daemons d where d.ended_at is null and d.lease_until < clock_timestamp()
                              order by d.id for update skip locked))
        returning id)
    select array_agg(id) into v_dead from dead;
    if v_dead is null then return; end if;
    return query
    with released as materialized (select * from pgrelay.release_ended())
    select coalesce(r.daemon_id, d), coalesce(r.pending, 0), coalesce(r.failed, 0)
    from unnest(v_dead) as d full join released r on r.daemon_id = d order by 1;
end
$$;
comment on function pgrelay.release_lapsed() is 'Takes back the deliveries of daemons that died. Called by every daemon every few seconds.';
