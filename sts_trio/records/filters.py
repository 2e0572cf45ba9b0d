"""Which calls are asked for, as people write it: in the query of a URL, or on the command line."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from math import isfinite

from sts_trio.errors import Cause, Verdict
from sts_trio.records.call_log import NEVER_ANSWERED, REFUSED
from sts_trio.records.lifecycle import LOST
from sts_trio.records.search import Wanted
from sts_trio.records.store import NO_STREAM
from sts_trio.wire.printable import quoted

TIME = (
    "a date like 2026-11-30, a time like 2026-11-30T09:30 or 2026-11-30T09:30Z, an age like 90m,"
    " 24h or 7d, or seconds since 1970"
)
_VERDICTS = [verdict.value for verdict in Verdict]
# Of a call: `docs/endings.md`, and what `docs/records.md` adds of those that had no stream.
_NO_CAUSE = {LOST, NO_STREAM, REFUSED} | NEVER_ANSWERED
ENDINGS = frozenset({cause.label for cause in Cause} | _NO_CAUSE)
_AGE = {"m": 60, "h": 3600, "d": 86400}
NAMES = ("since", "until", "number", "agent", "ending", "verdict", "words")


class BadFilter(ValueError):
    """One line: which one, what is expected, what was given."""


def read_wanted(given: Mapping[str, str], now: float, beside: Sequence[str] = ()) -> Wanted:
    """What `given` asks for, which may hold names of `beside`, and blank values. `now` is seconds
    since 1970, for ages.

    Raises:
        BadFilter: a time, an ending or a verdict is none, no time is between the two, or a name is
            none of these: misspelt it would choose nothing, and calls of all kinds be found.
    """
    for name in given:
        if name not in (*NAMES, *beside):
            *first, last = (*NAMES, *beside)
            raise BadFilter(f"expected {', '.join(first)} or {last}, got {quoted(name)}")
    since, until = _time(given, "since", now), _time(given, "until", now)
    if since is not None and until is not None and since >= until:
        raise BadFilter(
            f"until: expected a time behind since, {quoted(_text(given, 'since'))},"
            f" got {quoted(_text(given, 'until'))}"
        )
    number = _text(given, "number")
    return Wanted(
        since=since,
        until=until,
        number=None if number is None else with_plus(number),
        agent=_text(given, "agent"),
        ending=_ending(given),
        verdict=_verdict(given),
        words=_text(given, "words"),
    )


def with_plus(number: str) -> str:
    """As Twilio writes it. In a query a plus is a space, and people leave it out."""
    number = number.strip()
    return f"+{number}" if re.fullmatch("[1-9][0-9]{1,14}", number) else number


def _text(given: Mapping[str, str], name: str) -> str | None:
    return given.get(name, "").strip() or None


def _ending(given: Mapping[str, str]) -> str | None:
    """A typing error would find no call, and look like good news."""
    ending = _text(given, "ending")
    if ending is not None and ending not in ENDINGS:
        near = get_close_matches(ending, sorted(ENDINGS), n=1) or ["stop"]
        raise BadFilter(
            f"ending: expected one of docs/endings.md, such as {near[0]}, got {quoted(ending)}"
        )
    return ending


def _verdict(given: Mapping[str, str]) -> str | None:
    verdict = _text(given, "verdict")
    if verdict is not None and verdict not in _VERDICTS:
        known = f"{', '.join(_VERDICTS[:-1])} or {_VERDICTS[-1]}"
        raise BadFilter(f"verdict: expected {known}, got {quoted(verdict)}")
    return verdict


def _time(given: Mapping[str, str], name: str, now: float) -> float | None:
    """Without a zone it is this machine's."""
    text = _text(given, name)
    if text is None:
        return None
    if age := re.fullmatch("([0-9]{1,6})([mhd])", text):
        return now - int(age[1]) * _AGE[age[2]]
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            seconds = float("nan")
    if not isfinite(seconds):
        raise BadFilter(f"{name}: expected {TIME}, got {quoted(text)}")
    return seconds
