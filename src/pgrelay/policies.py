"""What each part of the daemon is told of the settings."""

from pgrelay.addresses import Policy as AddressPolicy
from pgrelay.attempt import RetryPolicy
from pgrelay.circuit import CircuitLimits
from pgrelay.config.settings import NetworkSettings, Settings
from pgrelay.holdings import Policy
from pgrelay.transport.tls import Tls, load_tls


def addresses(settings: Settings) -> AddressPolicy:
    return AddressPolicy.of(settings.network.allowed_networks, allow_http=settings.network.allow_http)


def circuit(settings: Settings) -> CircuitLimits:
    circuit = settings.circuit
    return CircuitLimits(
        circuit.open_after,
        circuit.first_wait,
        circuit.longest_wait,
        circuit.disable_after,
        circuit.disable_deliveries,
    )


def tls(network: NetworkSettings) -> Tls:
    return load_tls(network.ca_file, network.client_certificate, network.client_key)


def policy(settings: Settings) -> Policy:
    return Policy(
        max_in_flight=settings.daemon.max_in_flight,
        max_concurrency=settings.delivery.max_concurrency,
        batch_size=settings.daemon.batch_size,
        user_agent=settings.delivery.user_agent,
        retry=RetryPolicy(
            schedule=settings.delivery.retry_schedule,
            jitter=settings.delivery.retry_jitter,
            max_wait=settings.delivery.max_retry_wait,
        ),
        circuit=circuit(settings),
    )


def retention(settings: Settings) -> dict[str, float]:
    """Seconds for which each ring is kept."""
    kept = settings.retention
    return {
        "outbox": kept.events,
        "delivery_history": kept.deliveries,
        "delivery_attempts": kept.attempts,
    }
