create or replace function pgrelay.blocking_delivery(p_delivery_id bigint)
returns bigint language sql stable set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- The delivery of the same resource that p_delivery_id waits for, where its webhook gets those in order; null: for none.
--
-- What is under way blocks, whatever its number; without that the lowest id is next. Two index probes, however many wait.
select coalesce(
    (select o.id from pgrelay.delivery_queue o where o.webhook_id = d.webhook_id and o.order_key = d.order_key
        and o.next_attempt_at is distinct from 'infinity' order by o.webhook_id, o.order_key limit 1),
    (select o.id from pgrelay.delivery_queue o where o.webhook_id = d.webhook_id and o.order_key = d.order_key and o.id < d.id
        order by o.webhook_id, o.order_key, o.id limit 1))
from pgrelay.delivery_queue d where d.id = p_delivery_id and d.order_key is not null and d.next_attempt_at = 'infinity'
$$;
comment on function pgrelay.blocking_delivery(bigint) is 'The delivery of the same resource that this one waits for, or null.';

create or replace function pgrelay.why_waiting(p_delivery_id bigint)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp set intervalstyle = 'postgres'
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- Why a delivery has not been sent yet, in words: what holds it back now, the strongest reason first. Null when it is not pending.
--
-- Durations are hh:mm:ss from now. It asks a row or two of each table it names, so it may be called for many deliveries.
declare
    v_now timestamptz := clock_timestamp();
    d pgrelay.delivery_queue;
    w record;
    h pgrelay.webhook_health;
    v_owner text;
    v_blocking bigint;
    v_why text;
begin
    select * into d from pgrelay.delivery_queue where id = p_delivery_id;
    if not found then return null; end if;
    if d.status = 'in_flight' then
        if exists (select from pgrelay.daemons r where r.id = d.leased_by and r.ended_at is null and r.lease_until > v_now) then return null; end if;
        return 'the daemon that was sending it is gone: another one takes it back';
    end if;
    select v.is_active, v.paused, v.secrets, v.max_concurrency, v.rate_limit_per_second into w from pgrelay.webhooks v where v.id = d.webhook_id;
    if not found or not w.is_active then
        return case when found then 'its webhook is inactive' else 'its webhook is deleted' end || ': the daemon cancels it';
    end if;
    select * into h from pgrelay.webhook_health where webhook_id = d.webhook_id;
    v_blocking := pgrelay.blocking_delivery(d.id);
    if w.paused then
        v_why := 'its webhook is paused';
    elsif w.secrets = 'awaited' then
        v_why := 'its webhook has no secret yet, which a running daemon that has the key makes';
    elsif v_blocking is not null then
        v_why := format('delivery %s of the same resource goes first: %s', v_blocking,
            coalesce(pgrelay.why_waiting(v_blocking), 'it is being sent'));
    elsif d.next_attempt_at = 'infinity' then
        v_why := 'it is the next of its resource: the daemon lets it go in a moment';
    elsif h.probe_wait is not null and h.held_until > d.next_attempt_at then
        v_why := format('the circuit of its webhook is open since %s attempts in a row failed: the next probe is due %s', h.failures_in_row,
            case when h.held_until > v_now then 'in ' || date_trunc('second', h.held_until - v_now) else 'now' end);
    elsif h.held_until > greatest(d.next_attempt_at, v_now) then
        v_why := format('its receiver asked to be left alone (Retry-After) for %s more', date_trunc('second', h.held_until - v_now));
    elsif d.next_attempt_at > v_now then
        v_why := format('attempt %s is due in %s', d.attempts + 1, date_trunc('second', d.next_attempt_at - v_now))
            || coalesce('; the one before failed: ' || d.last_error, '');
    elsif not exists (select from pgrelay.daemons r where r.ended_at is null and r.lease_until > v_now) then
        v_why := 'no daemon is running';
    elsif w.max_concurrency is not null or w.rate_limit_per_second is not null then
        select r.name into v_owner from pgrelay.webhook_owners o join pgrelay.daemons r on r.id = o.daemon_id
        where o.webhook_id = d.webhook_id and r.ended_at is null and r.lease_until > v_now;
        v_why := format('its webhook is limited to %s: it waits for its turn %s',
            concat_ws(' and ', w.max_concurrency || ' at once', w.rate_limit_per_second || ' a second'),
            coalesce('at daemon ' || v_owner, 'and for a daemon to serve it'));
    else
        v_why := 'it is due, and waits for a free place';
    end if;
    return v_why || case when d.expires_at <= v_now then '; it expires now'
        else coalesce('; it expires in ' || date_trunc('second', d.expires_at - v_now), '') end;
end
$$;
comment on function pgrelay.why_waiting(bigint) is 'Why a pending delivery has not been sent yet, in words; null when it is not pending.';
