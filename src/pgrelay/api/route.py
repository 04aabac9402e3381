"""One route: all that is known of it, in one place. It is served by it, and the OpenAPI document is made of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from pgrelay.api.call import DEFAULT_LIMIT, MAX_LIMIT, Answer, Call, Later
from pgrelay.api.fields import EVENT_PATTERN, ID, MOMENT, TEXT, Schema

Work = Callable[[Call], Awaitable[Answer | Later]]


@dataclass(frozen=True, slots=True)
class Route:
    """What is served at one path for one method."""

    method: str
    #: Below /api/v1. Names that end in _id are ids.
    path: str
    #: Name of the operation, unique.
    name: str
    summary: str
    work: Work
    #: Schema of the answer; None is no content.
    answer: Schema | None
    status: HTTPStatus = HTTPStatus.OK
    description: str = ""
    query: Mapping[str, Schema] = field(default_factory=dict)
    #: Name of the body's schema; None takes no body.
    body: str | None = None
    body_required: bool = True
    #: Whether a body may be called a merge patch too.
    merge_patch: bool = False
    #: Whether it must be said which version is meant (True), may be (None), or has none (False).
    if_match: bool | None = False
    #: Whether an Idempotency-Key makes sure that it is done once.
    idempotent_by_key: bool = False
    #: Whether the answer carries an ETag.
    etag: bool = False
    #: Whether it may find that it cannot be done now.
    may_conflict: bool = False
    #: Whether it changes nothing, though it is no GET.
    looks_only: bool = False

    @property
    def changes(self) -> bool:
        """Whether readers may not call it."""
        return self.method != "GET" and not self.looks_only


def listed(**filters: Schema) -> dict[str, Schema]:
    """The query parameters of a list: its filters, and where in it one is."""
    return {
        **filters,
        "limit": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_LIMIT,
            "default": DEFAULT_LIMIT,
            "description": "Items on a page.",
        },
        "cursor": {
            "type": "string",
            "maxLength": 500,
            "pattern": "^[A-Za-z0-9_-]+$",
            "x-said": "it is not one that this list gave",
            "description": "next_cursor of the page before.",
        },
    }


COMPANY: Schema = {**TEXT, "maxLength": 200, "description": "Of this tenant only."}
WEBHOOK_ID: Schema = {**ID, "maximum": 2**63 - 1, "description": "Of this webhook only."}
EVENT_ID: Schema = {**ID, "maximum": 2**63 - 1, "description": "Of this event only."}
REPLAY_ID: Schema = {**ID, "maximum": 2**63 - 1, "description": "Of this replay only."}
EVENT_TYPE: Schema = {
    **TEXT,
    "maxLength": 200,
    "pattern": EVENT_PATTERN,
    "x-said": "it must be an event type, or a pattern such as callback.*",
    "description": "Of this event type, or of all that a pattern such as callback.* takes in.",
}
RESOURCE: Schema = {**TEXT, "maxLength": 200, "description": "Of this resource_id only."}
SINCE: Schema = {**MOMENT, "description": "From then on."}
UNTIL: Schema = {**MOMENT, "description": "Until before then."}
