create or replace function pgrelay.event_types()
returns table (event_type text, source text, resource text, operations text[], deadline text, columns jsonb, extras text[], shaped boolean)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
-- What may happen, and of what the resource object of each event consists: columns of the watched table with their types as
-- far as they are sent, names of extras. Not shaped: an expression makes the object, and only running it would tell its form.
-- Conditions and expressions are the application's own business and are left out.
select r.event_type, s.name, coalesce(s.definition ->> 'resource', s.name), r.operations, r.deadline,
    (select coalesce(jsonb_agg(jsonb_build_object('name', a.attname, 'type', coalesce(t.oid, a.atttypid)::regtype::text,
                'category', b.typcategory, 'nullable', not a.attnotnull) order by a.attnum), '[]')
     from pg_attribute a
     join pg_type t0 on t0.oid = a.atttypid
     left join pg_type t on t.oid = nullif(t0.typbasetype, 0)
     join pg_type b on b.oid = coalesce(t.oid, t0.oid)
     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        and coalesce(p.include ? a.attname, not p.exclude ? a.attname, true) and not p.extra ? a.attname),
    array(select jsonb_object_keys(p.extra) order by 1), p.row is null
from pgrelay.sources s
join pgrelay.event_rules r on r.source_id = s.id
cross join lateral (select s.definition -> 'events' -> (r.number - 1) -> 'payload' as own, s.definition -> 'payload' as usual) as d
-- as pgrelay.compile_row() reads them
cross join lateral (select
    coalesce(d.own ->> 'row', case when d.own ?| array['include', 'exclude'] then null else d.usual ->> 'row' end) as row,
    case when d.own ? 'exclude' then null else coalesce(d.own -> 'include', d.usual -> 'include') end as include,
    case when d.own ? 'include' then null else coalesce(d.own -> 'exclude', d.usual -> 'exclude') end as exclude,
    coalesce(d.usual -> 'extra', '{}') || coalesce(d.own -> 'extra', '{}') as extra) as p
left join (pg_class c join pg_namespace n on n.oid = c.relnamespace)
    on format('%I.%I', n.nspname, c.relname) = s.watched_table and c.relkind in ('r', 'p')
order by r.event_type, s.name, r.number
$$;
comment on function pgrelay.event_types() is 'The event types of all sources, with the columns and extras that each sends.';
