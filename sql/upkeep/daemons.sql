create or replace function pgrelay.lift_sequences()
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Lift sequences that fell behind their tables (a partial restore, a logical switch-over), so that no id comes twice.
--
-- The table is read first and the sequence after it: ids drawn meanwhile by writers make the sequence larger, never
-- behind, so that one that is in order is not touched. setval() on a live sequence would hand out ids again.
declare
    v_table text;
    v_sequence text;
    v_highest bigint;
begin
    for v_table, v_sequence in values
        ('outbox', 'outbox_id_seq'), ('delivery_queue', 'delivery_queue_id_seq'), ('delivery_history', 'delivery_queue_id_seq'),
        ('feed_windows', 'feed_windows_id_seq'), ('metric_deltas', 'metric_deltas_id_seq'), ('daemons', 'daemons_id_seq'),
        ('webhook_totals', 'webhook_totals_id_seq'), ('webhook_configurations', 'webhook_configurations_id_seq'), ('sources', 'sources_id_seq') loop
        execute format('select max(id) from pgrelay.%I', v_table) into v_highest;
        if v_highest > coalesce(pg_sequence_last_value(format('pgrelay.%I', v_sequence)), 0) then
            perform setval(format('pgrelay.%I', v_sequence), v_highest);
        end if;
    end loop;
end
$$;
comment on function pgrelay.lift_sequences() is 'Lifts sequences that fell behind their tables.';

create or replace function pgrelay.sign_on(p_name text, p_host text, p_pid integer, p_version text, p_lease_seconds double precision)
returns bigint language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- A daemon announces itself and gets an id of its own, never used before, which its leases carry.
declare
    v_id bigint;
begin
    perform pgrelay.lift_sequences();
    insert into pgrelay.daemons (name, host, pid, version, lease_until)
    values (p_name, p_host, p_pid, p_version, clock_timestamp() + p_lease_seconds * interval '1 second')
    returning id into v_id;
    return v_id;
end
$$;
comment on function pgrelay.sign_on(text, text, integer, text, double precision) is 'Registers a daemon and returns its id.';

create or replace function pgrelay.heartbeat(p_daemon_id bigint, p_lease_seconds double precision, p_listening boolean, p_note text)
returns boolean language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Prolong a daemon's lease. False when it was declared dead: its deliveries are taken back, it must sign on anew.
begin
    update pgrelay.daemons
    set heartbeat_at = clock_timestamp(), lease_until = clock_timestamp() + p_lease_seconds * interval '1 second', listening = p_listening, note = p_note
    where id = p_daemon_id and ended_at is null;
    return found;
end
$$;
comment on function pgrelay.heartbeat(bigint, double precision, boolean, text) is 'Prolongs a daemon''s lease; false when it was declared dead.';

create or replace function pgrelay.sign_off(p_daemon_id bigint)
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- A daemon stops in good order; what it could not record or give back is taken back, as if it had died. The last one
-- silences the bell, so that captures pay no NOTIFY for nobody. One that leaves others behind turns it on, for it may
-- have been the busy one that turned it off, and tells them so: writers that saw it off may still be open.
begin
    update pgrelay.daemons set ended_at = clock_timestamp(), note = 'stopped' where id = p_daemon_id and ended_at is null;
    delete from pgrelay.webhook_owners where daemon_id = p_daemon_id;
    perform pgrelay.release_ended();
    if exists (select from pgrelay.daemons where ended_at is null and lease_until > clock_timestamp()) then
        perform setval('pgrelay.wake', 2);
        perform pg_notify('pgrelay', 'settle');
    else
        perform setval('pgrelay.wake', 1);
    end if;
end
$$;
comment on function pgrelay.sign_off(bigint) is 'Ends a daemon''s registration.';
