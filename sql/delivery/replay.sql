create or replace function pgrelay.replay_events(p_webhook_id bigint, p_since timestamptz, p_until timestamptz)
returns table (event_id bigint, event_slot smallint) language sql stable set search_path = pg_catalog, pg_temp
as $$
-- Events that a replay would send: of the webhook's tenant, of the types it subscribes to, that pass its filter as it is now,
-- captured from p_since until before p_until.
select o.id, o.slot from pgrelay.outbox o
join pgrelay.webhook_configurations w on w.id = p_webhook_id and w.company_id = o.company_id
where o.occurred_at >= p_since and o.occurred_at < p_until and (o.only_webhook is null)
    and w.subscribed_events && pgrelay.event_patterns(o.event_type)
    and (w.filter is null or pgrelay.filter_matches(w.filter, o.body))
order by o.id
$$;
comment on function pgrelay.replay_events(bigint, timestamptz, timestamptz) is 'The events that pgrelay.replay() would send again: count them first.';

create or replace function pgrelay.replay(p_webhook_id bigint, p_since timestamptz, p_until timestamptz default clock_timestamp())
returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Send past events to one webhook again, delivered before or not: new deliveries of the same bodies and keys. Returns how many.
declare
    v_count bigint;
    v_ordering text;
begin
    select w.ordering into v_ordering from pgrelay.webhook_configurations w where w.id = p_webhook_id and w.is_active;
    if not found then
        raise exception using errcode = 'PGR20', message = format('webhook %s does not exist or is inactive', p_webhook_id),
            hint = format('If it is there: select pgrelay.set_active(%s, true), then replay.', p_webhook_id);
    end if;
    if v_ordering = 'resource' then
        with added as (
            insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot, order_key, next_attempt_at)
            select p_webhook_id, e.event_id, e.event_slot, k, case when k is null then clock_timestamp() else 'infinity' end
            from pgrelay.replay_events(p_webhook_id, p_since, p_until) as e
            join pgrelay.outbox o on o.id = e.event_id and o.slot = e.event_slot
            cross join lateral pgrelay.order_key(o.source, o.resource_id) as k
            order by e.event_id
            returning order_key
        ), first_of_each as (
            insert into pgrelay.order_releases (webhook_id, order_key)
            select distinct p_webhook_id, a.order_key from added a where a.order_key is not null
        )
        select count(*) into v_count from added;
    else
        insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot)
        select p_webhook_id, e.event_id, e.event_slot from pgrelay.replay_events(p_webhook_id, p_since, p_until) as e;
        get diagnostics v_count = row_count;
    end if;
    perform pgrelay.ring_bell();
    return v_count;
end
$$;
comment on function pgrelay.replay(bigint, timestamptz, timestamptz) is
    'Sends past events to one webhook again: pgrelay.replay(3, ''2026-11-01'', ''2026-11-02''). Returns how many.';
