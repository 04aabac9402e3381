create or replace function pgrelay.any_token()
returns boolean language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
-- Whether anybody could use the API: asked before it is served where others can reach it, by daemons too, which see no token.
select exists (select from pgrelay.api_tokens
    where revoked_at is null and (expires_at is null or expires_at > clock_timestamp()))
$$;
comment on function pgrelay.any_token() is 'Whether there is an API token that may be used.';
