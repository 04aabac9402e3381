-- What the role pgrelay_tenant reads instead of the tables: the same rows, its own tenant's only. Views and no policies on
-- the tables behind them: those have no tenant column, and are what the daemon works on. security_barrier: no condition that
-- a query adds sees another tenant's row. (The table of webhooks, which tenants write to, has a policy.)

create or replace view pgrelay.tenant_deliveries with (security_barrier) as
select d.* from pgrelay.deliveries d
join pgrelay.webhook_configurations w on w.id = d.webhook_id where w.company_id = pgrelay.tenant();
comment on view pgrelay.tenant_deliveries is 'Deliveries of the tenant''s webhooks.';

create or replace view pgrelay.tenant_outbox with (security_barrier) as
select o.id, o.event_type, o.source, o.resource_id, o.company_id, o.idempotency_key, o.occurred_at, o.only_webhook, o.body
from pgrelay.outbox o where o.company_id = pgrelay.tenant();
comment on view pgrelay.tenant_outbox is 'The tenant''s events.';

create or replace view pgrelay.tenant_delivery_attempts with (security_barrier) as
select a.id, a.delivery_id, a.event_id, a.webhook_id, a.attempt, a.started_at, a.duration_ms, a.status_code, a.error_kind, a.error_message,
       a.request_headers, a.response_headers, a.response_body, a.daemon, a.late, a.requests
from pgrelay.delivery_attempts a
join pgrelay.webhook_configurations w on w.id = a.webhook_id where w.company_id = pgrelay.tenant();
comment on view pgrelay.tenant_delivery_attempts is 'Attempts made for the tenant''s webhooks.';

create or replace view pgrelay.tenant_webhook_stats with (security_barrier) as
select s.* from pgrelay.webhook_stats s where s.company_id = pgrelay.tenant();
comment on view pgrelay.tenant_webhook_stats is 'Lifetime counts of the tenant''s webhooks.';

create or replace view pgrelay.tenant_metrics with (security_barrier) as
select m.* from pgrelay.metrics m
join pgrelay.webhook_configurations w on w.id = m.webhook_id where w.company_id = pgrelay.tenant();
comment on view pgrelay.tenant_metrics is 'Attempts and deliveries of the tenant''s webhooks, by minute.';

create or replace view pgrelay.tenant_webhook_health with (security_barrier) as
select h.* from pgrelay.webhook_health h
join pgrelay.webhook_configurations w on w.id = h.webhook_id where w.company_id = pgrelay.tenant();
comment on view pgrelay.tenant_webhook_health is 'Those of the tenant''s webhooks whose last attempts failed.';

create or replace view pgrelay.tenant_replay_progress with (security_barrier) as
select p.* from pgrelay.replay_progress p where p.company_id = pgrelay.tenant();
comment on view pgrelay.tenant_replay_progress is 'Replays for the tenant''s webhooks.';
