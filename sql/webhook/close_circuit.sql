create or replace function pgrelay.close_circuit(p_webhook_id bigint)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Forget that a webhook failed, and what its receiver asked for in Retry-After: it is served as ever from now on, or fails anew.
-- False when nothing was known against it.
begin
    delete from pgrelay.webhook_health where webhook_id = p_webhook_id;
    if not found then return false; end if;
    perform pgrelay.ring_bell();
    return true;
end
$$;
comment on function pgrelay.close_circuit(bigint) is 'Closes a webhook''s circuit and ends any hold: it is tried again now.';
