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
    if not found then return 'nothing says that this database is the original; run pgrelay adopt'; end if;
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

-- The database where this is installed first is the original; in a copy the row is there already.
insert into pgrelay.installation (system_identifier, database_oid)
select i.system_identifier, i.database_oid from pgrelay.identity() as i on conflict do nothing;

create or replace function pgrelay.adopt(p_environment text, p_pending text)
returns bigint language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Declare this database the original: p_pending keep sends what was pending when it was copied, cancel does not.
--
-- Transaction ids of another cluster mean nothing here, so events not yet expanded are given this transaction's, and the
-- feed starts anew behind them. Writers of events, and claims, wait for the moment this takes. Returns how many
-- deliveries were pending or in flight.
declare
    v_count bigint;
    v_last pgrelay.feed_windows;
    v_own xid8;
    v_running pg_snapshot;
    v_now pg_snapshot;
begin
    if p_pending is null or p_pending not in ('keep', 'cancel') then
        raise exception using errcode = 'PGR23', message = format('pending deliveries: %s', coalesce(p_pending, 'null')), hint = 'Say keep or cancel.';
    end if;
    perform set_config('lock_timeout', '5s', true);
    perform pg_advisory_xact_lock(hashtext('pgrelay'), hashtext('expand'));
    lock table pgrelay.outbox, pgrelay.delivery_queue in share row exclusive mode;
    perform pgrelay.lift_sequences();
    select * into v_last from pgrelay.feed_windows order by id desc limit 1;
    v_own := pg_current_xact_id();
    v_running := pg_current_snapshot();

    -- ids that are not over yet in this cluster, or lie in its future, would make old events look new one day
    update pgrelay.outbox o set xid = '3'::xid8
    where o.xid >= least(pg_snapshot_xmin(v_running), v_own)
        and (p_pending = 'cancel' or pg_visible_in_snapshot(o.xid, v_last.to_snapshot)
             and (v_last.after_id is null or o.id <= v_last.after_id or pg_visible_in_snapshot(o.xid, v_last.from_snapshot)));
    if p_pending = 'keep' then
        update pgrelay.outbox o set xid = v_own
        where not pg_visible_in_snapshot(o.xid, v_last.to_snapshot)
            or v_last.after_id is not null and o.id > v_last.after_id and not pg_visible_in_snapshot(o.xid, v_last.from_snapshot);
    end if;
    -- A snapshot does not list its own transaction as running, nor those that began after the last that ended: to the
    -- feed this one must be running, so that its events are new, and so must be all that wait for the lock.
    select format('%s:%s:%s', least(pg_snapshot_xmin(v_running), v_own), greatest(pg_snapshot_xmax(v_running)::text::bigint, v_own::text::bigint + 1),
                  string_agg(x::text, ',' order by x))::pg_snapshot into v_now
    from (select pg_snapshot_xip(v_running)::text::bigint union select v_own::text::bigint
          union select generate_series(pg_snapshot_xmax(v_running)::text::bigint, v_own::text::bigint)) as running (x);
    -- twice, for the last but one is asked, too: since when order_releases are to be looked at
    insert into pgrelay.feed_windows (from_snapshot, to_snapshot) values (v_now, v_now), (v_now, v_now);
    update pgrelay.order_releases set xid = v_own;

    -- a person looks which of them the original has gone on with
    update pgrelay.replays set status = 'stopped', ended_at = clock_timestamp(), note = 'running when the database was copied' where status = 'running';
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
    perform pgrelay.ring_bell();
    return v_count;
end
$$;
comment on function pgrelay.adopt(text, text) is 'Declares this database the original, after a restore or clone: pgrelay.adopt(''staging'', ''cancel'').';
