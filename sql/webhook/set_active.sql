create or replace function pgrelay.set_active(p_webhook_id bigint, p_active boolean)
returns boolean language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Make a webhook active or inactive. Inactive: new events are not owed to it, its pending deliveries are cancelled.
-- False when there is no such webhook. (To keep deliveries waiting, set paused instead.)
begin
    update pgrelay.webhook_configurations set is_active = p_active where id = p_webhook_id;
    return found;
end
$$;
comment on function pgrelay.set_active(bigint, boolean) is 'Makes a webhook active or inactive (which cancels its pending deliveries).';
