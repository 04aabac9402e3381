create or replace function pgrelay.tell_operator(p_event_type text, p_resource_id text, p_company_id text, p_data json)
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- An event about pgrelay itself, for the webhooks of the tenant "pgrelay": whoever operates it subscribes there.
--
-- None about those webhooks, or one that fails would make events for itself for ever.
begin
    if p_company_id <> 'pgrelay' then
        perform pgrelay.emit(p_event_type, p_data, 'pgrelay', p_resource_id, 'pgrelay');
    end if;
end
$$;
comment on function pgrelay.tell_operator(text, text, text, json) is 'An event about pgrelay itself, for webhooks whose company_id is pgrelay.';

create or replace function pgrelay.tell_failed(p_delivery_ids bigint[])
returns void language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- delivery.failed for each of these deliveries, which have just been given up, if anybody wants to know.
begin
    if not exists (select from pgrelay.subscriptions s
                   where s.company_id = 'pgrelay' and s.pattern = any (pgrelay.event_patterns('delivery.failed'))) then
        return;
    end if;
    perform pgrelay.tell_operator('delivery.failed', h.id::text, w.company_id, json_build_object(
        'delivery', json_build_object('id', h.id, 'event_id', h.event_id, 'event_type', o.event_type, 'idempotency_key', o.idempotency_key,
            'attempts', h.attempts, 'last_status_code', h.last_status_code, 'last_error', h.last_error),
        'webhook', json_build_object('id', w.id, 'name', w.name, 'company_id', w.company_id)))
    from pgrelay.delivery_history h
    join pgrelay.webhook_configurations w on w.id = h.webhook_id
    left join pgrelay.outbox o on o.id = h.event_id and o.slot in (h.event_slot, -1)
    where h.id = any (p_delivery_ids) and h.status = 'failed';
end
$$;
comment on function pgrelay.tell_failed(bigint[]) is 'An event for each delivery that was given up, for webhooks whose company_id is pgrelay.';
