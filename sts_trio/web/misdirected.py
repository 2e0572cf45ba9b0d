"""Requests that no view gets, and what the cause most likely is. Pure.

Who sets up a number, a proxy or a tunnel sees only that the call fails, and looks into the log.
Scanners ask for any path there is: what does not look like Twilio, or like a path of ours that is
nearly right, is not worth a line.
"""

import difflib

from sts_trio.outbound.progress import AMD_PATH, STATUS_PATH, TWIML_PATH
from sts_trio.outbound.transfer import AFTER_PATH
from sts_trio.web.access import RequestInfo
from sts_trio.web.media import TWILIO_PATH
from sts_trio.wire import webhook

PATHS = (TWIML_PATH, AFTER_PATH, STATUS_PATH, AMD_PATH, TWILIO_PATH)
# Paths of scanners may be long, and a likeness takes time.
MAX_PATH = 200
# How like a path has to be to be a slip of the pen: "/twillio", "/voice-twiml".
ALIKE = 0.75

NO_UPGRADE = (
    "a stream's handshake without Upgrade: have the proxy pass on `Upgrade` and `Connection`, by"
    " HTTP/1.1 (nginx: proxy_http_version 1.1)"
)
WEBHOOK_AT_STREAM = f"{TWILIO_PATH} is for streams: have the number's voice webhook be {TWIML_PATH}"
STREAM_AT_WEBHOOK = f"a stream, at the path of a webhook: its <Stream url> is to be {TWILIO_PATH}"
NO_WEBHOOKS_METHOD = (
    "webhooks are asked for by POST or GET: have the number, and what stands before this server,"
    " say so"
)
NOT_OURS = (
    f"Twilio asks for what is not here: webhooks are at {TWIML_PATH}, streams at {TWILIO_PATH}"
)


def likely_cause(request: RequestInfo, path: str, *, is_websocket: bool) -> str | None:
    """Why nobody answers a request for `path` (decoded); None: nothing that we know of."""
    if not is_websocket and _is_below(path, TWILIO_PATH):
        return NO_UPGRADE if request.method == "GET" else WEBHOOK_AT_STREAM
    if is_websocket and path.rstrip("/") in PATHS:
        return STREAM_AT_WEBHOOK
    if request.root_path and not _is_below(path, request.root_path):
        return (
            f"this server is mounted at {request.root_path} (--root-path), and who asked has left"
            " that out: a proxy that takes it off needs none"
        )
    if path.rstrip("/") in PATHS:
        return NO_WEBHOOKS_METHOD
    if (prefix := _prefix(path)) is not None:
        return (
            f"a path below {prefix}: have the proxy take that off, or set STS_PUBLIC_URL to an"
            f" address that ends in {prefix}"
        )
    if len(path) <= MAX_PATH:
        lower = path.rstrip("/").lower()
        for alike in difflib.get_close_matches(lower, PATHS, n=1, cutoff=ALIKE):
            return f"there is no such path: did you mean {alike}?"
    return NOT_OURS if _is_of_twilio(request) else None


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _prefix(path: str) -> str | None:
    """What stands before one of our paths."""
    for ours in PATHS:
        before, found, after = path.partition(ours)
        if before and found and (not after or after.startswith("/")):
            return before
    return None


def _is_of_twilio(request: RequestInfo) -> bool:
    agent = request.headers.get("user-agent", "")
    return webhook.SIGNATURE_HEADER.lower() in request.headers or agent.startswith("Twilio")
