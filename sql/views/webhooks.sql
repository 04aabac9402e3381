create or replace view pgrelay.webhooks as
select w.id, w.company_id, w.name, pgrelay.mask_url(w.url) as url, w.subscribed_events, w.is_active, w.paused, w.timeout_seconds,
       w.max_retry_attempts, w.retry_schedule, w.max_concurrency, w.rate_limit_per_second, w.ordering, w.disabled_at, w.disabled_reason, array(select jsonb_object_keys(w.headers)) as header_names,
       case when w.secret_key is null then 'awaited' when kept.plain then 'plain' else 'sealed' end as secrets, kept.key_ids as sealed_with,
       w.previous_secret_expires_at, w.description, w.created_by, w.version, w.created_at, w.updated_at, w.payload_format, w.filter,
       pgrelay.webhook_state(w.is_active, w.disabled_at, w.paused, health.probe_wait, health.held_until, health.failures_in_row) as state
from pgrelay.webhook_configurations w
left join pgrelay.webhook_health health on health.webhook_id = w.id
cross join lateral (
    select coalesce(bool_or(not starts_with(value, 'sealed:')), false) as plain,
           coalesce(array_agg(distinct split_part(value, ':', 2)) filter (where starts_with(value, 'sealed:')), '{}') as key_ids
    from (select w.secret_key as value union all select w.previous_secret_key union all select h.value from jsonb_each_text(w.headers) as h) as v
    where value is not null) as kept;
comment on view pgrelay.webhooks is 'Webhooks as everybody may see them: no secret, no header value, no template, no token in a URL. Write to webhook_configurations.';
comment on column pgrelay.webhooks.state is 'How it is, in one word: healthy, failing, held, circuit open, paused, inactive or disabled.';
comment on column pgrelay.webhooks.url is 'Credentials, query values and what looks like a token in the path are masked.';
comment on column pgrelay.webhooks.header_names is 'Its custom headers, without their values.';
comment on column pgrelay.webhooks.secrets is
    'How its secrets and header values are kept: plain, sealed, or awaited while a daemon still has to make the secret.';
comment on column pgrelay.webhooks.sealed_with is 'Ids of the keys they are sealed with; more than one while keys are rotated.';
