"""How the installation as a whole is, in figures: the view pgrelay.health with ages for moments."""

from typing import NamedTuple


class Health(NamedTuple):
    """Counts and ages; an age is the seconds since then, 0 where nothing waits."""

    daemons_alive: float
    events_waiting: float
    oldest_event_seconds: float
    deliveries_pending: float
    deliveries_in_flight: float
    oldest_untried_seconds: float
    oldest_due_seconds: float
    failed_last_day: float
    capture_errors_open: float
    deadlines_overdue: float
    oldest_deadline_seconds: float
    webhooks_paused: float
    circuits_open: float
    webhooks_held: float
    disabled_last_week: float
    #: 0 to 1.
    notification_queue_usage: float
    replays_running: float
    replay_events_left: float
    filter_doubts: float


#: In the order of the fields.
QUERY = """
select daemons_alive::float8, events_waiting::float8,
       coalesce(extract(epoch from clock_timestamp() - oldest_event_at), 0)::float8,
       deliveries_pending::float8, deliveries_in_flight::float8,
       coalesce(extract(epoch from clock_timestamp() - oldest_untried_at), 0)::float8,
       coalesce(extract(epoch from clock_timestamp() - oldest_due_at), 0)::float8,
       failed_last_day::float8, capture_errors_open::float8, deadlines_overdue::float8,
       coalesce(extract(epoch from clock_timestamp() - oldest_deadline_at), 0)::float8,
       webhooks_paused::float8, circuits_open::float8, webhooks_held::float8,
       disabled_last_week::float8, notification_queue_usage::float8,
       replays_running::float8, replay_events_left::float8, filter_doubts::float8
from pgrelay.health
"""
