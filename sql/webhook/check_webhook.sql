create or replace function pgrelay.url_problem(p_url text)
returns text language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- What is wrong with a webhook's URL, or null. The address itself is judged when a request is made.
select case
    when p_url is null or p_url = '' then 'it is empty'
    when length(p_url) > 2048 then 'it is longer than 2048 characters'
    when p_url ~ '[\x01-\x20\x7f]' then 'it contains a space or a control character'
    when p_url ~ '[^!-~]' then 'it contains characters outside ASCII; write the host as xn--..., percent-encode the rest'
    when p_url ~ '\\' then 'it contains a backslash'
    when p_url !~* '^https?://' then 'it must start with https:// (or http:// where the configuration allows it)'
    when p_url ~* '^https?://[^/?#]*@' then 'it contains credentials; put them into headers instead'
    when p_url ~* '^https?://(:|[/?#]|$)' then 'it has no host'
    when p_url !~* '^https?://(\[[0-9a-f:.]+(%[a-z0-9._~-]+)?\]|[a-z0-9._-]+)(:[0-9]*)?([/?#]|$)' then 'its host is malformed'
    when case when port ~ '^[0-9]{1,5}$' then port::integer not between 1 and 65535 else port is not null end
        then 'its port is not between 1 and 65535'
end
from substring(p_url from '^[^:]*://(?:\[[^]]*\]|[^]/?#:[]*):([^/?#]*)') as port
$$;
comment on function pgrelay.url_problem(text) is 'What is wrong with a URL for a webhook, or null.';

create or replace function pgrelay.header_problem(p_headers jsonb)
returns text language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- What is wrong with custom headers, or null: not an object of strings, a name or value that would break HTTP, or one of
-- ours. Values are never part of the answer.
select case
    when p_headers is null then null
    when jsonb_typeof(p_headers) <> 'object' then 'headers must be a JSON object: {"Authorization": "Bearer ..."}'
    else (select problem from (
        select key, case
            when key !~ '^[A-Za-z0-9!#$%&''*+.^_`|~-]+$' then format('%s is not an HTTP header name', to_json(key))
            when lower(key) ~ '^(x-webhook-|webhook-)' or lower(key) in ('content-type', 'content-length', 'user-agent', 'host', 'connection',
                'transfer-encoding', 'content-encoding', 'te', 'trailer', 'upgrade', 'keep-alive', 'expect', 'proxy-authorization', 'proxy-connection')
                then format('%s is set by pgrelay or by HTTP itself', key)
            when jsonb_typeof(value) <> 'string' then format('the value of %s must be a string', key)
            when value #>> '{}' ~ '[^ -~\t]' or value #>> '{}' ~ '^\s|\s$' then format('the value of %s has a line break, a non-ASCII character or spaces around it', key)
            when count(*) over (partition by lower(key)) > 1 then format('%s is given twice', lower(key))
        end as problem from jsonb_each(p_headers)) as h where problem is not null order by key limit 1)
end
$$;
comment on function pgrelay.header_problem(jsonb) is 'What is wrong with custom headers, or null.';

create or replace function pgrelay.template_problem(p_format text, p_template text)
returns text language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
-- What is wrong with a webhook's payload_template, or null. Its expressions SQL cannot read: commands, API and page refuse
-- wrong ones; written by SQL, they fail the deliveries, with the reason.
begin
    if p_template is null then return case when p_format = 'template' then 'it is needed where payload_format is template' end; end if;
    if length(p_template) > 16384 then return 'it is longer than 16384 characters'; end if;
    if json_typeof(p_template::json) not in ('object', 'array') then return 'it must be a JSON object or array'; end if;
    return null;
exception when others then
    return 'it is not JSON: ' || sqlerrm;
end
$$;
comment on function pgrelay.template_problem(text, text) is 'What is wrong with a payload template, or null; its expressions are not looked at.';

create or replace function pgrelay.generate_secret()
returns text language sql volatile set search_path = pg_catalog, pg_temp
as $$
-- whsec_ and base64 of 48 bytes of three random UUIDs (pg_strong_random; 366 bits of them random). No padding, one line.
select 'whsec_' || encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'base64')
$$;
comment on function pgrelay.generate_secret() is 'A new signing secret.';

create or replace function pgrelay.secret_problem(p_secret text)
returns text language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
-- What is wrong with a signing secret, or null. Standard Webhooks libraries decode what follows whsec_. What is sealed
-- only who has the key can judge: its form is sealed:, the id of the key, and the ciphertext (src/pgrelay/sealing.py).
begin
    if p_secret ~ '^sealed:[0-9a-f]{8}:[A-Za-z0-9_-]{38,}$' then return null; end if;
    if p_secret !~ '^whsec_[A-Za-z0-9+/]+={0,2}$' then return 'it must be whsec_ and standard base64'; end if;
    if octet_length(decode(substr(p_secret, 7), 'base64')) not between 24 and 64 then return 'it must encode 24 to 64 bytes'; end if;
    return null;
exception when invalid_parameter_value then
    return 'what follows whsec_ is not base64';
end
$$;
comment on function pgrelay.secret_problem(text) is 'What is wrong with a signing secret, or null.';

create or replace function pgrelay.refuse_webhook(p_constraint text, p_message text, p_hint text)
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Raise a check violation that says what, where and how to mend it.
begin
    raise exception using errcode = 'check_violation', schema = 'pgrelay', table = 'webhook_configurations', constraint = p_constraint,
        message = p_message, hint = p_hint;
end
$$;
comment on function pgrelay.refuse_webhook(text, text, text) is 'Raises a check violation with a hint.';

create or replace function pgrelay.check_webhook()
returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Before a webhook is written: fill in what was left out, refuse what could not work, count the version.
declare
    v_constraint text;
    v_problem text;
begin
    if new.secret_key is null and not exists (select from pgrelay.installation where sealed_with is not null) then
        -- where secrets are sealed it stays null until a daemon, which has the key, makes one: never in the clear here
        new.secret_key := pgrelay.generate_secret();
    end if;
    -- The table has all of these as constraints. A violation of those writes the whole row, secrets and all, to the server's log.
    select p.constraint_name, p.message into v_constraint, v_problem from (values
        ('company_id_not_empty', coalesce(new.company_id, '') = '', 'company_id is empty: say which tenant''s events it gets'),
        ('name_not_empty', btrim(coalesce(new.name, '')) = '', 'name is empty'),
        ('timeout_seconds_from_1_to_120', coalesce(new.timeout_seconds not between 1 and 120, true),
            format('timeout_seconds is %s, and may be 1 to 120', coalesce(new.timeout_seconds::text, 'null'))),
        ('max_retry_attempts_from_1_to_100', coalesce(new.max_retry_attempts not between 1 and 100, true),
            format('max_retry_attempts is %s, and may be 1 to 100', coalesce(new.max_retry_attempts::text, 'null'))),
        ('max_concurrency_from_1_to_10000', new.max_concurrency not between 1 and 10000,
            format('max_concurrency is %s, and may be 1 to 10000, or null for no limit of its own', new.max_concurrency)),
        ('rate_limit_per_second_from_0_01_to_10000', new.rate_limit_per_second not between 0.01 and 10000,
            format('rate_limit_per_second is %s, and may be 0.01 to 10000, or null for no limit', new.rate_limit_per_second)),
        ('ordering_known', coalesce(new.ordering not in ('none', 'resource'), true),
            format('ordering is %s, and may be none or resource', coalesce(to_json(new.ordering)::text, 'null'))),
        ('payload_format_known', coalesce(new.payload_format not in ('standard', 'cloudevents', 'slack', 'template'), true),
            format('payload_format is %s, and may be standard, cloudevents, slack or template', coalesce(to_json(new.payload_format)::text, 'null'))),
        ('is_active_known', new.is_active is null, 'is_active is null, and may be true or false'),
        ('paused_known', new.paused is null, 'paused is null, and may be true or false'),
        ('id_version_and_created_at_known', new.id is null or new.version is null or new.created_at is null, 'id, version and created_at cannot be null'),
        ('previous_secret_has_an_end', (new.previous_secret_key is null) <> (new.previous_secret_expires_at is null),
            'previous_secret_key and previous_secret_expires_at are set together: let pgrelay.rotate_secret() do it')
    ) as p (constraint_name, broken, message) where p.broken limit 1;
    if found then
        perform pgrelay.refuse_webhook(v_constraint, v_problem, 'Comments on the columns say more: \d+ pgrelay.webhook_configurations');
    end if;
    v_problem := pgrelay.url_problem(new.url);
    if v_problem is not null then
        perform pgrelay.refuse_webhook('url_usable', format('the webhook''s url cannot be used: %s', v_problem), 'For example https://example.com/hooks/orders');
    end if;
    if coalesce(cardinality(new.subscribed_events), 0) = 0 then
        perform pgrelay.refuse_webhook('subscribed_events_not_empty', 'subscribed_events is empty', 'Name event types, or ''{*}'' for all of them.');
    end if;
    select format('%s is not an event type', coalesce(to_json(e)::text, 'null')) into v_problem from unnest(new.subscribed_events) as e
    where e is null or e !~ '^(\*|[a-z0-9_]+(\.[a-z0-9_]+)?\.\*|[a-z0-9_]+(\.[a-z0-9_]+){1,2})$' limit 1;
    if found then
        perform pgrelay.refuse_webhook('subscribed_events_known_form', 'subscribed_events: ' || v_problem,
            'Write callback.created, or callback.* for all that start so, or * for all; no other wildcard.');
    end if;
    v_problem := pgrelay.secret_problem(new.secret_key);
    if v_problem is not null then
        perform pgrelay.refuse_webhook('secret_key_usable', 'secret_key: ' || v_problem, 'Leave it out to get one, or take pgrelay.generate_secret().');
    end if;
    v_problem := pgrelay.secret_problem(new.previous_secret_key);
    if v_problem is not null then
        perform pgrelay.refuse_webhook('previous_secret_key_usable', 'previous_secret_key: ' || v_problem, 'Let pgrelay.rotate_secret() set it.');
    end if;
    v_problem := pgrelay.header_problem(new.headers);
    if v_problem is not null then
        perform pgrelay.refuse_webhook('headers_usable', v_problem, 'Custom headers are a JSON object of strings, visible ASCII.');
    end if;
    v_problem := pgrelay.template_problem(new.payload_format, new.payload_template);
    if v_problem is not null then
        perform pgrelay.refuse_webhook('payload_template_usable', 'payload_template: ' || v_problem,
            'For example {"text": "New: {{ data.callback_request.customer_name }}"}');
    end if;
    v_problem := pgrelay.filter_problem(new.filter);
    if v_problem is not null then
        perform pgrelay.refuse_webhook('filter_usable', 'filter: ' || v_problem, 'For example $.data.callback_request.priority == "urgent"');
    end if;
    if exists (select from unnest(new.retry_schedule) as s where s is null or s not between 0 and 2592000) or cardinality(new.retry_schedule) > 100 then
        perform pgrelay.refuse_webhook('retry_schedule_usable', 'retry_schedule: waits are 0 to 2592000 seconds (30 days), at most 100 of them',
            'For example ''{60,300,3600}''; null takes the configuration''s.');
    end if;
    if new.is_active then
        new.disabled_at := null;
        new.disabled_reason := null;
    end if;
    new.updated_at := clock_timestamp();
    if tg_op = 'UPDATE' then
        if new.id <> old.id then
            perform pgrelay.refuse_webhook('id_is_fixed', 'the id of a webhook cannot be changed', 'Its deliveries refer to it. Insert another webhook.');
        end if;
        if new.company_id <> old.company_id then
            -- what it was owed, and its attempts, are the old tenant's: the new one would be sent them, and could read them
            perform pgrelay.refuse_webhook('company_id_is_fixed', 'a webhook cannot be given to another tenant',
                'Its deliveries are of this one. Insert another webhook, and make this one inactive or delete it.');
        end if;
        new.version := old.version + 1;
        -- a secret in the clear that somebody wrote; one that is sealed may be the same as before, in another form
        if new.secret_key <> old.secret_key and not starts_with(new.secret_key, 'sealed:')
            and new.secret_revealed_at is not distinct from old.secret_revealed_at then
            new.secret_revealed_at := null;
        end if;
    end if;
    if new.secret_key is null then new.secret_revealed_at := null; end if;
    return new;
end
$$;
comment on function pgrelay.check_webhook() is 'Fills in, checks and versions a webhook before it is written.';

create or replace trigger check_webhook before insert or update on pgrelay.webhook_configurations
    for each row execute function pgrelay.check_webhook();
