"""One call of a simulated carrier: it has a phone, and TwiML that is followed.

Theory of operation
-------------------
A call has a phone, from when it is answered until it is over, and a program: the TwiML that is in
force, followed verb by verb in a task of its own. Whoever takes the call elsewhere (the caller who
hangs up, REST) cancels the program, whose verb then tidies up: a stream is told `stop` and closed.
A new program begins, or the call is over. With `Unknowns.redirect_overlaps` the new program only
cancels the old one when its own stream is open: the newer stream wins.
"""

from collections.abc import Sequence
from typing import assert_never
from urllib.parse import urljoin

import msgspec
import trio

from sts_trio.audio import wav
from sts_trio.audio.frames import seconds
from sts_trio.audio.tones import tones
from sts_trio.simulate import twiml, webhook
from sts_trio.simulate.account import Account
from sts_trio.simulate.call_parties import CallParties
from sts_trio.simulate.call_placed import PlacedCall
from sts_trio.simulate.call_requests import Action, CallRequests, Source, Text, Url
from sts_trio.simulate.call_streams import CallStreams
from sts_trio.simulate.media_stream import Sids
from sts_trio.simulate.phone import Phone, Watch
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.placement import Callee, Placement
from sts_trio.simulate.report import report
from sts_trio.simulate.script import CallerScript, IsBusy, Step
from sts_trio.simulate.spoken import spoken
from sts_trio.simulate.webhook import NotAnswered, Numbers
from sts_trio.wire.addresses import INBOUND, OUTBOUND

# Of a file that is played: ten minutes of PCM in stereo.
MAX_AUDIO = 20 * 1024 * 1024
APPLICATION_ERROR = "We are sorry, an application error has occurred. Goodbye."

# Twilio's error: what was fetched is no audio.
NOT_PLAYED = 12300
NOT_FOLLOWED = 0  # of this carrier's own


class _Program:
    """TwiML being followed."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.is_over = trio.Event()


class Call:
    """A phone call. Run it once."""

    def __init__(
        self,
        account: Account,
        steps: Sequence[Step],
        limit: float,
        is_busy: IsBusy,
        watch: Watch | None,
        sids: Sids,
        numbers: Numbers,
        fallback: str,
        direction: str = INBOUND,
    ) -> None:
        self.sids = sids
        self.status = "ringing"
        self.ended_by = ""
        self._unknowns = account.unknowns
        # Nobody hangs up because it rings for long.
        script = CallerScript(steps, limit, lambda now: self._parties.are_rung or is_busy(now))
        self._phone = Phone(script, watch)
        self._action = Action()
        self._requests = CallRequests(account.webhooks)
        self._streams = CallStreams(account, self._phone, sids, self._requests)
        self._parties = CallParties(account, self._phone, numbers.from_, self._action)
        self._numbers = numbers
        self._fallback = fallback
        self._direction = direction
        self._is_answered = False
        self._program: _Program | None = None
        self._coming = 0  # programs that have not taken over yet
        self._over = trio.Event()
        self._nursery: trio.Nursery

    async def run(self, source: Source, status_callback: str = "") -> None:
        """Returns when the call is over, and all that is to be told of it was."""
        async with trio.open_nursery() as self._requests.nursery:
            async with trio.open_nursery() as self._nursery:
                self._start(source)
                await self._until_over()
            if status_callback:
                await self._requests.tell(status_callback, self._form() | self._outcome())

    async def run_placed(self, placement: Placement, callee: Callee | None) -> None:
        """The same for a call that was placed by REST, to somebody or to nobody known."""
        self.status = "queued"
        placed = PlacedCall(placement, callee, self._requests, self._form)
        async with trio.open_nursery() as self._requests.nursery:
            placed.tell("initiated", {"CallStatus": "initiated"})
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._ring_up, placed)
                await self._until_over()
            placed.tell_over(self.status, self._outcome())

    async def _until_over(self) -> None:
        await self._over.wait()
        self._nursery.cancel_scope.cancel()

    async def _ring_up(self, placed: PlacedCall) -> None:
        unanswered = await placed.ring(self._begin_to_ring)
        if unanswered is not None:
            await self._end("caller")
            self.status = unanswered
            return
        self._answer()
        self._start(await placed.answered(self._nursery))

    def _begin_to_ring(self) -> None:
        self.status = "ringing"

    def _outcome(self) -> dict[str, str]:
        duration = round(self._phone.now) if self._is_answered else 0
        return {"CallDuration": str(duration), "CallbackSource": "call-progress-events"}

    def told(self) -> PhoneCall:
        """All of a call that is over."""
        phone = self._phone
        began = phone.began if self._is_answered else trio.current_time()
        streams = tuple(
            msgspec.structs.replace(each, began=each.began - began, ended=each.ended - began)
            for each in self._streams.carried
        )
        last = next((each for each in reversed(streams) if each.ended_by != "refused"), None)
        return PhoneCall(
            call_sid=self.sids.call,
            status=self.status,
            ended_by=self.ended_by,
            report=report(
                phone,
                seconds=seconds(len(phone.earpiece.track)),
                refused=self._streams.refused,
                first_refusal=self._streams.first_refusal,
                closed_by=self.ended_by,
                close_code=None if last is None else last.close_code,
                call_sid=self.sids.call,
            ),
            requests=tuple(
                msgspec.structs.replace(each, at=each.at - began) for each in self._requests.made
            ),
            streams=streams,
            connected=tuple(
                msgspec.structs.replace(each, began=each.began - began)
                for each in self._parties.connected
            ),
            problems=tuple(
                msgspec.structs.replace(each, at=each.at - began)
                for each in self._requests.problems
            ),
        )

    # --- what takes the call elsewhere ------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return bool(self.ended_by)

    @property
    def stream_url(self) -> str:
        """Of the stream that the call has, or had last."""
        return self._streams.url

    def redirect(self, source: Source, fallback: str | None = None) -> None:
        """Other TwiML is to be followed from now on."""
        if fallback is not None:
            self._fallback = fallback
        self._start(source)

    def hang_up(self) -> None:
        """As the bridge asks by REST."""
        self._nursery.start_soon(self._end, "bridge")

    def _start(self, source: Source) -> None:
        self._coming += 1
        self._nursery.start_soon(self._execute, source)

    async def _talk(self) -> None:
        goodbye = await self._phone.talk()
        self._streams.vanished = goodbye.abruptly
        await self._end("caller")

    async def _end(self, by: str) -> None:
        if self.is_over:
            return
        is_rung_off = self._direction == OUTBOUND and not self._is_answered
        self.ended_by, self.status = by, "canceled" if is_rung_off else "completed"
        if (program := self._program) is not None:
            program.scope.cancel()
            await program.is_over.wait()
        action = self._action.pending
        if action is not None and self._unknowns.action_after_hang_up:
            await self._requests.tell(action.url, self._form() | action.fields, action.method)
        if self._is_answered:
            self._phone.earpiece.advance(self._phone.now)
        self._over.set()

    # --- TwiML ------------------------------------------------------------------------------------

    async def _execute(self, source: Source | None) -> None:
        program = _Program()
        overlaps = self._unknowns.redirect_overlaps and self._program is not None
        if not overlaps:
            await self._take_over(program)
        try:
            with program.scope:
                while source is not None:
                    steps, base = await self._document(source)
                    source = await self._follow(program, steps, base)
        finally:
            program.is_over.set()
        if program.scope.cancelled_caught or self.is_over:
            return
        if self._program is program and not self._coming:
            self._action.take()
            status = self.status if not self._is_answered else "completed"
            await self._end("bridge")
            self.status = status

    async def _take_over(self, program: _Program) -> None:
        """From now on this is what is followed. Returns when the older one is not, any more."""
        if self._program is program:
            return
        self._coming -= 1
        older, self._program = self._program, program
        if older is not None:
            older.scope.cancel()
            await older.is_over.wait()
        self._action.take()

    async def _document(self, source: Source) -> tuple[tuple[twiml.Step, ...], str]:
        """The steps of it, and what its URLs are relative to."""
        if isinstance(source, Text):
            try:
                return twiml.read(source.document.encode()), ""
            except twiml.NotTwiml as exc:
                self._requests.report(exc)
                return await self._fall_back(exc.code, "")
        try:
            return await self._fetch(source), source.url
        except (NotAnswered, twiml.NotTwiml) as exc:
            self._requests.report(exc)
            return await self._fall_back(exc.code, source.url)

    async def _fall_back(self, code: int, url: str) -> tuple[tuple[twiml.Step, ...], str]:
        if self._fallback:
            fields = {"ErrorCode": str(code), "ErrorUrl": url}
            try:
                return await self._fetch(Url(self._fallback, fields=fields)), self._fallback
            except (NotAnswered, twiml.NotTwiml) as exc:
                self._requests.report(exc)
        return (twiml.Say(APPLICATION_ERROR), twiml.Hangup()), ""

    async def _fetch(self, source: Url) -> tuple[twiml.Step, ...]:
        answer = await self._requests.ask(source.url, self._form() | source.fields, source.method)
        if answer.content_type.startswith("audio/"):
            return (twiml.Play(source.url), twiml.Hangup())
        return twiml.read(answer.body, answer.content_type)

    async def _follow(
        self, program: _Program, steps: Sequence[twiml.Step], base: str
    ) -> Source | None:
        """Where the document leads to; None: to its end."""
        for step in steps:
            if isinstance(step, twiml.Reject) and not self._is_answered:
                self.status = "busy" if step.reason == "busy" else "no-answer"
                return None
            if not isinstance(step, twiml.Connect):
                await self._take_over(program)
            self._answer()
            match step:
                case twiml.Hangup() | twiml.Reject():
                    return None
                case twiml.Redirect(url, method):
                    return Url(urljoin(base, url), method)
                case twiml.NotFollowed(tag):
                    self._requests.problem(
                        NOT_FOLLOWED, f"the simulated carrier does not follow <{tag}>"
                    )
                    return None
                case twiml.Say(text, loop):
                    await self._phone.announce(spoken(text).audio, text, loop)
                case twiml.Play():
                    await self._play(step, base)
                case twiml.Pause(duration):
                    await trio.sleep(duration)
                case twiml.Dial():
                    self._action.expect(step.action, step.method, base)
                    await self._parties.dial(step)
                    if (next_ := self._action.take()) is not None:
                        return next_
                case twiml.Enqueue():
                    self._action.expect(step.action, step.method, base)
                    await self._parties.enqueue(step)
                    if (next_ := self._action.take()) is not None:
                        return next_
                case twiml.Connect():
                    next_ = await self._connect(program, step, base)
                    if next_ is not None:
                        return next_
                case never_:
                    assert_never(never_)
        return None

    def _answer(self) -> None:
        """The first verb but `<Reject>` answers the call."""
        if not self._is_answered:
            self._is_answered = True
            self.status = "in-progress"
            self._phone.begin()
            self._nursery.start_soon(self._talk)

    async def _play(self, step: twiml.Play, base: str) -> None:
        if step.digits:
            await self._phone.play(tones(step.digits))
            return
        url = urljoin(base, step.url)
        try:
            answer = await self._requests.ask(url, {}, "GET", longest=MAX_AUDIO)
            audio = wav.parse(answer.body)
        except NotAnswered as exc:
            self._requests.report(exc)
        except wav.NotAWav as exc:
            self._requests.problem(NOT_PLAYED, f"<Play>: {exc}")
        else:
            await self._phone.announce(audio, "(plays a recording)", step.loop)

    # --- a stream ---------------------------------------------------------------------------------

    async def _connect(self, program: _Program, step: twiml.Connect, base: str) -> Url | None:
        url = urljoin(base, step.stream.url)
        if "://" not in step.stream.url:
            url = "ws" + url.removeprefix("http")
        callback = Url(
            urljoin(base, step.stream.status_callback) if step.stream.status_callback else "",
            step.stream.status_callback_method,
        )

        async def take_over() -> None:
            await self._take_over(program)
            self._action.expect(step.action, step.method, base)

        ended_by = await self._streams.carry(step.stream, url, callback, take_over)
        self._action.add(**self._unknowns.action_fields)
        action = self._action.take()
        asks = {
            "lost": self._unknowns.action_on_reset,
            "refused": self._unknowns.action_after_failed_handshake,
        }.get(ended_by, True)
        if action is None or not asks:
            return None
        await trio.sleep(self._unknowns.action_delay)
        return action

    # --- requests ---------------------------------------------------------------------------------

    def _form(self) -> dict[str, str]:
        sids = self.sids
        return webhook.form(
            sids.call, sids.account, self._numbers, status=self.status, direction=self._direction
        )
