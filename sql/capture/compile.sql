-- The compiler, its first part: keys, columns and conditions of a definition, as SQL over new and old. All of it runs
-- when a source is applied; nothing here runs while an application waits.

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

create or replace function pgrelay.compile_function(p_head text, p_body text)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- A CREATE FUNCTION statement; the dollar quotes around the body are lengthened until nothing in it, such as a column's
-- strange name, can end them.
declare
    v_tag text := '$pgrelay$';
begin
    while position(v_tag in p_body) > 0 loop
        v_tag := '$_' || substr(v_tag, 2);
    end loop;
    return concat(p_head, E'\nas ', v_tag, E'\n', p_body, E'\n', v_tag, E'\n');
end
$$;
comment on function pgrelay.compile_function(text, text) is 'A CREATE FUNCTION statement around a body.';

create or replace function pgrelay.compile_equality(p_type oid)
returns boolean language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- Whether values of a type can be compared by "=" as found in pg_catalog, and the comparison tells whether they are the same.
--
-- Not so: json, xml, extensions' types (their operators lie elsewhere), box and its like (they compare areas), and whatever
-- holds one of these.
declare
    v_type pg_type;
begin
    select * into v_type from pg_type where oid = p_type;
    if v_type.typtype = 'd' then return pgrelay.compile_equality(v_type.typbasetype); end if;
    if v_type.typcategory = 'A' then return pgrelay.compile_equality(v_type.typelem); end if;
    if v_type.typtype = 'c' then
        return (select coalesce(bool_and(pgrelay.compile_equality(atttypid)), true) from pg_attribute
                where attrelid = v_type.typrelid and attnum > 0 and not attisdropped);
    end if;
    return v_type.typtype in ('e', 'r', 'm')
        or v_type.typname not in ('line', 'lseg', 'box', 'path', 'circle')
           and exists (select from pg_operator where oprname = '=' and oprnamespace = 'pg_catalog'::regnamespace and oprleft = oprright
                       and oprleft in (select p_type union all select casttarget from pg_cast
                                       where castsource = p_type and castmethod = 'b' and castcontext = 'i'));
end
$$;
comment on function pgrelay.compile_equality(oid) is 'Whether values of a type can be compared in a capture function.';

create or replace function pgrelay.compile_comparable(p_table regclass, p_column text, p_record text)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- A column of new or old as something that can be compared: as text where its type has no equality. PGR11 when there is no
-- such column, or it is empty in triggers.
declare
    v_column pg_attribute;
begin
    select * into v_column from pg_attribute
    where attrelid = p_table and attname = p_column and attnum > 0 and not attisdropped;
    if not found then
        raise exception using errcode = 'PGR11', message = format('table %s has no column %I', p_table, p_column);
    end if;
    if v_column.attgenerated = 'v' then
        raise exception using errcode = 'PGR11',
            message = format('%I is a VIRTUAL generated column, which is null in triggers: write its expression', p_column);
    end if;
    return format('%s.%I', p_record, p_column) || case when pgrelay.compile_equality(v_column.atttypid) then '' else '::text' end;
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

create or replace function pgrelay.compile_list(p_value jsonb)
returns jsonb language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- One value or a list of them, as a list.
select case when jsonb_typeof(p_value) = 'array' then p_value else jsonb_build_array(p_value) end
$$;
comment on function pgrelay.compile_list(jsonb) is 'One value or a list of them, as a list.';

create or replace function pgrelay.compile_condition(p_table regclass, p_rule jsonb, p_operation text)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- The whole condition of a rule for one operation, as SQL over new and old.
--
-- Line breaks around what the user wrote, so that a comment in it ends where it should. "is distinct from null" is true
-- of a composite value with a null in it, as "is not null" is not.
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
        v_any := array(select case when x = 'null'::jsonb then v_new || ' is not distinct from null'
                                   else format('%s = %L', v_new, x #>> '{}') end
                       from jsonb_array_elements(pgrelay.compile_list(v_values)) as x);
        v_parts := v_parts || format('(%s)', array_to_string(v_any, ' or '));
        if p_operation = 'UPDATE' then v_parts := v_parts || format('%s is distinct from %s', v_old, v_new); end if;
    end loop;
    if p_rule ? 'changes' then
        v_any := array(
            select case p_operation
                when 'UPDATE' then format('%s is distinct from %s', pgrelay.compile_comparable(p_table, x, 'old'),
                                          pgrelay.compile_comparable(p_table, x, 'new'))
                when 'INSERT' then format('%s is distinct from null', pgrelay.compile_comparable(p_table, x, 'new'))
                else 'true' end
            from jsonb_array_elements_text(pgrelay.compile_list(p_rule -> 'changes')) as x);
        v_parts := v_parts || format('(%s)', array_to_string(v_any, ' or '));
    end if;
    if p_rule ? 'when' then v_parts := v_parts || format(E'(\n%s\n)', p_rule ->> 'when'); end if;
    return coalesce(nullif(array_to_string(v_parts, ' and '), ''), 'true');
end
$$;
comment on function pgrelay.compile_condition(regclass, jsonb, text) is 'A rule''s condition for one operation, in SQL.';

create or replace function pgrelay.compile_deadline(
    p_table regclass, p_definition jsonb, p_rule jsonb, p_record text default 'new', p_moment text default null)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- The deadline column of p_record as timestamptz: columns without a zone are read in the source's timezone. With p_moment
-- the other way round: that timestamptz as the column holds it.
declare
    v_zone text := coalesce(p_definition ->> 'timezone', 'UTC');
    v_column text := p_rule ->> 'at';
    v_type text;
begin
    select format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) into v_type from pg_attribute join pg_type t on t.oid = atttypid
    where attrelid = p_table and attname = v_column and attnum > 0 and not attisdropped and attgenerated <> 'v';
    if v_type is null or v_type not in ('timestamp with time zone', 'timestamp without time zone', 'date') then
        perform pgrelay.compile_error(p_definition ->> 'name', p_rule ->> 'event',
            case when v_type is null then format('table %s has no stored column %I', p_table, v_column)
                 else format('at: %s is a %s, not a time', v_column, v_type) end,
            'Name a timestamptz, timestamp or date column.');
    end if;
    return case
        when v_type = 'timestamp with time zone' then coalesce(p_moment, format('%s.%I', p_record, v_column))
        when p_moment is not null then format('(%s at time zone %L)', p_moment, v_zone)
        when v_type = 'date' then format('(%s.%I::timestamp at time zone %L)', p_record, v_column, v_zone)
        else format('(%s.%I at time zone %L)', p_record, v_column, v_zone) end;
end
$$;
comment on function pgrelay.compile_deadline(regclass, jsonb, jsonb, text, text) is 'A deadline column as timestamptz, or the reverse.';

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
        select array_agg(a.attname::text) into v_columns
        from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
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
