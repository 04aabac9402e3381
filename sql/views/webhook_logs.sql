create or replace view pgrelay.webhook_logs as
select a.id, a.started_at, w.company_id, a.webhook_id, w.name as webhook_name, o.event_type, o.resource_id, o.idempotency_key, a.delivery_id,
       a.event_id, a.attempt, a.status_code, a.error_kind, a.error_message, a.duration_ms, a.request_headers, o.body as payload,
       a.response_headers, a.response_body, a.late, a.daemon, w.payload_format, a.requests
from pgrelay.delivery_attempts a
left join pgrelay.webhook_configurations w on w.id = a.webhook_id
left join pgrelay.outbox o on o.id = a.event_id;
comment on view pgrelay.webhook_logs is 'Every attempt with all a person wants to see of it, payload included. Filter by webhook_id and started_at, or delivery_id.';
comment on column pgrelay.webhook_logs.payload is
    'The event''s body. It is what was sent where payload_format is standard; else that was made of it, see pgrelay deliveries show --body.';
comment on column pgrelay.webhook_logs.payload_format is 'The webhook''s payload format as it is now.';
