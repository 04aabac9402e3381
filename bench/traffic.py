"""What the sample application writes, when it was told that it is safe, and what a good receiver answers."""

import time

import psycopg

from pgrelay.delivery import Claim, Outcome, Verdict

# A row as a CRM has it; its event's body is about 1 KB.
INSERT = """
insert into public.callback_requests (company_id, branch_id, service_id, customer_name, customer_phone, customer_email,
    preferred_time_window, notes, metadata, expires_at)
select {company}, 1, 1, 'Zoë Baumgärtner', '+49 30 12345' || n, 'zoe' || n || '@example.com',
    '{{"from": "14:00", "to": "16:00", "days": ["mon", "tue"]}}', 'asked for a call in the afternoon, prefers ' || n,
    '{{"source": "web", "campaign": "spring", "score": 17}}', now() + interval '7 days'
from generate_series(1, {count}) as n
"""


def insert_rows(connection: psycopg.Connection, count: int, company: int = 1) -> None:
    """Insert so many requests in one statement; each fires callback.created."""
    connection.execute(INSERT.format(company=company, count=count).encode())


def write_steadily(
    connection: psycopg.Connection, rate: float, seconds: float, company: int = 1
) -> dict[int, int]:
    """One row a transaction, on a fixed timetable; the time.monotonic_ns() at which each COMMIT had returned, by id.

    A transaction that is late is followed by the next at once, so that the rate holds on the whole.
    """
    statement = (INSERT.format(company=company, count=1) + " returning id").encode()
    committed: dict[int, int] = {}
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        pause = began + number / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        row = connection.execute(statement, prepare=True).fetchone()
        assert row is not None
        committed[row[0]] = time.monotonic_ns()
    return committed


def delivered(claim: Claim, now: float) -> Outcome:
    """What a daemon records of a request that nginx answered with 200."""
    return Outcome(
        claim, Verdict.SUCCEEDED, now - 0.05, 0.05, 200, request_headers='{"Content-Type": "application/json"}',
        response_headers='{"Server": "nginx"}', response_body="ok",
    )  # fmt: skip
