create or replace function pgrelay.end_overlap(p_webhook_id bigint, p_version integer default null)
returns boolean language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- End the old secret of a rotated webhook now, because its receiver has the new one. False when no old one signs any more, or
-- when the webhook is not at p_version (if given): then somebody may have rotated again, and the old secret is another.
-- Raises PGR20 when there is no such webhook, PGR22 while the new secret is still to be made and the old one signs alone.
declare
    v_webhook pgrelay.webhook_configurations;
begin
    select * into v_webhook from pgrelay.webhook_configurations where id = p_webhook_id for update;
    if not found then
        raise exception using errcode = 'PGR20', message = format('there is no webhook %s', p_webhook_id), hint = 'See pgrelay.webhook_configurations.';
    end if;
    if v_webhook.previous_secret_key is null or p_version <> v_webhook.version then return false; end if;
    if v_webhook.secret_key is null then
        raise exception using errcode = 'PGR22', message = format('the new secret of webhook %s is not made yet: the old one signs alone', p_webhook_id),
            hint = 'A running daemon that has the key makes it within a second or so.';
    end if;
    update pgrelay.webhook_configurations set previous_secret_key = null, previous_secret_expires_at = null where id = p_webhook_id;
    return v_webhook.previous_secret_expires_at > clock_timestamp();
end
$$;
comment on function pgrelay.end_overlap(bigint, integer) is 'Ends the old secret of a rotated webhook before its time. False when none signs any more.';
