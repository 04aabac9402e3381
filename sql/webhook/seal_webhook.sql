create or replace function pgrelay.seal_with(p_key_id text)
returns void language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Say with which key secrets are sealed from now on; null: they are kept in the clear.
begin
    update pgrelay.installation set sealed_with = p_key_id where sealed_with is distinct from p_key_id;
end
$$;
comment on function pgrelay.seal_with(text) is 'Says with which key secrets are sealed; null: they are kept in the clear.';

create or replace function pgrelay.webhooks_to_seal(p_key_id text default null)
returns table (id bigint, version integer, secret_key text, previous_secret_key text, headers jsonb)
language plpgsql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off
as $$
-- Webhooks that have something in the clear, or no secret yet; with p_key_id also those sealed with another key, which
-- takes reading all of them.
begin
    if p_key_id is null then
        return query select w.id, w.version, w.secret_key, w.previous_secret_key, w.headers from pgrelay.webhook_configurations w
        where w.secret_key is null or w.secret_key not like 'sealed:%' or w.previous_secret_key not like 'sealed:%'
            or w.headers @? '$.* ? (!(@ starts with "sealed:"))'
        order by w.id limit 500;
    else
        return query select w.id, w.version, w.secret_key, w.previous_secret_key, w.headers from pgrelay.webhook_configurations w
        where w.secret_key is null or exists (
            select from unnest(array[w.secret_key, w.previous_secret_key]) as s where not starts_with(s, 'sealed:' || p_key_id || ':')
            union all
            select from jsonb_each_text(w.headers) as h where not starts_with(h.value, 'sealed:' || p_key_id || ':'))
        order by w.id;
    end if;
end
$$;
comment on function pgrelay.webhooks_to_seal(text) is 'Webhooks whose secrets or header values are not sealed, or not with this key.';

create or replace function pgrelay.seal_webhook(p_id bigint, p_version integer, p_secret_key text, p_previous_secret_key text, p_headers jsonb)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Replace secrets and header values by their sealed form, or by another key's. False when the webhook has changed since
-- it was read. A daemon may not write webhooks; this it may, so nothing else than what is sealed is taken here.
begin
    if exists (select from unnest(array[p_secret_key, coalesce(p_previous_secret_key, 'sealed:')]) as s where s is null or not starts_with(s, 'sealed:'))
        or exists (select from jsonb_each_text(p_headers) as h where not starts_with(h.value, 'sealed:')) then
        raise exception using errcode = 'PGR26', message = format('webhook %s: what is to be stored is not sealed', p_id),
            hint = 'This function is the daemon''s own. Write to pgrelay.webhook_configurations.';
    end if;
    update pgrelay.webhook_configurations
    set secret_key = p_secret_key, previous_secret_key = p_previous_secret_key, headers = p_headers
    where id = p_id and version = p_version;
    return found;
end
$$;
comment on function pgrelay.seal_webhook(bigint, integer, text, text, jsonb) is
    'Stores the sealed form of a webhook''s secrets and header values. Called by the daemon.';
