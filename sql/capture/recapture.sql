create or replace function pgrelay.kept_row(p_row text, p_table regclass)
returns json language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- A row of capture_errors, to be read as one of the table. Refused (PGR16) when it has columns that the table lacks and lacks
-- some that the table has: one was renamed since, and an event with a null in its place would be wrong.
declare
    v_kept text[] := array(select json_object_keys(p_row::json));
    v_columns text[] := array(select attname::text from pg_attribute where attrelid = p_table and attnum > 0 and not attisdropped);
    v_gone text[] := array(select unnest(v_kept) except select unnest(v_columns) order by 1);
    v_new text[] := array(select unnest(v_columns) except select unnest(v_kept) order by 1);
begin
    if v_gone <> '{}' and v_new <> '{}' then
        raise exception using errcode = 'PGR16', message = format('the row was kept with %s and without %s',
                array_to_string(v_gone, ', '), array_to_string(v_new, ', ')),
            hint = 'A column was renamed since: correct old_row and new_row in pgrelay.capture_errors, then recapture.';
    end if;
    return coalesce(p_row, '{}')::json;
end
$$;
comment on function pgrelay.kept_row(text, regclass) is 'A row of capture_errors, checked against the table as it is now.';
revoke execute on function pgrelay.kept_row(text, regclass) from public;

create or replace function pgrelay.recapture(p_source text default null, p_id bigint default null)
returns table (id bigint, event_made boolean, message text, stays_open boolean) language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Make the events that capture errors stand for, once their cause is mended; oldest first, of one source or one error.
--
-- One row for each error: event_made false with a message when it fails again (then it stays open) or when a deadline was
-- armed again (it fires by itself), false without one when the rule, as it is now, does not fire for that row, or nobody
-- subscribes to it. Rows locked in id order.
declare
    v_error pgrelay.capture_errors;
    v_hint text;
begin
    perform pgrelay.forget_plans('42804');
    for v_error in select e.* from pgrelay.capture_errors e
                   where e.recaptured_at is null and (p_source is null or e.source = p_source) and (p_id is null or e.id = p_id)
                   order by e.id for update skip locked loop
        id := v_error.id;
        message := null;
        event_made := false;
        stays_open := true;
        begin
            if to_regprocedure(format('pgrelay.%I(pgrelay.capture_errors)', 'recapture_' || v_error.source)) is null then
                message := format('source %s is not watched any more', v_error.source);
            else
                execute format('select pgrelay.%I($1)', 'recapture_' || v_error.source) into event_made using v_error;
                if event_made is null then
                    event_made := false;
                    message := 'its deadline is armed again';
                end if;
                update pgrelay.capture_errors e set recaptured_at = clock_timestamp() where e.id = v_error.id;
                stays_open := false;
            end if;
        exception when others then
            if sqlstate like '40%' or sqlstate like '57%' then raise; end if;
            get stacked diagnostics v_hint = pg_exception_hint;
            message := concat_ws('. ', sqlerrm, nullif(v_hint, ''));
        end;
        return next;
    end loop;
    perform pgrelay.ring_bell();
end
$$;
comment on function pgrelay.recapture(text, bigint) is 'Makes the events that capture errors stand for, after their cause was mended.';
revoke execute on function pgrelay.recapture(text, bigint) from public;
