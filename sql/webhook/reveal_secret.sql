create or replace function pgrelay.reveal_secret(p_webhook_id bigint)
returns text language sql set search_path = pg_catalog, pg_temp
as $$
-- A webhook's secret, to somebody who has not seen it: once, and null ever after (until the secret is another). Null as well
-- where a daemon still has to make it. As it is kept: sealed, if it is.
update pgrelay.webhook_configurations set secret_revealed_at = clock_timestamp()
where id = p_webhook_id and secret_revealed_at is null and secret_key is not null returning secret_key
$$;
comment on function pgrelay.reveal_secret(bigint) is 'Shows a webhook''s secret once; null when it was shown before, is not made yet, or there is no such webhook.';
