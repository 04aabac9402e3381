"""CloudEvents 1.0 in structured mode: one JSON object, its `data` the event's own.

`id` is the idempotency key, `subject` the resource's id, `source` /pgrelay/ and the source's name: together with the id
unique. `data` is copied out of the body byte for byte and is not parsed, whatever its size; bodies begin with the same
members in the same order, written by capture and by pgrelay.emit(). One that does not (a test event, say) is `data` as
a whole, with its timestamp as `time`.
"""

import json
import re
from json.encoder import encode_basestring_ascii as json_string
from urllib.parse import quote

from pgrelay.delivery import Claim
from pgrelay.payloads.event import Unrenderable, readable

CONTENT_TYPE = "application/cloudevents+json"

_ENVELOPE = re.compile(
    rb'\{"event":"[^"\\]*","idempotency_key":"[^"\\]*","timestamp":"(?P<time>[^"\\]*)","data":(?=.)',
    re.DOTALL,
)
#: Below it a body of another form is looked into for its timestamp.
_SMALL = 4096
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


def render(claim: Claim) -> bytes:
    """The event, with its data as it is. Raises Unrenderable."""
    body = claim.body
    found = _ENVELOPE.match(body)
    if found is not None and body.endswith(b"}"):
        time, data = found["time"].decode("ascii", "replace"), body[found.end() : -1]
    else:
        time, data = _time_of(body), body
    source, subject = readable(claim.source), readable(claim.resource_id)
    attributes = {
        "specversion": "1.0",
        "id": claim.idempotency_key,
        "source": f"/pgrelay/{quote(source, safe='')}" if source else "/pgrelay",
        "type": claim.event_type,
        "subject": subject or None,  # an empty one is not allowed
        "time": time if _TIME.fullmatch(time) else None,
        "datacontenttype": "application/json",
    }
    head = ",".join(
        f'"{name}":{json_string(value)}' for name, value in attributes.items() if value is not None
    )
    return b"".join((b"{", head.encode(), b',"data":', data, b"}"))


def _time_of(body: bytes) -> str:
    if len(body) > _SMALL:
        return ""
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        raise Unrenderable("the event's body is no JSON") from None
    found = read.get("timestamp") if isinstance(read, dict) else None
    return found if isinstance(found, str) else ""
