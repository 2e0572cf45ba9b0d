"""What came of a call of `sts-trio call`: for people, and as JSON for machines."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sts_trio.commands.common import fail, say
from sts_trio.wire.printable import printable

if TYPE_CHECKING:
    from sts_trio.simulate.connect import NotConnected
    from sts_trio.simulate.phone_call import PhoneCall
    from sts_trio.simulate.report import Report
    from sts_trio.simulate.transcript import Line

NO_WEBSOCKET = (
    "nothing at this path takes calls: sts-trio's websocket is /twilio, and its webhook /twiml"
)
# What a bridge may mean by refusing a handshake, and what to do about it.
HINTS = {
    400: NO_WEBSOCKET,
    401: "the bridge wants a credential",
    403: "it serves Twilio only: give --signed and the TWILIO_AUTH_TOKEN that it has. If it has "
    "none, call it as the user who runs it, on its own machine, or with the ?key= that it told. "
    "With STS_BINS=0 only its webhook can be called, --url http://HOST/twiml. Its log says more",
    404: NO_WEBSOCKET,
    503: "all lines are busy, or it is shutting down",
}


def fail_refused(error: "NotConnected", as_json: bool) -> NoReturn:
    from sts_trio.simulate.report import Result

    hint = HINTS.get(error.status or 0)
    if os.strerror(errno.ECONNREFUSED) in str(error):
        hint = "nobody listens there: is `sts-trio serve` running?"
    reason = f"no call: {error}" + (f" ({hint})" if hint else "")
    if as_json:
        _print_json({"result": Result.NO_CALL.label, "fault": reason, "status": error.status})
    fail(reason, Result.NO_CALL.exit_status)


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def tell_outcome(
    report: "Report", call: "PhoneCall | None", target: Path, words: Path, why_not: str
) -> None:
    """Each step of a phone call, too, in order, a line each."""
    from rich.console import Console

    from sts_trio.simulate import screen

    console = Console()
    screen.show(console, screen.summary(report, console.encoding))
    if why_not:
        say(f"The agent's words are not known: {why_not}")
    say(f"Recording: {target}, transcript: {words}")
    if call is None:
        return
    for at, line in sorted(_steps(call)):
        say(f"{at:7.1f} s  {line}")
    say(f"The call is {call.status}, ended by the {call.ended_by}.")


def _steps(call: "PhoneCall") -> Iterator[tuple[float, str]]:
    for asked in call.requests:
        yield asked.at, f"request  {asked.url}" + (f": {asked.fault}" if asked.fault else "")
    for each in call.streams:
        until = f"until {each.ended:.1f} s, by the {each.ended_by}"
        yield each.began, f"stream   {each.url} {until}"
    for other in call.connected:
        yield other.began, f"dialled  {other.number}: {other.status}, {other.seconds:.1f} s"
    for problem in call.problems:
        yield problem.at, f"error    {problem.code}: {problem.reason}"


def print_outcome(
    report: "Report",
    call: "PhoneCall | None",
    lines: "Sequence[Line]",
    target: Path,
    words: Path,
) -> None:
    import msgspec

    facts = _report(report, target)
    facts["words"] = str(words)
    facts["transcript"] = msgspec.to_builtins(lines)
    if call is not None:
        facts["phone_call"] = _phone_call(call)
    _print_json(facts)


def _phone_call(call: "PhoneCall") -> dict[str, Any]:
    """The same for machines, without the report, which stands beside it."""
    import msgspec

    told = msgspec.to_builtins(call)
    del told["report"]
    for each in told["connected"]:
        del each["heard"]
    return {name: _rounded(value) for name, value in told.items()}


def _report(report: "Report", target: Path) -> dict[str, Any]:
    """The report for machines: all but the audio, which is in the recording."""
    import msgspec

    facts: dict[str, Any] = {"result": report.result.label, "fault": report.fault}
    facts["recording"] = str(target)
    for name, value in msgspec.to_builtins(report, str_keys=True).items():
        if name not in ("said", "heard", "began"):
            facts[name] = _rounded(value)
    return facts


def _rounded(value: Any) -> Any:
    """Seconds to the millisecond: what is beyond is the float's."""
    match value:
        case float():
            return round(value, 3)
        case list() | tuple():
            return [_rounded(each) for each in value]
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
    return value


def _print_json(facts: dict[str, Any]) -> None:
    import msgspec

    # Lines of its own; what is in it has none.
    click.echo(msgspec.json.format(msgspec.json.encode(printable(facts))).decode())
