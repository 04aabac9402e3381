create or replace function pgrelay.test_webhook(p_webhook_id bigint)
returns bigint language plpgsql security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
-- Send one test event to one webhook, whatever it subscribes to. Returns the event's id: look it up in deliveries.event_id.
declare
    v_webhook pgrelay.webhook_configurations;
    v_id bigint;
    v_at timestamptz := clock_timestamp();
begin
    select * into v_webhook from pgrelay.webhook_configurations where id = p_webhook_id;
    if not found then
        raise exception using errcode = 'PGR20', message = format('there is no webhook %s', p_webhook_id), hint = 'See pgrelay.webhook_configurations.';
    end if;
    if not v_webhook.is_active or v_webhook.paused then
        raise exception using errcode = 'PGR20', message = format('webhook %s is %s', p_webhook_id, case when v_webhook.paused then 'paused' else 'inactive' end),
            hint = 'A test is a delivery like any other: make it active first.';
    end if;
    v_id := nextval('pgrelay.outbox_id_seq');
    insert into pgrelay.outbox (id, event_type, source, resource_id, company_id, idempotency_key, occurred_at, only_webhook, body)
    values (v_id, 'webhook.test', null, p_webhook_id::text, v_webhook.company_id,
        format('webhook_%s_test_%s', p_webhook_id, (extract(epoch from v_at) * 1000)::bigint * 1000000 + v_id % 1000000), v_at, p_webhook_id,
        json_build_object('test', true, 'message', 'This is a test event from pgrelay.', 'webhook_name', v_webhook.name, 'timestamp', v_at)::text);
    perform pgrelay.ring_bell();
    return v_id;
end
$$;
comment on function pgrelay.test_webhook(bigint) is 'Sends a test event to one webhook. Returns the event''s id.';
