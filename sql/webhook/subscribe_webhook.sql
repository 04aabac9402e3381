create or replace function pgrelay.pattern_covers(p_wider text, p_pattern text)
returns boolean language sql immutable set search_path = pg_catalog, pg_temp
as $$
-- Whether every event type that matches p_pattern matches p_wider too.
select p_wider in ('*', p_pattern) or right(p_wider, 2) = '.*' and starts_with(p_pattern, left(p_wider, -1))
$$;
comment on function pgrelay.pattern_covers(text, text) is 'Whether a subscription pattern takes in all of another.';

create or replace function pgrelay.subscribe_webhook()
returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- After a webhook was written: keep its subscriptions, cancel what an inactive or deleted one is still owed, wake the daemon.
--
-- A pattern that another of the same webhook covers is left out, so that an event matches one row at most. One that takes
-- the place of a wider or narrower one keeps its date: what was captured under that, and is not expanded yet, stays owed.
--
-- Where a daemon disables it, only the first of what is pending is cancelled here, and cancel_orphans() does the rest: with a
-- million of them it would do nothing else for so long. A person gets all of it in their own transaction.
declare
    v_patterns text[];
begin
    if tg_op = 'DELETE' then
        delete from pgrelay.webhook_health where webhook_id = old.id;
        delete from pgrelay.webhook_owners where webhook_id = old.id;
    elsif tg_op = 'UPDATE' and (new.is_active, new.url, new.payload_format, new.payload_template)
        is distinct from (old.is_active, old.url, old.payload_format, old.payload_template) then
        delete from pgrelay.webhook_health where webhook_id = new.id;  -- what failed there says nothing of this one
    end if;
    if tg_op = 'DELETE' or not new.is_active then
        delete from pgrelay.subscriptions where webhook_id = old.id;
        perform pgrelay.finish_pending(array(select id from pgrelay.delivery_queue where webhook_id = old.id and status = 'pending'
                limit case when tg_op = 'UPDATE' and new.disabled_at is not null then 10000 end),
            'cancelled', case tg_op when 'DELETE' then 'the webhook was deleted' else 'the webhook was made inactive' end);
        perform pgrelay.ring_bell();  -- a daemon may have leased some, and not sent them yet
        return null;
    end if;
    v_patterns := array(select distinct e from unnest(new.subscribed_events) as e
        where not exists (select from unnest(new.subscribed_events) as wider where wider <> e and pgrelay.pattern_covers(wider, e)));
    insert into pgrelay.subscriptions (company_id, pattern, webhook_id, since)
    select new.company_id, e, new.id, coalesce(
        (select min(s.since) from pgrelay.subscriptions s where s.webhook_id = new.id
            and (pgrelay.pattern_covers(s.pattern, e) or pgrelay.pattern_covers(e, s.pattern))), clock_timestamp())
    from unnest(v_patterns) as e
    on conflict do nothing;
    delete from pgrelay.subscriptions s where s.webhook_id = new.id and not s.pattern = any (v_patterns);
    if tg_op = 'UPDATE' then perform pgrelay.ring_bell(); end if;
    return null;
end
$$;
comment on function pgrelay.subscribe_webhook() is 'Keeps subscriptions in step with a webhook, and cancels what an inactive one is owed.';

create or replace trigger subscribe_webhook after insert or delete or update on pgrelay.webhook_configurations
    for each row execute function pgrelay.subscribe_webhook();
