"""`sts-trio dial`: has a running server call somebody, and tells what is said.

A client of `POST /calls` and `/calls/SID/events`, which does one thing after the other: no Trio.
"""

import contextlib
import http.client
import json
import re
import secrets
from collections.abc import Iterator
from time import monotonic
from typing import Any, NoReturn

import click
import msgspec

from sts_trio.commands.common import Command, Misuse, fail, own_server, pairs, say
from sts_trio.commands.operator import Operator, Unreachable, reason_of
from sts_trio.observe.events import (
    CallAnsweredBy,
    CallEnded,
    CallStarted,
    CallStatus,
    CallTranscript,
    Event,
    Level,
    read,
)
from sts_trio.wire.addresses import NUMBER
from sts_trio.wire.printable import quoted

# The call's turn in the line, and Twilio asked several times over.
ANSWER_TIMEOUT = 150.0
# The server says something every 15 s, if only that it is there.
SILENCE_TIMEOUT = 60.0
# Twilio ends a call after 24 hours at the latest.
LONGEST_CALL = 25 * 3600.0
# A phone rings for a minute at the most. Where nothing is heard of the call for longer, and there
# is no conversation, Twilio's callbacks do not reach the server.
LOST_AFTER = 120.0

OVER = {
    "completed": "Over.",
    "busy": "Busy.",
    "no-answer": "Not answered.",
    "failed": "Failed: the number could not be reached.",
    "canceled": "Cancelled.",
}
STATUS = {
    "initiated": "Dialling ...",
    "ringing": "Ringing ...",
    "in-progress": "Answered.",
    **OVER,
}
# What asking again does not mend.
_ASKED_WRONGLY = (400, 401, 403, 404, 405, 409, 413, 415)


@click.command(cls=Command, short_help="Have a running server call a number, and follow the call.")
@click.argument("number", metavar="+NUMBER")
@click.option("--agent", metavar="NAME", help="Who talks. [default: as for calls to our number]")
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Told to the agent."
)
@click.option(
    "--on-machine",
    type=click.Choice(["hang-up", "leave-message"]),
    default="hang-up",
    show_default=True,
    help="What to do when a machine answers; a message is left after the beep.",
)
@click.option("--message", metavar="TEXT", help="What to leave.")
@click.option(
    "--url",
    default=own_server("http://{}"),
    help="The server. [default: http://127.0.0.1:PORT, with 5000 where PORT is not set]",
)
@click.option("--idempotency-key", "key", metavar="KEY", help="The same key is the same call.")
@click.option("--follow/--no-follow", default=True, help="Tell what is said until the call ends.")
def dial(
    number: str,
    agent: str | None,
    parameters: tuple[str, ...],
    on_machine: str,
    message: str | None,
    url: str,
    key: str | None,
    follow: bool,
) -> None:
    """Have a running `sts-trio serve` call +NUMBER, and talk with whoever answers.

    The server needs TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, STS_CALLER_ID, STS_PUBLIC_URL, and
    STS_DIAL_PREFIXES that allow the number; this command needs the server's STS_ADMIN_TOKEN, from
    the environment or sts-trio.toml.

    Ends with status 1 if there was no conversation, or the agent or the server broke it off.
    """
    if key is not None and not re.fullmatch("[!-~]{1,255}", key):
        raise Misuse(
            f"--idempotency-key: expected 1 to 255 visible ASCII characters, got {quoted(key)}"
        )
    # The server would say so, too; but it may be away, or somebody else's.
    if not re.fullmatch(NUMBER, number):
        raise Misuse(f"expected a number like +15005550006, got {quoted(number)}")
    if (message is not None) != (on_machine == "leave-message"):
        raise Misuse("--message, --on-machine leave-message: expected both, or neither")
    order: dict[str, Any] = {"to": number, "on_machine": on_machine.replace("-", "_")}
    order |= {"agent": agent, "message": message, "parameters": pairs("--parameter", parameters)}
    server = _Server(url)
    try:
        call_sid = _place(server, order, key or secrets.token_urlsafe(16))
        say(f"Call {call_sid}")
        fault = _follow(server, call_sid, number) if follow else None
    except KeyboardInterrupt:
        say("What was asked for is not taken back: the call goes on.", err=True)
        raise
    except Unreachable as exc:
        fail(f"{server.url} cannot be reached: {exc}: is `sts-trio serve` running?")
    if fault is not None:
        fail(fault)


def _place(server: "_Server", order: dict[str, Any], key: str) -> str:
    try:
        status, answer = server.post("/calls", order, {"Idempotency-Key": key})
    except (OSError, http.client.HTTPException) as exc:
        _uncertain(f"{server.url}: no answer ({reason_of(exc)})", key)
    call_sid = answer.get("call_sid") if isinstance(answer, dict) else None
    if status == 201 and isinstance(call_sid, str) and re.fullmatch("[0-9A-Za-z]{1,64}", call_sid):
        return call_sid
    if not isinstance(answer, dict) or not isinstance(answer.get("error"), str):
        # A proxy that gave up does not know what became of it.
        answer = {"error": _why_no_answer(server, status), "uncertain": status >= 500}
    told = answer["error"]
    if answer.get("uncertain"):
        _uncertain(told, key)
    if status in _ASKED_WRONGLY:
        raise Misuse(told)
    fail(told)


def _why_no_answer(server: "_Server", status: int) -> str:
    """Of one that is not about the call: ours does not let us in, or it is no server of ours."""
    if status not in (401, 403):
        told = f"HTTP {status} from {server.url}"
        return told if status >= 500 else f"{told}: is that a `sts-trio serve`?"
    if server.has_token:
        return f"HTTP {status}: the server's STS_ADMIN_TOKEN is another than the one here"
    return f"HTTP {status}: give the STS_ADMIN_TOKEN that the server has; it may have none yet"


def _uncertain(reason: str, key: str) -> NoReturn:
    fail(
        f"{reason}. The call may have been placed. To ask for the same one, and for no second"
        f" call, add --idempotency-key {key}"
    )


# --- what is said ---------------------------------------------------------------------------------


def _follow(server: "_Server", call_sid: str, number: str) -> str | None:
    """Tells what happens, until the call is over. What went wrong with it, if anything did."""
    has_started = False
    heard_at = monotonic()
    try:
        for event in server.events(call_sid):
            if isinstance(event, _Alive):
                if not has_started and monotonic() - heard_at > LOST_AFTER:
                    return (
                        f"nothing is heard of the call: does STS_PUBLIC_URL lead to {server.url}?"
                        " The call may go on"
                    )
                continue
            heard_at = monotonic()
            if (words := _words(event, number)) is not None:
                say(words)
            match event:
                case CallStarted():
                    has_started = True
                case CallEnded():
                    blamed = event.level >= Level.WARNING
                    return f"the call ended: {event.ending}" if blamed else None
                # Twilio may say that it is over before the last of the conversation is told.
                case CallStatus(status) if status in OVER and not has_started:
                    return "there was no conversation"
    except (OSError, http.client.HTTPException) as exc:
        return f"{server.url}: cannot be followed any more ({reason_of(exc)}); the call may go on"
    return f"{server.url}: went away before the call ended"


def _words(event: "_Told", number: str) -> str | None:
    match event:
        case CallStatus(status):
            return STATUS.get(status)
        case CallAnsweredBy(by):
            return f"Answered by: {by.replace('_', ' ')}"
        case CallTranscript(role, text):
            return f"{number if role == 'user' else 'agent'}: {text}"
        case CallEnded(ending, _, detail, seconds):
            detail = f" ({detail})" if detail else ""
            return f"Ended after {seconds:g} s: {ending}{detail}"
        case _Missed(count):
            return f"... {count} events were missed ..."
    return None


# --- the server -----------------------------------------------------------------------------------


class _Alive(msgspec.Struct, frozen=True):
    """The server says that there is nothing to tell."""


class _Missed(msgspec.Struct, frozen=True):
    """So many events will not be told."""

    count: str


_Told = Event | _Alive | _Missed | None  # None: an event that this version does not know


class _Server(Operator):
    """What is asked of it here."""

    def post(
        self, path: str, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, dict[str, Any] | str]:
        """Status and answer: an object, or else text.

        Raises:
            OSError, http.client.HTTPException: no answer, which does not mean no.
        """
        headers = headers | {"Content-Type": "application/json"}
        with self.ask("POST", path, json.dumps(body), headers, ANSWER_TIMEOUT) as asked:
            text = asked.text()
        answer = _read(text)
        return asked.status, answer if isinstance(answer, dict) else text

    def events(self, call_sid: str) -> Iterator["_Told"]:
        """What happened in the call, and happens.

        Raises:
            OSError, http.client.HTTPException: it cannot be told any more.
        """
        path = f"/calls/{call_sid}/events"
        with self.ask("GET", path, None, {}, SILENCE_TIMEOUT) as asked:
            if asked.status != 200:
                raise http.client.HTTPException(f"HTTP {asked.status}")
            if asked.content_type not in ("text/event-stream", ""):
                raise http.client.HTTPException(f"{asked.content_type} is no stream of events")
            name = ""
            for line in asked.lines(SILENCE_TIMEOUT, LONGEST_CALL):
                field, _, value = line.decode(errors="replace").strip().partition(": ")
                if line.startswith(b":"):
                    yield _Alive()
                elif field == "event":
                    name = value
                elif field == "data" and name == "missed":
                    yield _Missed(value)
                elif field == "data":
                    yield _event(value)
                elif not field:
                    name = ""


def _read(text: str) -> Any:
    """What the JSON says; None where it is none, or nested deeper than anything of ours."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _event(text: str) -> Event | None:
    entry = _read(text)
    if isinstance(entry, dict):
        name, fields = entry.get("event"), entry.get("fields")
        if isinstance(name, str) and isinstance(fields, dict):
            with contextlib.suppress(msgspec.ValidationError):
                return read(name, fields)
    raise http.client.HTTPException("what it tells is no event of a call")
