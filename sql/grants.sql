-- Group roles, made where the installing role may make roles; otherwise a DBA makes them and runs this file again.
-- Names of roles belong to the cluster: they are shared by every database that has pgrelay.

revoke execute on all functions in schema pgrelay from public;

do $$
declare
    v_role text;
begin
    foreach v_role in array array['pgrelay_daemon', 'pgrelay_admin', 'pgrelay_reader', 'pgrelay_tenant'] loop
        if not exists (select from pg_roles where rolname = v_role) then
            if (select rolcreaterole or rolsuper from pg_roles where rolname = current_user) then
                begin
                    execute format('create role %I nologin', v_role);
                exception when duplicate_object or unique_violation then
                    null;  -- another database's installation was faster
                end;
            else
                raise notice 'role % does not exist and % may not create it: grants for it are left out', v_role, current_user;
                continue;
            end if;
        end if;
        execute format('grant usage on schema pgrelay to %I', v_role);
        execute format('grant execute on function pgrelay.event_patterns(text), pgrelay.event_types(), pgrelay.use_token(bytea), pgrelay.any_token(),
            pgrelay.tenant(), pgrelay.webhook_state(boolean, timestamptz, boolean, double precision, timestamptz, integer) to %I', v_role);
        continue when v_role = 'pgrelay_tenant';
        execute format('grant execute on function pgrelay.unexpanded_events(), pgrelay.identity(), pgrelay.copy_problem(text),
            pgrelay.mask_url(text), pgrelay.blocking_delivery(bigint), pgrelay.why_waiting(bigint) to %I', v_role);
    end loop;

    -- The daemon's verbs run with the daemon's rights, so it may read and write what they do: all but what is watched and
    -- who is called.
    if exists (select from pg_roles where rolname = 'pgrelay_daemon') then
        grant select, insert, update, delete, truncate on all tables in schema pgrelay to pgrelay_daemon;
        revoke insert, update, delete, truncate on pgrelay.schema_migrations, pgrelay.schema_objects, pgrelay.sources, pgrelay.event_rules,
            pgrelay.webhook_configurations, pgrelay.subscriptions from pgrelay_daemon;
        revoke all on pgrelay.api_tokens from pgrelay_daemon;
        grant usage, select, update on all sequences in schema pgrelay to pgrelay_daemon;
        grant execute on function
            pgrelay.expand(bigint, integer, integer, bigint[], integer[], integer, name),
            pgrelay.claim(bigint, bigint[], integer[], double precision[], name), pgrelay.pending_webhooks(bigint, integer, bigint),
            pgrelay.owned_elsewhere(bigint, bigint[]), pgrelay.grant_probes(bigint[]), pgrelay.disable_webhook(bigint, text),
            pgrelay.note_results(bigint[], boolean[], integer[], integer[], double precision[], boolean[], integer, double precision,
                double precision, double precision, integer), pgrelay.expire_deliveries(integer), pgrelay.lock_order(boolean),
            pgrelay.filter_matches(text, text, timestamptz), pgrelay.judge_until(),
            pgrelay.order_key(text, text), pgrelay.order_after(bigint[], bigint[]), pgrelay.order_released(xid8), pgrelay.tell_failed(bigint[]),
            pgrelay.tell_operator(text, text, text, json),
            pgrelay.record_outcomes(bigint, text, bigint[], integer[], text[], bigint[], bigint[], integer[], double precision[], integer[],
                integer[], text[], text[], double precision[], text[], text[], text[], boolean, integer[]),
            pgrelay.give_back(bigint, bigint[]), pgrelay.give_back_unknown(bigint, bigint[]),
            pgrelay.finish_pending(bigint[], text, text), pgrelay.ring_bell(),
            pgrelay.sign_on(text, text, integer, text, double precision), pgrelay.lift_sequences(),
            pgrelay.heartbeat(bigint, double precision, boolean, text), pgrelay.sign_off(bigint),
            pgrelay.glance(), pgrelay.release_lapsed(), pgrelay.release_ended(), pgrelay.cancel_orphans(), pgrelay.fire_deadlines(integer, boolean),
            pgrelay.fold_metrics(integer), pgrelay.rotate(text, double precision), pgrelay.feed_position(), pgrelay.keep_needed(smallint),
            pgrelay.spared(smallint, double precision), pgrelay.set_aside(smallint, integer), pgrelay.drop_kept(), pgrelay.sweep(),
            pgrelay.feed_replays(integer, bigint), pgrelay.replay_pace(bigint), pgrelay.prune(double precision), pgrelay.adopt(text, text),
            pgrelay.seal_with(text), pgrelay.webhooks_to_seal(text), pgrelay.seal_webhook(bigint, integer, text, text, jsonb)
            to pgrelay_daemon;
    end if;
    if exists (select from pg_roles where rolname = 'pgrelay_admin') then
        grant select on all tables in schema pgrelay to pgrelay_admin;
        grant insert, update, delete on pgrelay.webhook_configurations to pgrelay_admin;
        grant insert, update (revoked_at) on pgrelay.api_tokens to pgrelay_admin;
        grant usage, select on all sequences in schema pgrelay to pgrelay_admin;
        grant execute on function pgrelay.cancel_delivery(bigint), pgrelay.retry_delivery(bigint), pgrelay.replay(bigint, timestamptz, timestamptz),
            pgrelay.replay_events(bigint, timestamptz, timestamptz, text[]), pgrelay.replay_pace(bigint),
            pgrelay.preview_replay(bigint, timestamptz, timestamptz, text[]), pgrelay.start_replay(bigint, timestamptz, timestamptz, text[], text),
            pgrelay.stop_replay(bigint), pgrelay.resume_replay(bigint), pgrelay.test_webhook(bigint), pgrelay.rotate_secret(bigint, interval, text),
            pgrelay.end_overlap(bigint, integer), pgrelay.seal_with(text), pgrelay.webhooks_to_seal(text), pgrelay.exponential(integer, integer, double precision),
            pgrelay.generate_secret(), pgrelay.set_active(bigint, boolean), pgrelay.close_circuit(bigint), pgrelay.emit(text, json, text, text, text),
            pgrelay.filter_problem(text), pgrelay.filter_matches(text, text, timestamptz), pgrelay.try_filter(bigint, text, integer),
            pgrelay.refuse_webhook(text, text, text), pgrelay.recapture(text, bigint), pgrelay.reveal_secret(bigint), pgrelay.revoke_token(bigint),
            pgrelay.recall(bigint, text, bytea), pgrelay.remember(bigint, text, jsonb) to pgrelay_admin;
    end if;
    if exists (select from pg_roles where rolname = 'pgrelay_reader') then
        grant select on all tables in schema pgrelay to pgrelay_reader;
        revoke select on pgrelay.webhook_configurations from pgrelay_reader;
        grant select (id, company_id, name, subscribed_events, is_active, timeout_seconds, max_retry_attempts, retry_schedule, description,
            created_by, paused, max_concurrency, rate_limit_per_second, ordering, payload_format, filter, disabled_at, disabled_reason,
            previous_secret_expires_at, secret_revealed_at, version, created_at, updated_at) on pgrelay.webhook_configurations to pgrelay_reader;
        revoke select on pgrelay.api_tokens from pgrelay_reader;
        grant execute on function pgrelay.filter_problem(text), pgrelay.filter_matches(text, text, timestamptz),
            pgrelay.try_filter(bigint, text, integer), pgrelay.refuse_webhook(text, text, text) to pgrelay_reader;
        grant select (id, name, role, company_id, created_at, created_by, expires_at, last_used_at, revoked_at) on pgrelay.api_tokens to pgrelay_reader;
    end if;

    -- The API takes this role for a tenant's request, and says in pgrelay.company_id whose it is. It sees no table but that of
    -- webhooks, where a policy keeps it to its own (tenant/policies.sql); the rest are views and verbs that filter by themselves.
    if exists (select from pg_roles where rolname = 'pgrelay_tenant') then
        revoke all on pgrelay.webhook_configurations from pgrelay_tenant;
        grant select, delete on pgrelay.webhook_configurations to pgrelay_tenant;
        grant insert (id, company_id, name, url, subscribed_events, secret_key, is_active, timeout_seconds, max_retry_attempts, retry_schedule, headers,
            description, created_by, paused, max_concurrency, rate_limit_per_second, ordering, payload_format, payload_template, filter, secret_revealed_at),
            update (name, url, subscribed_events, secret_key, is_active, timeout_seconds, max_retry_attempts, retry_schedule, headers, description,
            paused, max_concurrency, rate_limit_per_second, ordering, payload_format, payload_template, filter, secret_revealed_at, previous_secret_key,
            previous_secret_expires_at)
            on pgrelay.webhook_configurations to pgrelay_tenant;
        grant usage on sequence pgrelay.webhook_configurations_id_seq to pgrelay_tenant;
        grant select on pgrelay.tenant_deliveries, pgrelay.tenant_outbox, pgrelay.tenant_delivery_attempts, pgrelay.tenant_webhook_stats,
            pgrelay.tenant_metrics, pgrelay.tenant_webhook_health, pgrelay.tenant_replay_progress to pgrelay_tenant;
        grant execute on function pgrelay.generate_secret(), pgrelay.rotate_secret(bigint, interval, text),
            pgrelay.end_overlap(bigint, integer), pgrelay.reveal_secret(bigint), pgrelay.set_active(bigint, boolean), pgrelay.tenant_retry_delivery(bigint),
            pgrelay.tenant_cancel_delivery(bigint), pgrelay.tenant_test_webhook(bigint), pgrelay.tenant_why_waiting(bigint),
            pgrelay.tenant_try_filter(bigint, text, integer), pgrelay.tenant_filter_matches(text, text),
            pgrelay.tenant_replay_events(bigint, timestamptz, timestamptz), pgrelay.tenant_replay(bigint, timestamptz, timestamptz),
            pgrelay.tenant_preview_replay(bigint, timestamptz, timestamptz, text[]),
            pgrelay.tenant_start_replay(bigint, timestamptz, timestamptz, text[], text), pgrelay.tenant_stop_replay(bigint), pgrelay.tenant_resume_replay(bigint),
            pgrelay.recall(bigint, text, bytea), pgrelay.remember(bigint, text, jsonb) to pgrelay_tenant;
    end if;
end
$$;
