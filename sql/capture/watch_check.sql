create or replace function pgrelay.watch_keys(p_name text, p_where text, p_value jsonb, p_known text[])
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Refuse what is not a mapping, or has a key that nobody reads: a misspelt "when" must not become a rule without one.
declare
    v_key text;
begin
    if jsonb_typeof(p_value) is distinct from 'object' then
        perform pgrelay.compile_error(p_name, p_where, 'this must be a mapping');
    end if;
    select k into v_key from jsonb_object_keys(p_value) as k where not k = any (p_known) order by k limit 1;
    if found then
        perform pgrelay.compile_error(p_name, p_where, format('there is no key %s', to_json(v_key)),
            'The keys here are ' || array_to_string(p_known, ', ') || '.');
    end if;
end
$$;
comment on function pgrelay.watch_keys(text, text, jsonb, text[]) is 'Refuses unknown keys of a definition.';

create or replace function pgrelay.watch_payload(p_name text, p_where text, p_payload jsonb)
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Refuse a payload of the wrong form. Whether its columns exist and its expressions work is seen when it is compiled.
begin
    if p_payload is null then return; end if;
    perform pgrelay.watch_keys(p_name, p_where, p_payload, array['row', 'include', 'exclude', 'extra']);
    if (select count(*) from jsonb_object_keys(p_payload) as k where k <> 'extra') > 1 then
        perform pgrelay.compile_error(p_name, p_where, 'row, include and exclude exclude each other');
    end if;
    if 'array' <> any (array[jsonb_typeof(p_payload -> 'include'), jsonb_typeof(p_payload -> 'exclude')]) then
        perform pgrelay.compile_error(p_name, p_where, 'include and exclude are lists of columns');
    end if;
    if p_payload ? 'extra' and (jsonb_typeof(p_payload -> 'extra') <> 'object'
        or exists (select from jsonb_each(p_payload -> 'extra') where jsonb_typeof(value) <> 'string')) then
        perform pgrelay.compile_error(p_name, p_where, 'extra is a mapping of names to SQL expressions');
    end if;
end
$$;
comment on function pgrelay.watch_payload(text, text, jsonb) is 'Refuses a payload of the wrong form.';

create or replace function pgrelay.watch_try(p_table regclass, p_expression text, p_form text default '%s')
returns void language plpgsql set search_path = pg_catalog, pg_temp set row_security = off
as $$
-- Plan an expression over new and old without running it, in the form in which it will be used. PGR13 with Postgres's own
-- words when it cannot be.
--
-- OFFSET 0 keeps the planner from working the expression out for a row of nulls. What stands in parentheses must also
-- stand alone: "true) or (true" does not.
declare
    v_form text;
begin
    foreach v_form in array array[p_form, E'\n%s\n'] loop
        execute format('explain select %s from (select (null::%s).* offset 0) as new, (select (null::%2$s).* offset 0) as old',
                       format(v_form, p_expression), p_table);
    end loop;
exception when others then
    -- deadlocks, a cancelled statement, a lock not had in time: no fault of the expression
    if sqlstate like '40%' or sqlstate like '57%' or sqlstate = '55P03' then raise; end if;
    raise exception using errcode = 'PGR13', message = sqlerrm;
end
$$;
comment on function pgrelay.watch_try(regclass, text, text) is 'Plans an expression over new and old; PGR13 when that fails.';

create or replace function pgrelay.watch_hint(p_message text)
returns text language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- What usually mends an expression that Postgres refused.
select case
    when p_message like 'relation % does not exist' then 'Write the table with its schema (public.branches): expressions are resolved in pg_catalog alone.'
    when p_message like 'function % does not exist' then 'Write the function with its schema and check the types of its arguments.'
    when p_message like 'operator does not exist: %' then 'Cast one side, or write operator(public.=) for an extension''s operator: expressions are resolved in pg_catalog alone.'
    when p_message like 'type % does not exist' then 'Write the type with its schema: expressions are resolved in pg_catalog alone.'
    when p_message like 'column new.% does not exist' or p_message like 'column old.% does not exist' then 'new and old are rows of the watched table; compare the name with \d of it.'
    when p_message like 'permission denied for %' then 'The role that applies the configuration needs this privilege: the expression runs as that role.'
    when p_message like '%row-level security policy%' then 'The role that applies the configuration must see all rows: let the table''s owner apply it, or grant BYPASSRLS.'
    when p_message like 'could not determine polymorphic type%' then 'Cast the literal: ''high''::text.'
    else 'It is SQL over new and old, the row after and before the change.' end
$$;
comment on function pgrelay.watch_hint(text) is 'A hint for an expression that Postgres refused.';

create or replace function pgrelay.watch_rule(p_table regclass, p_definition jsonb, p_rule jsonb)
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Refuse a rule that could not work (PGR10, PGR12).
declare
    v_name text := p_definition ->> 'name';
    v_where text := coalesce(p_rule ->> 'event', '(no event)');
    v_operations text[];
    v_operation text;
    v_part text;
    v_sql text;
    v_virtual text;
begin
    perform pgrelay.watch_keys(v_name, v_where, p_rule, array['event', 'on', 'when', 'becomes', 'changes', 'at', 'record', 'valid_for', 'payload']);
    perform pgrelay.watch_payload(v_name, v_where || ' payload', p_rule -> 'payload');
    if p_rule ->> 'event' is null or p_rule ->> 'event' !~ '^[a-z0-9_]+(\.[a-z0-9_]+){1,2}$' then
        perform pgrelay.compile_error(v_name, v_where, 'an event type is two or three words of a-z, 0-9 and _, with dots between');
    end if;
    if coalesce(p_rule ->> 'record', 'always') not in ('always', 'subscribed') then
        perform pgrelay.compile_error(v_name, v_where, 'record is always or subscribed');
    end if;
    if p_rule ? 'valid_for' and not coalesce(
        -- in parentheses: the first bare "then" would end the condition
        (case when jsonb_typeof(p_rule -> 'valid_for') = 'number' then (p_rule ->> 'valid_for')::numeric between 1 and 315360000 end), false) then
        perform pgrelay.compile_error(v_name, v_where, 'valid_for is a number of seconds, 1 to 315360000 (ten years)');
    end if;
    if p_rule ? 'becomes' and jsonb_typeof(p_rule -> 'becomes') <> 'object' then
        perform pgrelay.compile_error(v_name, v_where, 'becomes is a mapping of columns to values');
    end if;
    if p_rule ? 'at' then
        if p_rule ?| array['on', 'becomes', 'changes'] then
            perform pgrelay.compile_error(v_name, v_where, 'at stands alone with when; on, becomes and changes are for writes');
        end if;
        perform pgrelay.compile_deadline(p_table, p_definition, p_rule);
        perform pgrelay.watch_select(p_table, v_name, v_where, 'A deadline is checked on the live row');
    elsif not p_rule ?| array['on', 'becomes', 'changes'] then
        perform pgrelay.compile_error(v_name, v_where, 'nothing says when it fires', 'Give it on, becomes, changes or at.');
    end if;
    v_operations := pgrelay.compile_operations(p_rule);
    if not v_operations <@ array['INSERT', 'UPDATE', 'DELETE'] or v_operations = '{}' and not p_rule ? 'at' then
        perform pgrelay.compile_error(v_name, v_where, format('on: %s', p_rule -> 'on'), 'Use insert, update, delete or a list of them.');
    end if;
    if 'DELETE' = any (v_operations) and (select relkind = 'p' from pg_class where oid = p_table) then
        perform pgrelay.watch_select(p_table, v_name, v_where, 'Whether a row was deleted, or only moved to another partition, is seen in the table');
        if not exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                       where i.indrelid = p_table and i.indisvalid and i.indpred is null
                       and a.attname = pgrelay.compile_key(p_table, p_definition)) then
            perform pgrelay.compile_error(v_name, v_where, format('no index of %s begins with the key', p_table),
                format('Deletes look for the row in other partitions: create index on %s (%I);', p_table, pgrelay.compile_key(p_table, p_definition)));
        end if;
    end if;
    begin
        foreach v_operation in array case when p_rule ? 'at' then array['INSERT'] else v_operations end loop
            perform pgrelay.watch_try(p_table, pgrelay.compile_condition(p_table, p_rule, v_operation), '(%s)::boolean');
        end loop;
    exception when sqlstate 'PGR11' or sqlstate 'PGR13' then
        perform pgrelay.compile_error(v_name, v_where, 'its condition fails: ' || sqlerrm, pgrelay.watch_hint(sqlerrm));
    end;
    for v_part, v_sql in
        select 'when', p_rule ->> 'when'
        union all select 'payload.extra.' || key, value from jsonb_each_text(
            coalesce(p_definition #> '{payload,extra}', '{}') || coalesce(p_rule #> '{payload,extra}', '{}'))
        union all select 'payload.row', coalesce(p_rule #>> '{payload,row}', p_definition #>> '{payload,row}')
        union all select 'tenant.sql', p_definition #>> '{tenant,sql}'
    loop
        continue when v_sql is null;
        select attname into v_virtual from pg_attribute where attrelid = p_table and attgenerated = 'v'
            and v_sql ~ ('\m(new|old)\."?' || regexp_replace(attname, '(\W)', '\\\1', 'g') || '\M') limit 1;
        if found then
            perform pgrelay.compile_error(v_name, v_where || ' ' || v_part,
                format('%I is a VIRTUAL generated column, which is null in triggers', v_virtual), 'Write its expression instead.');
        end if;
        begin
            perform pgrelay.watch_try(p_table, v_sql, case v_part when 'when' then E'(\n%s\n)::boolean' when 'tenant.sql' then E'(\n%s\n)::text'
                                                                  else E'pg_catalog.to_json((\n%s\n))' end);
        exception when sqlstate 'PGR13' then
            perform pgrelay.compile_error(v_name, v_where || ' ' || v_part, sqlerrm, pgrelay.watch_hint(sqlerrm));
        end;
    end loop;
end
$$;
comment on function pgrelay.watch_rule(regclass, jsonb, jsonb) is 'Refuses a rule that could not work.';

create or replace function pgrelay.watch_select(p_table regclass, p_name text, p_where text, p_why text)
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Refuse (PGR12) what needs to read the watched table and may not.
begin
    if not has_table_privilege(p_table, 'SELECT') then
        raise exception using errcode = 'PGR12', message = format('source %s, %s: no SELECT privilege on %s', p_name, p_where, p_table),
            hint = format('%s: grant select on %s to %I;', p_why, p_table, current_user);
    end if;
end
$$;
comment on function pgrelay.watch_select(regclass, text, text, text) is 'Refuses a table that may not be read.';

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
    v_tenant jsonb := p_definition -> 'tenant';
    v_kind "char";
    v_schema text;
    v_rule jsonb;
    v_key text;
begin
    if v_name is null or v_name !~ '^[a-z][a-z0-9_]{0,39}$' then
        perform pgrelay.compile_error(coalesce(v_name, '(none)'), 'name', 'a name is 1 to 40 of a-z, 0-9 and _, a letter first');
    end if;
    perform pgrelay.watch_keys(v_name, 'definition', p_definition,
        array['name', 'table', 'key', 'tenant', 'resource', 'prefix', 'timezone', 'record', 'payload', 'events']);
    if v_table is null then
        perform pgrelay.compile_error(v_name, 'table', format('there is no table %s', p_definition ->> 'table'),
            'Write it with its schema (public.orders); the role that applies needs USAGE on the schema.');
    end if;
    select c.relkind, n.nspname into v_kind, v_schema from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = v_table;
    if v_kind not in ('r', 'p') or v_schema in ('pgrelay', 'pg_catalog') then
        perform pgrelay.compile_error(v_name, 'table', format('%s is not a table of an application', v_table));
    end if;
    if not has_table_privilege(v_table, 'TRIGGER') then
        raise exception using errcode = 'PGR12', message = format('source %s: no TRIGGER privilege on %s', v_name, v_table),
            hint = format('grant trigger on %s to %I;', v_table, current_user);
    end if;
    foreach v_key in array array['resource', 'prefix'] loop
        if p_definition ? v_key and coalesce(p_definition ->> v_key, '') !~ '^[a-z][a-z0-9_]{0,39}$' then
            perform pgrelay.compile_error(v_name, v_key, 'use 1 to 40 of a-z, 0-9 and _, a letter first');
        end if;
    end loop;
    if p_definition ? 'timezone' then
        begin
            perform now() at time zone (p_definition ->> 'timezone');
        exception when invalid_parameter_value then
            perform pgrelay.compile_error(v_name, 'timezone', sqlerrm);
        end;
    end if;
    if coalesce(p_definition ->> 'record', 'always') not in ('always', 'subscribed') then
        perform pgrelay.compile_error(v_name, 'record', 'it is always or subscribed');
    end if;
    if jsonb_typeof(v_tenant) = 'string' then
        begin
            perform pgrelay.compile_comparable(v_table, v_tenant #>> '{}', 'new');
        exception when sqlstate 'PGR11' then
            perform pgrelay.compile_error(v_name, 'tenant', sqlerrm, 'Name the tenant column, or use tenant: {value: main} for a table without tenants.');
        end;
    elsif coalesce(v_tenant ->> 'value', v_tenant ->> 'sql', '') = '' or v_tenant ?& array['value', 'sql'] then
        perform pgrelay.compile_error(v_name, 'tenant', case when v_tenant is null then 'missing' else 'it is a column, {sql: ...} or {value: ...}' end,
            'Name the tenant column (tenant: company_id), or tenant: {value: main} for a table without tenants.');
    else
        perform pgrelay.watch_keys(v_name, 'tenant', v_tenant, array['sql', 'value']);
    end if;
    perform pgrelay.watch_payload(v_name, 'payload', p_definition -> 'payload');
    perform pgrelay.compile_key(v_table, p_definition);
    if coalesce(jsonb_typeof(p_definition -> 'events'), '') <> 'array' or jsonb_array_length(p_definition -> 'events') = 0 then
        perform pgrelay.compile_error(v_name, 'events', 'a source needs at least one rule');
    end if;
    for v_rule in select jsonb_array_elements(p_definition -> 'events') loop
        perform pgrelay.watch_rule(v_table, p_definition, v_rule);
    end loop;
    select r ->> 'event' into v_key from jsonb_array_elements(p_definition -> 'events') as r group by 1 having count(*) > 1 order by 1 limit 1;
    if found then
        perform pgrelay.compile_error(v_name, v_key, 'two rules of one source make the same event', 'Join their conditions with or, in one rule.');
    end if;
    return v_table;
end
$$;
comment on function pgrelay.watch_check(jsonb) is 'Refuses a definition that could not work (PGR10, PGR12); returns its table.';
