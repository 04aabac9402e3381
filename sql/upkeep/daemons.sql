create or replace function pgrelay.sign_on(p_name text, p_host text, p_pid integer, p_version text, p_lease_seconds double precision)
returns bigint language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- A daemon announces itself and gets an id of its own, never used before, which its leases carry.
--
-- Sequences that fell behind their tables (a partial restore, a logical switch-over) are lifted on the way.
declare
    v_id bigint;
begin
    perform setval('pgrelay.outbox_id_seq', greatest((select coalesce(max(id), 0) from pgrelay.outbox) + 1,
                   coalesce(pg_sequence_last_value('pgrelay.outbox_id_seq'), 0) + 1), false);
    perform setval('pgrelay.delivery_queue_id_seq', greatest((select coalesce(max(id), 0) from pgrelay.delivery_queue) + 1,
                   (select coalesce(max(id), 0) from pgrelay.delivery_history) + 1,
                   coalesce(pg_sequence_last_value('pgrelay.delivery_queue_id_seq'), 0) + 1), false);
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
-- A daemon stops in good order. The last one silences the bell, so that captures pay no NOTIFY for nobody.
begin
    update pgrelay.daemons set ended_at = clock_timestamp(), note = 'stopped' where id = p_daemon_id and ended_at is null;
    if not exists (select from pgrelay.daemons where ended_at is null and lease_until > clock_timestamp()) then
        perform setval('pgrelay.wake', 1);
    end if;
end
$$;
comment on function pgrelay.sign_off(bigint) is 'Ends a daemon''s registration.';
