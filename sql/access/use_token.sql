create or replace function pgrelay.use_token(p_digest bytea)
returns table (id bigint, name text, role text, company_id text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Whose token has this SHA-256, and may still be used; no row if nobody's. Notes when, to the minute: an update for every
-- request would make one row hot, and one that somebody else is noting this moment is left alone.
#variable_conflict use_column
begin
    update pgrelay.api_tokens set last_used_at = clock_timestamp() where api_tokens.id = (
        select t.id from pgrelay.api_tokens t
        where t.digest = p_digest and (t.last_used_at is null or t.last_used_at < clock_timestamp() - interval '1 minute')
        for update skip locked);
    return query select t.id, t.name, t.role, t.company_id from pgrelay.api_tokens t
    where t.digest = p_digest and t.revoked_at is null and (t.expires_at is null or t.expires_at > clock_timestamp());
end
$$;
comment on function pgrelay.use_token(bytea) is 'Whose API token has this SHA-256 digest; no row when it is unknown, revoked or expired.';
