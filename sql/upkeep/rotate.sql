create or replace function pgrelay.rotate(p_ring text, p_retention_seconds double precision)
returns text language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Move a ring on when its time has come, and empty a slot that is past retention. Returns what it did, or null.
--
-- A slot is written for a sixth of the retention; it is emptied by TRUNCATE when everything in it is older than that, one
-- slot a call. TRUNCATE locks the slot alone, not the ring, and gives up after 100 ms: next time is soon enough, and until
-- then the current slot is simply written longer. A slot emptied just now is locked until commit, so writing moves there
-- next time.
--
-- A sequence does not roll back: if this was interrupted, the slot that is written and the one noted as open differ, and
-- the note is mended first.
--
-- What unfinished deliveries still need of a slot of the outbox is taken out of it before it is locked, some thousand a call:
-- claims and expanding wait for that lock. So there may be more to do at once, whenever this says that it did something.
declare
    v_sequence regclass := 'pgrelay.' || case p_ring when 'outbox' then 'outbox_slot' when 'delivery_history' then 'history_slot'
                                                     when 'delivery_attempts' then 'attempts_slot' end;
    v_now timestamptz := clock_timestamp();
    v_span interval := p_retention_seconds / 6 * interval '1 second';
    v_current smallint;
    v_next smallint;
    v_opened timestamptz;
    v_done text[] := '{}';
    v_emptied smallint;
    v_slot smallint;
    v_deliveries integer;
    v_kept bigint := 0;
    c_bite constant integer := 5000;
begin
    if v_sequence is null then
        raise exception using errcode = 'PGR25', message = format('there is no ring %s', p_ring), hint = 'See pgrelay.ring_slots.';
    end if;
    if not pg_try_advisory_xact_lock(hashtext('pgrelay'), hashtext('rotate ' || p_ring)) then return null; end if;
    -- read behind the lock: another daemon may have moved it just now
    v_current := coalesce(pg_sequence_last_value(v_sequence), 0);
    v_next := (v_current + 1) % 8;
    perform set_config('lock_timeout', '100ms', true);
    update pgrelay.ring_slots set closed_at = v_now
    where ring = p_ring and slot <> v_current and opened_at is not null and closed_at is null;
    update pgrelay.ring_slots set opened_at = coalesce(opened_at, v_now), closed_at = null
    where ring = p_ring and slot = v_current and (opened_at is null or closed_at is not null);

    for v_slot in select slot from pgrelay.ring_slots
                  where ring = p_ring and slot <> v_current and closed_at < v_now - p_retention_seconds * interval '1 second' order by closed_at loop
        continue when p_ring = 'outbox' and pgrelay.spared(v_slot, p_retention_seconds);
        if p_ring = 'outbox' then
            select s.deliveries, s.events into v_deliveries, v_kept from pgrelay.set_aside(v_slot, c_bite) as s;
            if v_deliveries >= c_bite then
                v_done := v_done || format('kept %s events of slot %s', v_kept, v_slot);
                exit;
            end if;
        end if;
        begin
            execute format('lock table pgrelay.%I in access exclusive mode', p_ring || '_' || v_slot);
        exception when lock_not_available then
            continue;
        end;
        -- Once more behind the lock: who started a replay has read the slot, and has committed. No other slot then, for this
        -- one stays locked until the end.
        exit when p_ring = 'outbox' and pgrelay.spared(v_slot, p_retention_seconds);
        if p_ring = 'outbox' then v_kept := v_kept + pgrelay.keep_needed(v_slot); end if;
        execute format('truncate pgrelay.%I', p_ring || '_' || v_slot);
        update pgrelay.ring_slots set opened_at = null, closed_at = null where ring = p_ring and slot = v_slot;
        v_done := v_done || concat(format('emptied slot %s', v_slot), case when v_kept > 0 then format(', kept %s events', v_kept) end);
        v_emptied := v_slot;
        exit;
    end loop;

    select opened_at into v_opened from pgrelay.ring_slots where ring = p_ring and slot = v_current;
    if v_opened < v_now - v_span and v_next is distinct from v_emptied
       and exists (select from pgrelay.ring_slots where ring = p_ring and slot = v_next and opened_at is null) then
        update pgrelay.ring_slots set closed_at = v_now where ring = p_ring and slot = v_current;
        update pgrelay.ring_slots set opened_at = v_now where ring = p_ring and slot = v_next;
        perform setval(v_sequence, v_next);
        v_done := v_done || format('writing slot %s now', v_next);
    end if;
    return nullif(array_to_string(v_done, ', '), '');
end
$$;
comment on function pgrelay.rotate(text, double precision) is 'Moves a ring to its next slot and empties slots past their retention. Called by the daemon.';

create or replace function pgrelay.feed_position()
returns pg_snapshot language sql stable set search_path = pg_catalog, pg_temp
as $$
-- What is visible in it has been turned into deliveries.
select case when after_id is null then to_snapshot else from_snapshot end from pgrelay.feed_windows order by id desc limit 1
$$;
comment on function pgrelay.feed_position() is 'The snapshot up to which events were turned into deliveries.';

create or replace function pgrelay.spared(p_slot smallint, p_retention_seconds double precision)
returns boolean language sql stable set search_path = pg_catalog, pg_temp
as $$
-- What a running replay still has to queue is spared, for one retention from its start; later it is skipped, and counted so.
select exists (
    select from pgrelay.replays r
    where r.status = 'running' and r.started_at > now() - p_retention_seconds * interval '1 second'
        and exists (select from pgrelay.outbox o where o.slot = p_slot and o.id > r.after_id and o.id <= r.last_id))
$$;
comment on function pgrelay.spared(smallint, double precision) is 'Whether a running replay keeps a slot of the outbox from being emptied. Called by rotate().';

create or replace function pgrelay.set_aside(p_slot smallint, p_limit integer, out deliveries integer, out events bigint)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Move events of an outbox slot that pending deliveries need to outbox_kept, those of p_limit deliveries at most. Returns how many.
--
-- Without a lock on the slot, so nobody waits: in every snapshot the event is in one of the two. The deliveries are told where,
-- so that they are not looked at again; whoever locks one reads it as it is now, and its event as it was when the statement
-- began, so claim() looks in both. Deliveries that are locked, or in flight, are left to keep_needed().
declare
    v_deliveries bigint[];
    v_events bigint[];
begin
    select array_agg(q.id), array_agg(distinct q.event_id) into v_deliveries, v_events
    from (select id, event_id from pgrelay.delivery_queue
          where event_slot = p_slot and status <> 'in_flight' limit p_limit for update skip locked) as q;
    deliveries := coalesce(cardinality(v_deliveries), 0);
    events := 0;
    if deliveries = 0 then return; end if;
    execute format($sql$
        with gone as (delete from pgrelay.%I where id = any ($1) returning *)
        insert into pgrelay.outbox_kept (slot, id, event_type, source, resource_id, company_id, idempotency_key, occurred_at, only_webhook, valid_until, xid, body)
        select -1, id, event_type, source, resource_id, company_id, idempotency_key, occurred_at, only_webhook, valid_until, xid, body
        from gone$sql$, 'outbox_' || p_slot) using v_events;
    get diagnostics events = row_count;
    update pgrelay.delivery_queue set event_slot = -1 where id = any (v_deliveries);
end
$$;
comment on function pgrelay.set_aside(smallint, integer) is 'Moves events of a slot that pending deliveries need to outbox_kept. Called by rotate().';

create or replace function pgrelay.keep_needed(p_slot smallint)
returns bigint language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
-- Copy the events of an outbox slot that must not go yet to outbox_kept: owed by an unfinished delivery, or not expanded.
--
-- The slot must be locked already: then whoever found an event there, and owes it now, has committed. Claims wait for
-- that lock too, so the events are looked up one by one and the slot is never read as a whole.
declare
    v_position pg_snapshot := pgrelay.feed_position();
    v_owed bigint[] := array(select distinct event_id from pgrelay.delivery_queue where event_slot = p_slot);
    v_count bigint;
begin
    execute format($sql$
        insert into pgrelay.outbox_kept (slot, id, event_type, source, resource_id, company_id, idempotency_key, occurred_at, only_webhook, valid_until, xid, body)
        select -1, o.id, o.event_type, o.source, o.resource_id, o.company_id, o.idempotency_key, o.occurred_at, o.only_webhook, o.valid_until,
            o.xid, o.body
        from (select * from pgrelay.%1$I where id = any ($1)
              union all select * from pgrelay.%1$I where xid >= pg_snapshot_xmax($2) and not id = any ($1)
              union all select * from pgrelay.%1$I where xid = any (array(select pg_snapshot_xip($2))) and not id = any ($1)) as o$sql$,
        'outbox_' || p_slot) using v_owed, v_position;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function pgrelay.keep_needed(smallint) is 'Copies events of a slot that must not go yet to outbox_kept. Called by rotate().';

create or replace function pgrelay.drop_kept()
returns bigint language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Delete kept events that nothing needs any more. Returns how many.
--
-- Whoever retries or replays an event has read it in the same transaction, so it is looked again behind a lock that
-- readers are in the way of; when it is not had within lock_timeout, the next call will do.
declare
    v_position pg_snapshot := pgrelay.feed_position();
    v_ids bigint[] := array(select k.id from pgrelay.outbox_kept k where pg_visible_in_snapshot(k.xid, v_position)
                                and not exists (select from pgrelay.delivery_queue q where q.event_id = k.id)
                                and not exists (select from pgrelay.replays r where r.status = 'running' and k.id > r.after_id and k.id <= r.last_id));
    v_count bigint := 0;
begin
    if cardinality(v_ids) = 0 then return 0; end if;
    begin
        lock table pgrelay.outbox_kept in access exclusive mode;
    exception when lock_not_available then
        return 0;
    end;
    delete from pgrelay.outbox_kept k where k.id = any (v_ids)
        and not exists (select from pgrelay.delivery_queue q where q.event_id = k.id)
        and not exists (select from pgrelay.replays r where r.status = 'running' and k.id > r.after_id and k.id <= r.last_id);
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function pgrelay.drop_kept() is 'Deletes kept events that nothing needs any more. Called by sweep().';
