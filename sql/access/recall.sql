create or replace function pgrelay.recall(p_token_id bigint, p_key text, p_digest bytea)
returns jsonb language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- What a request with this Idempotency-Key made before; null when it is new, and then its key is taken by this transaction.
--
-- Of two at the same time the second waits here until the first has committed, and hears what that made. If the first rolls
-- back, the second is the first. Raises PGR30 when the key came with another request.
declare
    v_known pgrelay.idempotency_keys;
begin
    delete from pgrelay.idempotency_keys where token_id = p_token_id and key = p_key and created_at < clock_timestamp() - interval '1 day';
    insert into pgrelay.idempotency_keys (token_id, key, digest) values (p_token_id, p_key, p_digest) on conflict do nothing;
    if found then return null; end if;
    select * into v_known from pgrelay.idempotency_keys where token_id = p_token_id and key = p_key;
    if v_known.digest <> p_digest then
        raise exception using errcode = 'PGR30', constraint = 'idempotency_key_is_new_or_of_the_same_request', message = 'this Idempotency-Key came with another request before',
            hint = 'Take a new key for a new request.';
    end if;
    return v_known.answer;
end
$$;
comment on function pgrelay.recall(bigint, text, bytea) is 'What an API request with this Idempotency-Key made before; null if it is new.';

create or replace function pgrelay.remember(p_token_id bigint, p_key text, p_answer jsonb)
returns void language sql security definer set search_path = pg_catalog, pg_temp
as $$
-- Note what the request with this Idempotency-Key made, in the transaction that made it.
update pgrelay.idempotency_keys set answer = p_answer where token_id = p_token_id and key = p_key
$$;
comment on function pgrelay.remember(bigint, text, jsonb) is 'Notes what an API request with an Idempotency-Key made.';
