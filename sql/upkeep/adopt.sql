create or replace function pgrelay.identity()
returns table (system_identifier bigint, database_oid oid) language sql stable set search_path = pg_catalog, pg_temp
as $$
-- What tells this database from a copy of it: a restored or cloned one has another database oid or system identifier.
select (select c.system_identifier from pg_control_system() as c), (select oid from pg_database where datname = current_database())
$$;
comment on function pgrelay.identity() is 'Identifies this database among its copies.';

create or replace function pgrelay.copy_problem(p_environment text)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- Why deliveries must not be sent from this database, or null when it is the one that was installed or adopted.
declare
    v_known pgrelay.installation;
    v_system bigint;
    v_database oid;
begin
    select * into v_known from pgrelay.installation;
    if not found then return 'the installation is not recorded; run pgrelay migrate'; end if;
    select i.system_identifier, i.database_oid into v_system, v_database from pgrelay.identity() as i;
    if v_known.system_identifier <> v_system then
        return format('this database was restored or cloned from another cluster (system identifier %s, now %s)', v_known.system_identifier, v_system);
    elsif v_known.database_oid <> v_database then
        return format('this database is a copy within its cluster, or was restored (database oid %s, now %s)', v_known.database_oid, v_database);
    elsif v_known.environment is distinct from p_environment and v_known.environment is not null then
        return format('the configuration says environment %s, the database says %s', p_environment, v_known.environment);
    end if;
    return null;
end
$$;
comment on function pgrelay.copy_problem(text) is 'Why nothing may be sent from this database, or null.';

create or replace function pgrelay.adopt(p_environment text, p_pending text)
returns bigint language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Declare this database the original: p_pending keep sends what was pending when it was copied, cancel does not.
--
-- Transaction ids of another cluster mean nothing here, so events not yet expanded are given this transaction's, and the
-- feed starts anew behind them. Writers of events wait for the moment this takes. Returns how many deliveries were
-- pending or in flight.
declare
    v_count bigint;
    v_last pgrelay.feed_windows;
    v_now pg_snapshot;
begin
    if p_pending not in ('keep', 'cancel') then
        raise exception using errcode = 'PGR23', message = format('pending deliveries: %s', p_pending), hint = 'Say keep or cancel.';
    end if;
    perform set_config('lock_timeout', '5s', true);
    lock table pgrelay.outbox in share row exclusive mode;
    select * into v_last from pgrelay.feed_windows order by id desc limit 1;
    if p_pending = 'keep' then
        update pgrelay.outbox set xid = pg_current_xact_id()
        where not pg_visible_in_snapshot(xid, case when v_last.after_id is null then v_last.to_snapshot else v_last.from_snapshot end)
            or v_last.after_id is not null and id > v_last.after_id and id <= v_last.last_id and not pg_visible_in_snapshot(xid, v_last.from_snapshot);
    end if;
    -- rows that were expanded already must never look new: ids of the other cluster may lie in this one's future
    update pgrelay.outbox set xid = '3'::xid8 where xid >= pg_snapshot_xmax(pg_current_snapshot()) and xid <> pg_current_xact_id();
    -- a snapshot does not list its own transaction as running; to the feed this one must be, so that its events are new
    select format('%s:%s:%s', least(pg_snapshot_xmin(s), own), greatest(pg_snapshot_xmax(s), (own::text::bigint + 1)::text::xid8),
                  (select string_agg(x::text, ',' order by x) from (select pg_snapshot_xip(s) union select own) as running (x)))::pg_snapshot
    into v_now from (select pg_current_snapshot(), pg_current_xact_id()) as t (s, own);
    insert into pgrelay.feed_windows (from_snapshot, to_snapshot) values (v_now, v_now);
    update pgrelay.daemons set ended_at = clock_timestamp(), note = 'of the original database' where ended_at is null;
    update pgrelay.delivery_queue set status = 'pending', leased_by = null, lease_no = lease_no + 1, next_attempt_at = clock_timestamp() where status = 'in_flight';
    select count(*) into v_count from pgrelay.delivery_queue;
    if p_pending = 'cancel' then
        perform pgrelay.finish_pending(array(select id from pgrelay.delivery_queue), 'cancelled', 'pending when the database was copied');
    end if;
    insert into pgrelay.installation as i (environment, system_identifier, database_oid)
    select p_environment, d.system_identifier, d.database_oid from pgrelay.identity() as d
    on conflict (singleton) do update set environment = excluded.environment, system_identifier = excluded.system_identifier,
        database_oid = excluded.database_oid, adopted_at = clock_timestamp(), adopted_by = session_user;
    return v_count;
end
$$;
comment on function pgrelay.adopt(text, text) is 'Declares this database the original, after a restore or clone: pgrelay.adopt(''staging'', ''cancel'').';
revoke execute on function pgrelay.adopt(text, text) from public;
