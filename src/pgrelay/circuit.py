"""What attempts say about a webhook's health, summed up until it is told to the database, which decides.

Pure. All daemons share one picture of each webhook (pgrelay.webhook_health): after so many failures in a row its
circuit opens, and it is probed at a falling rate instead of being called for every delivery. What succeeds all the
time is never told: a webhook that nobody knows to be failing, and that succeeds, costs nothing.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pgrelay.delivery import ErrorKind, Outcome, Verdict

#: The status by which a receiver says that it wants no more.
GONE = 410


class CircuitLimits(NamedTuple):
    """When a circuit opens and a webhook is disabled. Seconds; field order is that of pgrelay.note_results()."""

    #: Failures in a row; 0 for never.
    open_after: int
    first_wait: float
    longest_wait: float
    #: How long everything must have failed; 0 for never.
    disable_after: float
    disable_deliveries: int


class WebhookState(NamedTuple):
    """What the database made of a report. Field order is that of pgrelay.note_results()."""

    webhook_id: int
    #: opened, closed, held or disabled.
    state: str
    #: Seconds for which nothing is to be sent; None when nothing holds it back.
    held_for: float | None


@dataclass(slots=True)
class Report:
    """Of one webhook: what its attempts came to since the last report, in the order in which they ended."""

    webhook_id: int
    succeeded: bool = False
    #: Since the last success.
    failures: int = 0
    given_up: int = 0
    hold: float | None = None
    gone: bool = False


class Reports:
    """`add` outcomes, `take` what is worth telling. `failing` are the webhooks whose success is news."""

    def __init__(self) -> None:
        self.failing: frozenset[int] = frozenset()
        self._reports: dict[int, Report] = {}
        #: Of those that are failing, how many failures since the last success were told.
        self._in_a_row: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._reports)

    def add(self, outcome: Outcome) -> None:
        """One attempt has ended, and is recorded."""
        webhook_id = outcome.claim.webhook_id
        if outcome.verdict is Verdict.SUCCEEDED:
            before = self._reports.get(webhook_id)
            if before is not None:
                # what the receiver asked for it asked for, whatever was under way meanwhile
                self._reports[webhook_id] = Report(
                    webhook_id, succeeded=True, hold=before.hold, gone=before.gone
                )
            elif webhook_id in self.failing:
                self._reports[webhook_id] = Report(webhook_id, succeeded=True)
            return
        if outcome.error_kind is ErrorKind.SHUTDOWN:
            return  # ours, not the receiver's
        report = self._reports.get(webhook_id)
        if report is None:
            report = self._reports[webhook_id] = Report(webhook_id)
        report.failures += 1
        report.given_up += outcome.verdict is Verdict.FAILED
        report.gone |= outcome.status_code == GONE
        if outcome.hold is not None:
            report.hold = max(outcome.hold, report.hold or 0.0)

    def urge(self, open_after: int, held: Container[int]) -> bool:
        """Something follows at once: for the receiver, for a circuit, or for one of the webhooks that are held back."""
        return any(
            report.hold is not None
            or report.gone
            or (report.succeeded and report.webhook_id in held)
            or 0 < open_after <= report.failures + self._told_before(report)
            for report in self._reports.values()
        )

    def take(self) -> list[Report]:
        """All reports; they are forgotten here."""
        taken = list(self._reports.values())
        self._reports.clear()
        self.failing |= {report.webhook_id for report in taken if report.failures or report.hold is not None}
        in_a_row = {report.webhook_id: report.failures + self._told_before(report) for report in taken}
        self._in_a_row = {
            webhook_id: failures
            for webhook_id, failures in (self._in_a_row | in_a_row).items()
            if failures and webhook_id in self.failing
        }
        return taken

    def _told_before(self, report: Report) -> int:
        return 0 if report.succeeded else self._in_a_row.get(report.webhook_id, 0)

    def take_back(self, taken: Iterable[Report]) -> None:
        """Nobody knows whether these were told: what may be told twice will be. Failures are not counted twice."""
        for old in taken:
            if old.succeeded or old.gone or old.hold is not None:
                new = self._reports.setdefault(old.webhook_id, Report(old.webhook_id))
                new.succeeded |= old.succeeded
                new.gone |= old.gone
                if old.hold is not None:
                    new.hold = max(old.hold, new.hold or 0.0)
