create or replace function pgrelay.webhook_state(
    p_is_active boolean, p_disabled_at timestamptz, p_paused boolean, p_probe_wait double precision, p_held_until timestamptz, p_failures_in_row integer)
returns text language sql stable set search_path = pg_catalog, pg_temp
as $$
-- How a webhook is, in one word: the first that fits, from the worst on. The last three of webhook_health, null where it has
-- no row there. API, page and commands show the same word (src/pgrelay/db/webhook_states.py lists them).
select case when not p_is_active and p_disabled_at is not null then 'disabled'
            when not p_is_active then 'inactive'
            when p_paused then 'paused'
            when p_probe_wait is not null then 'circuit open'
            when p_held_until > clock_timestamp() then 'held'
            when p_failures_in_row > 0 then 'failing'
            else 'healthy' end
$$;
comment on function pgrelay.webhook_state(boolean, timestamptz, boolean, double precision, timestamptz, integer) is
    'How a webhook is, in one word: healthy, failing, held, circuit open, paused, inactive or disabled.';
