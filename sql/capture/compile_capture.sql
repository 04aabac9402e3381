-- The functions of one source, as text: capture_<name> (the trigger), body_<name> (renders), recapture_<name>, and
-- fire_<name> where it has deadlines. User expressions become static SQL; their names resolve in pg_catalog alone.

create or replace function pgrelay.compile_event(p_table regclass, p_definition jsonb, p_number integer, p_rule jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- Statements that draw an id and render the body of one rule into the pgrelay_ variables, if anybody subscribes.
declare
    v_operations text[] := pgrelay.compile_operations(p_rule);
    v_key text := pgrelay.compile_key(p_table, p_definition);
    v_tenant jsonb := p_definition -> 'tenant';
    v_company text;
    v_resource text := coalesce(p_definition ->> 'resource', p_definition ->> 'name');
    v_event text := p_rule ->> 'event';
    v_safe_key boolean;
    v_gate text;
begin
    v_company := case jsonb_typeof(v_tenant)
        when 'string' then '(' || pgrelay.compile_either(v_operations, v_tenant #>> '{}') || ')::text'
        when 'object' then case when v_tenant ? 'value' then quote_literal(v_tenant ->> 'value')
                                else format(E'(\n%s\n)::text', v_tenant ->> 'sql') end end;
    select atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype) into v_safe_key
    from pg_attribute where attrelid = p_table and attname = v_key;
    v_gate := case when coalesce(p_rule ->> 'record', p_definition ->> 'record', 'subscribed') = 'always' then 'true'
        else format('exists (select from pgrelay.subscriptions as pgrelay_s where pgrelay_s.company_id = pgrelay_company and pgrelay_s.pattern = any (%L))',
                    pgrelay.event_patterns(v_event)) end;
    return format($text$
            pgrelay_resource := (%1$s)::text;
            pgrelay_company := coalesce(%2$s, '');
            if %3$s then
                pgrelay_id := pg_catalog.nextval('pgrelay.outbox_id_seq');
                pgrelay_key := %4$L || %5$s || %6$L || ((extract(epoch from pgrelay_at) * 1000)::bigint * 1000000 + pgrelay_id %% 1000000);
                pgrelay_body := pgrelay.%7$I(%8$s, pgrelay_op, new, old, pgrelay_key, pgrelay_at);
            end if;$text$,
        pgrelay.compile_either(v_operations, v_key), v_company, v_gate,
        coalesce(p_definition ->> 'prefix', v_resource) || '_',
        case when v_safe_key then 'pgrelay_resource'
             else 'pg_catalog.left(pg_catalog.regexp_replace(pgrelay_resource, ''[^A-Za-z0-9_-]'', ''_'', ''g''), 120)' end,
        '_' || split_part(v_event, '.', -1) || '_', 'body_' || (p_definition ->> 'name'), p_number);
end
$$;
comment on function pgrelay.compile_event(regclass, jsonb, integer, jsonb) is 'Statements that render one rule''s event.';

create or replace function pgrelay.compile_insert(p_definition jsonb, p_rule jsonb)
returns text language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- The one write of a capture: the event into the outbox. Outside every exception block: one transaction id a statement.
select format($text$
            insert into pgrelay.outbox (id, event_type, source, resource_id, company_id, idempotency_key, occurred_at, body)
            values (pgrelay_id, %L, %L, pgrelay_resource, pgrelay_company, pgrelay_key, pgrelay_at, pgrelay_body);$text$,
    p_rule ->> 'event', p_definition ->> 'name')
$$;
comment on function pgrelay.compile_insert(jsonb, jsonb) is 'The INSERT of one rule''s event.';

create or replace function pgrelay.compile_arm(p_table regclass, p_definition jsonb, p_rule jsonb, p_operation text)
returns text language sql stable set search_path = pg_catalog, pg_temp
as $$
-- When a write arms a deadline: it is new or was moved, or it lies in the past and its condition holds (a row that was
-- closed in time and is opened again). A deadline that fired is never fired again, so arming too often costs no event.
select case p_operation
    when 'INSERT' then d || ' is not null'
    when 'UPDATE' then format('%1$s is not null and (old.%2$I is distinct from new.%2$I or (%1$s <= pg_catalog.clock_timestamp() and %3$s))',
                              d, p_rule ->> 'at', pgrelay.compile_condition(p_table, p_rule, 'UPDATE'))
    end
from pgrelay.compile_deadline(p_table, p_definition, p_rule) as d
$$;
comment on function pgrelay.compile_arm(regclass, jsonb, jsonb, text) is 'When a write arms a deadline.';

create or replace function pgrelay.compile_body(p_table regclass, p_definition jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- body_<name>: renders the exact text that is sent. Settings of the application's session that would change it are
-- pinned; row_security is off so that a policy that hides a joined row is an error that is recorded, not a silent null.
declare
    v_rules text := '';
    v_rule jsonb;
    v_number bigint;
begin
    for v_rule, v_number in select * from jsonb_array_elements(p_definition -> 'events') with ordinality loop
        v_rules := v_rules || format($text$
    if rule = %s then%s
        return %L || idempotency_key || '","timestamp":' || pg_catalog.to_json(occurred_at)::text || %L
            || coalesce(pgrelay_object, 'null') || '}}';
    end if;$text$, v_number, pgrelay.compile_row(p_table, p_definition, v_rule),
            format('{"event":"%s","idempotency_key":"', v_rule ->> 'event'),
            format(',"data":{"%s":', coalesce(p_definition ->> 'resource', p_definition ->> 'name')));
    end loop;
    return format($text$create or replace function pgrelay.%I(
    rule integer, operation text, new record, old record, idempotency_key text, occurred_at timestamptz)
returns text language plpgsql
set search_path = pg_catalog, pg_temp set row_security = off set timezone = 'UTC' set intervalstyle = 'postgres'
set extra_float_digits = 1 set bytea_output = 'hex'
as $pgrelay$
-- Generated by pgrelay.watch(): the body of each event of source %s.
#variable_conflict use_column
declare
    pgrelay_object text;
begin%s
    return null;
end
$pgrelay$
$text$, 'body_' || (p_definition ->> 'name'), p_definition ->> 'name', v_rules);
end
$$;
comment on function pgrelay.compile_body(regclass, jsonb) is 'The text of body_<name>.';

create or replace function pgrelay.compile_trigger(p_table regclass, p_definition jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- capture_<name>: the trigger function. First all conditions, in one block; then, for the rules that fire, gate and
-- rendering, each in a block of its own; writes outside of any block.
declare
    v_name text := p_definition ->> 'name';
    v_declare text := '';
    v_fast text := '';
    v_slow text := '';
    v_act text := '';
    v_any text := '';
    v_operation text;
    v_condition text;
    v_rule jsonb;
    v_number bigint;
    v_key text := pgrelay.compile_key(p_table, p_definition);
    v_moved text := '';
    v_partitioned boolean := (select relkind = 'p' from pg_class where oid = p_table);
begin
    foreach v_operation in array array['INSERT', 'UPDATE', 'DELETE'] loop
        v_fast := v_fast || format(E'\n        %s pgrelay_op = %L then', case v_operation when 'INSERT' then 'if' else 'elsif' end, v_operation);
        v_slow := v_slow || format(E'\n        %s pgrelay_op = %L then', case v_operation when 'INSERT' then 'if' else 'elsif' end, v_operation);
        for v_rule, v_number in select * from jsonb_array_elements(p_definition -> 'events') with ordinality loop
            v_condition := null;
            if v_rule ? 'at' then
                v_condition := pgrelay.compile_arm(p_table, p_definition, v_rule, v_operation);
            elsif v_operation = any (pgrelay.compile_operations(v_rule)) then
                v_condition := pgrelay.compile_condition(p_table, v_rule, v_operation);
            end if;
            continue when v_condition is null;
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
        v_fast := v_fast || E'\n            null;';
        v_slow := v_slow || E'\n            null;';
    end loop;
    for v_rule, v_number in select * from jsonb_array_elements(p_definition -> 'events') with ordinality loop
        v_declare := v_declare || format(E'\n    pgrelay_fires_%s boolean := false;', v_number);
        v_any := v_any || case when v_any = '' then '' else ' or ' end || 'pgrelay_fires_' || v_number;
        if v_rule ? 'at' then
            v_act := v_act || format($text$
    if pgrelay_fires_%s then
        insert into pgrelay.deadlines (source, event_type, resource_id, fire_at)
        values (%L, %L, new.%I::text, %s);
    end if;$text$, v_number, v_name, v_rule ->> 'event', v_key, pgrelay.compile_deadline(p_table, p_definition, v_rule));
        else
            v_act := v_act || format($text$
    if pgrelay_fires_%1$s then
        pgrelay_body := null;
        pgrelay_resource := null;
        begin%2$s
        exception when others then
            if sqlstate like '40%%' or sqlstate like '57%%' then raise; end if;
            pgrelay_body := null;
            get stacked diagnostics pgrelay_context = pg_exception_context;
            perform pgrelay.capture_failed(%3$L, %4$L, pgrelay_op, pgrelay_resource, sqlstate, sqlerrm, pgrelay_context, new, old);
        end;
        if pgrelay_body is not null then%5$s
            pgrelay_wrote := true;
        end if;
    end if;$text$, v_number, pgrelay.compile_event(p_table, p_definition, v_number::integer, v_rule), v_name,
                v_rule ->> 'event', pgrelay.compile_insert(p_definition, v_rule));
        end if;
    end loop;
    if v_partitioned then
        -- A row that moves to another partition is a DELETE there and an INSERT here, row by row (15 to 18): remember the
        -- row that went, and treat the insert of the same key as the update it is.
        v_moved := format($text$
    if pgrelay_op = 'DELETE' then
        perform pg_catalog.set_config('pgrelay.moved', pg_catalog.row_to_json(old)::text, true);
    elsif pgrelay_op = 'INSERT' and pg_catalog.current_setting('pgrelay.moved', true) <> '' then
        begin
            if (pg_catalog.current_setting('pgrelay.moved', true)::json ->> %1$L) = new.%1$I::text then
                old := pg_catalog.json_populate_record(new, pg_catalog.current_setting('pgrelay.moved', true)::json);
                pgrelay_op := 'UPDATE';
            end if;
        exception when others then
            if sqlstate like '40%%' or sqlstate like '57%%' then raise; end if;
        end;
        perform pg_catalog.set_config('pgrelay.moved', '', true);
    end if;$text$, v_key);
    end if;
    return format($text$create or replace function pgrelay.%1$I()
returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp
as $pgrelay$
-- Generated by pgrelay.watch(): the rules of source %2$s. Change the source, not this text.
#variable_conflict use_column
declare
    pgrelay_op text := tg_op;
    pgrelay_at timestamptz;
    pgrelay_id bigint;
    pgrelay_key text;
    pgrelay_body text;
    pgrelay_resource text;
    pgrelay_company text;
    pgrelay_context text;
    pgrelay_wrote boolean := false;%3$s
begin
    if pg_catalog.current_setting('pgrelay.capture', true) = 'off' then return null; end if;%4$s
    begin%5$s
        end if;
    exception when others then
        -- one rule failed: ask them one by one, so that it costs no other its event
        if sqlstate like '40%%' or sqlstate like '57%%' then raise; end if;%6$s
        end if;
    end;
    if not (%7$s) then return null; end if;
    pgrelay_at := pg_catalog.clock_timestamp();%8$s
    -- read after the insert: a daemon that goes to sleep meanwhile waits for this transaction (see docs/architecture.md)
    if pgrelay_wrote and pg_catalog.pg_sequence_last_value('pgrelay.wake') = 2
       and pg_catalog.current_setting('max_prepared_transactions') = '0' then
        perform pg_catalog.pg_notify('pgrelay', '');
    end if;
    return null;
end
$pgrelay$
$text$, 'capture_' || v_name, v_name, v_declare, v_moved, v_fast, v_slow, v_any, v_act);
end
$$;
comment on function pgrelay.compile_trigger(regclass, jsonb) is 'The text of capture_<name>.';

create or replace function pgrelay.compile_recapture(p_table regclass, p_definition jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- recapture_<name>: makes the event of one capture error from the row it kept. Errors go up to pgrelay.recapture().
declare
    v_name text := p_definition ->> 'name';
    v_act text := '';
    v_rule jsonb;
    v_number bigint;
    v_conditions text;
begin
    for v_rule, v_number in select * from jsonb_array_elements(p_definition -> 'events') with ordinality loop
        if v_rule ? 'at' then
            v_act := v_act || format($text$
    if error.event_type = %1$L then
        return pgrelay.%2$I(%1$L, new.%3$I::text, %4$s);
    end if;$text$, v_rule ->> 'event', 'fire_' || v_name, pgrelay.compile_key(p_table, p_definition),
                pgrelay.compile_deadline(p_table, p_definition, v_rule));
        else
            select string_agg(format('(pgrelay_op = %L and %s)', o, pgrelay.compile_condition(p_table, v_rule, o)), ' or ')
            into v_conditions from unnest(pgrelay.compile_operations(v_rule)) as o;
            v_act := v_act || format($text$
    if error.event_type = %1$L then
        if %2$s then%3$s
        end if;
        if pgrelay_body is not null then%4$s
            return true;
        end if;
    end if;$text$, v_rule ->> 'event', v_conditions, pgrelay.compile_event(p_table, p_definition, v_number::integer, v_rule),
                pgrelay.compile_insert(p_definition, v_rule));
        end if;
    end loop;
    return format($text$create or replace function pgrelay.%1$I(error pgrelay.capture_errors)
returns boolean language plpgsql set search_path = pg_catalog, pg_temp
as $pgrelay$
-- Generated by pgrelay.watch(): makes the event that a capture error of source %2$s stands for.
#variable_conflict use_column
declare
    new record;
    old record;
    pgrelay_op text := error.operation;
    pgrelay_at timestamptz := error.occurred_at;
    pgrelay_id bigint;
    pgrelay_key text;
    pgrelay_body text;
    pgrelay_resource text;
    pgrelay_company text;
begin
    new := pg_catalog.json_populate_record(null::%3$s, coalesce(error.new_row, '{}')::json);
    old := pg_catalog.json_populate_record(null::%3$s, coalesce(error.old_row, '{}')::json);%4$s
    return false;
end
$pgrelay$
$text$, 'recapture_' || v_name, v_name, p_table, v_act);
end
$$;
comment on function pgrelay.compile_recapture(regclass, jsonb) is 'The text of recapture_<name>.';

create or replace function pgrelay.compile_fire(p_table regclass, p_definition jsonb)
returns text language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- fire_<name>: one armed deadline against the live row. Null when the source has no deadline.
declare
    v_name text := p_definition ->> 'name';
    v_key text := pgrelay.compile_key(p_table, p_definition);
    v_act text := '';
    v_rule jsonb;
    v_number bigint;
begin
    for v_rule, v_number in select * from jsonb_array_elements(p_definition -> 'events') with ordinality loop
        continue when not v_rule ? 'at';
        v_act := v_act || format($text$
    if p_event_type = %1$L then
        begin
            if not coalesce(%2$s = p_fire_at and p_fire_at <= pgrelay_at and %3$s, false) then return false; end if;%4$s
        exception when others then
            if sqlstate like '40%%' or sqlstate like '57%%' then raise; end if;
            get stacked diagnostics pgrelay_context = pg_exception_context;
            perform pgrelay.capture_failed(%5$L, %1$L, 'DEADLINE', p_resource_id, sqlstate, sqlerrm, pgrelay_context, new, old);
            return false;
        end;
        insert into pgrelay.deadline_fires (source, event_type, resource_id, fire_at)
        values (%5$L, %1$L, p_resource_id, p_fire_at) on conflict do nothing;
        if found and pgrelay_body is not null then%6$s
            return true;
        end if;
    end if;$text$, v_rule ->> 'event', pgrelay.compile_deadline(p_table, p_definition, v_rule),
            pgrelay.compile_condition(p_table, v_rule, 'INSERT'),
            pgrelay.compile_event(p_table, p_definition, v_number::integer, v_rule), v_name, pgrelay.compile_insert(p_definition, v_rule));
    end loop;
    if v_act = '' then return null; end if;
    return format($text$create or replace function pgrelay.%1$I(p_event_type text, p_resource_id text, p_fire_at timestamptz)
returns boolean language plpgsql set search_path = pg_catalog, pg_temp set row_security = off
as $pgrelay$
-- Generated by pgrelay.watch(): fires a deadline of source %2$s if the row still says so, once.
#variable_conflict use_column
declare
    new record;
    old record;
    pgrelay_op text := 'DEADLINE';
    pgrelay_at timestamptz := pg_catalog.clock_timestamp();
    pgrelay_id bigint;
    pgrelay_key text;
    pgrelay_body text;
    pgrelay_resource text;
    pgrelay_company text;
    pgrelay_context text;
begin
    select pgrelay_t.* into new from %3$s as pgrelay_t where pgrelay_t.%4$I = p_resource_id::%5$s;
    if not found then return false; end if;
    select pgrelay_t.* into old from %3$s as pgrelay_t where false;%6$s
    return false;
end
$pgrelay$
$text$, 'fire_' || v_name, v_name, p_table, v_key,
        (select format_type(atttypid, atttypmod) from pg_attribute where attrelid = p_table and attname = v_key), v_act);
end
$$;
comment on function pgrelay.compile_fire(regclass, jsonb) is 'The text of fire_<name>, or null.';
