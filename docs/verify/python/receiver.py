"""Receives webhooks: verifies, deduplicates, answers. Python 3.9 or later, nothing to install.

PORT=8080 WEBHOOK_SECRET=whsec_… python3 receiver.py          (WEBHOOK_SCHEME=classic: by X-Webhook-Signature)
"""

import base64
import hashlib
import hmac
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE = 300  # seconds


def is_genuine(secret: str, id: str, timestamp: str, signatures: str, body: bytes, now: float) -> bool:
    """By webhook-signature, which covers the id, the time and the raw body."""
    if not re.fullmatch("[0-9]{1,12}", timestamp) or abs(now - int(timestamp)) > TOLERANCE:
        return False
    key = base64.b64decode(secret[len("whsec_") :])
    digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    return any(hmac.compare_digest(expected, given.encode()) for given in signatures.split())


def is_genuine_classic(secret: str, signature: str, body: bytes) -> bool:
    """By X-Webhook-Signature, which covers the raw body alone."""
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature.encode())


# --- The receiver ---

SECRET = os.environ["WEBHOOK_SECRET"]
CLASSIC = os.environ.get("WEBHOOK_SCHEME") == "classic"
LARGEST = 1 << 20  # bytes
# In earnest: a table with a unique key, written in the transaction that does the work.
handled: set[str] = set()
lock = threading.Lock()


class Hook(BaseHTTPRequestHandler):
    timeout = 10  # seconds without a byte

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > LARGEST:
            return self.answer(413, "Content-Length is missing or too large")
        body = self.rfile.read(int(length))
        names = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        if CLASSIC:
            names = ["x-webhook-signature"]
        values = [self.headers.get(name, "") for name in names]
        if not all(values):
            return self.answer(400, "a signature header is missing")
        if CLASSIC:
            genuine = is_genuine_classic(SECRET, *values, body)
        else:
            genuine = is_genuine(SECRET, *values, body, time.time())
        if not genuine:
            return self.answer(401, "not genuine, or too old")
        key = hashlib.sha256(body).hexdigest() if CLASSIC else values[0]
        with lock:
            # Parse the body here, not before.
            said = "duplicate" if key in handled else "handled"
            print(f"{said} {key}\n", end="", flush=True)  # one write, or another thread's line comes between
            handled.add(key)
        return self.answer(204)

    def answer(self, status: int, reason: str = "") -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", str(len(reason)))
        self.end_headers()
        self.wfile.write(reason.encode())


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hook).serve_forever()
