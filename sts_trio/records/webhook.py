"""What is told of a call that has ended, and how it is signed: Standard Webhooks. Pure.

A receiver checks the signature with any library of https://www.standardwebhooks.com. It may be told
the same twice, and knows it by the header `webhook-id`, which is the same for each attempt.
Source: Standard Webhooks, "Specification", 1.0, read 2026-11-30.
"""

import datetime
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from standardwebhooks import Webhook

from sts_trio.observe import events
from sts_trio.records.record import Record

ENDED = events.CallEnded.NAME
# Receivers bound what they take; most at a megabyte or less. A talkative hour is a tenth of it.
MAX_BODY = 256 * 1024
# Seconds after each attempt that failed. Then it is dead, until somebody sends it again.
RETRIES = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0)
# Of a wait, at most so much more by chance: what failed together is not to come back together.
JITTER = 0.25


def webhook_id(call_sid: str, epoch: int, ending: str) -> str:
    """Whoever computes it, and however often: of this end of this call."""
    text = f"{epoch} {ending} {call_sid}".encode("utf-8", "replace")
    return f"msg_{hashlib.blake2b(text, digest_size=16).hexdigest()}"


def ended(record: Record, at: float) -> str:
    """The body: all that is kept of the call, but for its single events. `at` is when it ended."""
    data = {
        name: msgspec.to_builtins(getattr(record, name))
        for name in ("version", "call", "sessions", "turns", "functions", "losses", "notes")
    }
    body = _body(data, at)
    if len(body) > MAX_BODY:
        body = _body({**data, "turns": [], "functions": [], "left_out": "it was too long"}, at)
    return body


def _body(data: dict[str, Any], at: float) -> str:
    ended_at = datetime.datetime.fromtimestamp(at, datetime.UTC)
    told = {"type": ENDED, "timestamp": ended_at.isoformat(timespec="milliseconds"), "data": data}
    return msgspec.json.encode(told).decode()


def retry_after(attempts: int, chance: float) -> float | None:
    """Seconds until the next attempt, after so many; `None`: there is none. `chance` is from 0 to
    1."""
    if attempts > len(RETRIES):
        return None
    return RETRIES[attempts - 1] * (1 + JITTER * chance)


class Signer:
    """With several secrets there are as many signatures: a receiver may go from one to the next."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._webhooks = [Webhook(secret) for secret in secrets]

    def headers(self, webhook_id: str, body: str, now: float) -> dict[str, str]:
        """What goes with an attempt that is made now, in seconds since 1970."""
        at = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
        signatures = [webhook.sign(webhook_id, at, body) for webhook in self._webhooks]
        return {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": " ".join(signatures),
        }
