-- The compiler, its third part: capture_<name>, the trigger function of a source, and the pieces it shares with
-- recapture_<name> and fire_<name>. User expressions become static SQL; their names resolve in pg_catalog alone.

create or replace function pgrelay.compile_always(p_definition jsonb, p_rule jsonb)
returns boolean language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- Whether a rule's event is recorded though nobody subscribes.
select coalesce(p_rule ->> 'record', p_definition ->> 'record', 'subscribed') = 'always'
$$;
comment on function pgrelay.compile_always(jsonb, jsonb) is 'Whether a rule''s event is recorded though nobody subscribes.';

create or replace function pgrelay.compile_event(p_table regclass, p_definition jsonb, p_number integer, p_rule jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- Statements that draw an id and render the body of one rule into the pgrelay_ variables, if anybody subscribes.
declare
    v_operations text[] := pgrelay.compile_operations(p_rule);
    v_key text := pgrelay.compile_key(p_table, p_definition);
    v_tenant jsonb := p_definition -> 'tenant';
    v_event text := p_rule ->> 'event';
    v_company text;
    v_safe_key boolean;
    v_gate text := '';
begin
    if pgrelay.compile_always(p_definition, p_rule) then
        v_gate := E'\n            pgrelay_heard := true;';
    else
        v_gate := format($text$
            if pgrelay_patterns is null then
                pgrelay_heard := exists (select from pgrelay.subscriptions as pgrelay_s
                                         where pgrelay_s.company_id = pgrelay_company and pgrelay_s.pattern = any (%1$L));
            else
                pgrelay_heard := pgrelay_patterns && %1$L;
            end if;$text$, pgrelay.event_patterns(v_event));
    end if;
    v_company := case
        when jsonb_typeof(v_tenant) = 'string' then '(' || pgrelay.compile_either(v_operations, v_tenant #>> '{}') || ')::text'
        when v_tenant ? 'value' then quote_literal(v_tenant ->> 'value')
        else format(E'(\n%s\n)::text', v_tenant ->> 'sql') end;
    select atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype) into v_safe_key
    from pg_attribute where attrelid = p_table and attname = v_key;
    return format($text$
            pgrelay_resource := (%1$s)::text;
            pgrelay_company := coalesce(%2$s, '');%3$s
            if pgrelay_heard then
                pgrelay_id := pg_catalog.nextval('pgrelay.outbox_id_seq');
                pgrelay_key := %4$L || coalesce(%5$s, '') || %6$L || ((extract(epoch from pgrelay_at) * 1000)::bigint * 1000000 + pgrelay_id %% 1000000);
                pgrelay_body := pgrelay.%7$I(%8$s, pgrelay_op, new, old, pgrelay_key, pgrelay_at);
            end if;$text$,
        pgrelay.compile_either(v_operations, v_key), v_company, v_gate,
        coalesce(p_definition ->> 'prefix', p_definition ->> 'resource', p_definition ->> 'name') || '_',
        case when v_safe_key then 'pgrelay_resource'
             else 'pg_catalog.left(pg_catalog.regexp_replace(pgrelay_resource, ''[^A-Za-z0-9_-]'', ''_'', ''g''), 120)' end,
        '_' || split_part(v_event, '.', -1) || '_', 'body_' || (p_definition ->> 'name'), p_number);
end
$$;
comment on function pgrelay.compile_event(regclass, jsonb, integer, jsonb) is 'Statements that render one rule''s event.';

create or replace function pgrelay.compile_insert(p_definition jsonb, p_rule jsonb)
returns text language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- The one write of an event. It stands outside of every exception block, for one transaction id a statement, and so must
-- not fail: it takes variables only.
select case when p_rule ? 'at' then format($text$
            insert into pgrelay.deadlines (source, event_type, resource_id, fire_at)
            values (%L, %L, pgrelay_resource, pgrelay_moment);$text$, p_definition ->> 'name', p_rule ->> 'event')
    else format($text$
            insert into pgrelay.outbox (id, event_type, source, resource_id, company_id, idempotency_key, occurred_at, body%3$s)
            values (pgrelay_id, %1$L, %2$L, pgrelay_resource, pgrelay_company, pgrelay_key, pgrelay_at, pgrelay_body%4$s);$text$,
        p_rule ->> 'event', p_definition ->> 'name', case when p_rule ? 'valid_for' then ', valid_until' end,
        case when p_rule ? 'valid_for' then format(', pgrelay_at + interval ''%s seconds''', (p_rule ->> 'valid_for')::numeric) end) end
$$;
comment on function pgrelay.compile_insert(jsonb, jsonb) is 'The INSERT of one rule''s event, or of its armed deadline.';

create or replace function pgrelay.compile_guarded(p_definition jsonb, p_rule jsonb, p_statements text, p_on_failure text default '')
returns text language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- Statements in a block of their own: what fails in it is recorded, except serialization failures, deadlocks and
-- cancelling, which are the application's. Nothing may be written in it, since that takes a transaction id each time.
select format($text$
        for pgrelay_try in 1..2 loop
        begin%1$s
            exit;
        exception when others then
            if sqlstate like '40%%' or sqlstate like '57%%' then raise; end if;
            get stacked diagnostics pgrelay_context = pg_exception_context;
            pgrelay_body := null;
            pgrelay_moment := null;
            continue when pgrelay_try = 1 and pgrelay.forget_plans(sqlstate);%2$s
            perform pgrelay.capture_failed(%3$L, %4$L, pgrelay_op, pgrelay_resource, sqlstate, sqlerrm, pgrelay_context, new, old);
            exit;
        end;
        end loop;$text$, p_statements, p_on_failure, p_definition ->> 'name', p_rule ->> 'event')
$$;
comment on function pgrelay.compile_guarded(jsonb, jsonb, text, text) is 'Statements whose failure is recorded.';

create or replace function pgrelay.compile_fires(p_table regclass, p_definition jsonb, p_rule jsonb, p_operation text)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- When a rule fires in a write of this kind; null when it never does.
--
-- A deadline is armed by a row that is new or whose deadline was moved, or where it lies in the past and the condition
-- holds (a row that was closed in time and is opened again). One that fired is never fired again, so arming too often
-- costs no event. "infinity" is no deadline.
--
-- In a partitioned table, a row that was deleted here and lives in another partition was moved: that is no delete.
declare
    v_moment text;
begin
    if p_rule ? 'at' and p_operation <> 'DELETE' then
        v_moment := pgrelay.compile_deadline(p_table, p_definition, p_rule);
        return format('pg_catalog.isfinite(%s)', v_moment) || case when p_operation = 'UPDATE' then
            format(' and (old.%2$I is distinct from new.%2$I or (%1$s <= pg_catalog.clock_timestamp() and %3$s))',
                   v_moment, p_rule ->> 'at', pgrelay.compile_condition(p_table, p_rule, 'UPDATE')) else '' end;
    elsif not p_operation = any (pgrelay.compile_operations(p_rule)) then
        return null;
    elsif p_operation = 'DELETE' and (select relkind = 'p' from pg_class where oid = p_table) then
        return format('%1$s and not exists (select from %2$s as pgrelay_t where pgrelay_t.%3$I = old.%3$I and pgrelay_t.tableoid <> tg_relid)',
            pgrelay.compile_condition(p_table, p_rule, p_operation), p_table, pgrelay.compile_key(p_table, p_definition));
    end if;
    return pgrelay.compile_condition(p_table, p_rule, p_operation);
end
$$;
comment on function pgrelay.compile_fires(regclass, jsonb, jsonb, text) is 'When a rule fires in one kind of write.';

create or replace function pgrelay.compile_moved(p_table regclass, p_definition jsonb)
returns text language sql stable set search_path = pg_catalog, pg_temp
as $$
-- A row that moves to another partition is a DELETE there and an INSERT here, row by row (15 to 18): remember the row that
-- went, and treat an insert of the same key into another partition as the update it is. Nothing for other tables.
select case when relkind = 'p' then format($text$
    begin
        if pgrelay_op = 'DELETE' then
            -- \u0000 is legal in a json column, and in no text that is taken out of one
            perform pg_catalog.set_config(%1$L, pg_catalog.replace(
                pg_catalog.json_build_object('from', tg_relid, 'row', old)::text, '\u0000', '\ufffd'), true);
        elsif pgrelay_op = 'INSERT' and pg_catalog.current_setting(%1$L, true) <> '' then
            pgrelay_moved := pg_catalog.current_setting(%1$L, true)::json;
            perform pg_catalog.set_config(%1$L, '', true);
            if (pgrelay_moved ->> 'from')::oid <> tg_relid
               and (pgrelay_moved -> 'row' ->> %2$L) = (pg_catalog.replace(pg_catalog.row_to_json(new)::text, '\u0000', '\ufffd')::json ->> %2$L) then
                old := pg_catalog.json_populate_record(new, pgrelay_moved -> 'row');
                pgrelay_op := 'UPDATE';
            end if;
        end if;
    exception when others then  -- too big to remember: it counts as a delete and an insert
        if sqlstate like '40%%' or sqlstate like '57%%' then raise; end if;
    end;$text$, 'pgrelay.moved_' || (p_definition ->> 'name'), pgrelay.compile_key(p_table, p_definition)) else '' end
from pg_class where oid = p_table
$$;
comment on function pgrelay.compile_moved(regclass, jsonb) is 'Statements that recognise a row moved between partitions.';

create or replace function pgrelay.compile_touched(p_table regclass, p_definition jsonb, p_deadlines_only boolean default false)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- What an update must do for any rule to fire, at least: to be asked before search_path is pinned. So every operator carries
-- its schema, which "is distinct from" cannot, and nothing that the definition brings as SQL is part of it.
--
-- A rule that names columns (changes, becomes) fires only if one of them changed; any other only if the row did, as an image
-- of bytes: json has no equality, and a composite value of nulls is no null. Empty when there is no rule for updates.
-- Of deadlines alone it also holds for an insert, where old is null.
declare
    v_image constant text := 'old operator(pg_catalog.*<>) new';
    v_terms text[] := '{}';
    v_columns text[] := '{}';
    v_whole boolean := false;
    v_rule jsonb;
    v_moment text;
begin
    for v_rule in select * from jsonb_array_elements(p_definition -> 'events') loop
        continue when not (v_rule ? 'at' or 'UPDATE' = any (pgrelay.compile_operations(v_rule)) and not p_deadlines_only);
        if v_rule ? 'at' then
            v_moment := pgrelay.compile_deadline(p_table, p_definition, v_rule);
            v_columns := v_columns || (v_rule ->> 'at');
            v_terms := v_terms || format('pg_catalog.isfinite(%1$s) and %1$s operator(pg_catalog.<=) pg_catalog.clock_timestamp() and %2$s',
                                         v_moment, v_image);
        elsif v_rule -> 'becomes' <> '{}' then
            v_columns := v_columns || (select min(k) from jsonb_object_keys(v_rule -> 'becomes') as k);
        elsif v_rule ? 'changes' then
            v_columns := v_columns || array(select jsonb_array_elements_text(pgrelay.compile_list(v_rule -> 'changes')));
        else
            v_whole := true;
        end if;
    end loop;
    if v_whole then return v_image; end if;
    return array_to_string(array(
        select case when pgrelay.compile_equality(atttypid) and (select typcategory <> 'C' from pg_type where oid = atttypid)
            then format('(old.%1$I operator(pg_catalog.=) new.%1$I) is not true and not (old.%1$I is null and new.%1$I is null)', attname)
            else format('pg_catalog.record_image_ne(row(old.%1$I), row(new.%1$I))', attname) end
        from pg_attribute where attrelid = p_table and attname = any (v_columns) and attnum > 0 and not attisdropped order by attnum)
        || v_terms, E'\n            or ');
end
$$;
comment on function pgrelay.compile_touched(regclass, jsonb, boolean) is 'What an update must do for any rule to fire, without a search_path.';

create or replace function pgrelay.compile_gate(p_table regclass, p_definition jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- Statements that end a capture where nobody of the row's tenant subscribes to anything, before search_path is pinned; what
-- they find out serves the rules as well. Empty where the tenant is found by SQL, or an event is recorded whoever subscribes.
--
-- A deadline is armed whoever subscribes, for they may until it passes. A row may be on its way to another partition. A tenant
-- with many subscriptions is asked about rule by rule instead: all of them would be read for every row.
declare
    v_tenant jsonb := p_definition -> 'tenant';
    v_company text;
    v_deadlines text := pgrelay.compile_touched(p_table, p_definition, true);
begin
    if v_tenant ? 'sql' or exists (select from jsonb_array_elements(p_definition -> 'events') as r where pgrelay.compile_always(p_definition, r)) then
        return '';
    end if;
    v_company := case when v_tenant ? 'value' then format('%L', v_tenant ->> 'value')
        else format('coalesce((case when tg_op operator(pg_catalog.=) ''DELETE'' then old.%1$I else new.%1$I end)::pg_catalog.text, '''')', v_tenant #>> '{}') end;
    return format($text$
        pgrelay_company := %1$s;
        pgrelay_patterns := array(select pgrelay_s.pattern from pgrelay.subscriptions as pgrelay_s
                                  where pgrelay_s.company_id operator(pg_catalog.=) pgrelay_company limit 16);
        if pgrelay_patterns operator(pg_catalog.=) '{}'::pg_catalog.text[]%2$s%3$s then return null; end if;
        if pg_catalog.cardinality(pgrelay_patterns) operator(pg_catalog.=) 16 then pgrelay_patterns := null; end if;$text$, v_company,
        case when (select relkind = 'p' from pg_class where oid = p_table) then E'\n           and tg_op operator(pg_catalog.=) ''UPDATE''' else '' end,
        case when v_deadlines <> '' then
            format(E'\n           and (tg_op operator(pg_catalog.=) ''DELETE'' or (%s) is not true)', v_deadlines) else '' end);
end
$$;
comment on function pgrelay.compile_gate(regclass, jsonb) is 'Statements that end a capture where nobody subscribes.';

create or replace function pgrelay.compile_trigger(p_table regclass, p_definition jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- capture_<name>: the trigger function. First whether an update touched anything that matters and whether anybody subscribes;
-- then all conditions, in one block; then, for the rules that fire, rendering, each in a block of its own; writes outside of
-- any block.
--
-- Most updates fire nothing or nobody hears of them, so that is found out first. search_path is pinned only after it, by hand: as an attribute of the
-- function it costs every call 3 of 5 us. Until then every name and type carries its schema. set_config() for the
-- transaction, and back: an error in between undoes it with all else. row_security costs as much, so it is set only where a
-- condition or the tenant may read a table.
declare
    v_name text := p_definition ->> 'name';
    v_declare text := '';
    v_condition text;
    v_reads boolean := p_definition #>> '{tenant,sql}' is not null;
    v_touched text := pgrelay.compile_touched(p_table, p_definition);
    v_fast text := '';
    v_slow text := '';
    v_branch text;
    v_act text := '';
    v_operation text;
    v_rule jsonb;
    v_number bigint;
begin
    foreach v_operation in array array['UPDATE', 'INSERT', 'DELETE'] loop
        v_branch := format(E'\n        %s pgrelay_op = %L then', case v_operation when 'UPDATE' then 'if' else 'elsif' end, v_operation);
        v_fast := v_fast || v_branch;
        v_slow := v_slow || v_branch;
        for v_rule, v_number in select * from jsonb_array_elements(p_definition -> 'events') with ordinality loop
            v_condition := pgrelay.compile_fires(p_table, p_definition, v_rule, v_operation);
            continue when v_condition is null;
            v_reads := v_reads or regexp_replace(v_condition, '\mpg_catalog\.', '', 'g') ~* '\mselect\M|\.\s*"?\w+"?\s*\(';
            v_fast := v_fast || format(E'\n            pgrelay_fires_%s := coalesce(%s, false);', v_number, v_condition);
            v_slow := v_slow || format($text$
            begin
                pgrelay_fires_%1$s := coalesce(%2$s, false);
            exception when others then
                if sqlstate like '40%%' or sqlstate like '57%%' then raise; end if;
                get stacked diagnostics pgrelay_context = pg_exception_context;
                perform pgrelay.capture_failed(%3$L, %4$L, pgrelay_op, null, sqlstate, sqlerrm, pgrelay_context, new, old);
            end;$text$, v_number, v_condition, v_name, v_rule ->> 'event');
        end loop;
    end loop;
    for v_rule, v_number in select * from jsonb_array_elements(p_definition -> 'events') with ordinality loop
        v_declare := v_declare || format(E'\n    pgrelay_fires_%s pg_catalog.bool;', v_number);
        v_act := v_act || format($text$
    if pgrelay_fires_%s then
        pgrelay_resource := null;%s
        if %s then%s
        end if;
    end if;$text$, v_number,
            pgrelay.compile_guarded(p_definition, v_rule, case when v_rule ? 'at' then format($text$
            pgrelay_resource := new.%I::text;
            pgrelay_moment := %s;$text$, pgrelay.compile_key(p_table, p_definition), pgrelay.compile_deadline(p_table, p_definition, v_rule))
                else E'\n            pgrelay_body := null;' || pgrelay.compile_event(p_table, p_definition, v_number::integer, v_rule) end),
            case when v_rule ? 'at' then 'pgrelay_resource is not null and pgrelay_moment is not null' else 'pgrelay_body is not null' end,
            pgrelay.compile_insert(p_definition, v_rule) || case when v_rule ? 'at' then '' else E'\n            pgrelay_wrote := true;' end);
    end loop;
    return pgrelay.compile_function(
        format($text$create or replace function pgrelay.%I()
returns trigger language plpgsql security definer$text$, 'capture_' || v_name),
        format($text$-- Generated by pgrelay.watch(): the rules of source %1$s. Change the source, not this text.
#variable_conflict use_column
declare
    pgrelay_op pg_catalog.text;
    pgrelay_path pg_catalog.text;
    pgrelay_rows pg_catalog.text;
    pgrelay_at pg_catalog.timestamptz;
    pgrelay_id pg_catalog.int8;
    pgrelay_key pg_catalog.text;
    pgrelay_body pg_catalog.text;
    pgrelay_resource pg_catalog.text;
    pgrelay_company pg_catalog.text;
    pgrelay_patterns pg_catalog.text[];
    pgrelay_heard pg_catalog.bool;
    pgrelay_moment pg_catalog.timestamptz;
    pgrelay_moved pg_catalog.json;
    pgrelay_context pg_catalog.text;
    pgrelay_wrote pg_catalog.bool;%2$s
begin
    -- search_path is the application's here: nothing may be looked up by it
    begin
        if tg_op operator(pg_catalog.=) 'UPDATE' and (%8$s) is not true then return null; end if;%11$s
    exception when others then
        if sqlstate operator(pg_catalog.~~) '40%%' or sqlstate operator(pg_catalog.~~) '57%%' then raise; end if;
        -- a column is gone or of another type: below it is found out which rules that concerns
        perform pgrelay.forget_plans(sqlstate);
        if tg_op operator(pg_catalog.=) 'UPDATE' and (old operator(pg_catalog.*<>) new) is not true then return null; end if;
    end;
    pgrelay_path := pg_catalog.current_setting('search_path');
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);%9$s
    pgrelay_op := tg_op;%3$s
    begin%4$s
        end if;
    exception when others then
        -- one rule failed: ask them one by one, so that it costs no other its event
        if sqlstate like '40%%' or sqlstate like '57%%' then raise; end if;
        perform pgrelay.forget_plans(sqlstate);%5$s
        end if;
    end;
    if (%6$s) and pg_catalog.current_setting('pgrelay.capture', true) is distinct from 'off' then
    pgrelay_at := pg_catalog.clock_timestamp();%7$s
    -- read after the insert: a daemon that goes to sleep meanwhile waits for this transaction (see docs/architecture.md)
    if pgrelay_wrote and pg_catalog.pg_sequence_last_value('pgrelay.wake') = 2
       and pg_catalog.current_setting('max_prepared_transactions') = '0' then
        perform pg_catalog.pg_notify('pgrelay', '');
    end if;
    end if;
    perform pg_catalog.set_config('search_path', pgrelay_path, true);%10$s
    return null;
end$text$, v_name, v_declare, pgrelay.compile_moved(p_table, p_definition), v_fast, v_slow,
            (select string_agg('pgrelay_fires_' || n, ' or ') from generate_series(1, jsonb_array_length(p_definition -> 'events')) as n), v_act,
            coalesce(nullif(v_touched, ''), 'false'),
            case when v_reads then $text$
    pgrelay_rows := pg_catalog.current_setting('row_security');
    perform pg_catalog.set_config('row_security', 'off', true);$text$ end,
            case when v_reads then $text$
    perform pg_catalog.set_config('row_security', pgrelay_rows, true);$text$ end,
            pgrelay.compile_gate(p_table, p_definition)));
end
$$;
comment on function pgrelay.compile_trigger(regclass, jsonb) is 'The text of capture_<name>.';
