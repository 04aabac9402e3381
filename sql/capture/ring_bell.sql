create or replace function pgrelay.ring_bell()
returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
-- Wake a sleeping daemon at commit; silent when none sleeps (see the sequence wake) and where NOTIFY would forbid
-- PREPARE TRANSACTION: there polling serves.
begin
    if pg_sequence_last_value('pgrelay.wake'::regclass) = 2
       and current_setting('max_prepared_transactions') = '0' then
        perform pg_notify('pgrelay', '');
    end if;
end
$$;
comment on function pgrelay.ring_bell() is 'Notifies a sleeping daemon, when this transaction commits.';
revoke execute on function pgrelay.ring_bell() from public;
