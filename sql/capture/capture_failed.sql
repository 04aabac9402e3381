create or replace function pgrelay.capture_failed(
    p_source text, p_event_type text, p_operation text, p_resource_id text,
    p_sqlstate text, p_message text, p_context text, p_new record, p_old record)
returns void language plpgsql set search_path = pg_catalog, pg_temp
set timezone = 'UTC' set datestyle = 'ISO, MDY' set intervalstyle = 'postgres' set extra_float_digits = 1 set bytea_output = 'hex'
as $$
-- Write down a change whose event could not be made, with the row before and after, and let the application go on.
--
-- Called from exception handlers of capture functions. The rows are rendered inside a block that writes nothing and
-- inserted outside it, so that a statement over a million failing rows still uses one transaction id. Rows that would
-- not fit into one row of capture_errors are left out: noting an error must not fail.
declare
    v_new text;
    v_old text;
begin
    begin
        if p_operation <> 'DELETE' then v_new := row_to_json(p_new)::text; end if;
        if p_operation in ('UPDATE', 'DELETE') then v_old := row_to_json(p_old)::text; end if;
        if octet_length(concat(v_new, v_old)) > 268435456 then raise program_limit_exceeded using message = 'more than 256 MiB'; end if;
    exception when others then
        if sqlstate like '40%' or sqlstate like '57%' then raise; end if;
        v_new := null;
        v_old := null;
        p_context := concat(p_context, ' / the row itself could not be kept: ', sqlerrm);
    end;
    insert into pgrelay.capture_errors
        (source, event_type, operation, resource_id, sqlstate, message, context, old_row, new_row)
    values (p_source, p_event_type, p_operation, p_resource_id, p_sqlstate, p_message, p_context, v_old, v_new);
end
$$;
comment on function pgrelay.capture_failed(text, text, text, text, text, text, text, record, record) is
    'Records a change whose event could not be made. Called by capture functions.';
revoke execute on function pgrelay.capture_failed(text, text, text, text, text, text, text, record, record) from public;

create or replace function pgrelay.forget_plans(p_sqlstate text)
returns boolean language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- After a failure in a capture function: whether it is worth another try, because plans were discarded that did not fit.
--
-- A session that captured a row before ALTER COLUMN ... TYPE keeps plans for the old type, and PL/pgSQL refuses the new one
-- (42804) as long as the session lives.
begin
    if p_sqlstate <> '42804' then return false; end if;
    discard plans;
    return true;
exception when insufficient_privilege then
    return false;  -- within a security-restricted operation (REFRESH MATERIALIZED VIEW) nothing may be discarded
end
$$;
comment on function pgrelay.forget_plans(text) is 'Discards plans made before a column changed its type. Called by capture functions.';
revoke execute on function pgrelay.forget_plans(text) from public;
