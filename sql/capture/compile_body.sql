-- The compiler, its second part: body_<name>, the function of a source that renders what is sent.

create or replace function pgrelay.compile_columns(p_table regclass, p_columns text[])
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- An expression, with %s where new or old belongs, that yields columns of the row as json text; all columns for null.
--
-- row_to_json of the whole row is the fast path and keeps up with added columns. A list of columns is static. VIRTUAL
-- generated columns are null in NEW (seen on 18), so they are rendered by their expression over the stored ones.
declare
    v_stored text;
    v_list text;
begin
    if not exists (select from pg_attribute where attrelid = p_table and attgenerated = 'v' and not attisdropped) then
        if p_columns is null then return 'pg_catalog.row_to_json(%s)::text'; end if;
        select string_agg(format('%%1$s.%1$s as %1$s', replace(quote_ident(c), '%', '%%')), ', ' order by n)
        into v_list from unnest(p_columns) with ordinality as u(c, n);
        return format('(select pg_catalog.row_to_json(pgrelay_o.*) from (select %s) as pgrelay_o)::text', v_list);
    end if;
    select string_agg(format('%%1$s.%1$s as %1$s', replace(quote_ident(attname), '%', '%%')), ', ' order by attnum)
        filter (where attgenerated <> 'v'),
        string_agg(replace(case when attgenerated = 'v' then format('(%s) as %I', pg_get_expr(adbin, adrelid), attname)
                                else format('pgrelay_r.%I', attname) end, '%', '%%'), ', ' order by attnum)
        filter (where p_columns is null or attname = any (p_columns))
    into v_stored, v_list
    from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid = p_table and attnum > 0 and not attisdropped;
    return format('(select pg_catalog.row_to_json(pgrelay_o.*) from (select %s from (select %s) as pgrelay_r) as pgrelay_o)::text', v_list, v_stored);
end
$$;
comment on function pgrelay.compile_columns(regclass, text[]) is 'An expression that renders columns of a row as json text.';

create or replace function pgrelay.compile_row(p_table regclass, p_definition jsonb, p_rule jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- Statements that set pgrelay_object to the resource object of one rule, as json text: the row (or chosen columns of
-- it), then the extras. Text, not jsonb, so that numbers and key order stay as they are in the table.
--
-- An extra that has a column's name takes its place, so the columns are then listed.
declare
    v_default jsonb := coalesce(p_definition -> 'payload', '{}');
    v_own jsonb := coalesce(p_rule -> 'payload', '{}');
    v_extra jsonb := coalesce(v_default -> 'extra', '{}') || coalesce(v_own -> 'extra', '{}');
    v_row text := coalesce(v_own ->> 'row', case when v_own ?| array['include', 'exclude'] then null else v_default ->> 'row' end);
    v_include jsonb := case when v_own ? 'exclude' then null else coalesce(v_own -> 'include', v_default -> 'include') end;
    v_exclude jsonb := case when v_own ? 'include' then null else coalesce(v_own -> 'exclude', v_default -> 'exclude') end;
    v_operations text[] := pgrelay.compile_operations(p_rule);
    v_columns text[];
    v_wanted text[];
    v_text text;
    v_key text;
    v_value text;
    v_extras text := '';
begin
    if v_row is not null then
        -- what a row expression yields may be json as somebody wrote it: with spaces around, or no object at all
        v_text := format($text$
        pgrelay_object := pg_catalog.btrim(pg_catalog.to_json((
%s
))::text, E' \t\r\n');
        if pg_catalog.left(pgrelay_object, 1) <> '{' then raise exception using errcode = '22023', message = 'payload.row is not an object'; end if;
        if pgrelay_object ~ '^\{\s*\}$' then pgrelay_object := '{}'; end if;$text$, v_row);
    else
        v_columns := array(select attname::text from pg_attribute where attrelid = p_table and attnum > 0 and not attisdropped order by attnum);
        for v_key in select jsonb_array_elements_text(coalesce(v_include, v_exclude)) loop
            if not v_key = any (v_columns) then
                perform pgrelay.compile_error(p_definition ->> 'name', 'payload', format('table %s has no column %I', p_table, v_key));
            end if;
        end loop;
        v_wanted := array(select c from unnest(v_columns) with ordinality as u(c, n)
                          where coalesce(v_include ? c, not v_exclude ? c, true) and not v_extra ? c order by n);
        v_text := pgrelay.compile_columns(p_table, case when v_wanted <> v_columns then v_wanted end);
        v_text := format(E'\n        pgrelay_object := %s;', case
            when v_operations = '{DELETE}' then format(v_text, 'old')
            when 'DELETE' = any (v_operations) then
                format('case when operation = ''DELETE'' then %s else %s end', format(v_text, 'old'), format(v_text, 'new'))
            else format(v_text, 'new') end);
    end if;
    for v_key, v_value in select key, value from jsonb_each_text(v_extra) order by key loop
        v_extras := v_extras || format(E'\n        || %L || coalesce(pg_catalog.to_json((\n%s\n))::text, ''null'')',
                                       case when v_extras = '' then '' else ',' end || to_json(v_key)::text || ':', v_value);
    end loop;
    return v_text || case when v_extras = '' then '' else format($text$
        pgrelay_object := case when pgrelay_object is null or pgrelay_object = '{}' then '{'
                               else pg_catalog.left(pgrelay_object, -1) || ',' end%s || '}';$text$, v_extras) end;
end
$$;
comment on function pgrelay.compile_row(regclass, jsonb, jsonb) is 'Statements that render a rule''s resource object as json text.';

create or replace function pgrelay.compile_body(p_table regclass, p_definition jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- body_<name>: renders the exact text that is sent. Settings of the application's session that would change it are pinned,
-- for the transaction and back, only where they differ: as attributes of the function they cost each event 6 us. An error
-- in between undoes them with all else. row_security is off where SQL of the definition may join a row that a policy hides:
-- an error that is recorded, not a silent null.
declare
    v_resource text := coalesce(p_definition ->> 'resource', p_definition ->> 'name');
    v_money boolean := exists (select from pg_attribute where attrelid = p_table and atttypid = 'money'::regtype and not attisdropped);
    v_reads boolean := false;
    v_rules text := '';
    v_rule jsonb;
    v_number bigint;
begin
    for v_rule, v_number in select * from jsonb_array_elements(p_definition -> 'events') with ordinality loop
        v_reads := v_reads or coalesce(p_definition -> 'payload', '{}') ?| array['row', 'extra'] or coalesce(v_rule -> 'payload', '{}') ?| array['row', 'extra'];
        v_rules := v_rules || format($text$
    %s rule = %s then%s
        pgrelay_body := %L || idempotency_key || '","timestamp":' || pg_catalog.to_json(occurred_at)::text || %L
            || coalesce(pgrelay_object, 'null') || '}}';$text$, case v_number when 1 then 'if' else 'elsif' end, v_number,
            pgrelay.compile_row(p_table, p_definition, v_rule),
            format('{"event":"%s","idempotency_key":"', v_rule ->> 'event'), format(',"data":{"%s":', v_resource));
    end loop;
    return pgrelay.compile_function(
        format($text$create or replace function pgrelay.%I(
    rule integer, operation text, new record, old record, idempotency_key text, occurred_at timestamptz)
returns text language plpgsql
set search_path = pg_catalog, pg_temp%s%s$text$, 'body_' || (p_definition ->> 'name'),
            case when v_reads then ' set row_security = off' else '' end,
            case when v_money then ' set lc_monetary from current' else '' end),
        format($text$-- Generated by pgrelay.watch(): the body of each event of source %3$s.
#variable_conflict use_column
declare
    pgrelay_object text;
    pgrelay_body text;
    pgrelay_settings text[];
begin
    if current_setting('timezone') <> all ('{UTC,Etc/UTC}') or current_setting('datestyle') %1$s or current_setting('intervalstyle') <> 'postgres'
       or current_setting('extra_float_digits')::integer < 1 or current_setting('bytea_output') <> 'hex' then
        pgrelay_settings := array[current_setting('timezone'), current_setting('datestyle'), current_setting('intervalstyle'),
                                  current_setting('extra_float_digits'), current_setting('bytea_output')];
        perform set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, MDY', true), set_config('intervalstyle', 'postgres', true),
                set_config('extra_float_digits', '1', true), set_config('bytea_output', 'hex', true);
    end if;%2$s
    end if;
    if pgrelay_settings is not null then
        perform set_config('timezone', pgrelay_settings[1], true), set_config('datestyle', pgrelay_settings[2], true),
                set_config('intervalstyle', pgrelay_settings[3], true), set_config('extra_float_digits', pgrelay_settings[4], true),
                set_config('bytea_output', pgrelay_settings[5], true);
    end if;
    return pgrelay_body;
end$text$,
            -- the order of day and month matters to what is read as a date, and so to SQL of the definition alone
            case when v_reads then '<> ''ISO, MDY''' else 'not like ''ISO%''' end, v_rules, p_definition ->> 'name'));
end
$$;
comment on function pgrelay.compile_body(regclass, jsonb) is 'The text of body_<name>.';
