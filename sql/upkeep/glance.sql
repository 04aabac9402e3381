create or replace function pgrelay.glance()
returns table (events boolean, deadline_in double precision, expired boolean, lapsed boolean, counted boolean, replays boolean,
               daemons integer)
language plpgsql stable set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
-- Whether anything waits to be done, in one statement, so that an idle daemon asks for little else.
--
-- events: some that were not expanded. deadline_in: seconds until the next armed deadline, null when there is none, and expired:
-- pending deliveries whose time is over, both lately: of those before, which the chores find by themselves, the indexes hold dead
-- entries for as long as an old snapshot is held. lapsed: a daemon whose lease ended. counted: deltas that are not folded.
-- Only the latest of them are looked for, for the same reason. replays: some that run. daemons: how many share the work.
--
-- The time is in a variable, here and elsewhere: a comparison with clock_timestamp() itself, which is volatile, is no
-- condition of an index, and all that lies in the future would be read.
declare
    v_now timestamptz := clock_timestamp();
    v_lately timestamptz := v_now - interval '2 minutes';
begin
    return query select
        (select w.after_id is not null
                or exists (select from pgrelay.outbox o where o.xid >= pg_snapshot_xmax(w.to_snapshot))
                or exists (select from pgrelay.outbox o where o.xid = any (array(select pg_snapshot_xip(w.to_snapshot))))
         from pgrelay.feed_windows w order by w.id desc limit 1),
        (select extract(epoch from d.fire_at - v_now)::double precision from pgrelay.deadlines d
         where d.fire_at > v_lately order by d.fire_at, d.id limit 1),
        exists (select from pgrelay.delivery_queue q
                where q.expires_at is not null and q.status = 'pending' and q.expires_at <= v_now and q.expires_at > v_lately),
        alive.lapsed,
        exists (select from pgrelay.metric_deltas m
                where m.id > (select coalesce(pg_sequence_last_value('pgrelay.metric_deltas_id_seq'), 0) - 1000)),
        exists (select from pgrelay.replays p where p.status = 'running'),
        alive.daemons
    -- once for both: their rows, which every heartbeat updates, have thousands of versions after a day under an old snapshot
    from (select count(*)::integer as daemons, coalesce(bool_or(d.lease_until < v_now), false) as lapsed
          from pgrelay.daemons d where d.ended_at is null) as alive;
end
$$;
comment on function pgrelay.glance() is 'Whether anything waits to be done. Called by every daemon about once a second.';
