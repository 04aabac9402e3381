create or replace function pgrelay.finish_pending(p_delivery_ids bigint[], p_status text, p_reason text)
returns integer language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- Move pending deliveries to the history, cancelled or expired; others are left alone. Returns how many.
--
-- Rows that are locked are being leased or made due this very moment, and are left alone too: waiting for them, in the
-- middle of thousands, could deadlock with the daemon, which records in another order.
declare
    v_count integer;
begin
    with locked as materialized (
        -- not "= 'pending'": the index of those alone would do as well, for a planner that knew the queue when it was
        -- empty, and would be read as a whole
        select q.id from pgrelay.delivery_queue q where q.id = any (p_delivery_ids) and q.status <> 'in_flight'
        order by q.id for update skip locked
    ), gone as (
        delete from pgrelay.delivery_queue q where q.id = any (array(select id from locked)) returning q.*
    ), waited_for as (
        insert into pgrelay.order_releases (webhook_id, order_key) select distinct webhook_id, order_key from gone where order_key is not null
    )
    insert into pgrelay.delivery_history (id, webhook_id, event_id, event_slot, status, attempts, lease_no, last_status_code, last_error, created_at, replay_id)
    select id, webhook_id, event_id, event_slot, p_status, attempts, lease_no, last_status_code, p_reason, created_at, replay_id from gone;
    get diagnostics v_count = row_count;
    if v_count > 0 and exists (select from pgrelay.order_releases r where r.xid = pg_current_xact_id()) then perform pgrelay.ring_bell(); end if;
    return v_count;
end
$$;
comment on function pgrelay.finish_pending(bigint[], text, text) is 'Ends pending deliveries without a request: cancelled or expired.';
