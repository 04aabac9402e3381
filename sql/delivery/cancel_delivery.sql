create or replace function pgrelay.cancel_delivery(p_id bigint)
returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
-- Stop owing a delivery, because an operator says so.
--
-- Only a pending delivery can be cancelled: a request in flight cannot be unsent, so the record of it stands. Returns
-- false, and changes nothing, for a delivery that is in flight, finished or unknown.
begin
    return pgrelay.finish_pending(array[p_id], 'cancelled', 'cancelled by ' || session_user) = 1;
end
$$;
comment on function pgrelay.cancel_delivery(bigint) is 'Cancels a pending delivery. True if it did; false if it is in flight, finished or unknown.';
