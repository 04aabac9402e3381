create or replace function pgrelay.exponential(p_first integer, p_longest integer, p_factor double precision default 2)
returns integer[] language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- A retry_schedule that grows: pgrelay.exponential(10, 3600) is {10,20,40,...,2560,3600}, in seconds. At most 100 waits.
with recursive waits as (
    select 1 as n, p_first::double precision as wait
    union all
    select n + 1, least(wait * p_factor, p_longest) from waits where wait < p_longest and n < 100 and p_factor > 1
)
select array_agg(wait::integer order by n) from waits
$$;
comment on function pgrelay.exponential(integer, integer, double precision) is
    'A growing retry_schedule: first and longest wait in seconds, and the factor between them.';
