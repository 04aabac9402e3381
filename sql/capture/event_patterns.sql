create or replace function pgrelay.event_patterns(p_event_type text)
returns text[] language sql immutable parallel safe
as $$
-- Every subscription pattern that matches the event type: itself, * and a prefix with .* for each dot in it.
--
-- No search_path is set here, so that the planner can inline it; every name is qualified.
select array['*', p_event_type, pg_catalog.split_part(p_event_type, '.', 1) || '.*',
             pg_catalog.split_part(p_event_type, '.', 1) || '.' || pg_catalog.split_part(p_event_type, '.', 2) || '.*']
$$;
comment on function pgrelay.event_patterns(text) is 'The subscription patterns that match an event type.';
