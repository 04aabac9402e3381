"""What /metrics says, read as Prometheus reads it."""

from collections.abc import Iterable, Mapping

import aiohttp
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families


class Scrape:
    """One answer of /metrics."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: list[Metric] = list(text_string_to_metric_families(text))

    @property
    def names(self) -> set[str]:
        """Names of all series, as queries write them: with _total, _bucket, _sum."""
        return {sample.name for family in self.families for sample in family.samples}

    def value(self, name: str, /, **labels: str) -> float | None:
        """The one series of this name with these labels; None if there is none."""
        found = [
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(found) <= 1, f"{name}{labels} is {len(found)} series"
        return found[0] if found else None

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """All series of this name that are not 0, by the values of their labels in the order of their names."""
        return {
            tuple(text for _, text in sorted(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and sample.value
        }

    def labels(self) -> Mapping[str, set[str]]:
        """Every label, and the values that it has."""
        found: dict[str, set[str]] = {}
        for family in self.families:
            for sample in family.samples:
                for label, text in sample.labels.items():
                    found.setdefault(label, set()).add(text)
        return found


async def scrape(url: str, accept: Iterable[str] = ("text/plain",)) -> Scrape:
    """Ask a daemon at `url`."""
    headers = {"Accept": ", ".join(accept)}
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{url}/metrics", headers=headers) as answer,
    ):
        assert answer.status == 200
        return Scrape(await answer.text())
