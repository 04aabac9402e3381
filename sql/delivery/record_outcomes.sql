create or replace function pgrelay.record_outcomes(
    p_daemon_id bigint, p_daemon text, p_delivery_ids bigint[], p_lease_nos integer[], p_verdicts text[], p_webhook_ids bigint[],
    p_event_ids bigint[], p_attempts integer[], p_started_ago double precision[], p_durations_ms integer[], p_status_codes integer[],
    p_error_kinds text[], p_error_messages text[], p_retry_in double precision[], p_request_headers text[],
    p_response_headers text[], p_response_bodies text[], p_resent boolean default false, p_sent_twice integer[] default '{}')
returns setof bigint language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
-- Record a batch of finished attempts, one array element each: the attempt, the delivery's new state, the figures.
--
-- verdict: succeeded and failed finish the delivery; retry makes it pending again in p_retry_in seconds. An outcome
-- counts only under its own lease (leased_by and lease_no, the fence). Returns the deliveries for which it did not;
-- their attempts are kept, marked late. p_resent says that this very batch may have been recorded before (its answer was
-- lost): then what does not match was, and is left out. p_sent_twice: places in the arrays whose request went out twice. Rows are locked in id order. What waited for one that ended is due.
declare
    v_now timestamptz := clock_timestamp();
    v_webhooks bigint[];
    v_orders bigint[];
begin
    -- The webhooks are asked first: the index of what is in line is full of dead entries while an old snapshot is held.
    if exists (select from pgrelay.webhook_configurations w where w.ordering = 'resource')
        or exists (select from pgrelay.delivery_queue q where q.order_key is not null) then
        select array_agg(q.webhook_id) filter (where q.order_key is not null), array_agg(q.order_key) filter (where q.order_key is not null)
        into v_webhooks, v_orders
        from pgrelay.delivery_queue q where q.id = any (p_delivery_ids) and q.leased_by = p_daemon_id;
        if v_orders is not null then perform pgrelay.lock_order(true); end if;
    end if;
    return query
    with outcomes as materialized (
        select * from unnest(p_delivery_ids, p_lease_nos, p_verdicts, p_webhook_ids, p_event_ids, p_attempts, p_started_ago, p_durations_ms,
                             p_status_codes, p_error_kinds, p_error_messages, p_retry_in, p_request_headers, p_response_headers, p_response_bodies)
            with ordinality as u(id, lease_no, verdict, webhook_id, event_id, attempt, started_ago, duration_ms, status_code, error_kind, error_message,
                                 retry_in, request_headers, response_headers, response_body, n)
    ), held as materialized (
        select q.id, q.lease_no from pgrelay.delivery_queue q
        where q.id = any (p_delivery_ids) and q.leased_by = p_daemon_id and q.status = 'in_flight' order by q.id for update
    ), mine as materialized (
        -- by lease too: one batch may hold two attempts of one delivery
        select o.* from outcomes o join held h on h.id = o.id and h.lease_no = o.lease_no
    ), finished as (
        delete from pgrelay.delivery_queue q where q.id = any (array(select m.id from mine m where m.verdict <> 'retry')) returning q.*
    ), again as (
        update pgrelay.delivery_queue q
        set status = 'pending', leased_by = null, next_attempt_at = v_now + m.retry_in * interval '1 second',
            last_status_code = m.status_code, last_error = concat_ws(': ', m.error_kind, m.error_message)
        from mine m
        -- the array beside the join: whatever join is chosen, the queue is read by these ids alone
        where q.id = any (array(select r.id from mine r where r.verdict = 'retry')) and q.id = m.id and m.verdict = 'retry'
    ), history as (
        insert into pgrelay.delivery_history (id, webhook_id, event_id, event_slot, status, attempts, lease_no, last_status_code, last_error, created_at, finished_at, replay_id)
        select f.id, f.webhook_id, f.event_id, f.event_slot, o.verdict, f.attempts, f.lease_no, o.status_code,
               nullif(concat_ws(': ', o.error_kind, o.error_message), ''), f.created_at, v_now, f.replay_id
        from finished f join mine o on o.id = f.id
    ), attempts as (
        insert into pgrelay.delivery_attempts (delivery_id, event_id, webhook_id, attempt, started_at, duration_ms, status_code, error_kind,
            error_message, request_headers, response_headers, response_body, daemon, late, requests)
        select o.id, o.event_id, o.webhook_id, o.attempt, v_now - o.started_ago * interval '1 second', o.duration_ms, o.status_code,
               o.error_kind, o.error_message, o.request_headers::json, o.response_headers::json, o.response_body, p_daemon, m.n is null,
               case when o.n = any (p_sent_twice) then 2 else 1 end
        from outcomes o left join mine m on m.n = o.n
        where m.n is not null or not p_resent
    ), figures as (
        insert into pgrelay.metric_deltas (webhook_id, minute, attempts, attempts_failed, deliveries_succeeded, deliveries_failed,
            duration_ms_sum, duration_buckets, last_attempt_at)
        select o.webhook_id, date_trunc('minute', v_now), count(*), count(*) filter (where o.verdict <> 'succeeded'),
               count(*) filter (where o.verdict = 'succeeded'), count(*) filter (where o.verdict = 'failed'), sum(o.duration_ms),
               array[count(*) filter (where o.duration_ms <= 5), count(*) filter (where o.duration_ms > 5 and o.duration_ms <= 10),
                     count(*) filter (where o.duration_ms > 10 and o.duration_ms <= 25), count(*) filter (where o.duration_ms > 25 and o.duration_ms <= 50),
                     count(*) filter (where o.duration_ms > 50 and o.duration_ms <= 100), count(*) filter (where o.duration_ms > 100 and o.duration_ms <= 250),
                     count(*) filter (where o.duration_ms > 250 and o.duration_ms <= 500), count(*) filter (where o.duration_ms > 500 and o.duration_ms <= 1000),
                     count(*) filter (where o.duration_ms > 1000 and o.duration_ms <= 2500), count(*) filter (where o.duration_ms > 2500 and o.duration_ms <= 5000),
                     count(*) filter (where o.duration_ms > 5000 and o.duration_ms <= 10000), count(*) filter (where o.duration_ms > 10000)],
               v_now
        from mine o group by o.webhook_id
    )
    select o.id from outcomes o where not p_resent and not exists (select from mine m where m.n = o.n);
    if v_orders is not null and pgrelay.order_after(v_webhooks, v_orders) > 0 then perform pgrelay.ring_bell(); end if;
    if 'failed' = any (p_verdicts) then
        -- those that failed here and now: not what is late, or was recorded before
        perform pgrelay.tell_failed(array(
            select h.id from pgrelay.delivery_history h where h.id = any (p_delivery_ids) and h.finished_at = v_now));
    end if;
end
$$;
comment on function pgrelay.record_outcomes(bigint, text, bigint[], integer[], text[], bigint[], bigint[], integer[], double precision[], integer[],
    integer[], text[], text[], double precision[], text[], text[], text[], boolean, integer[]) is
    'Records a batch of finished attempts under the leases they were made with. Called by the daemon.';
