create or replace function pgrelay.replay_events(
    p_webhook_id bigint, p_since timestamptz, p_until timestamptz, p_event_types text[] default null)
returns table (event_id bigint, event_slot smallint, event_type text, occurred_at timestamptz, bytes integer, xid xid8)
language sql stable set search_path = pg_catalog, pg_temp
as $$
-- Events that a replay would send: of the webhook's tenant, of the types it subscribes to (and of p_event_types, if given), captured
-- from p_since until before p_until, that pass its filter as it is now.
--
-- There is no index on occurred_at, which every capture would pay for. Slots of the ring that were closed before p_since are left out,
-- with an hour's grace; later ones may hold earlier events, those that were recaptured. "offset 0" keeps the subquery one that is
-- run for each slot, which is what lets Postgres skip the other partitions.
select o.id, o.slot, o.event_type, o.occurred_at, o.bytes, o.xid
from pgrelay.webhook_configurations w
cross join lateral (
    select s.slot from pgrelay.ring_slots s
    where s.ring = 'outbox' and (s.closed_at is null and s.opened_at is not null or s.closed_at >= p_since - interval '1 hour'
                                 or s.slot = pg_sequence_last_value('pgrelay.outbox_slot'))
    union all select -1) as kept
cross join lateral (
    select o.id, o.slot, o.event_type, o.occurred_at, octet_length(o.body) as bytes, o.xid, pgrelay.event_patterns(o.event_type) as patterns
    from pgrelay.outbox o
    where o.slot = kept.slot and o.company_id = w.company_id and o.only_webhook is null and o.occurred_at >= p_since and o.occurred_at < p_until
        and (w.filter is null or w.subscribed_events && pgrelay.event_patterns(o.event_type) and pgrelay.filter_matches(w.filter, o.body))
    offset 0) as o
where w.id = p_webhook_id and w.subscribed_events && o.patterns and (p_event_types is null or p_event_types && o.patterns)
order by o.id
$$;
comment on function pgrelay.replay_events(bigint, timestamptz, timestamptz, text[]) is
    'The events that a replay would send again. pgrelay.preview_replay() sums them up.';
