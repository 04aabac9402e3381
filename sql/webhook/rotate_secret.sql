create or replace function pgrelay.rotate_secret(p_webhook_id bigint, p_overlap interval default interval '24 hours', p_secret text default null)
returns text language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Give a webhook a new secret (p_secret, else a generated one) and return it. During the overlap the old one signs too
-- (webhook-signature carries both; X-Webhook-Signature can carry one only and uses the new). Where secrets are sealed a
-- daemon makes the new one, within a second or so: null is returned then. Raises PGR20 when there is no such webhook.
--
-- There is room for one old secret. A second rotation would end the first one's, which may be the only one that the receiver
-- has: PGR22, unless the overlap is zero, which says that all old ones are to end.
declare
    v_secret text;
    v_until timestamptz;
begin
    if p_overlap < interval '0' then
        raise exception using errcode = 'PGR22', message = 'the overlap is negative', hint = 'For example interval ''24 hours''; zero ends the old secret at once.';
    end if;
    select previous_secret_expires_at into v_until from pgrelay.webhook_configurations
    where id = p_webhook_id and secret_key is not null and previous_secret_expires_at > clock_timestamp() for update;
    if found and p_overlap > interval '0' then
        raise exception using errcode = 'PGR22', message = format('webhook %s was rotated already: the secret before signs until %s UTC, and would end now', p_webhook_id,
                to_char(v_until at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')),
            hint = 'End it first (pgrelay.end_overlap), once the receiver has the new one. Or rotate with an overlap of zero: then all old ones end at once.';
    end if;
    -- a secret that was asked for and is not made yet signs nothing: then the one before it stays the previous one
    update pgrelay.webhook_configurations
    set previous_secret_key = case when p_overlap > interval '0' then coalesce(secret_key, previous_secret_key) end,
        previous_secret_expires_at = case when p_overlap > interval '0' and coalesce(secret_key, previous_secret_key) is not null
            then clock_timestamp() + p_overlap end,
        secret_key = p_secret, secret_revealed_at = clock_timestamp()
    where id = p_webhook_id
    returning secret_key into v_secret;
    if not found then
        raise exception using errcode = 'PGR20', message = format('there is no webhook %s', p_webhook_id), hint = 'See pgrelay.webhook_configurations.';
    end if;
    return v_secret;
end
$$;
comment on function pgrelay.rotate_secret(bigint, interval, text) is
    'Gives a webhook a new secret and returns it; the old one signs too until the overlap ends.';
