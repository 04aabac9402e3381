"""All routes of the API, in the order in which its document lists them."""

from pgrelay.api import deliveries, events, explain, replays, webhook_secrets, webhooks

ROUTES = [
    *webhooks.ROUTES,
    *explain.ROUTES,
    *webhook_secrets.ROUTES,
    *deliveries.ROUTES,
    *replays.ROUTES,
    *events.ROUTES,
]
