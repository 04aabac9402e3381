create or replace view pgrelay.webhooks as
select w.id, w.company_id, w.name, pgrelay.mask_url(w.url) as url, w.subscribed_events, w.is_active, w.paused, w.timeout_seconds,
       w.max_retry_attempts, w.retry_schedule, array(select jsonb_object_keys(w.headers)) as header_names,
       w.previous_secret_expires_at, w.description, w.created_by, w.version, w.created_at, w.updated_at
from pgrelay.webhook_configurations w;
comment on view pgrelay.webhooks is 'Webhooks as everybody may see them: no secret, no header value, no token in a URL. Write to webhook_configurations.';
comment on column pgrelay.webhooks.url is 'Credentials, query values and what looks like a token in the path are masked.';
comment on column pgrelay.webhooks.header_names is 'Its custom headers, without their values.';
