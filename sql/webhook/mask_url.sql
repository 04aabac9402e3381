create or replace function pgrelay.mask_url(p_url text)
returns text language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- A URL as it may be shown to those who may not call it: without credentials, query values, fragment, and without segments
-- of the path that look like a token (20 characters or more, letters and digits), which many receivers hand out. A shorter
-- secret in a path cannot be told from a word. The same as mask_url() of the program (src/pgrelay/masking.py).
select regexp_replace(coalesce(part[1], ''), '//.*@', '//***@')
    || coalesce((select string_agg(case when length(s) >= 20 and s ~ '[0-9]' and s ~ '[A-Za-z]' then '***' else s end, '/' order by n)
                 from string_to_table(part[2], '/') with ordinality as segment (s, n)), '')
    || case when part[3] = '?' then '?***' else '' end
    || coalesce((select '?' || string_agg(case when p ~ '=' then split_part(p, '=', 1) || '=***' else '***' end, '&' order by n)
                 from string_to_table(substr(part[3], 2), '&') with ordinality as parameter (p, n)), '')
    || case when part[4] is null then '' else '#***' end
from regexp_match(p_url, '^([A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?([^?#]*)(\?[^#]*)?(#.*)?$') as part
$$;
comment on function pgrelay.mask_url(text) is 'A URL without credentials, query values, fragment and tokens in its path.';
