"""All routes of the API, in the order in which its document lists them."""

from pgrelay.api import deliveries, events, replays, webhooks

ROUTES = [*webhooks.ROUTES, *deliveries.ROUTES, *replays.ROUTES, *events.ROUTES]
