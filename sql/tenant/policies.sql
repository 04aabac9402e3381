-- The role pgrelay_tenant writes to the table of webhooks, so there it is kept to its own by a policy. The daemon, admins and
-- readers see what they are granted; the owner, as whom captures and verbs run, is not subject to it.
--
-- One policy for everybody that names no role: a dump can be restored where the roles do not exist, and the API's user may be a
-- member of every group. And it calls no function of ours (it spells pgrelay.tenant() out), for a policy asks whoever reads for the
-- right to call it. What a tenant reads else are views, see views.sql: a policy on those tables would be in the daemon's way.

do $$
begin
    if not exists (select from pg_policy where polrelid = 'pgrelay.webhook_configurations'::regclass and polname = 'tenants_own') then
        create policy tenants_own on pgrelay.webhook_configurations using (true);
    end if;
end
$$;
alter policy tenants_own on pgrelay.webhook_configurations
    using (case when current_user = 'pgrelay_tenant' then company_id = nullif(current_setting('pgrelay.company_id', true), '') else true end)
    with check (case when current_user = 'pgrelay_tenant' then company_id = nullif(current_setting('pgrelay.company_id', true), '') else true end);
comment on policy tenants_own on pgrelay.webhook_configurations is 'The role pgrelay_tenant: rows of the tenant in pgrelay.company_id. All others: all rows.';
alter table pgrelay.webhook_configurations enable row level security;
