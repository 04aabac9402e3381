create or replace function pgrelay.sweep()
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- What is found only by reading the queue as a whole: deliveries that a daemon leased after it was declared dead are taken
-- back, kept events that nothing needs any more are deleted.
--
-- Neither is in a hurry, and an index for it would cost every delivery: so it is called the less often the longer it takes.
begin
    if not pg_try_advisory_xact_lock(hashtext('pgrelay'), hashtext('sweep')) then return; end if;
    perform set_config('lock_timeout', '100ms', true);
    perform pgrelay.release_ended();
    perform pgrelay.drop_kept();
end
$$;
comment on function pgrelay.sweep() is 'Takes back what ended daemons leased, and deletes kept events that nothing needs any more. Called by the daemon.';
