"""One request as a route sees it, and its answer: without HTTP, so that a page can make the same calls.

A route is called within one transaction that has the rights of whoever asked; it is committed when the answer is there.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

from pgrelay.api.problems import Fault, Problem, invalid
from pgrelay.db.admin import Admin, Row
from pgrelay.db.recall import recall, remember
from pgrelay.db.tokens import Access, Role
from pgrelay.doctor.trial import TryOut
from pgrelay.sealing import Keyring

DEFAULT_LIMIT = 50
MAX_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a call. `body` is made JSON, None is no body."""

    body: Any = None
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


class Later(NamedTuple):
    """What becomes of a call when its transaction is over, for somebody else is asked, who may take long."""

    work: Callable[[TryOut], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked, by whom, and where to do it. Everything in it fits the schemas of its route."""

    admin: Admin
    access: Access
    #: Ids and names in the path.
    path: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    #: Versions that If-Match allows; None allows any.
    versions: frozenset[int] | None = None
    idempotency_key: str | None = None
    #: Which route; part of what an Idempotency-Key stands for.
    operation: str = ""
    #: What webhooks' secrets are sealed with; empty where they are kept in the clear.
    keys: Keyring = field(default_factory=Keyring)

    @property
    def sees_urls(self) -> bool:
        """Whether URLs are shown in the clear; the role of readers cannot see the column."""
        return self.access.role is not Role.READER

    @property
    def limit(self) -> int:
        return int(self.query.get("limit", DEFAULT_LIMIT))

    @property
    def company(self) -> str | None:
        """The tenant that is asked for; None asks for all that may be seen."""
        found: str | None = self.query.get("company_id")
        return found

    async def once(self, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """What `work` returns; with an Idempotency-Key that came before, what it returned then."""
        if self.idempotency_key is None:
            return await work()
        request = json.dumps([self.operation, dict(self.path), dict(self.body)], sort_keys=True)
        digest = hashlib.sha256(request.encode()).digest()
        known = await recall(self.admin, self.access.id, self.idempotency_key, digest)
        if known is not None:
            return known
        made = await work()
        await remember(self.admin, self.access.id, self.idempotency_key, made)
        return made

    def cursor(self, *kinds: type) -> list[Any] | None:
        """What the cursor of the page before holds; None for the first page. Raises Problem (422)."""
        text = self.query.get("cursor")
        if text is None:
            return None
        try:
            found = json.loads(base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)))
        except (ValueError, binascii.Error, RecursionError):
            found = None
        fits = isinstance(found, list) and len(found) == len(kinds) and all(map(_is, found, kinds))
        if not fits:
            raise invalid([Fault("it is not one that this list gave", parameter="cursor")])
        return list(found)


def _is(value: object, kind: type) -> bool:
    if kind is int:
        return type(value) is int and abs(value) < 2**63
    return isinstance(value, kind)


def page(rows: Sequence[Row], limit: int, *key: str) -> Answer:
    """A page of at most `limit` of the rows (one more shows that there are more), and the cursor of the next one."""
    shown = list(rows[:limit])
    more = len(rows) > limit
    return Answer(
        {"items": shown, "next_cursor": _cursor([shown[-1][name] for name in key]) if more else None}
    )


def _cursor(values: list[Any]) -> str:
    text = json.dumps(values, default=lambda moment: moment.isoformat(), separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def etag(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"'}


def refuse_other_version(call: Call, version: int) -> None:
    """Raises Problem (412) when the thing is not one that If-Match speaks of."""
    if call.versions is not None and version not in call.versions:
        raise Problem(
            HTTPStatus.PRECONDITION_FAILED,
            "changed-meanwhile",
            f"it is at version {version} now; read it again, then change it",
            faults=[Fault(f"it is at version {version}", header="If-Match")],
            headers=etag(version),
        )
