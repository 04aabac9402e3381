create or replace function pgrelay.emit(
    p_event_type text, p_data json, p_company_id text, p_resource_id text default null, p_source text default null)
returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
-- An event that the application makes itself, in its own transaction: select pgrelay.emit('order.paid', '{"order": {...}}', '42').
--
-- Returns the event's id, or null when nobody subscribes. The body has the form of captured ones, with p_data as data.
declare
    v_id bigint;
    v_at timestamptz := clock_timestamp();
    v_key text;
begin
    if p_event_type is null or p_event_type !~ '^[a-z0-9_]+(\.[a-z0-9_]+){1,2}$' then
        raise exception using errcode = 'PGR15', message = format('not an event type: %s', coalesce(p_event_type, 'null')),
            hint = 'An event type is two or three words of a-z, 0-9 and _, with dots between: order.paid';
    end if;
    if coalesce(p_company_id, '') = '' then
        raise exception using errcode = 'PGR15', message = 'an event needs a tenant', hint = 'Pass the company_id of the webhooks that should get it.';
    end if;
    if not exists (select from pgrelay.subscriptions s
                   where s.company_id = p_company_id and s.pattern = any (pgrelay.event_patterns(p_event_type))) then
        return null;
    end if;
    v_id := nextval('pgrelay.outbox_id_seq');
    v_key := format('%s_%s_%s_%s', split_part(p_event_type, '.', 1),
        left(regexp_replace(coalesce(p_resource_id, ''), '[^A-Za-z0-9_-]', '_', 'g'), 120), split_part(p_event_type, '.', -1),
        (extract(epoch from v_at) * 1000)::bigint * 1000000 + v_id % 1000000);
    insert into pgrelay.outbox (id, event_type, source, resource_id, company_id, idempotency_key, occurred_at, body)
    values (v_id, p_event_type, p_source, p_resource_id, p_company_id, v_key, v_at,
        format('{"event":"%s","idempotency_key":"%s","timestamp":%s,"data":%s}', p_event_type, v_key, to_json(v_at), coalesce(p_data, 'null')));
    perform pgrelay.ring_bell();
    return v_id;
end
$$;
comment on function pgrelay.emit(text, json, text, text, text) is
    'An event made by the application itself: event type, data, tenant. Returns its id, or null when nobody subscribes.';
revoke execute on function pgrelay.emit(text, json, text, text, text) from public;
