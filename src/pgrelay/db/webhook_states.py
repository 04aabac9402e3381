"""How a webhook is, in one word: the first that fits. API, page and commands show it; lists can be asked for it."""

#: Word and condition, over w (webhook_configurations) and h (its webhook_health, if it has any), from the worst on.
_WHEN = {
    "disabled": "not w.is_active and w.disabled_at is not null",
    "inactive": "not w.is_active",
    "paused": "w.paused",
    "circuit open": "h.probe_wait is not null",
    "held": "h.held_until > clock_timestamp()",
    "failing": "h.failures_in_row > 0",
}
_OTHERWISE = "healthy"

STATES = (_OTHERWISE, *reversed(_WHEN))
_CASES = " ".join(f"when {condition} then '{word}'" for word, condition in _WHEN.items())
STATE = f"case {_CASES} else '{_OTHERWISE}' end"
