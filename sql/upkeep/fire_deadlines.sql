create or replace function pgrelay.fire_deadlines(p_limit integer default 200, p_all boolean default true)
returns table (fired integer, dropped integer, next_in double precision) language plpgsql security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
-- Fire deadlines that passed: take what is due, look at the live row, make the event if it still says so.
--
-- No cursor over time: an arm that commits after its moment is due at once. Taking the arm, noting the firing and
-- writing the event are one transaction. next_in: seconds until the next armed deadline, null when there is none.
--
-- Without p_all only what passed within the last two minutes is looked for: before it lie, dead, all that have fired for as
-- long as an old snapshot is held.
declare
    v_now timestamptz := clock_timestamp();
    v_since timestamptz := case when p_all then '-infinity' else v_now - interval '2 minutes' end;
    v_arm pgrelay.deadlines;
    v_fired boolean;
begin
    fired := 0;
    dropped := 0;
    for v_arm in
        -- by place, which is theirs for good, for an arm is never updated: they are looked for once
        with taken as (
            delete from pgrelay.deadlines where ctid = any (array(
                select ctid from pgrelay.deadlines where fire_at <= v_now and fire_at >= v_since
                order by fire_at, id limit p_limit for update skip locked))
            returning *)
        select * from taken order by fire_at, id
    loop
        v_fired := false;
        if to_regprocedure(format('pgrelay.%I(text, text, timestamptz)', 'fire_' || v_arm.source)) is not null then
            execute format('select pgrelay.%I($1, $2, $3)', 'fire_' || v_arm.source) into v_fired using v_arm.event_type, v_arm.resource_id, v_arm.fire_at;
        end if;
        if v_fired then fired := fired + 1; else dropped := dropped + 1; end if;
    end loop;
    select extract(epoch from fire_at - clock_timestamp())::double precision into next_in from pgrelay.deadlines
    where fire_at >= v_since order by fire_at, id limit 1;
    return next;
end
$$;
comment on function pgrelay.fire_deadlines(integer, boolean) is 'Makes the events of deadlines that passed. Called by the daemon.';
