-- The compiler: a source's definition to the text of its functions. Nothing here runs while an application waits.

create or replace function pgrelay.compile_error(p_source text, p_where text, p_message text, p_hint text default null)
returns text language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Refuse a definition: says which source, which part of it, what is wrong and how to mend it.
begin
    raise exception using errcode = 'PGR10',
        message = format('source %s, %s: %s', p_source, p_where, p_message),
        hint = coalesce(p_hint, 'Correct the definition and apply it again; nothing was changed.');
end
$$;
comment on function pgrelay.compile_error(text, text, text, text) is 'Raises PGR10: a definition that cannot be compiled.';

create or replace function pgrelay.compile_comparable(p_table regclass, p_column text, p_record text)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- A reference to a column of new or old that can be compared: types without equality (json, xml, point, …) as text.
declare
    v_type oid;
begin
    select atttypid into v_type from pg_attribute
    where attrelid = p_table and attname = p_column and attnum > 0 and not attisdropped;
    if not found then
        raise exception using errcode = 'PGR11', message = format('table %s has no column %I', p_table, p_column);
    end if;
    if exists (select from pg_type t where t.oid = v_type
               and t.typname in ('json', 'xml', 'point', 'line', 'lseg', 'box', 'path', 'polygon', 'circle')) then
        return format('%s.%I::text', p_record, p_column);
    end if;
    return format('%s.%I', p_record, p_column);
end
$$;
comment on function pgrelay.compile_comparable(regclass, text, text) is 'A column of new or old as something that has equality.';

create or replace function pgrelay.compile_operations(p_rule jsonb)
returns text[] language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- The operations a rule fires on, upper case: from on, else INSERT and UPDATE; none for a deadline.
select case
    when p_rule ? 'at' then '{}'::text[]
    when jsonb_typeof(p_rule -> 'on') = 'array'
        then array(select upper(x) from jsonb_array_elements_text(p_rule -> 'on') as x)
    when p_rule ? 'on' then array[upper(p_rule ->> 'on')]
    else array['INSERT', 'UPDATE'] end
$$;
comment on function pgrelay.compile_operations(jsonb) is 'The operations that a rule fires on.';

create or replace function pgrelay.compile_condition(p_table regclass, p_rule jsonb, p_operation text)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- The whole condition of a rule for one operation, as SQL over new and old.
--
-- Line breaks around what the user wrote, so that a comment in it ends where it should.
declare
    v_parts text[] := '{}';
    v_column text;
    v_values jsonb;
    v_new text;
    v_old text;
    v_any text[];
begin
    for v_column, v_values in select key, value from jsonb_each(coalesce(p_rule -> 'becomes', '{}')) loop
        v_new := pgrelay.compile_comparable(p_table, v_column, 'new');
        v_old := pgrelay.compile_comparable(p_table, v_column, 'old');
        if jsonb_typeof(v_values) <> 'array' then v_values := jsonb_build_array(v_values); end if;
        v_any := array(select case when x = 'null'::jsonb then v_new || ' is null'
                                   else format('%s = %L', v_new, x #>> '{}') end
                       from jsonb_array_elements(v_values) as x);
        v_parts := v_parts || format('(%s)', array_to_string(v_any, ' or '));
        if p_operation = 'UPDATE' then v_parts := v_parts || format('%s is distinct from %s', v_old, v_new); end if;
    end loop;
    if p_rule ? 'changes' then
        v_any := array(
            select case p_operation
                when 'UPDATE' then format('%s is distinct from %s', pgrelay.compile_comparable(p_table, x, 'old'),
                                          pgrelay.compile_comparable(p_table, x, 'new'))
                when 'INSERT' then format('%s is not null', pgrelay.compile_comparable(p_table, x, 'new'))
                else 'true' end
            from jsonb_array_elements_text(case jsonb_typeof(p_rule -> 'changes')
                when 'array' then p_rule -> 'changes' else jsonb_build_array(p_rule -> 'changes') end) as x);
        v_parts := v_parts || format('(%s)', array_to_string(v_any, ' or '));
    end if;
    if p_rule ? 'when' then v_parts := v_parts || format(E'(\n%s\n)', p_rule ->> 'when'); end if;
    return coalesce(nullif(array_to_string(v_parts, ' and '), ''), 'true');
end
$$;
comment on function pgrelay.compile_condition(regclass, jsonb, text) is 'A rule''s condition for one operation, in SQL.';

create or replace function pgrelay.compile_deadline(p_table regclass, p_definition jsonb, p_rule jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- The deadline column of new as timestamptz: columns without a zone are read in the source's timezone.
declare
    v_zone text := coalesce(p_definition ->> 'timezone', 'UTC');
    v_column text := p_rule ->> 'at';
    v_type text;
begin
    select format_type(atttypid, null) into v_type from pg_attribute
    where attrelid = p_table and attname = v_column and attnum > 0 and not attisdropped;
    return case v_type
        when 'timestamp with time zone' then format('new.%I', v_column)
        when 'timestamp without time zone' then format('(new.%I at time zone %L)', v_column, v_zone)
        when 'date' then format('(new.%I::timestamp at time zone %L)', v_column, v_zone)
        else pgrelay.compile_error(p_definition ->> 'name', p_rule ->> 'event',
            case when v_type is null then format('table %s has no column %I', p_table, v_column)
                 else format('at: %s is a %s, not a time', v_column, v_type) end,
            'Name a timestamptz, timestamp or date column.')::text end;
end
$$;
comment on function pgrelay.compile_deadline(regclass, jsonb, jsonb) is 'A deadline column as timestamptz.';

create or replace function pgrelay.compile_row(p_table regclass, p_definition jsonb, p_rule jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- Statements that set pgrelay_object to the resource object of one rule, as json text: the row (or chosen columns of
-- it), then the extras. Text, not jsonb, so that numbers and key order stay as they are in the table.
--
-- row_to_json of the whole row is the fast path and keeps up with added columns. A list of columns is static: it is
-- needed for include and exclude, for an extra that takes a column's name, and for VIRTUAL generated columns, which are
-- null in NEW (seen on 18) and so are rendered by their expression.
declare
    v_default jsonb := coalesce(p_definition -> 'payload', '{}');
    v_own jsonb := coalesce(p_rule -> 'payload', '{}');
    v_extra jsonb := coalesce(v_default -> 'extra', '{}') || coalesce(v_own -> 'extra', '{}');
    v_row text := coalesce(v_own ->> 'row', case when v_own ? 'include' or v_own ? 'exclude' then null else v_default ->> 'row' end);
    v_include jsonb := case when v_own ? 'exclude' then null else coalesce(v_own -> 'include', v_default -> 'include') end;
    v_exclude jsonb := case when v_own ? 'include' then null else coalesce(v_own -> 'exclude', v_default -> 'exclude') end;
    v_operations text[] := pgrelay.compile_operations(p_rule);
    v_columns text[];
    v_wanted text[];
    v_virtual boolean;
    v_base text;
    v_list text;
    v_key text;
    v_value text;
    v_extras text := '';
begin
    if v_row is not null then
        v_base := format(E'pg_catalog.to_json((\n%s\n))::text', v_row);
    else
        select array_agg(attname::text order by attnum), bool_or(attgenerated = 'v') into v_columns, v_virtual
        from pg_attribute where attrelid = p_table and attnum > 0 and not attisdropped;
        v_wanted := v_columns;
        if v_include is not null then
            v_wanted := array(select c from unnest(v_columns) with ordinality as u(c, n) where v_include ? c order by n);
        elsif v_exclude is not null then
            v_wanted := array(select c from unnest(v_columns) with ordinality as u(c, n) where not v_exclude ? c order by n);
        end if;
        v_wanted := array(select c from unnest(v_wanted) with ordinality as u(c, n) where not v_extra ? c order by n);
        for v_key in select jsonb_array_elements_text(coalesce(v_include, v_exclude)) loop
            if not v_key = any (v_columns) then
                perform pgrelay.compile_error(p_definition ->> 'name', 'payload', format('table %s has no column %I', p_table, v_key));
            end if;
        end loop;
        if v_wanted = v_columns and not v_virtual then
            v_base := 'pg_catalog.row_to_json(%s)::text';
        elsif v_virtual then
            select string_agg(case when attgenerated = 'v' then format('(%s) as %I', pg_get_expr(d.adbin, d.adrelid), attname)
                                   else format('pgrelay_r.%I', attname) end, ', ' order by attnum) into v_list
            from pg_attribute left join pg_attrdef d on d.adrelid = attrelid and d.adnum = attnum
            where attrelid = p_table and attnum > 0 and attname = any (v_wanted);
            v_base := format('(select pg_catalog.row_to_json(pgrelay_o) from (select %s from (select %s) as pgrelay_r) as pgrelay_o)::text',
                replace(v_list, '%', '%%'),
                (select string_agg(format('%%1$s.%1$s as %1$s', replace(quote_ident(attname), '%', '%%')), ', ' order by attnum) from pg_attribute
                 where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated <> 'v'));
        else
            select string_agg(format('%%1$s.%1$s as %1$s', replace(quote_ident(c), '%', '%%')), ', ' order by n) into v_list from unnest(v_wanted) with ordinality as u(c, n);
            v_base := format('(select pg_catalog.row_to_json(pgrelay_o) from (select %s) as pgrelay_o)::text', v_list);
        end if;
        if v_operations = '{DELETE}' then
            v_base := format(v_base, 'old');
        elsif 'DELETE' = any (v_operations) then
            v_base := format('case when operation = ''DELETE'' then %s else %s end', format(v_base, 'old'), format(v_base, 'new'));
        else
            v_base := format(v_base, 'new');
        end if;
    end if;
    for v_key, v_value in select key, value from jsonb_each_text(v_extra) order by key loop
        v_extras := v_extras || format(E'\n        || %L || coalesce(pg_catalog.to_json((\n%s\n))::text, ''null'')',
                                       case when v_extras = '' then '' else ',' end || to_json(v_key)::text || ':', v_value);
    end loop;
    return format(E'\n        pgrelay_object := %s;', v_base) || case when v_extras = '' then '' else format($text$
        pgrelay_object := case when pgrelay_object is null or pgrelay_object = '{}' then '{'
                               else pg_catalog.left(pgrelay_object, -1) || ',' end%s || '}';$text$, v_extras) end;
end
$$;
comment on function pgrelay.compile_row(regclass, jsonb, jsonb) is 'Statements that render a rule''s resource object as json text.';

create or replace function pgrelay.compile_either(p_operations text[], p_column text)
returns text language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- The column of the row that an operation leaves behind: of old for a delete, else of new.
select case when p_operations = '{DELETE}' then format('old.%I', p_column)
            when 'DELETE' = any (p_operations) then format('case when pgrelay_op = ''DELETE'' then old.%1$I else new.%1$I end', p_column)
            else format('new.%I', p_column) end
$$;
comment on function pgrelay.compile_either(text[], text) is 'A column of new, or of old in a delete.';

create or replace function pgrelay.compile_key(p_table regclass, p_definition jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- The column that identifies the resource: key, else the primary key, which must then be a single column.
declare
    v_key text := p_definition ->> 'key';
    v_columns text[];
begin
    if v_key is null then
        select array_agg(a.attname::text) into v_columns from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
        where i.indrelid = p_table and i.indisprimary;
        if coalesce(cardinality(v_columns), 0) <> 1 then
            perform pgrelay.compile_error(p_definition ->> 'name', 'key',
                format('table %s has no primary key of one column', p_table), 'Name the column that identifies a row: key: id');
        end if;
        return v_columns[1];
    end if;
    perform pgrelay.compile_comparable(p_table, v_key, 'new');
    return v_key;
exception when sqlstate 'PGR11' then
    perform pgrelay.compile_error(p_definition ->> 'name', 'key', sqlerrm);
end
$$;
comment on function pgrelay.compile_key(regclass, jsonb) is 'The column that identifies the resource of a source.';
