create or replace function pgrelay.watch_operations(p_table regclass, p_definition jsonb)
returns text[] language sql stable set search_path = pg_catalog, pg_temp
as $$
-- The operations a source needs triggers for. A partitioned table always needs all, to recognise moved rows.
select array(
    select distinct o from (
        select unnest(pgrelay.compile_operations(r)) as o from jsonb_array_elements(p_definition -> 'events') as r
        union all select unnest(array['INSERT', 'UPDATE']) from jsonb_array_elements(p_definition -> 'events') as r where r ? 'at'
        union all select unnest(array['INSERT', 'UPDATE', 'DELETE']) from pg_class where oid = p_table and relkind = 'p') as x
    order by o)
$$;
comment on function pgrelay.watch_operations(regclass, jsonb) is 'The operations that a source needs triggers for.';

create or replace function pgrelay.watch_unarmed(p_table regclass, p_definition jsonb)
returns setof jsonb language sql stable set search_path = pg_catalog, pg_temp
as $$
-- The deadline rules of a definition for which rows that exist already are not armed yet.
select r from jsonb_array_elements(p_definition -> 'events') as r
where r ? 'at' and not exists (
    select from pgrelay.event_rules e join pgrelay.sources s on s.id = e.source_id
    where s.name = p_definition ->> 'name' and s.watched_table = p_table::text and e.event_type = r ->> 'event' and e.deadline = r ->> 'at'
        and s.definition -> 'timezone' is not distinct from p_definition -> 'timezone'
        and s.definition -> 'key' is not distinct from p_definition -> 'key')
$$;
comment on function pgrelay.watch_unarmed(regclass, jsonb) is 'Deadline rules for which rows are to be armed.';

create or replace function pgrelay.watch_arm(p_table regclass, p_definition jsonb, p_rule jsonb, p_since xid8 default null)
returns void language plpgsql set search_path = pg_catalog, pg_temp set row_security = off
as $$
-- Arm the deadlines of rows that exist already, or of those that p_since and later transactions wrote, when they lie in the
-- future and whatever else their rows say: that is looked at when the time has come. Arming twice costs no event.
begin
    execute format('insert into pgrelay.deadlines (source, event_type, resource_id, fire_at)
                    select %1$L, %2$L, new.%3$I::text, %4$s from %5$s as new
                    where %4$s > clock_timestamp() and isfinite(%4$s) and new.%3$I is not null and ($1 is null or age(new.xmin) <= age($1))',
        p_definition ->> 'name', p_rule ->> 'event', pgrelay.compile_key(p_table, p_definition),
        pgrelay.compile_deadline(p_table, p_definition, p_rule), p_table) using p_since::xid;
end
$$;
comment on function pgrelay.watch_arm(regclass, jsonb, jsonb, xid8) is 'Arms the deadlines of rows that exist already.';

create or replace function pgrelay.watch_statements(p_table regclass, p_definition jsonb)
returns setof text language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- The statements that make the database watch a source that was checked; running them twice changes nothing.
--
-- The triggers name no column: a column in WHEN or UPDATE OF would make the application's own ALTER TABLE fail. They have no
-- WHEN at all: whatever it says, it is read and prepared for each statement anew, 4 us. Their names sort late, to fire
-- after the application's own. A new trigger takes SHARE ROW EXCLUSIVE on the table for a moment; one that is there
-- already is left alone, so that changed rules only replace functions, which locks nothing. Only a new deadline makes
-- its INSERT trigger again: the lock waits for writers that did not know of it, before rows are armed.
declare
    v_name text := p_definition ->> 'name';
    v_capture regprocedure := to_regprocedure(format('pgrelay.%I()', 'capture_' || v_name));
    v_mine boolean := (select pg_has_role(relowner, 'USAGE') from pg_class where oid = p_table);
    v_owner name := (select rolname from pg_namespace n join pg_roles r on r.oid = n.nspowner where nspname = 'pgrelay');
    v_operations text[] := pgrelay.watch_operations(p_table, p_definition);
    v_operation text;
    v_text text;
    v_elsewhere regclass;
begin
    return next pgrelay.compile_body(p_table, p_definition);
    return next format('revoke execute on function pgrelay.%I(integer, text, record, record, text, timestamptz) from public', 'body_' || v_name);
    v_text := pgrelay.compile_fire(p_table, p_definition);
    if v_text is not null then
        return next v_text;
        return next format('revoke execute on function pgrelay.%I(text, text, timestamptz) from public', 'fire_' || v_name);
        if v_owner <> current_user then
            return next format('grant execute on function pgrelay.%I(text, text, timestamptz) to %I', 'fire_' || v_name, v_owner);
        end if;
    elsif to_regprocedure(format('pgrelay.%I(text, text, timestamptz)', 'fire_' || v_name)) is not null then
        return next format('drop function pgrelay.%I(text, text, timestamptz)', 'fire_' || v_name);
    end if;
    return next pgrelay.compile_recapture(p_table, p_definition);
    return next format('revoke execute on function pgrelay.%I(pgrelay.capture_errors) from public', 'recapture_' || v_name);
    if v_owner <> current_user then
        return next format('grant execute on function pgrelay.%I(pgrelay.capture_errors) to %I', 'recapture_' || v_name, v_owner);
    end if;
    return next pgrelay.compile_trigger(p_table, p_definition);
    return next format('revoke execute on function pgrelay.%I() from public', 'capture_' || v_name);
    foreach v_operation in array array['insert', 'update', 'delete'] loop
        v_text := format('zz_pgrelay_%s_%s', v_name, v_operation);
        if not upper(v_operation) = any (v_operations) then
            -- only the table's owner may drop it; left behind it finds no rule
            if v_mine and exists (select from pg_trigger where tgrelid = p_table and tgname = v_text) then
                return next format('drop trigger %I on %s', v_text, p_table);
            end if;
        elsif not exists (select from pg_trigger where tgrelid = p_table and tgname = v_text and tgfoid = v_capture)
              or v_operation = 'insert' and exists (select from pgrelay.watch_unarmed(p_table, p_definition)) then
            return next format('create or replace trigger %I after %s on %s for each row execute function pgrelay.%I()', v_text, v_operation, p_table,
                'capture_' || v_name);
        end if;
    end loop;
    -- a table that had this name when the source was applied last, and another name now
    for v_elsewhere, v_text in
        select tgrelid, tgname from pg_trigger where tgfoid = v_capture and tgparentid = 0 and tgrelid <> p_table order by tgrelid, tgname
    loop
        return next format('drop trigger %I on %s', v_text, v_elsewhere);
    end loop;
end
$$;
comment on function pgrelay.watch_statements(regclass, jsonb) is 'The statements that watch a source, once it was checked.';

create or replace function pgrelay.watch_sql(p_definition jsonb)
returns setof text language sql set search_path = pg_catalog, pg_temp
as $$
-- For people and plans; a definition that could not work is refused as by pgrelay.watch().
select pgrelay.watch_statements(pgrelay.watch_check(p_definition), p_definition)
$$;
comment on function pgrelay.watch_sql(jsonb) is 'The statements that pgrelay.watch() would run for a definition.';

create or replace function pgrelay.watch(p_definition jsonb, p_owner text default 'sql')
returns integer language plpgsql set search_path = pg_catalog, pg_temp set row_security = off
as $$
-- Watch a table as the definition says; the same keys as a source in the configuration file. Returns the source's id.
--
-- All or nothing, and the same again for a source that is there already. Deadlines of rows that exist already are armed
-- twice: all before a trigger locks the table, then those written meanwhile.
declare
    v_name text := p_definition ->> 'name';
    v_table regclass := pgrelay.watch_check(p_definition);
    v_owner text;
    v_old regclass;
    v_id integer;
    v_statement text;
    v_unarmed jsonb[];
    v_seen xid8;
begin
    perform pg_advisory_xact_lock(hashtext('pgrelay'), hashtext('watch'));
    select owner, to_regclass(watched_table) into v_owner, v_old from pgrelay.sources where name = v_name;
    if v_owner <> p_owner then
        raise exception using errcode = 'PGR14', message = format('source %s belongs to %s, not to %s', v_name, v_owner, p_owner),
            hint = 'Give this source another name, or use the same owner in both configuration files.';
    end if;
    if v_old is not null and v_old <> v_table then perform pgrelay.unwatch(v_name, p_owner); end if;
    v_unarmed := array(select pgrelay.watch_unarmed(v_table, p_definition));
    v_seen := pg_snapshot_xmin(pg_current_snapshot());
    perform pgrelay.watch_arm(v_table, p_definition, v_rule) from unnest(v_unarmed) as v_rule;
    for v_statement in select pgrelay.watch_statements(v_table, p_definition) loop
        execute v_statement;
    end loop;
    insert into pgrelay.sources as s (name, owner, watched_table, definition, columns, triggers)
    values (v_name, p_owner, v_table::text, p_definition,
        array(select attname::text from pg_attribute where attrelid = v_table and attnum > 0 and not attisdropped order by attnum),
        array(select format('zz_pgrelay_%s_%s', v_name, lower(o)) from unnest(pgrelay.watch_operations(v_table, p_definition)) as o))
    on conflict (name) do update set watched_table = excluded.watched_table, definition = excluded.definition,
        columns = excluded.columns, triggers = excluded.triggers, installed_at = clock_timestamp(), installed_by = session_user
    returning id into v_id;
    delete from pgrelay.event_rules where source_id = v_id;
    insert into pgrelay.event_rules (source_id, number, event_type, operations, condition, deadline)
    select v_id, n, r ->> 'event', pgrelay.compile_operations(r),
           pgrelay.compile_condition(v_table, r, coalesce((pgrelay.compile_operations(r))[1], 'INSERT')), r ->> 'at'
    from jsonb_array_elements(p_definition -> 'events') with ordinality as e(r, n);
    perform pgrelay.watch_arm(v_table, p_definition, v_rule, v_seen) from unnest(v_unarmed) as v_rule;
    return v_id;
end
$$;
comment on function pgrelay.watch(jsonb, text) is
    'Watches a table: pgrelay.watch(''{"name": ..., "table": ..., "tenant": ..., "events": [...]}''). Same keys as in the configuration file.';
revoke execute on function pgrelay.watch(jsonb, text) from public;
