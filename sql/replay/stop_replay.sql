create or replace function pgrelay.stop_replay(p_id bigint)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Queue no more of a replay. True if it was running; false if it is stopped or done already, or unknown.
--
-- What is queued goes out: about a second's worth. A daemon that is queueing a slice of it this very moment is waited for,
-- and nothing is queued after this has been committed.
begin
    update pgrelay.replays set status = 'stopped', ended_at = clock_timestamp(), note = 'stopped by ' || session_user
    where id = p_id and status = 'running';
    return found;
end
$$;
comment on function pgrelay.stop_replay(bigint) is 'Stops a running replay: nothing more of it is queued. True if it did.';

create or replace function pgrelay.resume_replay(p_id bigint)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Go on with a stopped replay where it stopped. True if it will; false if it is running or done, or unknown.
--
-- Events that have outlived their retention meanwhile are skipped, and counted as such in the end. Raises PGR20 when the
-- webhook is gone or inactive.
declare
    v_webhook bigint;
begin
    select r.webhook_id into v_webhook from pgrelay.replays r where r.id = p_id and r.status = 'stopped' for update;
    if not found then return false; end if;
    if not exists (select from pgrelay.webhook_configurations w where w.id = v_webhook and w.is_active) then
        raise exception using errcode = 'PGR20', message = format('webhook %s of replay %s is deleted or inactive', v_webhook, p_id),
            hint = format('If it is there: select pgrelay.set_active(%s, true), then resume.', v_webhook);
    end if;
    update pgrelay.replays set status = 'running', started_at = clock_timestamp(), ended_at = null, note = null where id = p_id;
    return true;
end
$$;
comment on function pgrelay.resume_replay(bigint) is 'Goes on with a stopped replay. True if it did.';
