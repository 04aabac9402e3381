"""Every SQL verb from every state, against the table that the program and the docs go by."""

import itertools
from collections.abc import Callable

import psycopg
import pytest

from pgrelay.delivery import TRANSITIONS, Claim, Status
from support.queue import (
    add_event,
    add_webhook,
    claim,
    expand,
    failed,
    pend,
    record,
    retried,
    sign_on,
    status,
    succeeded,
    value,
)


class Scene:
    """One delivery in one state; every verb can be tried on it."""

    def __init__(self, db: psycopg.Connection, state: Status, *, last_attempt: bool) -> None:
        self.db = db
        self.daemon = sign_on(db)
        self.webhook = add_webhook(db, max_retry_attempts=1 if last_attempt else 3)
        event = add_event(db, only_webhook=self.webhook)
        pend(db, self.daemon)
        self.id = int(value(db, "select id from pgrelay.delivery_queue where event_id = %s", event))
        #: As the daemon would hold it, had it been leased.
        self.lease = Claim(self.id, 1, self.webhook, 1, event, 1, "callback.created", "k", b"{}", 0.0)
        match state:
            case Status.PENDING:
                pass
            case Status.CANCELLED | Status.EXPIRED:
                db.execute("select pgrelay.finish_pending(array[%s], %s, 'over')", (self.id, state))
            case _:
                (self.lease,) = claim(db, self.daemon, self.webhook)
        if state is Status.SUCCEEDED:
            record(db, self.daemon, succeeded(self.lease))
        elif state is Status.FAILED:
            record(db, self.daemon, failed(self.lease))
        assert status(db, self.id) is state

    def claim(self) -> None:
        claim(self.db, self.daemon, self.webhook)

    def succeed(self) -> None:
        record(self.db, self.daemon, succeeded(self.lease))

    def retry_later(self) -> None:
        record(self.db, self.daemon, retried(self.lease, 60.0))

    def give_up(self) -> None:
        record(self.db, self.daemon, failed(self.lease))

    def lapse(self) -> None:
        self.db.execute("update pgrelay.daemons set lease_until = clock_timestamp() - interval '1 second'")
        self.db.execute("select pgrelay.release_lapsed()")

    def give_back(self) -> None:
        self.db.execute("select pgrelay.give_back(%s, array[%s]::bigint[])", (self.daemon, self.id))

    def cancel(self) -> None:
        self.db.execute("select pgrelay.cancel_delivery(%s)", (self.id,))

    def retry(self) -> None:
        self.db.execute("select pgrelay.retry_delivery(%s)", (self.id,))

    def expire(self) -> None:
        self.db.execute(
            "update pgrelay.delivery_queue set expires_at = clock_timestamp() where id = %s", (self.id,)
        )
        self.db.execute("select pgrelay.expire_deliveries()")


#: SQL verb -> the verb of the table it stands for, and the destination it has while attempts are left, and after.
VERBS: dict[str, tuple[Callable[[Scene], None], str, Status, Status]] = {
    "claim": (Scene.claim, "claim", Status.IN_FLIGHT, Status.IN_FLIGHT),
    "record succeeded": (Scene.succeed, "succeed", Status.SUCCEEDED, Status.SUCCEEDED),
    "record retry": (Scene.retry_later, "fail", Status.PENDING, Status.PENDING),
    "record failed": (Scene.give_up, "fail", Status.FAILED, Status.FAILED),
    "release_lapsed": (Scene.lapse, "lapse", Status.PENDING, Status.FAILED),
    "give_back": (Scene.give_back, "give_back", Status.PENDING, Status.PENDING),
    "cancel_delivery": (Scene.cancel, "cancel", Status.CANCELLED, Status.CANCELLED),
    "expire_deliveries": (Scene.expire, "expire", Status.EXPIRED, Status.EXPIRED),
    "retry_delivery": (Scene.retry, "retry", Status.PENDING, Status.PENDING),
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_verb_moves_a_delivery_as_the_table_says_and_leaves_it_alone_elsewhere(
    db: psycopg.Connection, verb: str
) -> None:
    call, name, early, late = VERBS[verb]
    origins, destinations = TRANSITIONS[name]
    for state, last_attempt in itertools.product(Status, (False, True)):
        scene = Scene(db, state, last_attempt=last_attempt)
        call(scene)
        expected = (late if last_attempt else early) if state in origins else state
        assert expected in destinations or state not in origins
        assert status(db, scene.id) is expected, f"{verb} from {state}, last attempt: {last_attempt}"


def test_every_verb_of_the_table_is_tried_and_every_destination_reached() -> None:
    tried = {(name, destination) for _, name, *destinations in VERBS.values() for destination in destinations}
    assert tried == {(name, destination) for name, (_, ends) in TRANSITIONS.items() for destination in ends}


def test_expand_makes_deliveries_that_are_pending_or_in_flight(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_event(db)
    add_event(db)
    step = expand(db, sign_on(db), room=1)
    states = db.execute("select status from pgrelay.delivery_queue order by id").fetchall()
    assert states == [("in_flight",), ("pending",)]
    assert len(step.leases) == 1


def test_a_state_that_cannot_be_cannot_be_written(db: psycopg.Connection) -> None:
    for row in (
        "(webhook_id, event_id, event_slot, status) values (1, 1, 0, 'succeeded')",
        "(webhook_id, event_id, event_slot, next_attempt_at) values (1, 1, 0, null)",
        "(webhook_id, event_id, event_slot, leased_by) values (1, 1, 0, 5)",
        "(webhook_id, event_id, event_slot, status, next_attempt_at) values (1, 1, 0, 'in_flight', null)",
        "(webhook_id, event_id, event_slot, status, leased_by) values (1, 1, 0, 'in_flight', 5)",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            db.execute(f"insert into pgrelay.delivery_queue {row}".encode())
