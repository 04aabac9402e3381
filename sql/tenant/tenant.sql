create or replace function pgrelay.tenant()
returns text language sql stable parallel safe
-- The tenant that the API acts for in this transaction; null when nobody said, which is nobody's.
-- Parsed when it is made, so that the planner may inline it and no search_path changes what it means.
return nullif(pg_catalog.current_setting('pgrelay.company_id', true), '');
comment on function pgrelay.tenant() is 'The tenant whose things the role pgrelay_tenant sees: the setting pgrelay.company_id.';
