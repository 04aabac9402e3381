create or replace function pgrelay.record_outcomes(
    p_daemon_id bigint, p_daemon text, p_delivery_ids bigint[], p_lease_nos integer[], p_verdicts text[], p_webhook_ids bigint[],
    p_event_ids bigint[], p_attempts integer[], p_started_ago double precision[], p_durations_ms integer[], p_status_codes integer[],
    p_error_kinds text[], p_error_messages text[], p_retry_in double precision[], p_request_headers text[],
    p_response_headers text[], p_response_bodies text[], p_resent boolean default false)
returns setof bigint language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off set plan_cache_mode = force_generic_plan
as $$
-- Record a batch of finished attempts, one array element each: the attempt, the delivery's new state, the figures.
--
-- verdict: succeeded and failed finish the delivery; retry makes it pending again in p_retry_in seconds. An outcome
-- counts only under its own lease (leased_by and lease_no, the fence). Returns the deliveries for which it did not;
-- their attempts are kept, marked late. p_resent says that this very batch may have been recorded before (its answer was
-- lost): then what does not match was, and is left out. Rows go in id order within each statement.
declare
    v_now timestamptz := clock_timestamp();
begin
    return query
    with finished as (
        delete from pgrelay.delivery_queue q
        where q.id = any (array(select i from unnest(p_delivery_ids, p_verdicts) as u(i, v) where v <> 'retry'))
            and q.leased_by = p_daemon_id and q.status = 'in_flight'
            and q.lease_no = p_lease_nos[array_position(p_delivery_ids, q.id)]
        returning q.*
    ), again as (
        update pgrelay.delivery_queue q
        set status = 'pending', leased_by = null,
            next_attempt_at = v_now + p_retry_in[array_position(p_delivery_ids, q.id)] * interval '1 second',
            last_status_code = p_status_codes[array_position(p_delivery_ids, q.id)],
            last_error = concat_ws(': ', p_error_kinds[array_position(p_delivery_ids, q.id)], p_error_messages[array_position(p_delivery_ids, q.id)])
        where q.id = any (array(select i from unnest(p_delivery_ids, p_verdicts) as u(i, v) where v = 'retry'))
            and q.leased_by = p_daemon_id and q.status = 'in_flight'
            and q.lease_no = p_lease_nos[array_position(p_delivery_ids, q.id)]
        returning q.id
    ), outcomes as materialized (
        select * from unnest(p_delivery_ids, p_verdicts, p_webhook_ids, p_event_ids, p_attempts, p_started_ago, p_durations_ms,
                             p_status_codes, p_error_kinds, p_error_messages, p_request_headers, p_response_headers, p_response_bodies)
            as u(id, verdict, webhook_id, event_id, attempt, started_ago, duration_ms, status_code, error_kind, error_message,
                 request_headers, response_headers, response_body)
    ), mine as materialized (
        select f.id from finished f union all select a.id from again a
    ), history as (
        insert into pgrelay.delivery_history (id, webhook_id, event_id, event_slot, status, attempts, lease_no, last_status_code, last_error, created_at, finished_at)
        select f.id, f.webhook_id, f.event_id, f.event_slot, o.verdict, f.attempts, f.lease_no, o.status_code,
               nullif(concat_ws(': ', o.error_kind, o.error_message), ''), f.created_at, v_now
        from finished f join outcomes o on o.id = f.id
    ), attempts as (
        insert into pgrelay.delivery_attempts (delivery_id, event_id, webhook_id, attempt, started_at, duration_ms, status_code, error_kind,
            error_message, request_headers, response_headers, response_body, daemon, late)
        select o.id, o.event_id, o.webhook_id, o.attempt, v_now - o.started_ago * interval '1 second', o.duration_ms, o.status_code,
               o.error_kind, o.error_message, o.request_headers::json, o.response_headers::json, o.response_body, p_daemon, m.id is null
        from outcomes o left join mine m on m.id = o.id
        where m.id is not null or not p_resent
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
        from outcomes o join mine m on m.id = o.id
        group by o.webhook_id
    )
    select o.id from outcomes o where not exists (select from mine m where m.id = o.id) and not p_resent;
end
$$;
comment on function pgrelay.record_outcomes(bigint, text, bigint[], integer[], text[], bigint[], bigint[], integer[], double precision[], integer[],
    integer[], text[], text[], double precision[], text[], text[], text[], boolean) is
    'Records a batch of finished attempts under the leases they were made with. Called by the daemon.';
