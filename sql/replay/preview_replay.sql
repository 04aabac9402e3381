create or replace function pgrelay.preview_replay(
    p_webhook_id bigint, p_since timestamptz, p_until timestamptz default clock_timestamp(), p_event_types text[] default null)
returns table (events bigint, bytes bigint, event_types jsonb, first_event_at timestamptz, last_event_at timestamptz,
               per_second double precision, estimated_seconds double precision, kept_since timestamptz, warnings text[])
language plpgsql stable set search_path = pg_catalog, pg_temp set intervalstyle = 'postgres'
as $$
-- What a replay would send, how long that may take, and what to know before it is started. Changes nothing.
--
-- The estimate is the pace of replays less what the webhook was sent in the last ten minutes, which goes first; a tenth of the
-- pace at least, for nobody knows how long that goes on.
--
-- The first slot is opened just before migration 1 is noted. While the oldest slot is that one, nothing was ever emptied.
declare
    v_now timestamptz := clock_timestamp();
    w record;
    h pgrelay.webhook_health;
    v_live double precision;
    v_waiting bigint;
begin
    select c.company_id, c.is_active, c.paused into w from pgrelay.webhook_configurations c where c.id = p_webhook_id;
    if not found then
        raise exception using errcode = 'PGR20', message = format('webhook %s does not exist', coalesce(p_webhook_id::text, 'null')),
            hint = 'See pgrelay.webhooks.';
    end if;
    select coalesce(sum(t.n), 0), coalesce(sum(t.bytes), 0), coalesce(jsonb_object_agg(t.event_type, t.n), '{}'), min(t.first_at), max(t.last_at)
    into events, bytes, event_types, first_event_at, last_event_at
    from (select e.event_type, count(*) as n, sum(e.bytes) as bytes, min(e.occurred_at) as first_at, max(e.occurred_at) as last_at
          from pgrelay.replay_events(p_webhook_id, p_since, p_until, p_event_types) as e group by e.event_type) as t;
    select min(s.opened_at) into kept_since from pgrelay.ring_slots s where s.ring = 'outbox';
    per_second := pgrelay.replay_pace(p_webhook_id);
    select sum(m.attempts) / 600.0 into v_live from pgrelay.metric_minutes m
    where m.webhook_id = p_webhook_id and m.minute > v_now - interval '10 minutes';
    estimated_seconds := events / greatest(per_second - coalesce(v_live, 0), per_second / 10);
    select count(*) into v_waiting from (
        select from pgrelay.delivery_queue q where q.webhook_id = p_webhook_id and q.status = 'pending' and q.next_attempt_at <= v_now limit 10000) as q;
    select * into h from pgrelay.webhook_health c where c.webhook_id = p_webhook_id;
    warnings := array_remove(array[
        case when p_since < kept_since then format(
            case when kept_since <= (select m.applied_at from pgrelay.schema_migrations m where m.number = 1)
                 then 'pgrelay was installed %s: there are no events from before'
                 else 'events are kept since %s: what was captured before is gone, but for what a delivery still needs' end,
            to_char(kept_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')) end,
        case when not w.is_active then 'its webhook is inactive: enable it first'
             when w.paused then 'its webhook is paused: nothing is sent until it goes on'
             when h.probe_wait is not null then 'the circuit of its webhook is open: nothing is sent until its receiver answers'
             when h.held_until > v_now then 'its receiver asked to be left alone (Retry-After) for ' || date_trunc('second', h.held_until - v_now) end,
        case when v_waiting > 0 then format('%s deliveries wait already, and go first', v_waiting) end], null);
    return next;
end
$$;
comment on function pgrelay.preview_replay(bigint, timestamptz, timestamptz, text[]) is
    'What a replay would send, and how long that may take: select * from pgrelay.preview_replay(3, ''2026-11-01'', ''2026-11-02'').';
