create or replace function pgrelay.unwatch_sql(p_name text)
returns setof text language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- The statements that stop watching a source. Its events and deliveries stay.
declare
    v_table regclass;
    v_trigger text;
begin
    -- by their function, so that they are found on a table that was renamed since; partitions follow their parent
    for v_table, v_trigger in
        select tgrelid, tgname from pg_trigger
        where tgfoid = to_regprocedure(format('pgrelay.%I()', 'capture_' || p_name)) and tgparentid = 0 order by tgrelid, tgname
    loop
        continue when not (select pg_has_role(relowner, 'USAGE') from pg_class where oid = v_table);
        return next format('drop trigger %I on %s', v_trigger, v_table);
    end loop;
    -- who has TRIGGER on the table may not drop a trigger there, but may drop the function with its triggers
    return next format('drop function if exists pgrelay.%I() cascade', 'capture_' || p_name);
    return next format('drop function if exists pgrelay.%I(pgrelay.capture_errors)', 'recapture_' || p_name);
    return next format('drop function if exists pgrelay.%I(text, text, timestamptz)', 'fire_' || p_name);
    return next format('drop function if exists pgrelay.%I(integer, text, record, record, text, timestamptz)', 'body_' || p_name);
end
$$;
comment on function pgrelay.unwatch_sql(text) is 'The statements that pgrelay.unwatch() would run for a source.';

create or replace function pgrelay.unwatch(p_name text, p_owner text default 'sql')
returns boolean language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Stop watching: triggers and functions of the source go, its armed deadlines are disarmed; events and deliveries stay.
-- False when there is no such source. Only its owner may (PGR14).
declare
    v_owner text;
    v_statement text;
begin
    perform pg_advisory_xact_lock(hashtext('pgrelay'), hashtext('watch'));
    select owner into v_owner from pgrelay.sources where name = p_name;
    if not found then return false; end if;
    if v_owner <> p_owner then
        raise exception using errcode = 'PGR14', message = format('source %s belongs to %s, not to %s', p_name, v_owner, p_owner),
            hint = format('Say so: select pgrelay.unwatch(%L, %L);', p_name, v_owner);
    end if;
    for v_statement in select pgrelay.unwatch_sql(p_name) loop
        execute v_statement;
    end loop;
    delete from pgrelay.deadlines where source = p_name;
    delete from pgrelay.sources where name = p_name;
    return true;
end
$$;
comment on function pgrelay.unwatch(text, text) is 'Stops watching a source; its events and deliveries stay.';
revoke execute on function pgrelay.unwatch(text, text) from public;
