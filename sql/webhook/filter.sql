-- Filters: conditions on the content of events, in SQL/JSON path, asked when an event is turned into deliveries.
--
-- A filter is written by a tenant and runs in the step that serves all of them, and no timeout can end it alone. So only
-- what takes time in proportion to the body is accepted: comparisons with a literal, no arithmetic, no **, no lists of
-- subscripts (each of which would double the work), nothing that starts again from $ for every item of a list.

create or replace function pgrelay.filter_problem(p_filter text)
returns text language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
-- What is wrong with a filter, or null. What passes is a condition, and cheap.
--
-- Judged is the form in which Postgres itself writes the path, without what stands in quotes: every word of it must be
-- one of those listed here. Of patterns (like_regex) the simple ones alone, which match in time proportional to the text.
declare
    v_bare text := regexp_replace(p_filter, '"([^"\\]|\\.)*"', '""', 'g');
    v_path jsonpath;
    v_group text;
begin
    if p_filter is null then return null; end if;
    if length(p_filter) > 500 then return 'it is longer than 500 characters'; end if;
    if v_bare ~ '[/\\]' then return 'it holds arithmetic, a comment or a backslash outside quotes'; end if;
    if p_filter ~* 'like_regex' and p_filter ~ '[\\{]|\(\?' then return 'with like_regex it may hold no backslash, no { and no (?'; end if;
    begin
        v_path := p_filter::jsonpath;
    exception when others then
        return 'it is no SQL/JSON path: ' || sqlerrm;
    end;
    v_bare := regexp_replace(v_path::text, '"([^"\\]|\\.)*"', '""', 'g');
    if v_bare !~ ('^(strict )?([$@](?!"")|\.""|\.\*|\[(\*|last|[0-9]+)\]|\.(size|type|double)\(\)|\.datetime\((""|)\)|\?|\(|\)|exists |!| && | \|\| '
        || '| (==|!=|<|<=|>|>=) (""(\.datetime\((""|)\))?|-?[0-9][0-9.e+-]*|true|false|null)| starts with ""| like_regex ""( flag "")?| is unknown)*$') then
        return 'only these are understood: $.a.b, [*], .*, ? (...), exists(), ==, !=, <, <=, >, >=, starts with, like_regex, &&, ||, !, '
            || 'is unknown, .size(), .type(), .double(), .datetime(); and a comparison has a literal on its right';
    end if;
    -- from the innermost parentheses outwards
    loop
        v_group := substring(v_bare from '\??\([^()]*\)');
        exit when v_group is null;
        if v_group ~ '^\?.*\$' then return 'within ? (...) it starts again from $ for every item: use @'; end if;
        v_bare := regexp_replace(v_bare, '\??\([^()]*\)', case when starts_with(v_group, '?') then '' else substr(v_group, 2, length(v_group) - 2) end);
    end loop;
    -- a condition says true, false or unknown of anything
    if coalesce(jsonb_typeof(jsonb_path_query_first('{}', v_path, '{}', true)), '') not in ('boolean', 'null') then
        return 'it is a value and no condition: compare it with something, or ask whether it exists()';
    end if;
    return null;
end
$$;
comment on function pgrelay.filter_problem(text) is 'What is wrong with a filter, or null.';

create or replace function pgrelay.filter_matches(p_filter text, p_body text, p_until timestamptz default null)
returns boolean language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
-- Whether a filter takes an event with this body. What is not there makes a comparison false, not an error.
--
-- In doubt yes, for what is sent too much can be seen, and what is not sent cannot: a body that jsonb cannot hold (numbers
-- beyond its range, text outside the database's encoding) matches, and so does everything after p_until. \u0000, which
-- jsonb refuses, is judged as the replacement character. Doubts are counted where something is sent for them: with p_until,
-- which previews leave out.
declare
    v_body jsonb;
begin
    if clock_timestamp() > p_until then
        perform nextval('pgrelay.filter_doubts');
        return true;
    end if;
    begin
        v_body := p_body;
    exception when untranslatable_character then
        v_body := regexp_replace(p_body, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g');
    end;
    return coalesce(jsonb_path_match_tz(v_body, p_filter::jsonpath, '{}', true), false);
exception when others then
    if p_until is not null then perform nextval('pgrelay.filter_doubts'); end if;
    return true;
end
$$;
comment on function pgrelay.filter_matches(text, text, timestamptz) is
    'Whether an event with this body passes a filter; true as well for a body that cannot be judged.';

create or replace function pgrelay.judge_until()
returns timestamptz language sql stable set search_path = pg_catalog, pg_temp
as $$
-- Until when a statement may judge filters: half of its time (statement_timeout), so that the other half ends it in order.
select case when t.t > interval '0' then statement_timestamp() + t.t / 2 else 'infinity' end
from (select current_setting('statement_timeout')::interval as t) as t
$$;
comment on function pgrelay.judge_until() is 'Until when the current statement may judge filters.';

create or replace function pgrelay.try_filter(p_webhook_id bigint, p_filter text default null, p_last integer default 100)
returns table (event_id bigint, event_type text, resource_id text, occurred_at timestamptz, matches boolean)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
-- The newest events of the webhook's tenant and of the types it subscribes to, and whether p_filter (null: its own) takes
-- them. At most p_last of them, among the newest 100000 events of all.
declare
    v_webhook record;
    v_filter text;
    v_problem text;
begin
    select w.company_id, w.subscribed_events, w.filter into v_webhook from pgrelay.webhook_configurations w where w.id = p_webhook_id;
    if not found then
        raise exception using errcode = 'PGR20', message = format('there is no webhook %s', p_webhook_id), hint = 'See pgrelay.webhook_configurations.';
    end if;
    v_filter := coalesce(p_filter, v_webhook.filter);
    v_problem := pgrelay.filter_problem(v_filter);
    if v_problem is not null then
        perform pgrelay.refuse_webhook('filter_usable', 'filter: ' || v_problem, 'For example $.data.callback_request.priority == "urgent"');
    end if;
    return query
    select o.id, o.event_type, o.resource_id, o.occurred_at, v_filter is null or pgrelay.filter_matches(v_filter, o.body)
    from pgrelay.outbox o
    where o.id > (select max(n.id) - 100000 from pgrelay.outbox n) and o.company_id = v_webhook.company_id and o.only_webhook is null
        and v_webhook.subscribed_events && pgrelay.event_patterns(o.event_type)
    order by o.id desc limit least(greatest(p_last, 0), 10000);
end
$$;
comment on function pgrelay.try_filter(bigint, text, integer) is
    'The latest events a webhook subscribes to, and which of them a filter takes: try one before it counts.';
