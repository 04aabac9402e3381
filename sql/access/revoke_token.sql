create or replace function pgrelay.revoke_token(p_id bigint)
returns boolean language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- End an API token, from the next request on. The row stays, to tell who had access. False when there is none to end.
begin
    update pgrelay.api_tokens set revoked_at = clock_timestamp() where id = p_id and revoked_at is null;
    return found;
end
$$;
comment on function pgrelay.revoke_token(bigint) is 'Ends an API token. True if it did; false if it is revoked already or unknown.';
