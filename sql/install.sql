-- Everything that can be created again, in order: apply it after the numbered migrations, as often as you like.
--   psql -1 -f sql/migrations/0001_schema.sql -f sql/install.sql      (or: pgrelay migrate)

-- What an application's write does: a row change becomes an event
\ir capture/event_patterns.sql
\ir capture/ring_bell.sql
\ir capture/capture_failed.sql
\ir capture/compile.sql
\ir capture/compile_body.sql
\ir capture/compile_trigger.sql
\ir capture/compile_recapture.sql
\ir capture/compile_fire.sql
\ir capture/unwatch.sql
\ir capture/watch_check.sql
\ir capture/watch.sql
\ir capture/recapture.sql
\ir capture/emit.sql
\ir capture/tell_operator.sql

-- What the daemon does: events become deliveries, deliveries become attempts
\ir delivery/order.sql
\ir delivery/owners.sql
\ir delivery/health.sql
\ir webhook/filter.sql
\ir delivery/expand.sql
\ir delivery/claim.sql
\ir delivery/pending_webhooks.sql
\ir delivery/record_outcomes.sql
\ir delivery/give_back.sql
\ir delivery/release_lapsed.sql

-- What an operator does with deliveries and webhooks
\ir delivery/finish_pending.sql
\ir delivery/cancel_delivery.sql
\ir delivery/retry_delivery.sql
\ir delivery/why_waiting.sql
\ir replay/replay_events.sql
\ir replay/replay_pace.sql
\ir replay/preview_replay.sql
\ir replay/start_replay.sql
\ir replay/stop_replay.sql
\ir replay/feed_replays.sql
\ir webhook/mask_url.sql
\ir webhook/webhook_state.sql
\ir webhook/check_webhook.sql
\ir webhook/subscribe_webhook.sql
\ir webhook/set_active.sql
\ir webhook/close_circuit.sql
\ir webhook/rotate_secret.sql
\ir webhook/end_overlap.sql
\ir webhook/reveal_secret.sql
\ir webhook/seal_webhook.sql
\ir webhook/test_webhook.sql
\ir webhook/exponential.sql

-- What time does
\ir upkeep/daemons.sql
\ir upkeep/glance.sql
\ir upkeep/fire_deadlines.sql
\ir upkeep/cancel_orphans.sql
\ir upkeep/expire_deliveries.sql
\ir upkeep/fold_metrics.sql
\ir upkeep/rotate.sql
\ir upkeep/prune.sql
\ir upkeep/sweep.sql
\ir upkeep/adopt.sql

-- What people read
\ir views/deliveries.sql
\ir views/replay_progress.sql
\ir views/metrics.sql
\ir views/webhooks.sql
\ir views/webhook_stats.sql
\ir views/webhook_logs.sql
\ir views/health.sql

-- What the API asks for: who calls, whether it was asked before, and a tenant's own part of everything
\ir access/event_types.sql
\ir access/use_token.sql
\ir access/any_token.sql
\ir access/revoke_token.sql
\ir access/recall.sql
\ir tenant/tenant.sql
\ir tenant/views.sql
\ir tenant/verbs.sql
\ir tenant/policies.sql

\ir grants.sql
