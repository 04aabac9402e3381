"""What is shown of secrets: nothing. URLs without what opens doors, answers without what we sent.

Pure. Masked are credentials, query values and fragments of URLs, and segments of paths that look like a token, for many
receivers hand out URLs that are themselves the secret. pgrelay.mask_url() does the same in SQL.
"""

import re
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring_ascii as json_string
from urllib.parse import unquote, urlsplit

MASK = "***"

_SCHEME = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
#: Slack's tokens have 24 characters, UUIDs 36, Discord's 68; and few words with a digit in them are so long.
_SHORTEST_TOKEN = 20
#: What is shorter is no secret worth the name, and would be found in innocent text.
_SHORTEST_SECRET = 6
#: Both signatures of a request, also where JSON put a backslash before slashes; by each, what announces it.
_SIGNATURES = (
    ("sha256=", re.compile(r"sha256=[0-9a-f]{64}")),
    ("v1,", re.compile(r"v1,(?:[A-Za-z0-9+]|\\?/){43}=")),
)
_SIGNATURES_IN_BYTES = tuple(
    (word.encode(), re.compile(found.pattern.encode())) for word, found in _SIGNATURES
)


def mask_url(url: str) -> str:
    """The URL as logs, views and messages may show it: where it leads, and nothing that opens a door there.

    Never fails, whatever the text; what cannot be printed becomes a question mark. A short secret in a path
    cannot be told from a word, and is shown.
    """
    rest, hash_sign, _ = url.partition("#")
    rest, question_mark, query = rest.partition("?")
    prefix = _SCHEME.match(rest)
    before = "" if prefix is None else prefix[0]
    authority, slash, path = rest[len(before) :].partition("/")
    _, at, host = authority.rpartition("@")
    shown = before + (MASK + at if at else "") + host
    shown += slash + "/".join(MASK if _is_token(segment) else segment for segment in path.split("/"))
    if question_mark:
        shown += "?" + "&".join(_masked_parameter(parameter) for parameter in query.split("&"))
    if hash_sign:
        shown += "#" + MASK
    return "".join(character if character.isprintable() else "?" for character in shown)


class Scrubber:
    """Takes out of an answer what was sent along: some receivers echo requests, and answers are recorded."""

    __slots__ = ("_hidden",)

    def __init__(self, url: str, headers: Mapping[str, str], secrets: Iterable[str]) -> None:
        hidden = {*secrets, *_secrets_of(url)}
        for value in headers.values():
            # also without the scheme, as "Bearer"
            hidden |= {value, value.rpartition(" ")[2]}
        # as JSON writes them, some of which put a backslash before slashes
        hidden |= {json_string(value)[1:-1] for value in hidden}
        hidden |= {value.replace("/", "\\/") for value in hidden}
        found = sorted((value for value in hidden if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._hidden = tuple((value, value.encode(errors="replace")) for value in found)

    def body(self, body: bytes) -> bytes:
        """The bytes with MASK where a secret or a signature stood, also for the beginning of a secret at the very end.

        Of long answers the end is cut off; of a signature that was cut, nobody can make use.
        """
        if body:
            for _, secret in self._hidden:
                if secret in body:
                    body = body.replace(secret, MASK.encode())
                begins = body.rfind(secret[:_SHORTEST_SECRET], 1 - len(secret))
                if begins >= 0 and secret.startswith(body[begins:]):
                    body = body[:begins] + MASK.encode()
            for opening, signature in _SIGNATURES_IN_BYTES:
                if opening in body:
                    body = signature.sub(opening + MASK.encode(), body)
        return body

    def text(self, text: str) -> str:
        """The text, which may be JSON, with MASK where a secret or a signature stood."""
        for secret, _ in self._hidden:
            if secret in text:
                text = text.replace(secret, MASK)
        for opening, signature in _SIGNATURES:
            if opening in text:
                text = signature.sub(opening + MASK, text)
        return text


def _secrets_of(url: str) -> set[str]:
    """Query values, and tokens in the path, as written and decoded."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return set()
    found = {parameter.rpartition("=")[2] for parameter in parts.query.split("&")}
    found |= {segment for segment in parts.path.split("/") if _is_token(segment)}
    return found | {unquote(value) for value in found}


def _is_token(segment: str) -> bool:
    return (
        len(segment) >= _SHORTEST_TOKEN
        and re.search("[0-9]", segment) is not None
        and re.search("[A-Za-z]", segment) is not None
    )


def _masked_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return name + equals + MASK if equals else MASK
