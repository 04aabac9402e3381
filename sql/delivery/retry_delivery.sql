create or replace function pgrelay.retry_delivery(p_id bigint)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- Give a failed, cancelled or expired delivery another round of attempts; a pending one is made due now.
--
-- Attempts count from 1 again, as many as its webhook allows; those made before stay in delivery_attempts. True if it will be
-- tried; false when it is in flight, succeeded or unknown (send a succeeded one again with pgrelay.replay()).
-- Raises PGR20 when its webhook is gone or inactive, PGR21 when its event is no longer kept.
declare
    v_old pgrelay.delivery_history;
    v_slot smallint;
    v_order bigint;
begin
    -- one that waits for another keeps waiting: it is a pending delivery, and will be tried in its turn
    update pgrelay.delivery_queue set next_attempt_at = clock_timestamp() where id = p_id and status <> 'in_flight' and next_attempt_at < 'infinity';
    if found then
        perform pgrelay.ring_bell();
        return true;
    end if;
    select * into v_old from pgrelay.delivery_history where id = p_id and status <> 'succeeded' order by finished_at desc limit 1 for update;
    -- gone meanwhile: somebody else was faster with the same wish
    if not found then return exists (select from pgrelay.delivery_queue where id = p_id and status <> 'in_flight'); end if;
    if not exists (select from pgrelay.webhook_configurations where id = v_old.webhook_id and is_active) then
        raise exception using errcode = 'PGR20', message = format('webhook %s of delivery %s is deleted or inactive', v_old.webhook_id, p_id),
            hint = format('If it is there: select pgrelay.set_active(%s, true), then retry.', v_old.webhook_id);
    end if;
    -- read once: it may be set aside meanwhile
    select o.slot, case when w.ordering = 'resource' then pgrelay.order_key(o.source, o.resource_id) end into v_slot, v_order
    from pgrelay.outbox o left join pgrelay.webhook_configurations w on w.id = v_old.webhook_id
    where o.id = v_old.event_id and o.slot in (v_old.event_slot, -1);
    if not found then
        raise exception using errcode = 'PGR21', message = format('event %s of delivery %s is older than its retention', v_old.event_id, p_id),
            hint = 'Its body is gone; raise retention.events to keep events longer.';
    end if;
    delete from pgrelay.delivery_history where id = p_id and slot = v_old.slot;
    insert into pgrelay.delivery_queue (id, webhook_id, event_id, event_slot, attempts, lease_no, last_status_code, last_error, created_at,
        order_key, next_attempt_at, replay_id)
    values (p_id, v_old.webhook_id, v_old.event_id, v_slot, 0, v_old.lease_no, v_old.last_status_code, v_old.last_error, v_old.created_at,
        v_order, case when v_order is null then clock_timestamp() else 'infinity' end, v_old.replay_id);
    if v_order is not null then insert into pgrelay.order_releases (webhook_id, order_key) values (v_old.webhook_id, v_order); end if;
    perform pgrelay.ring_bell();
    return true;
end
$$;
comment on function pgrelay.retry_delivery(bigint) is
    'Gives a failed, cancelled or expired delivery another round of attempts; makes a pending one due now.';
