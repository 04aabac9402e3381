"""What one test request tells: findings, step by step, each with what to do about it. Pure."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin

from pgrelay.delivery import ErrorKind, Request
from pgrelay.doctor.finding import CERTIFICATE_ENDS_SOON, Finding, Level
from pgrelay.masking import mask_url
from pgrelay.request import KEY_HEADER
from pgrelay.signing import (
    CLASSIC_HEADER,
    ID_HEADER,
    STANDARD_HEADER,
    TIMESTAMP_HEADER,
    TOLERANCE_SECONDS,
)
from pgrelay.spans import duration, relative
from pgrelay.transport import Probe

#: Seconds between the clocks that are worth a word.
SKEW_WORTH_A_WORD = 30.0
#: The share of its time that an answer may take before it is called slow.
_SLOW = 0.5
_LONGEST_BODY = 500
_STEPS = {
    "dns": "DNS",
    "connect": "connect",
    "tls": "TLS",
    "first_byte": "first byte",
    "body": "body",
    "whole": "whole",
}

#: What to do about an answer that is no success, by its status.
_MEND_STATUS = {
    400: "The receiver did not like the request: it must take JSON and unknown event types, webhook.test among them.",
    401: "The receiver refuses the signature, or wants credentials: compare the signature below with what it computes"
    " over the raw body, or set a header (pgrelay webhooks set {id} header.Authorization=…).",
    403: "The receiver, or a firewall before it, forbids the request: compare the signature below with what it"
    " computes; a firewall must let our address and User-Agent pass.",
    404: "Nothing is served under that path: change the url (pgrelay webhooks set {id} url=…).",
    405: "That path does not take POST: change the url (pgrelay webhooks set {id} url=…).",
    410: "The receiver says it is gone for good: change the url, or delete the webhook.",
    413: "The receiver takes smaller bodies only: raise its limit.",
    415: "The receiver must take Content-Type: application/json.",
    429: "The receiver wants fewer requests: pgrelay webhooks set {id} --rate-limit N",
}
_MEND_FAILURE = {
    ErrorKind.INVALID_URL: "Change the url: pgrelay webhooks set {id} url=https://…",
    ErrorKind.DNS: "Is the name spelled right, and does it resolve on this machine (getent hosts NAME)? Then change the"
    " url, or mend the DNS.",
    ErrorKind.CONNECT: "Does the receiver listen on that address and port, and does a firewall let us through?",
    ErrorKind.TIMEOUT: "A receiver should answer first and work later. Or give it longer:"
    " pgrelay webhooks set {id} timeout=SECONDS (120 at most)",
    ErrorKind.PROTOCOL: "What listens there does not speak HTTP/1.1, or breaks off; see the receiver's own log.",
    ErrorKind.TOO_LARGE: "The receiver must answer with fewer or shorter headers.",
}
_HUNG_UP = frozenset({ErrorKind.TLS, ErrorKind.CONNECT, ErrorKind.PROTOCOL})


def findings(probe: Probe, request: Request, webhook: Mapping[str, Any]) -> list[Finding]:
    """All that the request tells of a webhook (`id`, `paused`, `is_active`), after whether anything is sent to it."""
    webhook_id = webhook["id"]
    found = diagnose(probe, request, webhook_id)
    if not webhook["paused"] and webhook["is_active"]:
        return found
    state, verb = ("paused", "resume") if webhook["paused"] else ("inactive", "enable")
    mend = f"pgrelay webhooks {verb} {webhook_id}"
    return [Finding(Level.WARNING, "webhook", f"it is {state}: nothing else is sent to it", mend), *found]


def diagnose(probe: Probe, request: Request, webhook_id: int) -> list[Finding]:
    """All that the request tells, in the order in which it happened."""
    found = [_of_url(probe, request, webhook_id)]
    if probe.by_proxy and probe.refused is None:
        mend = "What happens between here and the receiver is the proxy's; its own log tells."
        found.append(
            Finding(
                Level.INFO,
                "proxy",
                "network.proxy is set, so addresses, TLS and times of the steps are not measured",
                mend,
            )
        )
    found += [_of_address(probe, address, rule) for address, rule in probe.addresses.items()]
    found += _of_tls(probe, request, webhook_id)
    found += _of_failure(probe, webhook_id)
    if probe.refused is None:
        found.append(_of_time(probe, request))
    found += _of_answer(probe, request, webhook_id)
    found += _of_clock(probe)
    if probe.answered_at is not None:
        found.append(of_signature(request))
    return found


def answered_well(probe: Probe) -> bool:
    """Whether it would count as delivered."""
    return probe.failure is None and probe.status is not None and 200 <= probe.status < 300


def skew(probe: Probe) -> float | None:
    """Seconds by which the receiver's clock is ahead of ours; None if it does not say, or says no date."""
    text = _header(probe.headers, "date")
    if text is None or probe.answered_at is None:
        return None
    try:
        theirs = parsedate_to_datetime(text)
    except ValueError:
        return None
    theirs = theirs if theirs.tzinfo is not None else theirs.replace(tzinfo=UTC)
    return (theirs - probe.answered_at).total_seconds()


def _of_url(probe: Probe, request: Request, webhook_id: int) -> Finding:
    shown = mask_url(request.url)
    if probe.refused is None:
        return Finding(Level.OK, "url", f"{shown} may be called")
    mend = _MEND_FAILURE[ErrorKind.INVALID_URL].format(id=webhook_id)
    if probe.refused.kind is ErrorKind.BLOCKED_ADDRESS:
        mend = (
            f"Change the url: pgrelay webhooks set {webhook_id} url=https://… Or, if it is meant to be"
            " called, allow it: network.allow_http, network.allowed_networks."
        )
    return Finding(Level.ERROR, "url", f"{shown}: {probe.refused.message}", mend)


def _of_address(probe: Probe, address: str, rule: str | None) -> Finding:
    if rule is not None:
        mend = "If it is meant to be called, put its network into network.allowed_networks."
        return Finding(Level.ERROR, "address", f"{address} may not be called: {rule}", mend)
    if address in probe.unreachable:
        return Finding(Level.WARNING, "address", f"{address} may be called, but: {probe.unreachable[address]}",
                       "Deliveries lose time on it: take it out of the DNS, or mend what listens there.")  # fmt: skip
    return Finding(
        Level.OK, "address", f"{address} may be called{', and was' if address == probe.address else ''}"
    )


def _of_tls(probe: Probe, request: Request, webhook_id: int) -> list[Finding]:
    refused = probe.failure is not None and probe.failure.kind is ErrorKind.TLS
    if not request.url.lower().startswith("https:"):
        if probe.address is None:
            return []
        mend = f"Better https: pgrelay webhooks set {webhook_id} url=https://…"
        return [Finding(Level.WARNING, "tls", "none: events travel in the clear", mend)]
    found = []
    if probe.tls_version is not None:
        found.append(Finding(Level.OK, "tls", probe.tls_version))
    certificate, now = probe.certificate, probe.answered_at or datetime.now(UTC)
    if certificate is not None:
        said = (
            f"{certificate.subject}, issued by {certificate.issuer}, for {', '.join(certificate.names) or 'no name'},"
            f" {'ends' if certificate.ends > now else 'ended'} {relative(certificate.ends, now)}"
        )
        left = (certificate.ends - now).total_seconds()
        if not probe.verified:
            found.append(
                Finding(Level.ERROR, "certificate", f"not accepted: {said}", _mend_certificate(probe, left))
            )
        elif left < CERTIFICATE_ENDS_SOON:
            found.append(Finding(Level.WARNING, "certificate", said, "The receiver must renew it before."))
        else:
            found.append(Finding(Level.OK, "certificate", f"verified: {said}"))
    elif refused:
        mend = (
            "Does the receiver speak TLS 1.2 or later on that port?"
            " Does it ask for a certificate (network.client_certificate)?"
        )
        found.append(Finding(Level.ERROR, "tls", "no TLS was agreed on", mend))
    return found


def _mend_certificate(probe: Probe, left: float) -> str:
    reason = "" if probe.failure is None else probe.failure.message
    if left < 0:
        return "The receiver must renew it."
    if "mismatch" in reason:
        return "Call the receiver by a name that its certificate is for, or have one issued for this name."
    return (
        "The receiver must send the whole chain, its intermediate certificates included, up to an authority that this"
        " machine trusts. For an authority of your own: network.ca_file."
    )


def _of_failure(probe: Probe, webhook_id: int) -> list[Finding]:
    failure = probe.failure
    if failure is None or probe.refused is not None:
        return []
    told = any(rule is not None for rule in probe.addresses.values()) or (
        probe.certificate is not None and not probe.verified
    )
    mend = "" if told else _mend_failure(probe, failure.kind).format(id=webhook_id)
    return [Finding(Level.ERROR, "request", f"{failure.kind}: {failure.message}", mend)]


def _mend_failure(probe: Probe, kind: ErrorKind) -> str:
    """By how far it came, for the same kind means another thing before and after the connection stood."""
    if kind is ErrorKind.TIMEOUT and probe.address is None and not probe.by_proxy:
        return _MEND_FAILURE[ErrorKind.CONNECT if probe.addresses else ErrorKind.DNS]
    if kind is ErrorKind.TIMEOUT and "tls" in probe.seconds and not probe.verified:
        return "What listens on that port may not speak TLS: is it the right one?"
    if probe.verified and probe.answered_at is None and kind in _HUNG_UP:
        # TLS 1.3 asks for our certificate when, for us, the handshake is over: the refusal comes instead of an answer
        return "It hung up after TLS stood: does it ask for a certificate (network.client_certificate)? See its log."
    if kind is ErrorKind.CONNECT and probe.address is not None:
        return "It hung up on us: see the log of the receiver, and of what stands before it."
    return _MEND_FAILURE.get(kind, "")


def _of_time(probe: Probe, request: Request) -> Finding:
    words = ", ".join(f"{_STEPS[step]} {duration(took)}" for step, took in probe.seconds.items())
    whole, limit = probe.seconds["whole"], request.timeout_seconds
    said = f"{words}; {duration(limit)} are allowed"
    if probe.failure is None and whole > limit * _SLOW:
        return Finding(
            Level.WARNING,
            "time",
            said,
            "That is close to the limit. A receiver should answer first and work later.",
        )
    return Finding(Level.OK if probe.failure is None else Level.INFO, "time", said)


def _of_answer(probe: Probe, request: Request, webhook_id: int) -> list[Finding]:
    status = probe.status
    if status is None:
        return []
    body = probe.body[:_LONGEST_BODY].decode("utf-8", "replace")
    more = "…" if len(probe.body) > _LONGEST_BODY else ""
    said = f"HTTP {status}" + (f": {body}{more}" if body else ", without a body")
    if 200 <= status < 300:
        return [Finding(Level.OK, "answer", said)]
    if 300 <= status < 400:
        target = _header(probe.headers, "location")
        to = "nowhere" if target is None else mask_url(urljoin(request.url, target))
        mend = f"Change the url to where it leads: pgrelay webhooks set {webhook_id} url={to if target else 'https://…'}"
        return [
            Finding(Level.ERROR, "answer", said),
            Finding(Level.ERROR, "redirect", f"to {to}; redirects are not followed", mend),
        ]
    usual = (
        "The receiver failed: see its own log."
        if status >= 500
        else "The receiver refuses it: see its own log."
    )
    return [Finding(Level.ERROR, "answer", said, _MEND_STATUS.get(status, usual).format(id=webhook_id))]


def _of_clock(probe: Probe) -> list[Finding]:
    if probe.answered_at is None:
        return []
    ahead = skew(probe)
    if ahead is None:
        return [
            Finding(
                Level.INFO,
                "clock",
                "the answer has no Date that can be read, so the clocks cannot be compared",
            )
        ]
    if abs(ahead) <= SKEW_WORTH_A_WORD:
        return [Finding(Level.OK, "clock", "the receiver's agrees with ours")]
    said = f"the receiver's is {duration(ahead)} {'ahead of' if ahead > 0 else 'behind'} ours"
    mend = "One of the two is wrong: compare with a third, and let NTP keep both."
    if abs(ahead) <= TOLERANCE_SECONDS:
        return [Finding(Level.WARNING, "clock", said, mend)]
    return [Finding(Level.ERROR, "clock", f"{said}: a receiver that verifies refuses what is more than"
                    f" {duration(TOLERANCE_SECONDS)} off", mend)]  # fmt: skip


def signature(request: Request) -> dict[str, str | None]:
    """What is signed and what must come out; never what it is signed with."""
    headers = request.headers
    return {
        "body": request.body.decode("utf-8", "replace"),
        "classic": headers[CLASSIC_HEADER],
        "classic_signed": "the raw body",
        "standard": headers.get(STANDARD_HEADER),
        "standard_signed": f"{headers[ID_HEADER]}.{headers[TIMESTAMP_HEADER]}.<the raw body>",
    }


def of_signature(request: Request) -> Finding:
    """How the receiver should have computed it."""
    of, size = signature(request), len(request.body)
    lines = [
        f"{CLASSIC_HEADER}: {of['classic']}",
        f"  = sha256= and the hex HMAC-SHA256 of the raw body ({size} bytes),",
        "    keyed with the whole secret, whsec_ included",
    ]
    if of["standard"] is not None:
        lines += [
            f"{STANDARD_HEADER}: {of['standard']}",
            f"  = v1, and the base64 HMAC-SHA256 of {of['standard_signed']}",
            "    keyed with the bytes that the base64 after whsec_ stands for"
            + ("; two, for the old secret signs too" if " " in of["standard"] else ""),
        ]
    else:
        lines.append(f"No {STANDARD_HEADER}: the secret is no whsec_ and base64 of 24 to 64 bytes")
    lines.append(f"Raw body: {of['body']}")
    key = request.headers[KEY_HEADER]
    return Finding(Level.INFO, "signature", f"of {key}, as the receiver should compute it", "\n".join(lines))


def scrubbed(probe: Probe, body: Callable[[bytes], bytes], text: Callable[[str], str]) -> None:
    """Take out of the answer what the receiver echoed of our secrets."""
    probe.body = body(probe.body)
    probe.headers = {name: text(value) for name, value in probe.headers.items()}


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for given, value in headers.items() if given.lower() == name), None)
