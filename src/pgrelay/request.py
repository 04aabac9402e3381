"""From a claim and a signing time to the request that goes over the wire, and what of it is recorded.

Pure. Timestamps are whole seconds since the epoch: the moment of the attempt, since receivers refuse a
signature older than five minutes. The body is passed on byte for byte, unless the webhook has another payload_format:
then what that makes of it is sent and signed.

Our headers always win: a header of the webhook that bears a reserved name, or that cannot be sent as it
stands, is left out and named in `RequestBuilder.left_out`. While a secret is being rotated,
`webhook-signature` carries a signature of both secrets, and `X-Webhook-Signature`, which has room for one,
is the new secret's.

What is recorded holds no secrets: signatures keep their scheme only, headers of the webhook their names only.
"""

import re
import string
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as json_string
from typing import NamedTuple
from urllib.parse import quote

from pgrelay.delivery import Claim, Request, Webhook
from pgrelay.masking import MASK, Scrubber
from pgrelay.payloads import CONTENT_TYPE, About, payload
from pgrelay.signing import CLASSIC_HEADER, ID_HEADER, STANDARD_HEADER, TIMESTAMP_HEADER, Signer

EVENT_HEADER = "X-Webhook-Event"
KEY_HEADER = "X-Webhook-Idempotency-Key"
ATTEMPT_HEADER = "X-Webhook-Delivery-Attempt"

#: Names, in lower case, that a webhook cannot set: ours, and those that frame the message or steer a proxy.
RESERVED_HEADERS = frozenset(
    {
        "content-type",
        "user-agent",
        CLASSIC_HEADER.lower(),
        EVENT_HEADER.lower(),
        KEY_HEADER.lower(),
        ATTEMPT_HEADER.lower(),
        ID_HEADER,
        TIMESTAMP_HEADER,
        STANDARD_HEADER,
        "host",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
        "expect",
    }
)

# RFC 9110, sections 5.1 and 5.5. Beyond ASCII only what latin-1 can print, for every client can send that.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_PRINTABLE = string.punctuation + " "


_ONE_MASKED = f', "{STANDARD_HEADER}": "v1,{MASK}"'
_TWO_MASKED = f', "{STANDARD_HEADER}": "v1,{MASK} v1,{MASK}"'


class Answered(NamedTuple):
    """What a receiver answered, and what of it is recorded: its secrets are taken out."""

    headers: Mapping[str, str]
    body: bytes
    recorded_headers: str
    recorded_body: str


class RequestBuilder:
    """Builds the requests of one webhook, as it is at one version. What does not change is prepared once."""

    __slots__ = (
        "_both",
        "_both_until",
        "_content_type",
        "_own",
        "_recorded_head",
        "_recorded_own",
        "_render",
        "_signer",
        "_timeout",
        "_url",
        "_user_agent",
        "answered",
        "left_out",
        "scrubber",
    )

    #: Its receiver's last answer; kept by `attempt`.
    answered: Answered | None
    #: Names of the webhook's headers that are not sent: reserved, given twice, or not fit for a header.
    left_out: tuple[str, ...]
    #: Takes the webhook's secrets out of answers.
    scrubber: Scrubber

    def __init__(self, webhook: Webhook, user_agent: str) -> None:
        self.answered = None
        self._url = webhook.url
        self._timeout = webhook.timeout_seconds
        self._user_agent = _printable(user_agent)
        self._own, self.left_out = _sendable(webhook.headers)
        self._signer = self._both = Signer(webhook.secret_key)
        self._both_until = 0.0
        self.scrubber = Scrubber(
            webhook.url, self._own, filter(None, (webhook.secret_key, webhook.previous_secret_key))
        )
        if webhook.previous_secret_key is not None and webhook.previous_secret_expires_at is not None:
            self._both = Signer(webhook.secret_key, webhook.previous_secret_key)
            self._both_until = webhook.previous_secret_expires_at.timestamp()
        made = payload(
            About(webhook.id, webhook.name, webhook.company_id),
            webhook.payload_format,
            webhook.payload_template,
        )
        self._render = None if made is None else made.render
        self._content_type = CONTENT_TYPE if made is None else made.content_type
        self._recorded_head = (
            f'{{"Content-Type": {json_string(self._content_type)}, "User-Agent": {json_string(self._user_agent)}, '
            f'"{CLASSIC_HEADER}": "sha256={MASK}", "{EVENT_HEADER}": '
        )
        self._recorded_own = "".join(f', {json_string(name)}: "{MASK}"' for name in self._own) + "}"

    def build(self, claim: Claim, timestamp: int) -> Request:
        """The request for this attempt, signed as of `timestamp`. Raises Unrenderable for want of a body."""
        key = _printable(claim.idempotency_key)
        body = claim.body if self._render is None else self._render(claim)
        signer = self._both if timestamp < self._both_until else self._signer
        classic, standard = signer.sign(key, timestamp, body)
        headers = {
            "Content-Type": self._content_type,
            "User-Agent": self._user_agent,
            CLASSIC_HEADER: classic,
            EVENT_HEADER: _printable(claim.event_type),
            KEY_HEADER: key,
            ATTEMPT_HEADER: str(claim.attempt),
            ID_HEADER: key,
            TIMESTAMP_HEADER: str(timestamp),
        }
        if standard is not None:
            headers[STANDARD_HEADER] = standard
        headers.update(self._own)
        return Request(self._url, headers, body, self._timeout)

    def recorded_headers(self, request: Request) -> str:
        """What delivery_attempts.request_headers says of a request built here: a JSON object, as text.

        Names and order are those sent. Only a few values differ from one request to the next, so the rest is
        kept as text: a fifth of the cost of json.dumps.
        """
        headers = request.headers
        key = json_string(headers[KEY_HEADER])
        standard = headers.get(STANDARD_HEADER)
        signatures = "" if standard is None else _TWO_MASKED if " " in standard else _ONE_MASKED
        return (
            f"{self._recorded_head}{json_string(headers[EVENT_HEADER])}, "
            f'"{KEY_HEADER}": {key}, "{ATTEMPT_HEADER}": "{headers[ATTEMPT_HEADER]}", '
            f'"{ID_HEADER}": {key}, "{TIMESTAMP_HEADER}": "{headers[TIMESTAMP_HEADER]}"'
            f"{signatures}{self._recorded_own}"
        )


def _sendable(own: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The webhook's own headers that can be sent, and the names of those that cannot."""
    sent: dict[str, str] = {}
    seen = set(RESERVED_HEADERS)
    for name, value in own.items():
        if name.lower() not in seen and _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value):
            sent[name] = value.strip(" \t")
            seen.add(name.lower())
    return sent, tuple(name for name in own if name not in sent)


def _printable(text: str) -> str:
    """The text as printable ASCII, the rest of it percent-encoded. Our own values need no change."""
    if text.isascii() and text.isprintable():
        return text
    return quote(text, safe=_PRINTABLE, errors="replace")
