"""The demonstration: three simulated calls at once, and what has to come of each.

The callers are synthetic: their clips are made by the offline agent's own voice, at another pitch.
"""

import functools
import http.client
import urllib.parse
from collections.abc import Callable

import msgspec
import trio

from sts_trio.offline import voice
from sts_trio.simulate.caller import NotConnected, place_call
from sts_trio.simulate.manners import (
    GREETING_PATIENCE,
    HangUp,
    Speak,
    Step,
    WaitForQuiet,
    WaitForSpeech,
    polite,
)
from sts_trio.simulate.phone import Moment
from sts_trio.simulate.report import Report, fault

CALLER_PITCH = 195.0

# What a caller would not complain about, in seconds. The offline agent takes half a second of
# silence for the end of a turn; the rest is the bridge's and this machine's.
GREETED_WITHIN = 2.0
ANSWERED_WITHIN = 1.5
# To notice speech takes 60 ms; the rest is two frames each way.
SILENT_WITHIN = 0.5

# A call that is over is gone from the server by then: its promise is 2 s.
GONE_WITHIN = 3.0
ASK_EVERY = 0.1

LIMIT = 60.0

Judge = Callable[[Report], str | None]


class Scenario(msgspec.Struct, frozen=True):
    """One call: its name, what the caller does, and why it did not go as it should, if so."""

    name: str
    steps: tuple[Step, ...]
    judge: Judge


class Outcome(msgspec.Struct, frozen=True):
    """`fault` is None if all went as it should; there is no report if there was no call."""

    name: str
    report: Report | None
    fault: str | None


def scenarios() -> list[Scenario]:
    looking = voice.say(
        "Hello. I am looking for a small car, and it should not cost much.", CALLER_PITCH
    )
    test_drive = voice.say("That sounds good. When could I see it?", CALLER_PITCH)
    wait = voice.say("Wait, wait. Is it red?", CALLER_PITCH)
    greeting = WaitForQuiet(GREETING_PATIENCE)
    return [
        Scenario("two turns", tuple(polite([looking, test_drive])), two_turns),
        Scenario(
            "barge-in",
            (greeting, Speak(looking), WaitForSpeech(1.5), Speak(wait), WaitForQuiet()),
            barge_in,
        ),
        Scenario(
            "hang-up",
            (greeting, Speak(looking), WaitForSpeech(1.0), HangUp()),
            hang_up,
        ),
    ]


def two_turns(report: Report) -> str | None:
    return _basics(report, turns=2) or _overdue(report, answers=2)


def barge_in(report: Report) -> str | None:
    if problem := _basics(report, turns=2):
        return problem
    if not report.talked_over:
        return "the agent was not speaking when the caller barged in"
    if report.talked_over[0] > SILENT_WITHIN:
        return f"the agent went on speaking for {report.talked_over[0]:.2f} s after the barge-in"
    if not report.clears:
        return "the bridge sent no clear"
    return _overdue(report, answers=2)


def hang_up(report: Report) -> str | None:
    problem = _basics(report, turns=1) or _overdue(report, answers=1)
    if problem is None and report.closed_by != "caller":
        return "the bridge hung up before the caller"
    return problem


def _basics(report: Report, *, turns: int) -> str | None:
    if problem := fault(report):
        return problem
    if report.refused:
        return f"Twilio would refuse a message: {report.first_refusal}"
    if len(report.turns) != turns:
        return f"the caller came to speak {len(report.turns)} times and not {turns}"
    first = report.first_agent_audio
    if first is None or first > GREETED_WITHIN:
        return f"the greeting came after {first:.1f} s" if first else "there was no greeting"
    return None


def _overdue(report: Report, *, answers: int) -> str | None:
    if len(report.waits) != answers:
        return f"the agent answered {len(report.waits)} times and not {answers}"
    slowest = max(report.waits)
    if slowest > ANSWERED_WITHIN:
        return f"an answer came {slowest:.1f} s after the caller had spoken"
    return None


async def run(base: str, watch: Callable[[str, Moment], None]) -> list[Outcome]:
    """Places all calls at once with the server at `base`; `watch` is told which one moves on."""
    outcomes: dict[str, Outcome] = {}
    plan = scenarios()
    url = "ws" + base.removeprefix("http") + "/twilio"

    async def place(scenario: Scenario) -> None:
        moves = functools.partial(watch, scenario.name)
        outcomes[scenario.name] = await _place(url, scenario, moves)

    async with trio.open_nursery() as nursery:
        for scenario in plan:
            nursery.start_soon(place, scenario)
    return [outcomes[scenario.name] for scenario in plan]


async def _place(url: str, scenario: Scenario, watch: Callable[[Moment], None]) -> Outcome:
    try:
        report = await place_call(url, scenario.steps, limit=LIMIT, watch=watch)
    except NotConnected as exc:
        return Outcome(scenario.name, None, str(exc))
    return Outcome(scenario.name, report, scenario.judge(report))


async def calls_left(base: str) -> int:
    """How many calls the server at `base` still has, once those that end have ended.

    Raises:
        NotConnected: it does not tell.
    """
    live = await _live_calls(base)
    for _ in range(round(GONE_WITHIN / ASK_EVERY)):
        if not live:
            break
        await trio.sleep(ASK_EVERY)
        live = await _live_calls(base)
    return live


async def _live_calls(base: str) -> int:
    try:
        return await trio.to_thread.run_sync(_ask_health, base)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as exc:
        raise NotConnected(f"{base}/healthz does not answer: {exc}") from exc


def _ask_health(base: str) -> int:
    parts = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=GONE_WITHIN)
    try:
        connection.request("GET", "/healthz")
        return msgspec.json.decode(connection.getresponse().read(), type=_Health).live
    finally:
        connection.close()


class _Health(msgspec.Struct):
    live: int
