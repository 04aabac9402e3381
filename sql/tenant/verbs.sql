-- What the role pgrelay_tenant calls instead of the verbs: the same, for its own tenant's things. Others' do not exist.

create or replace function pgrelay.is_tenants_webhook(p_webhook_id bigint)
returns boolean language sql stable set search_path = pg_catalog, pg_temp
as $$
select exists (select from pgrelay.webhook_configurations where id = p_webhook_id and company_id = pgrelay.tenant())
$$;
comment on function pgrelay.is_tenants_webhook(bigint) is 'Whether a webhook is there and the tenant''s.';

create or replace function pgrelay.tenant_retry_delivery(p_id bigint)
returns boolean language sql security definer set search_path = pg_catalog, pg_temp
as $$
select case when exists (select from pgrelay.tenant_deliveries where id = p_id) then pgrelay.retry_delivery(p_id) else false end
$$;
comment on function pgrelay.tenant_retry_delivery(bigint) is 'pgrelay.retry_delivery() for a delivery of the tenant''s; false for others''.';

create or replace function pgrelay.tenant_cancel_delivery(p_id bigint)
returns boolean language sql security definer set search_path = pg_catalog, pg_temp
as $$
select case when exists (select from pgrelay.tenant_deliveries where id = p_id) then pgrelay.cancel_delivery(p_id) else false end
$$;
comment on function pgrelay.tenant_cancel_delivery(bigint) is 'pgrelay.cancel_delivery() for a delivery of the tenant''s; false for others''.';

create or replace function pgrelay.tenant_test_webhook(p_webhook_id bigint)
returns bigint language sql security definer set search_path = pg_catalog, pg_temp
as $$
select pgrelay.test_webhook(case when pgrelay.is_tenants_webhook(p_webhook_id) then p_webhook_id end)
$$;
comment on function pgrelay.tenant_test_webhook(bigint) is 'pgrelay.test_webhook() for a webhook of the tenant''s; PGR20 for others''.';

create or replace function pgrelay.tenant_why_waiting(p_id bigint)
returns text language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
select pgrelay.why_waiting(p_id) where exists (select from pgrelay.tenant_deliveries where id = p_id)
$$;
comment on function pgrelay.tenant_why_waiting(bigint) is 'pgrelay.why_waiting() for a delivery of the tenant''s; null for others''.';

create or replace function pgrelay.tenant_try_filter(p_webhook_id bigint, p_filter text default null, p_last integer default 100)
returns table (event_id bigint, event_type text, resource_id text, occurred_at timestamptz, matches boolean)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
select * from pgrelay.try_filter(case when pgrelay.is_tenants_webhook(p_webhook_id) then p_webhook_id end, p_filter, p_last)
$$;
comment on function pgrelay.tenant_try_filter(bigint, text, integer) is 'pgrelay.try_filter() for a webhook of the tenant''s; PGR20 for others''.';

create or replace function pgrelay.tenant_filter_matches(p_filter text, p_body text)
returns boolean language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
select pgrelay.filter_matches(p_filter, p_body) where pgrelay.filter_problem(p_filter) is null
$$;
comment on function pgrelay.tenant_filter_matches(text, text) is 'pgrelay.filter_matches() for a tenant''s own text; null for a filter that is none.';

create or replace function pgrelay.tenant_replay_events(p_webhook_id bigint, p_since timestamptz, p_until timestamptz)
returns table (event_id bigint, event_slot smallint) language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
select e.event_id, e.event_slot from pgrelay.replay_events(p_webhook_id, p_since, p_until) as e where pgrelay.is_tenants_webhook(p_webhook_id)
$$;
comment on function pgrelay.tenant_replay_events(bigint, timestamptz, timestamptz) is
    'pgrelay.replay_events() for a webhook of the tenant''s; nothing for others''.';

create or replace function pgrelay.tenant_replay(p_webhook_id bigint, p_since timestamptz, p_until timestamptz default clock_timestamp())
returns bigint language sql security definer set search_path = pg_catalog, pg_temp
as $$
select pgrelay.replay(case when pgrelay.is_tenants_webhook(p_webhook_id) then p_webhook_id end, p_since, p_until)
$$;
comment on function pgrelay.tenant_replay(bigint, timestamptz, timestamptz) is 'pgrelay.replay() for a webhook of the tenant''s; PGR20 for others''.';

create or replace function pgrelay.tenant_preview_replay(
    p_webhook_id bigint, p_since timestamptz, p_until timestamptz default clock_timestamp(), p_event_types text[] default null)
returns table (events bigint, bytes bigint, event_types jsonb, first_event_at timestamptz, last_event_at timestamptz,
               per_second double precision, estimated_seconds double precision, kept_since timestamptz, warnings text[])
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
select * from pgrelay.preview_replay(case when pgrelay.is_tenants_webhook(p_webhook_id) then p_webhook_id end, p_since, p_until, p_event_types)
$$;
comment on function pgrelay.tenant_preview_replay(bigint, timestamptz, timestamptz, text[]) is
    'pgrelay.preview_replay() for a webhook of the tenant''s; PGR20 for others''.';

create or replace function pgrelay.tenant_start_replay(
    p_webhook_id bigint, p_since timestamptz, p_until timestamptz default clock_timestamp(), p_event_types text[] default null,
    p_created_by text default session_user)
returns bigint language sql security definer set search_path = pg_catalog, pg_temp
as $$
select pgrelay.start_replay(case when pgrelay.is_tenants_webhook(p_webhook_id) then p_webhook_id end, p_since, p_until, p_event_types, p_created_by)
$$;
comment on function pgrelay.tenant_start_replay(bigint, timestamptz, timestamptz, text[], text) is
    'pgrelay.start_replay() for a webhook of the tenant''s; PGR20 for others''.';

create or replace function pgrelay.tenant_stop_replay(p_id bigint)
returns boolean language sql security definer set search_path = pg_catalog, pg_temp
as $$
select case when exists (select from pgrelay.replays where id = p_id and company_id = pgrelay.tenant()) then pgrelay.stop_replay(p_id) else false end
$$;
comment on function pgrelay.tenant_stop_replay(bigint) is 'pgrelay.stop_replay() for a replay of the tenant''s; false for others''.';

create or replace function pgrelay.tenant_resume_replay(p_id bigint)
returns boolean language sql security definer set search_path = pg_catalog, pg_temp
as $$
select case when exists (select from pgrelay.replays where id = p_id and company_id = pgrelay.tenant()) then pgrelay.resume_replay(p_id) else false end
$$;
comment on function pgrelay.tenant_resume_replay(bigint) is 'pgrelay.resume_replay() for a replay of the tenant''s; false for others''.';
