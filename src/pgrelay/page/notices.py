"""What a page says after a change."""

#: By ?done= of its path.
NOTICES = {
    "changed": "The webhook was changed.",
    "enabled": "The webhook is active: new events are owed to it.",
    "disabled": "The webhook is inactive: nothing new is owed to it, and its pending deliveries are cancelled.",
    "paused": "The webhook is paused: its deliveries wait.",
    "resumed": "The webhook goes on: its deliveries are sent again.",
    "deleted": "The webhook was deleted.",
    "ended": "The old secret is ended: the new one signs alone.",
    "retried": "It is tried again.",
    "cancelled": "It is cancelled.",
    "replay-begun": "The replay has begun. It goes on by itself; this page may be closed.",
    "replay-stopped": "The replay is stopped. What was queued already goes out.",
    "replay-resumed": "The replay goes on where it stopped.",
}
