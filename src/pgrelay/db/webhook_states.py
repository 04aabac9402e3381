"""How a webhook is, in one word. API, page, commands and the view webhooks show it; lists can be asked for it."""

#: From the best on; pgrelay.webhook_state() says when which fits.
STATES = ("healthy", "failing", "held", "circuit open", "paused", "inactive", "disabled")
#: Over w (webhook_configurations) and h (its webhook_health, if it has any).
STATE = "pgrelay.webhook_state(w.is_active, w.disabled_at, w.paused, h.probe_wait, h.held_until, h.failures_in_row)"
