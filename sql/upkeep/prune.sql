create or replace function pgrelay.rotate(p_ring text, p_retention_seconds double precision)
returns text language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Move a ring on when its time has come: empty the next slot and let new rows go there. Returns what it did, or null.
--
-- A slot is written for a sixth of the retention; it is emptied by TRUNCATE when everything in it is older than that.
-- TRUNCATE locks the slot alone, not the ring, and gives up after 100 ms: next time is soon enough, and until then the
-- current slot is simply written longer. Events that an unfinished delivery still needs are kept aside first.
declare
    v_sequence regclass := format('pgrelay.%I', case p_ring when 'outbox' then 'outbox_slot' when 'delivery_history' then 'history_slot' else 'attempts_slot' end);
    v_now timestamptz := clock_timestamp();
    v_span interval := p_retention_seconds / 6 * interval '1 second';
    v_current smallint := pg_sequence_last_value(v_sequence);
    v_next smallint := (v_current + 1) % 8;
    v_opened timestamptz;
    v_closed timestamptz;
    v_done text;
    v_slot smallint;
    v_kept bigint;
begin
    if not pg_try_advisory_xact_lock(hashtext('pgrelay'), hashtext('rotate ' || p_ring)) then return null; end if;
    perform set_config('lock_timeout', '100ms', true);
    for v_slot in select slot from pgrelay.ring_slots
                  where ring = p_ring and slot <> v_current and closed_at < v_now - p_retention_seconds * interval '1 second' order by closed_at loop
        begin
            execute format('lock table pgrelay.%I in access exclusive mode', p_ring || '_' || v_slot);
        exception when lock_not_available then
            continue;
        end;
        if p_ring = 'outbox' then
            -- not yet expanded, or owed by an unfinished delivery: to the slot that is never emptied
            execute format('insert into pgrelay.outbox_kept select -1, id, event_type, source, resource_id, company_id, idempotency_key, occurred_at,
                                   only_webhook, xid, body from pgrelay.%I o
                            where o.id in (select event_id from pgrelay.delivery_queue)
                               or not pg_visible_in_snapshot(o.xid, (select case when after_id is null then to_snapshot else from_snapshot end
                                                                      from pgrelay.feed_windows order by id desc limit 1))', 'outbox_' || v_slot);
            get diagnostics v_kept = row_count;
        end if;
        execute format('truncate pgrelay.%I', p_ring || '_' || v_slot);
        update pgrelay.ring_slots set opened_at = null, closed_at = null where ring = p_ring and slot = v_slot;
        v_done := concat_ws(', ', v_done, format('emptied slot %s', v_slot), case when v_kept > 0 then format('kept %s events', v_kept) end);
    end loop;
    if p_ring = 'outbox' then
        delete from pgrelay.outbox_kept k where not exists (select from pgrelay.delivery_queue q where q.event_id = k.id)
            and pg_visible_in_snapshot(k.xid, (select case when after_id is null then to_snapshot else from_snapshot end from pgrelay.feed_windows order by id desc limit 1));
    end if;
    select opened_at into v_opened from pgrelay.ring_slots where ring = p_ring and slot = v_current;
    select closed_at into v_closed from pgrelay.ring_slots where ring = p_ring and slot = v_next;
    if v_opened < v_now - v_span and v_closed is null then
        update pgrelay.ring_slots set closed_at = v_now where ring = p_ring and slot = v_current;
        update pgrelay.ring_slots set opened_at = v_now where ring = p_ring and slot = v_next;
        perform setval(v_sequence, v_next);
        v_done := concat_ws(', ', v_done, format('writing slot %s now', v_next));
    end if;
    return v_done;
end
$$;
comment on function pgrelay.rotate(text, double precision) is 'Moves a ring to its next slot and empties slots past their retention. Called by the daemon.';

create or replace function pgrelay.prune(p_retention_seconds double precision)
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Small tables, in small bites: feed positions but the last hundred, old minutes, daemons and deadline firings past retention.
declare
    v_before timestamptz := clock_timestamp() - p_retention_seconds * interval '1 second';
begin
    delete from pgrelay.feed_windows where id < (select max(id) - 100 from pgrelay.feed_windows);
    delete from pgrelay.metric_minutes where minute < v_before;
    delete from pgrelay.daemons where ended_at < v_before
        or ended_at < clock_timestamp() - interval '1 day' and id < (select max(id) - 1000 from pgrelay.daemons);
    delete from pgrelay.deadline_fires where fired_at < v_before and fire_at < v_before;
    delete from pgrelay.capture_errors where recaptured_at < v_before;
end
$$;
comment on function pgrelay.prune(double precision) is 'Deletes old rows of the small tables. Called by the daemon.';
