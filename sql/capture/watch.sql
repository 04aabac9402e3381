create or replace function pgrelay.watch_check(p_definition jsonb)
returns regclass language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Refuse a definition that could not work, before anything is made of it: names, columns and every SQL expression.
--
-- Expressions are planned, not run, over null rows of the table's type, so that TRIGGER on the table is privilege
-- enough. Returns the table.
declare
    v_name text := p_definition ->> 'name';
    v_table regclass := to_regclass(p_definition ->> 'table');
    v_rule jsonb;
    v_key text;
    v_sql text;
    v_where text;
    v_operation text;
    v_seen text[] := '{}';
begin
    if v_name is null or v_name !~ '^[a-z][a-z0-9_]{0,39}$' then
        perform pgrelay.compile_error(coalesce(v_name, '(none)'), 'name', 'a name is 1 to 40 of a-z, 0-9 and _, a letter first');
    end if;
    select k into v_key from jsonb_object_keys(p_definition) as k where k not in
        ('name', 'table', 'key', 'tenant', 'resource', 'prefix', 'timezone', 'record', 'payload', 'events') limit 1;
    if found then perform pgrelay.compile_error(v_name, v_key, 'there is no such key'); end if;
    if p_definition::text like '%$pgrelay$%' then
        perform pgrelay.compile_error(v_name, 'definition', 'the text $pgrelay$ is reserved');
    end if;
    if v_table is null then
        perform pgrelay.compile_error(v_name, 'table', format('there is no table %s', p_definition ->> 'table'),
            'Write it with its schema (public.orders); the role that applies needs USAGE on the schema.');
    end if;
    if (select relkind from pg_class where oid = v_table) not in ('r', 'p') then
        perform pgrelay.compile_error(v_name, 'table', format('%s is not a table', v_table));
    end if;
    if not has_table_privilege(v_table, 'TRIGGER') then
        raise exception using errcode = 'PGR12', message = format('source %s: no TRIGGER privilege on %s', v_name, v_table),
            hint = format('grant trigger on %s to %I;', v_table, current_user);
    end if;
    foreach v_key in array array['resource', 'prefix'] loop
        if p_definition ? v_key and p_definition ->> v_key !~ '^[a-z][a-z0-9_]{0,39}$' then
            perform pgrelay.compile_error(v_name, v_key, 'use 1 to 40 of a-z, 0-9 and _, a letter first');
        end if;
    end loop;
    if p_definition ? 'timezone' then
        begin
            perform now() at time zone (p_definition ->> 'timezone');
        exception when others then
            perform pgrelay.compile_error(v_name, 'timezone', sqlerrm);
        end;
    end if;
    if coalesce(jsonb_typeof(p_definition -> 'tenant'), '') not in ('string', 'object') then
        perform pgrelay.compile_error(v_name, 'tenant', 'missing',
            'Name the tenant column (tenant: company_id), or tenant: {value: main} for a table without tenants.');
    end if;
    if coalesce(jsonb_typeof(p_definition -> 'events'), '') <> 'array' or jsonb_array_length(p_definition -> 'events') = 0 then
        perform pgrelay.compile_error(v_name, 'events', 'a source needs at least one rule');
    end if;
    perform pgrelay.compile_key(v_table, p_definition);
    for v_rule in select jsonb_array_elements(p_definition -> 'events') loop
        v_where := coalesce(v_rule ->> 'event', '(no event)');
        if v_rule ->> 'event' is null or v_rule ->> 'event' !~ '^[a-z0-9_]+(\.[a-z0-9_]+){1,2}$' then
            perform pgrelay.compile_error(v_name, v_where, 'an event type is two or three words of a-z, 0-9 and _, with dots between');
        end if;
        if v_where = any (v_seen) then
            perform pgrelay.compile_error(v_name, v_where, 'two rules of one source make the same event',
                'Join their conditions with or, in one rule.');
        end if;
        v_seen := v_seen || v_where;
        if v_rule ? 'at' then
            if v_rule ?| array['on', 'becomes', 'changes'] then
                perform pgrelay.compile_error(v_name, v_where, 'at stands alone with when; on, becomes and changes are for writes');
            end if;
            perform pgrelay.compile_deadline(v_table, p_definition, v_rule);
            if not has_table_privilege(v_table, 'SELECT') then
                raise exception using errcode = 'PGR12', message = format('source %s, %s: no SELECT privilege on %s', v_name, v_where, v_table),
                    hint = format('A deadline is checked on the live row: grant select on %s to %I;', v_table, current_user);
            end if;
        elsif not v_rule ?| array['on', 'becomes', 'changes'] then
            perform pgrelay.compile_error(v_name, v_where, 'nothing says when it fires', 'Give it on, becomes, changes or at.');
        end if;
        if not pgrelay.compile_operations(v_rule) <@ array['INSERT', 'UPDATE', 'DELETE'] then
            perform pgrelay.compile_error(v_name, v_where, format('on: %s', v_rule -> 'on'), 'Use insert, update, delete or a list of them.');
        end if;
        begin
            for v_operation in select unnest(case when v_rule ? 'at' then array['INSERT'] else pgrelay.compile_operations(v_rule) end) loop
                perform pgrelay.watch_try(v_table, format('(%s)::boolean', pgrelay.compile_condition(v_table, v_rule, v_operation)));
            end loop;
        exception when sqlstate 'PGR11' or sqlstate 'PGR13' then
            perform pgrelay.compile_error(v_name, v_where, 'its condition fails: ' || sqlerrm, pgrelay.watch_hint(sqlerrm));
        end;
        for v_key, v_sql in
            select 'payload.extra.' || key, value from jsonb_each_text(
                coalesce(p_definition #> '{payload,extra}', '{}') || coalesce(v_rule #> '{payload,extra}', '{}'))
            union all select 'payload.row', coalesce(v_rule #>> '{payload,row}', p_definition #>> '{payload,row}')
            union all select 'tenant.sql', p_definition #>> '{tenant,sql}'
        loop
            continue when v_sql is null;
            begin
                perform pgrelay.watch_try(v_table, format(E'pg_catalog.to_json((\n%s\n))', v_sql));
            exception when sqlstate 'PGR13' then
                perform pgrelay.compile_error(v_name, v_where || ' ' || v_key, sqlerrm, pgrelay.watch_hint(sqlerrm));
            end;
        end loop;
    end loop;
    if jsonb_typeof(p_definition -> 'tenant') = 'string' then
        begin
            perform pgrelay.compile_comparable(v_table, p_definition ->> 'tenant', 'new');
        exception when sqlstate 'PGR11' then
            perform pgrelay.compile_error(v_name, 'tenant', sqlerrm, 'Name the tenant column, or use tenant: {value: main} for a table without tenants.');
        end;
    end if;
    return v_table;
end
$$;
comment on function pgrelay.watch_check(jsonb) is 'Refuses a definition that could not work (PGR10, PGR12); returns its table.';

create or replace function pgrelay.watch_try(p_table regclass, p_expression text)
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Plan an expression over new and old without running it. PGR13 with Postgres's own words when it cannot be.
begin
    execute format(E'explain select %s from (select (null::%s).*) as new, (select (null::%s).*) as old', p_expression, p_table, p_table);
exception when others then
    if sqlstate like '40%' or sqlstate like '57%' then raise; end if;
    raise exception using errcode = 'PGR13', message = sqlerrm;
end
$$;
comment on function pgrelay.watch_try(regclass, text) is 'Plans an expression over new and old; PGR13 when that fails.';

create or replace function pgrelay.watch_hint(p_message text)
returns text language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- What usually mends an expression that Postgres refused.
select case
    when p_message like 'relation % does not exist' then 'Write the table with its schema (public.branches): expressions are resolved in pg_catalog alone.'
    when p_message like 'function % does not exist' then 'Write the function with its schema and check the types of its arguments.'
    when p_message like 'column new.% does not exist' or p_message like 'column old.% does not exist' then 'new and old are rows of the watched table; compare the name with \d of it.'
    when p_message like 'permission denied for %' then 'The role that applies the configuration needs this privilege: the expression runs as that role.'
    when p_message like 'could not determine polymorphic type%' then 'Cast the literal: ''high''::text.'
    else 'It is SQL over new and old, the row after and before the change.' end
$$;
comment on function pgrelay.watch_hint(text) is 'A hint for an expression that Postgres refused.';

create or replace function pgrelay.watch_sql(p_definition jsonb)
returns setof text language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- The statements that make the database watch a source, in order; running them twice changes nothing.
--
-- The triggers name no column: a column in WHEN or UPDATE OF would make the application's own ALTER TABLE fail. The
-- comparison of row images (*<>) needs no equality operator, so json columns are fine. Their names sort late, to fire
-- after the application's own. A new trigger takes SHARE ROW EXCLUSIVE on the table for a moment; one that is there
-- already is left alone, so that changed rules only replace functions, which locks nothing.
declare
    v_table regclass := pgrelay.watch_check(p_definition);
    v_name text := p_definition ->> 'name';
    v_operations text[];
    v_operation text;
    v_text text;
begin
    return next pgrelay.compile_body(v_table, p_definition);
    return next format('revoke execute on function pgrelay.%I(integer, text, record, record, text, timestamptz) from public', 'body_' || v_name);
    v_text := pgrelay.compile_fire(v_table, p_definition);
    if v_text is not null then
        return next v_text;
        return next format('revoke execute on function pgrelay.%I(text, text, timestamptz) from public', 'fire_' || v_name);
    elsif to_regprocedure(format('pgrelay.%I(text, text, timestamptz)', 'fire_' || v_name)) is not null then
        return next format('drop function pgrelay.%I(text, text, timestamptz)', 'fire_' || v_name);
    end if;
    return next pgrelay.compile_recapture(v_table, p_definition);
    return next format('revoke execute on function pgrelay.%I(pgrelay.capture_errors) from public', 'recapture_' || v_name);
    return next pgrelay.compile_trigger(v_table, p_definition);
    return next format('revoke execute on function pgrelay.%I() from public', 'capture_' || v_name);
    v_operations := pgrelay.watch_operations(v_table, p_definition);
    foreach v_operation in array array['insert', 'update', 'delete'] loop
        v_text := format('zz_pgrelay_%s_%s', v_name, v_operation);
        if exists (select from pg_trigger where tgrelid = v_table and tgname = v_text) then
            if not upper(v_operation) = any (v_operations) then return next format('drop trigger %I on %s', v_text, v_table); end if;
        elsif upper(v_operation) = any (v_operations) then
            return next format('create trigger %I after %s on %s for each row%s execute function pgrelay.%I()', v_text, v_operation, v_table,
                case v_operation when 'update' then ' when (old.* operator(pg_catalog.*<>) new.*)' else '' end, 'capture_' || v_name);
        end if;
    end loop;
end
$$;
comment on function pgrelay.watch_sql(jsonb) is 'The statements that pgrelay.watch() would run for a definition.';

create or replace function pgrelay.watch_operations(p_table regclass, p_definition jsonb)
returns text[] language sql stable set search_path = pg_catalog, pg_temp
as $$
-- The operations a source needs triggers for. A partitioned table always needs DELETE, to recognise moved rows.
select array(
    select distinct o from (
        select unnest(pgrelay.compile_operations(r)) as o from jsonb_array_elements(p_definition -> 'events') as r
        union all select unnest(array['INSERT', 'UPDATE']) from jsonb_array_elements(p_definition -> 'events') as r where r ? 'at'
        union all select unnest(array['INSERT', 'UPDATE', 'DELETE']) from pg_class where oid = p_table and relkind = 'p') as x
    order by o)
$$;
comment on function pgrelay.watch_operations(regclass, jsonb) is 'The operations that a source needs triggers for.';

create or replace function pgrelay.watch(p_definition jsonb, p_owner text default 'sql')
returns integer language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Watch a table as the definition says; the same keys as a source in the configuration file. Returns the source's id.
--
-- All or nothing, and the same again for a source that is there already. Deadlines of rows that exist already are armed
-- when they lie in the future.
declare
    v_name text := p_definition ->> 'name';
    v_table regclass := pgrelay.watch_check(p_definition);
    v_owner text;
    v_old regclass;
    v_id integer;
    v_statement text;
    v_rule jsonb;
    v_armed text[];
begin
    perform pg_advisory_xact_lock(hashtext('pgrelay'), hashtext('watch'));
    select owner, to_regclass(watched_table) into v_owner, v_old from pgrelay.sources where name = v_name;
    if v_owner <> p_owner then
        raise exception using errcode = 'PGR14', message = format('source %s belongs to %s, not to %s', v_name, v_owner, p_owner),
            hint = 'Give this source another name, or use the same owner in both configuration files.';
    end if;
    v_armed := array(select event_type from pgrelay.event_rules join pgrelay.sources s on s.id = source_id
                     where s.name = v_name and deadline is not null and s.watched_table = v_table::text);
    if v_old is not null and v_old <> v_table then perform pgrelay.unwatch(v_name, p_owner); end if;
    for v_statement in select pgrelay.watch_sql(p_definition) loop
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
    for v_rule in select r from jsonb_array_elements(p_definition -> 'events') as r
                  where r ? 'at' and not r ->> 'event' = any (v_armed) loop
        execute format('insert into pgrelay.deadlines (source, event_type, resource_id, fire_at)
                        select %L, %L, new.%I::text, %s from %s as new where %s > clock_timestamp() and %s',
            v_name, v_rule ->> 'event', pgrelay.compile_key(v_table, p_definition), pgrelay.compile_deadline(v_table, p_definition, v_rule),
            v_table, pgrelay.compile_deadline(v_table, p_definition, v_rule), pgrelay.compile_condition(v_table, v_rule, 'INSERT'));
    end loop;
    return v_id;
end
$$;
comment on function pgrelay.watch(jsonb, text) is
    'Watches a table: pgrelay.watch(''{"name": …, "table": …, "tenant": …, "events": […]}''). Same keys as in the configuration file.';
revoke execute on function pgrelay.watch(jsonb, text) from public;
