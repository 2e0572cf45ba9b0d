"""What nobody knows of Twilio, asked of Twilio itself: a phone call for each few questions.

Theory of operation
-------------------
A call is placed by REST to a number at which somebody, or something, answers and stays for a while.
Its TwiML is ours, so is its stream, and both misbehave in one way: the connection is reset, a
handshake has no answer, a stream goes mute. What Twilio asks for then, and when, is the answer. It
is told in the fields of `simulate.unknowns.Unknowns`: a carrier made of them behaves as Twilio did,
and every bridge can be tried with it.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from xml.sax.saxutils import quoteattr

import msgspec
import trio

from sts_trio.audio.tones import tones
from sts_trio.doctor.site import Site, Stream, stay
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.simulate.unknowns import Unknowns
from sts_trio.wire import frames, twilio

# Until somebody has answered, and the stream is there.
ANSWERED_WITHIN = 75.0
# Twilio gives its webhooks 15 s.
ASKED_WITHIN = 20.0
# How long a connection is watched that shows no sign of life; and a handshake.
PATIENCE = 60.0
# Of each stream, before anything is done to it.
AT_FIRST = 1.0

BEGIN, ACTION, ON, STATUS, AMD, TOLD = (
    f"/doctor/{name}" for name in ("begin", "action", "on", "status", "amd", "stream-status")
)
MEDIA, SECOND, REFUSED, UNANSWERED = (
    f"/doctor/{name}" for name in ("media", "second", "refused", "unanswered")
)
# No field of `Unknowns`, but what everybody wants to know.
GAP = "gap"
HANG_UP = "<Response><Hangup/></Response>"


class Operator(Protocol):
    """Who, or what, is at the number that is called."""

    async def is_to_stay(self) -> None:
        """The next call is to be answered, and not hung up on."""

    async def is_to_hang_up(self) -> None:
        """The next call is to be hung up on when it has lasted for a few seconds."""

    async def has_heard_all(self, seconds: float) -> bool | None:
        """Whether the tones of the last call went on for so long; None: nobody knows."""


class Answer(msgspec.Struct, frozen=True):
    """`value` of a field of `Unknowns`; None if the call did not tell. `how` it was seen."""

    field: str
    value: Any
    how: str


class Examiner:
    """Places calls to `to`, and tells what they show."""

    def __init__(
        self, site: Site, rest: TwilioRest, operator: Operator, *, to: str, from_: str
    ) -> None:
        self.site = site
        self.rest = rest
        self.operator = operator
        self.to = to
        self.from_ = from_
        self.call_sid = ""

    async def begin(self, twiml: str) -> None:
        """A call that goes on with this when it is answered."""
        self.site.replies[BEGIN] = [twiml]
        self.site.replies.setdefault(ACTION, [HANG_UP])
        self.site.replies.setdefault(ON, [HANG_UP])
        for path in (STATUS, AMD, TOLD):
            self.site.replies[path] = [204]
        base = self.site.base
        placed = await self.rest.create_call(
            to=self.to,
            from_=self.from_,
            url=base + BEGIN,
            status_callback=base + STATUS,
            amd_callback=base + AMD,
        )
        self.call_sid = placed.call_sid

    async def stream(self) -> Stream | None:
        """The call's stream, when it has begun."""
        site = self.site
        await site.wait(lambda: site.streams and site.streams[0].sid, ANSWERED_WITHIN)
        return site.streams[0] if site.streams else None

    async def end(self) -> None:
        """The call is over when this returns, or Twilio does not tell so."""
        await self.rest.hang_up(self.call_sid)
        await self.site.wait(self._is_over, ASKED_WITHIN)

    def _is_over(self) -> bool:
        return any(
            hit.fields.get("CallStatus") in ("completed", "canceled", "busy", "failed", "no-answer")
            for hit in self.site.hits
            if hit.path == STATUS
        )

    def twiml(
        self, path: str = MEDIA, *, action: str = ACTION, then: str = f"<Redirect>{ON}</Redirect>"
    ) -> str:
        """Streams the call to that path. Without an action, or when it is not asked, `then`."""
        base = self.site.base
        scheme, _, rest = base.partition("://")
        media = f"{'wss' if scheme == 'https' else 'ws'}://{rest}{path}"
        return (
            f"<Response><Connect action={quoteattr(base + action)}>"
            f"<Stream url={quoteattr(media)} statusCallback={quoteattr(base + TOLD)}/></Connect>"
            f"{then.replace(ON, base + ON)}</Response>"
        )


Experiment = Callable[[Examiner], Awaitable[list[Answer]]]


async def closed(examiner: Examiner) -> list[Answer]:
    """The stream is closed with 1000."""
    site = examiner.site
    closed_at = math.inf

    async def close(stream: Stream) -> None:
        nonlocal closed_at
        await trio.sleep(AT_FIRST)
        closed_at = trio.current_time()
        await stream.close(1000)

    site.behaviours[MEDIA] = close
    site.replies[ACTION] = [500, HANG_UP]  # so that it is asked again
    await examiner.begin(examiner.twiml(action=f"{ACTION}#rc=2&rp=all"))
    if await examiner.stream() is None:
        return []
    await site.wait(lambda: site.hit(ACTION), ASKED_WITHIN)
    await site.wait(lambda: _times(site, ACTION) > 1, ASKED_WITHIN)
    await site.wait(lambda: _stopped(site), ASKED_WITHIN)
    answers = []
    asked = [each for each in site.hits if each.path == ACTION]
    begun = site.hit(BEGIN)
    if asked and begun is not None:
        new = {name: each for name, each in asked[0].fields.items() if name not in begun.fields}
        delay = asked[0].at - closed_at
        answers += [
            Answer("action_delay", delay, "from our close to the request of the action"),
            Answer("action_fields", new, "fields of the action that the first request had not"),
        ]
    if len(asked) > 1:
        answers.append(Answer("retry_pause", asked[1].at - asked[0].at, "between two attempts"))
    if (stopped := _stopped(site)) is not None:
        told = "from our close to stream-stopped"
        answers.append(Answer("status_callback_delay", stopped - closed_at, told))
    return answers


def _times(site: Site, path: str) -> int:
    return sum(each.path == path for each in site.hits)


def _stopped(site: Site) -> float | None:
    """When it was told that the stream was over."""
    told = (each for each in site.hits if each.path == TOLD)
    return next((each.at for each in told if each.fields["StreamEvent"] == "stream-stopped"), None)


async def reset(examiner: Examiner) -> list[Answer]:
    """The stream's connection is reset, as by a process that is killed."""

    async def lose(stream: Stream) -> None:
        await trio.sleep(AT_FIRST)
        await stream.reset()

    site = examiner.site
    site.behaviours = {MEDIA: lose, SECOND: stay}
    site.replies = {path: [examiner.twiml(SECOND)] for path in (ACTION, ON)}
    await examiner.begin(examiner.twiml())
    first = await examiner.stream()
    if first is None:
        return []
    answers = await _next_asked(examiner, "action_on_reset")
    await site.wait(lambda: len(site.streams) > 1 and site.streams[1].sid, ASKED_WITHIN)
    if len(site.streams) > 1 and first.ended is not None:
        away = site.streams[1].opened - first.ended
        answers.append(Answer(GAP, away, "from the reset to the next stream: a caller's silence"))
    return answers


async def refused(examiner: Examiner) -> list[Answer]:
    """The stream's handshake is answered with 500."""
    examiner.site.refusals[REFUSED] = 500
    await examiner.begin(examiner.twiml(REFUSED))
    if not await examiner.site.wait(lambda: examiner.site.hit(BEGIN), ANSWERED_WITHIN):
        return []
    return await _next_asked(examiner, "action_after_failed_handshake")


async def _next_asked(examiner: Examiner, field: str) -> list[Answer]:
    site = examiner.site
    await site.wait(lambda: site.hit(ACTION, ON), ASKED_WITHIN)
    asked = site.hit(ACTION, ON)
    if asked is None:
        return [Answer(field, None, f"nothing was asked in {ASKED_WITHIN:g} s: the call is over")]
    is_action = asked.path == ACTION
    what = "the action" if is_action else "the verb behind <Connect>"
    return [Answer(field, is_action, f"asked next: {what}")]


async def unanswered(examiner: Examiner) -> list[Answer]:
    """The stream's handshake is not answered at all."""
    site = examiner.site
    site.refusals[UNANSWERED] = None
    await examiner.begin(examiner.twiml(UNANSWERED))
    if not await site.wait(lambda: site.held, ANSWERED_WITHIN):
        return []
    [held] = site.held[:1]
    await site.wait(lambda: held.ended is not None, PATIENCE)
    waited = math.inf if held.ended is None else held.ended - held.opened
    return [Answer("handshake_timeout", waited, "until the connection was closed")]


async def mute(examiner: Examiner) -> list[Answer]:
    """The stream goes mute: its connection stays, and nothing is answered, no ping either."""
    site = examiner.site

    async def be_mute(stream: Stream) -> None:
        stream.is_mute = True

    site.behaviours[MEDIA] = be_mute
    await examiner.begin(examiner.twiml())
    stream = await examiner.stream()
    if stream is None:
        return []
    began = trio.current_time()
    if not await site.wait(lambda: stream.ended is not None, PATIENCE):
        told = f"no sign of life for {PATIENCE:g} s, and it stayed open"
        return [Answer("notices_silence_after", math.inf, told)]
    pinged = stream.first(frames.Ping)
    assert stream.ended is not None
    since, what = (began, "it was mute") if pinged is None else (pinged, "a ping had no answer")
    return [Answer("notices_silence_after", stream.ended - since, f"closed after {what}")]


async def redirected(examiner: Examiner) -> list[Answer]:
    """Other TwiML is given by REST, with a stream of its own, while audio is being played."""
    site = examiner.site
    site.behaviours = {MEDIA: stay, SECOND: stay}
    await examiner.begin(examiner.twiml())
    first = await examiner.stream()
    if first is None:
        return []
    await first.play(tones("1" * 40), "unreached")  # eight seconds
    await trio.sleep(AT_FIRST)
    await examiner.rest.redirect(examiner.call_sid, examiner.twiml(SECOND))
    await site.wait(lambda: len(site.streams) > 1 and site.streams[1].sid, ASKED_WITHIN)
    await site.wait(lambda: first.ended is not None, ASKED_WITHIN)
    marked, stopped = first.first(twilio.Mark), first.first(twilio.Stop)
    if stopped is None:
        return []
    answers = [
        Answer("echoes_marks_at_stop", marked is not None and marked <= stopped, "before stop")
    ]
    if len(site.streams) > 1:
        second = site.streams[1]
        told = f"the second stream came {second.opened - stopped:+.2f} s after the first's stop"
        answers.append(Answer("redirect_overlaps", second.beside > 0, told))
    return answers


async def played_out(examiner: Examiner) -> list[Answer]:
    """The stream is closed while eight seconds of tones are being played."""
    seconds = 8.0

    async def close(stream: Stream) -> None:
        await stream.play(tones("1" * round(seconds / 0.2)), "end")
        await trio.sleep(AT_FIRST)
        await stream.close(1000)

    site = examiner.site
    site.behaviours[MEDIA] = close
    site.replies[ACTION] = ['<Response><Pause length="10"/><Hangup/></Response>']
    await examiner.begin(examiner.twiml())
    if await examiner.stream() is None:
        return []
    await site.wait(lambda: site.hit(ACTION), ASKED_WITHIN)
    await trio.sleep(seconds)
    heard = await examiner.operator.has_heard_all(seconds)
    return [] if heard is None else [Answer("plays_out_after_close", heard, "by who was called")]


async def hung_up(examiner: Examiner) -> list[Answer]:
    """Who was called hangs up."""
    site = examiner.site
    site.behaviours[MEDIA] = stay
    await examiner.operator.is_to_hang_up()
    await examiner.begin(examiner.twiml())
    stream = await examiner.stream()
    if stream is None:
        return []
    await site.wait(lambda: stream.first(twilio.Stop), ANSWERED_WITHIN)
    if stream.first(twilio.Stop) is None:
        return []
    is_asked = await site.wait(lambda: site.hit(ACTION), ASKED_WITHIN)
    return [Answer("action_after_hang_up", is_asked, "asked when they had hung up")]


# {experiment: the fields that it tells}
EXPERIMENTS: Mapping[Experiment, tuple[str, ...]] = {
    closed: ("action_delay", "action_fields", "retry_pause", "status_callback_delay"),
    reset: ("action_on_reset", GAP),
    refused: ("action_after_failed_handshake",),
    unanswered: ("handshake_timeout",),
    mute: ("notices_silence_after",),
    redirected: ("redirect_overlaps", "echoes_marks_at_stop"),
    played_out: ("plays_out_after_close",),
    hung_up: ("action_after_hang_up",),
}


async def examine(examiner: Examiner, experiment: Experiment) -> list[Answer]:
    """The answers of one call; those that it does not give are None."""
    examiner.site.clear()
    await examiner.operator.is_to_stay()
    answers = {each.field: each for each in await experiment(examiner)}
    await examiner.end()
    nothing = "the call did not tell"
    return [answers.get(field, Answer(field, None, nothing)) for field in EXPERIMENTS[experiment]]


def unknowns(answers: list[Answer]) -> Unknowns:
    """A carrier that behaves so; as is likeliest, where there was no answer."""
    fields = Unknowns.__struct_fields__
    known = {each.field: each.value for each in answers if each.field in fields}
    known = {field: value for field, value in known.items() if value is not None}
    return Unknowns(**known)
