create or replace function pgrelay.grant_probes(p_webhook_ids bigint[])
returns bigint[] language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
-- Of these webhooks, those whose circuit is open and whose next probe is due and has something to send: each is granted once.
--
-- The next one is due after the wait that holds now, which is doubled: a probe that succeeds closes the circuit before.
declare
    v_now timestamptz := clock_timestamp();
    v_granted bigint[];
begin
    with due as materialized (
        select h.webhook_id from pgrelay.webhook_health h
        where h.webhook_id = any (p_webhook_ids) and h.probe_wait is not null and h.held_until <= v_now
            and (select true from pgrelay.delivery_queue q
                 where q.webhook_id = h.webhook_id and q.status = 'pending' and q.next_attempt_at <= v_now
                     and (q.expires_at is null or q.expires_at > v_now) limit 1)
        order by h.webhook_id for update skip locked
    ), granted as (
        update pgrelay.webhook_health h
        set held_until = v_now + h.probe_wait * interval '1 second',
            probe_wait = least(h.probe_wait * 2, h.longest_wait)
        from due where h.webhook_id = due.webhook_id
        returning h.webhook_id
    )
    select coalesce(array_agg(webhook_id), '{}') into v_granted from granted;
    return v_granted;
end
$$;
comment on function pgrelay.grant_probes(bigint[]) is 'Which open circuits may be tried now, each once.';

create or replace function pgrelay.disable_webhook(p_webhook_id bigint, p_reason text)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Make a webhook inactive because its receiver is gone, and say why; its pending deliveries are cancelled. False when it was not active.
declare
    v_webhook pgrelay.webhook_configurations;
begin
    update pgrelay.webhook_configurations
    set is_active = false, disabled_at = clock_timestamp(), disabled_reason = p_reason
    where id = p_webhook_id and is_active returning * into v_webhook;
    if not found then return false; end if;
    delete from pgrelay.webhook_health where webhook_id = p_webhook_id;
    perform pgrelay.tell_operator('webhook.disabled', p_webhook_id::text, v_webhook.company_id, json_build_object(
        'webhook', json_build_object('id', v_webhook.id, 'name', v_webhook.name, 'company_id', v_webhook.company_id,
            'url', pgrelay.mask_url(v_webhook.url)),
        'reason', p_reason));
    return true;
end
$$;
comment on function pgrelay.disable_webhook(bigint, text) is 'Makes a webhook inactive for a reason. Called by the daemon.';

create or replace function pgrelay.note_results(
    p_webhook_ids bigint[], p_succeeded boolean[], p_failures integer[], p_failed_deliveries integer[], p_hold_seconds double precision[],
    p_gone boolean[], p_open_after integer, p_first_wait double precision, p_longest_wait double precision,
    p_disable_after double precision, p_disable_deliveries integer)
returns table (webhook_id bigint, state text, held_for double precision)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- What became of a daemon's latest attempts, a webhook each: whether any succeeded, and what has failed since the last that did.
--
-- p_hold_seconds: the receiver asked to be left alone for so long, and is, whatever succeeds meanwhile. p_gone: it said that
-- it wants no more (410).
-- After p_open_after failures in a row the circuit opens (0: never): one attempt after p_first_wait seconds, then after twice
-- as long, up to p_longest_wait. When everything failed for p_disable_after seconds, and p_disable_deliveries were given up, the
-- webhook is disabled. Returns a row for each that is held back, with for how long, or whose state has changed: opened,
-- closed, held, disabled.
declare
    v_new record;
    v_old pgrelay.webhook_health;
    v_now timestamptz;
    v_opens boolean;
begin
    for v_new in
        select * from unnest(p_webhook_ids, p_succeeded, p_failures, p_failed_deliveries, p_hold_seconds, p_gone)
            as u (id, succeeded, failures, given_up, hold, gone) order by id
    loop
        v_now := clock_timestamp();
        webhook_id := v_new.id;
        held_for := null;
        if v_new.failures = 0 and v_new.hold is null and not v_new.gone then
            -- a request that was under way when the receiver asked to be left alone, and succeeded, takes nothing back
            update pgrelay.webhook_health h set failures_in_row = 0, failed_deliveries = 0, failing_since = v_now
            where h.webhook_id = v_new.id and h.probe_wait is null and h.held_until > v_now;
            continue when found;
            delete from pgrelay.webhook_health h where h.webhook_id = v_new.id returning * into v_old;
            if found and v_old.probe_wait is not null then
                state := 'closed';
                perform pgrelay.ring_bell();
                return next;
            end if;
            continue;
        end if;
        insert into pgrelay.webhook_health as h (webhook_id, failures_in_row, failed_deliveries, held_until)
        values (v_new.id, v_new.failures, v_new.given_up, v_now + v_new.hold * interval '1 second')
        on conflict on constraint webhook_health_pkey do update
        set failures_in_row = excluded.failures_in_row + case when v_new.succeeded then 0 else h.failures_in_row end,
            failed_deliveries = excluded.failed_deliveries + case when v_new.succeeded then 0 else h.failed_deliveries end,
            failing_since = case when v_new.succeeded then v_now else h.failing_since end,
            -- the wait for a probe is over when one has succeeded; what the receiver asked for is not
            held_until = case when v_new.succeeded and h.probe_wait is not null then excluded.held_until
                              else greatest(excluded.held_until, h.held_until) end,
            probe_wait = case when not v_new.succeeded then h.probe_wait end
        returning h.* into v_old;
        v_opens := p_open_after > 0 and v_old.failures_in_row >= p_open_after and v_old.probe_wait is null;
        if v_opens then
            update pgrelay.webhook_health h
            set held_until = greatest(h.held_until, v_now + p_first_wait * interval '1 second'),
                probe_wait = least(p_first_wait * 2, p_longest_wait), longest_wait = p_longest_wait
            where h.webhook_id = v_new.id returning h.* into v_old;
        end if;
        if v_new.gone and pgrelay.disable_webhook(v_new.id, 'the receiver answered 410 Gone') then
            state := 'disabled';
            return next;
            continue;
        elsif p_disable_after > 0 and v_old.failing_since < v_now - p_disable_after * interval '1 second'
              and v_old.failed_deliveries >= p_disable_deliveries
              and pgrelay.disable_webhook(v_new.id, format('every attempt failed since %s: %s attempts, %s deliveries given up',
                  to_char(v_old.failing_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), v_old.failures_in_row, v_old.failed_deliveries)) then
            state := 'disabled';
            return next;
            continue;
        end if;
        if v_opens or v_old.held_until > v_now then
            state := case when v_opens then 'opened' else 'held' end;
            held_for := extract(epoch from v_old.held_until - v_now);
            return next;
        end if;
    end loop;
end
$$;
comment on function pgrelay.note_results(bigint[], boolean[], integer[], integer[], double precision[], boolean[], integer, double precision,
    double precision, double precision, integer) is 'Keeps webhook_health: circuits, holds, what is disabled. Called by the daemon.';
