"""One call of a simulated carrier: it has a phone, and TwiML that is followed.

Theory of operation
-------------------
A call has a phone, from when it is answered until it is over, and a program: the TwiML that is in
force, followed verb by verb in a task of its own. Whoever takes the call elsewhere (the caller who
hangs up, REST) cancels the program, whose verb then tidies up: a stream is told `stop` and closed.
A new program begins, or the call is over. With `Unknowns.redirect_overlaps` the new program only
cancels the old one when its own stream is open: the newer stream wins.
"""

import contextlib
import math
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never
from urllib.parse import urljoin

import msgspec
import trio
import trio_websocket

from sts_trio.audio import wav
from sts_trio.audio.frames import seconds
from sts_trio.audio.tones import tones
from sts_trio.simulate import twiml, webhook
from sts_trio.simulate.connect import (
    WEBSOCKET,
    NotAUrl,
    NotConnected,
    connect,
    host_of,
    key_for,
    parts_of,
    target_of,
)
from sts_trio.simulate.http import Answer
from sts_trio.simulate.media_stream import GOODBYE_TIMEOUT, MediaStream, Sids
from sts_trio.simulate.phone import Phone, Watch
from sts_trio.simulate.phone_call import Connected, PhoneCall, Problem, Requested, Streamed
from sts_trio.simulate.placement import Callee, Placement
from sts_trio.simulate.report import LOST, report
from sts_trio.simulate.script import CallerScript, IsBusy, Step
from sts_trio.simulate.spoken import spoken
from sts_trio.simulate.webhook import NotAnswered, Numbers
from sts_trio.simulate.websocket import websocket
from sts_trio.wire.printable import quoted

if TYPE_CHECKING:
    from sts_trio.simulate.carrier import Carrier

# Of a file that is played: ten minutes of PCM in stereo.
MAX_AUDIO = 20 * 1024 * 1024
APPLICATION_ERROR = "We are sorry, an application error has occurred. Goodbye."
# "loop=0": until the call is over, which Twilio takes to be a thousand times.
ENDLESS = 1000

# Twilio's errors: a stream's connection was lost, and what was fetched is no audio.
BROKEN, NOT_PLAYED = 31903, 12300
NOT_FOLLOWED = 0  # of this carrier's own

# Twilio's words for which way a call goes.
INBOUND, OUTBOUND = "inbound", "outbound-api"
# {what became of a call that nobody answered: the SIP response that told}
_SIP = {"busy": "486", "failed": "404", "no-answer": "487", "canceled": "487"}


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whom a call may be connected to: by `<Dial>`, or out of a queue."""

    answers_after: float = 2.0  # seconds; `math.inf`: nobody is there
    is_busy: bool = False
    says: bytes = b""  # µ-law, when they answer
    talks: float = 5.0  # seconds until they hang up, unless the caller does


class Url(msgspec.Struct, frozen=True):
    """TwiML that is to be asked for, with these fields beside those of any request."""

    url: str
    method: str = "POST"
    fields: dict[str, str] = {}


class Text(msgspec.Struct, frozen=True):
    """TwiML as it is."""

    document: str


Source = Url | Text


# A connection that is kept open, and what to set when it need not be any more.
_Held = tuple[trio_websocket.WebSocketConnection, trio.abc.Stream, trio.Event]


class _Program:
    """TwiML being followed."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.is_over = trio.Event()


class _Talk:
    """The line to somebody else, from when it was asked for."""

    def __init__(self, status: str) -> None:
        self.began = trio.current_time()
        self.status = status  # as long as nothing else becomes of it
        self.since: float | None = None  # both talk
        self.seconds = 0.0
        self.heard = bytearray()

    async def carry(self, frame: bytes, keys: str, reached: list[str]) -> None:
        self.heard += frame


class _Progress:
    """Tells how a call that was placed comes along, as far as it was asked for."""

    def __init__(
        self, placement: Placement, tell: Callable[[Placement, dict[str, str]], None]
    ) -> None:
        self._placement = placement
        self._tell = tell
        self._sequence = 0

    def tell(self, event: str, fields: dict[str, str] | None = None) -> None:
        wanted = self._placement
        if wanted.status_callback and event in wanted.events:
            self._tell(wanted, {"SequenceNumber": str(self._sequence), **(fields or {})})
        self._sequence += 1


class Call:
    """A phone call. Run it once."""

    def __init__(
        self,
        carrier: "Carrier",
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
        self._carrier = carrier
        self._unknowns = carrier.unknowns
        # Nobody hangs up because it rings for long.
        script = CallerScript(steps, limit, lambda now: self._is_waiting or is_busy(now))
        self._phone = Phone(script, watch)
        self._is_waiting = False
        self._numbers = numbers
        self._fallback = fallback
        self._direction = direction
        self._is_answered = False
        self._vanished = False
        self._program: _Program | None = None
        self._coming = 0  # programs that have not taken over yet
        self._action: Url | None = None  # of the verb that is being followed
        self._over = trio.Event()
        self._requests: list[Requested] = []  # their times are Trio's, as those below
        self._streams: list[Streamed] = []
        self._connected: list[Connected] = []
        self._problems: list[Problem] = []
        self._refused: dict[int, int] = {}
        self._first_refusal = ""
        self._nursery: trio.Nursery
        self._callbacks: trio.Nursery

    async def run(self, source: Source, status_callback: str = "") -> None:
        """Returns when the call is over, and all that is to be told of it was."""
        async with trio.open_nursery() as self._callbacks:
            async with trio.open_nursery() as self._nursery:
                self._start(source)
                await self._until_over()
            if status_callback:
                await self._tell(status_callback, self._form() | self._outcome())

    async def run_placed(self, placement: Placement, callee: Callee | None) -> None:
        """The same for a call that was placed by REST, to somebody or to nobody known."""
        self.status = "queued"
        progress = _Progress(placement, self._tell_progress)
        async with trio.open_nursery() as self._callbacks:
            progress.tell("initiated", {"CallStatus": "initiated"})
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._ring_up, placement, callee, progress)
                await self._until_over()
            sip = {"SipResponseCode": _SIP.get(self.status, "200")}
            progress.tell("completed", self._outcome() | sip)

    async def _until_over(self) -> None:
        await self._over.wait()
        self._nursery.cancel_scope.cancel()

    async def _ring_up(
        self, placement: Placement, callee: Callee | None, progress: "_Progress"
    ) -> None:
        if callee is None or callee.is_busy:
            await self._end_unanswered("failed" if callee is None else "busy")
            return
        self.status = "ringing"
        progress.tell("ringing")
        await trio.sleep(min(callee.answers_after, placement.timeout))
        if callee.answers_after > placement.timeout:
            await self._end_unanswered("no-answer")
            return
        self._answer()
        progress.tell("answered")
        known: dict[str, str] = {}
        if placement.detects and placement.amd_callback:
            self._nursery.start_soon(self._tell_answerer, placement, callee)
        elif placement.detects:
            await trio.sleep(callee.known_after)
            known = {"AnsweredBy": callee.answered_by}
        if placement.twiml:
            self._start(Text(placement.twiml))
        else:
            self._start(Url(placement.url, placement.method, known))

    async def _end_unanswered(self, status: str) -> None:
        await self._end("caller")
        self.status = status

    async def _tell_answerer(self, placement: Placement, callee: Callee) -> None:
        await trio.sleep(callee.known_after)
        fields = {
            "AccountSid": self.sids.account,
            "CallSid": self.sids.call,
            "AnsweredBy": callee.answered_by,
            "MachineDetectionDuration": str(round(callee.known_after * 1000)),
        }
        await self._tell(placement.amd_callback, fields, placement.amd_callback_method)

    def _tell_progress(self, placement: Placement, fields: dict[str, str]) -> None:
        told = self._form() | fields
        url, method = placement.status_callback, placement.status_callback_method
        self._callbacks.start_soon(self._tell, url, told, method)

    def _outcome(self) -> dict[str, str]:
        duration = round(self._phone.now) if self._is_answered else 0
        return {"CallDuration": str(duration), "CallbackSource": "call-progress-events"}

    def told(self) -> PhoneCall:
        """All of a call that is over."""
        phone = self._phone
        began = phone.began if self._is_answered else trio.current_time()
        streams = tuple(
            msgspec.structs.replace(each, began=each.began - began, ended=each.ended - began)
            for each in self._streams
        )
        last = next((each for each in reversed(streams) if each.ended_by != "refused"), None)
        return PhoneCall(
            call_sid=self.sids.call,
            status=self.status,
            ended_by=self.ended_by,
            report=report(
                phone,
                seconds=seconds(len(phone.earpiece.track)),
                refused=self._refused,
                first_refusal=self._first_refusal,
                closed_by=self.ended_by,
                close_code=None if last is None else last.close_code,
                call_sid=self.sids.call,
            ),
            requests=tuple(
                msgspec.structs.replace(each, at=each.at - began) for each in self._requests
            ),
            streams=streams,
            connected=tuple(
                msgspec.structs.replace(each, began=each.began - began) for each in self._connected
            ),
            problems=tuple(
                msgspec.structs.replace(each, at=each.at - began) for each in self._problems
            ),
        )

    # --- what takes the call elsewhere ------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        return bool(self.ended_by)

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
        self._vanished = goodbye.abruptly
        await self._end("caller")

    async def _end(self, by: str) -> None:
        if self.is_over:
            return
        is_rung_off = self._direction == OUTBOUND and not self._is_answered
        self.ended_by, self.status = by, "canceled" if is_rung_off else "completed"
        if (program := self._program) is not None:
            program.scope.cancel()
            await program.is_over.wait()
        action = self._action
        if action is not None and self._unknowns.action_after_hang_up:
            await self._tell(action.url, self._form() | action.fields, action.method)
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
            self._action = None
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
        self._action = None

    async def _document(self, source: Source) -> tuple[tuple[twiml.Step, ...], str]:
        """The steps of it, and what its URLs are relative to."""
        if isinstance(source, Text):
            try:
                return twiml.read(source.document.encode()), ""
            except twiml.NotTwiml as exc:
                self._report(exc)
                return await self._fall_back(exc.code, "")
        try:
            return await self._fetch(source), source.url
        except (NotAnswered, twiml.NotTwiml) as exc:
            self._report(exc)
            return await self._fall_back(exc.code, source.url)

    async def _fall_back(self, code: int, url: str) -> tuple[tuple[twiml.Step, ...], str]:
        if self._fallback:
            fields = {"ErrorCode": str(code), "ErrorUrl": url}
            try:
                return await self._fetch(Url(self._fallback, fields=fields)), self._fallback
            except (NotAnswered, twiml.NotTwiml) as exc:
                self._report(exc)
        return (twiml.Say(APPLICATION_ERROR), twiml.Hangup()), ""

    async def _fetch(self, source: Url) -> tuple[twiml.Step, ...]:
        answer = await self._ask(source.url, self._form() | source.fields, source.method)
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
                    self._problem(NOT_FOLLOWED, f"the simulated carrier does not follow <{tag}>")
                    return None
                case twiml.Say(text, loop):
                    await self._sound(spoken(text).audio, loop)
                case twiml.Play():
                    await self._play(step, base)
                case twiml.Pause(duration):
                    await trio.sleep(duration)
                case twiml.Dial():
                    next_ = await self._dial(step, base)
                    if next_ is not None:
                        return next_
                case twiml.Enqueue():
                    next_ = await self._enqueue(step, base)
                    if next_ is not None:
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

    async def _sound(self, audio: bytes, loop: int = 1) -> None:
        """The caller hears this, to its end."""
        phone = self._phone
        for _ in range(loop or ENDLESS):
            phone.earpiece.play(audio, phone.now)
            try:
                await trio.sleep(seconds(len(audio)))
            except trio.Cancelled:
                phone.earpiece.drop(phone.now)
                raise

    async def _play(self, step: twiml.Play, base: str) -> None:
        if step.digits:
            await self._sound(tones(step.digits))
            return
        url = urljoin(base, step.url)
        try:
            answer = await self._ask(url, {}, "GET", longest=MAX_AUDIO)
            audio = wav.parse(answer.body)
        except NotAnswered as exc:
            self._report(exc)
        except wav.NotAWav as exc:
            self._problem(NOT_PLAYED, f"<Play>: {exc}")
        else:
            await self._sound(audio, step.loop)

    # --- somebody else ----------------------------------------------------------------------------

    async def _dial(self, dial: twiml.Dial, base: str) -> Url | None:
        known = {number: self._carrier.parties.get(number) for number in dial.numbers}
        there = {number: party for number, party in known.items() if party and not party.is_busy}
        self._acting(dial.action, dial.method, base)
        first = dial.numbers[0] if dial.numbers else ""
        number = min(there, key=lambda each: there[each].answers_after, default=first)
        caller_id = dial.caller_id or self._numbers.from_
        status = "busy" if any(known.values()) else "failed"
        talk = _Talk(status)
        try:
            async with self._talking(talk, number, caller_id):
                if number in there:
                    talk.status = "canceled"
                    is_answered = await self._ring(there[number], dial.timeout)
                    talk.status = "no-answer"
                    if is_answered:
                        talk.status = "completed"
                        await self._hear_party(talk, there[number], dial.time_limit)
        finally:
            self._tell_action(
                DialCallStatus=talk.status,
                DialCallSid=f"CA{uuid.uuid4().hex}",
                DialCallDuration=str(round(talk.seconds)),
            )
        return self._acted()

    async def _enqueue(self, enqueue: twiml.Enqueue, base: str) -> Url | None:
        party = self._carrier.queues.get(enqueue.queue, Party(answers_after=math.inf))
        self._acting(enqueue.action, enqueue.method, base)
        talk = _Talk("hangup")
        try:
            async with self._talking(talk, enqueue.queue, self._numbers.from_):
                await self._ring(party, math.inf)
                talk.status = "bridged"
                await self._hear_party(talk, party, math.inf)
        finally:
            until = trio.current_time() if talk.since is None else talk.since
            self._tell_action(
                QueueResult=talk.status,
                QueueSid=f"QU{uuid.uuid4().hex}",
                QueueTime=str(round(until - talk.began)),
            )
        return self._acted()

    @contextlib.asynccontextmanager
    async def _talking(self, talk: _Talk, who: str, caller_id: str) -> AsyncIterator[None]:
        """What becomes of it is kept, whoever ends it."""
        try:
            yield
        finally:
            if self._phone.line is talk:
                self._phone.line = None
            if talk.since is not None:
                talk.seconds = trio.current_time() - talk.since
            heard = bytes(talk.heard)
            self._connected.append(
                Connected(who, talk.status, talk.began, talk.seconds, caller_id, heard)
            )

    async def _ring(self, party: Party, most: float) -> bool:
        """Whether they answer; meanwhile the caller hears it ring, or music."""
        self._is_waiting = True
        try:
            await trio.sleep(min(party.answers_after, most))
        finally:
            self._is_waiting = False
        return party.answers_after <= most

    async def _hear_party(self, talk: _Talk, party: Party, most: float) -> None:
        talk.since = trio.current_time()
        self._phone.line = talk
        with trio.move_on_after(most):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sound, party.says)
                await trio.sleep(party.talks)
                nursery.cancel_scope.cancel()

    def _acting(self, action: str, method: str, base: str) -> None:
        """What is asked when the verb ends, also if that is because the caller hangs up."""
        self._action = Url(urljoin(base, action), method) if action else None

    def _tell_action(self, **fields: str) -> None:
        """It is told this, too."""
        if self._action is not None:
            self._action = msgspec.structs.replace(self._action, fields=fields)

    def _acted(self) -> Url | None:
        """The verb has ended by itself: its action, which is to be asked now."""
        action, self._action = self._action, None
        return action

    # --- a stream ---------------------------------------------------------------------------------

    async def _connect(self, program: _Program, step: twiml.Connect, base: str) -> Url | None:
        url = urljoin(base, step.stream.url)
        if "://" not in step.stream.url:
            url = "ws" + url.removeprefix("http")
        callback = Url(
            urljoin(base, step.stream.status_callback) if step.stream.status_callback else "",
            step.stream.status_callback_method,
        )
        ended_by = await self._stream(program, step, url, base, callback)
        self._tell_action(**self._unknowns.action_fields)
        action = self._acted()
        asks = {
            "lost": self._unknowns.action_on_reset,
            "refused": self._unknowns.action_after_failed_handshake,
        }.get(ended_by, True)
        if action is None or not asks:
            return None
        await trio.sleep(self._unknowns.action_delay)
        return action

    async def _stream(
        self, program: _Program, step: twiml.Connect, url: str, base: str, callback: Url
    ) -> str:
        """Who ended it; see `Streamed`."""
        opened = trio.current_time()
        ended_by = "refused"
        try:
            socket, stream, is_done = await self._callbacks.start(self._hold_open, url)
            try:
                await self._take_over(program)
                self._acting(step.action, step.method, base)
                media = MediaStream(
                    socket,
                    stream,
                    self._phone,
                    step.stream.parameters | self._carrier.parameters,
                    self.sids,
                )
                ended_by = await self._media(media, url, step.stream.name, callback)
            finally:
                is_done.set()
        except NotConnected as exc:
            await self._take_over(program)
            self._acting(step.action, step.method, base)
            reason = str(exc)
            if isinstance(exc, NotAUrl):  # not what was asked for, but what the webhook answers
                reason = f"the webhook has the call streamed to {quoted(url)}"
            self._problem(exc.code, reason, exc.status)
            now = trio.current_time()
            self._streams.append(Streamed("", url, opened, now, "refused", None))
            self._tell_stream(callback, "", step.stream.name, "stream-error", reason)
        return ended_by

    async def _hold_open(self, url: str, *, task_status: trio.TaskStatus[_Held]) -> None:
        """A stream's connection, until that is done: it outlives the program, for a goodbye."""
        parts, port = parts_of(url, WEBSOCKET)
        signed = {} if self._carrier.sign is None else self._carrier.sign(url, {})
        stream = await connect(parts.hostname or "", port, parts.scheme == "wss")
        async with websocket(
            stream,
            host=host_of(parts),
            path=target_of(parts),
            headers={**key_for(stream), **self._carrier.headers, **signed},
            timeout=self._unknowns.handshake_timeout,
        ) as socket:
            is_done = trio.Event()
            task_status.started((socket, stream, is_done))
            await is_done.wait()

    async def _media(self, media: MediaStream, url: str, name: str, callback: Url) -> str:
        began = trio.current_time()
        ended_by = "carrier"
        phone = self._phone
        try:
            self._tell_stream(callback, media.sid, name, "stream-started")
            await media.begin()
            async with trio.open_nursery() as nursery:
                if self._unknowns.notices_silence_after < math.inf:
                    nursery.start_soon(self._look_after, media)
                await media.listen()
                nursery.cancel_scope.cancel()
            ended_by = "lost" if media.close_code in (LOST, None) else "bridge"
        finally:
            plays_out = ended_by == "bridge" and self._unknowns.plays_out_after_close
            if ended_by == "carrier":
                # The call is over, or goes elsewhere. `end` has its own limit; this is behind it.
                with trio.move_on_after(2 * GOODBYE_TIMEOUT, shield=True):
                    if self._vanished:
                        await media.abort()
                    else:
                        pending = phone.earpiece.drop(phone.now)
                        await media.end(pending if self._unknowns.echoes_marks_at_stop else ())
            phone.earpiece.drop(phone.now, audio=not plays_out)
            ended = trio.current_time()
            self._streams.append(Streamed(media.sid, url, began, ended, ended_by, media.close_code))
            for warning, count in media.refused.items():
                self._refused[warning] = self._refused.get(warning, 0) + count
            self._first_refusal = self._first_refusal or media.first_refusal
            if ended_by == "lost":
                self._problem(BROKEN, "the stream's connection was lost without a close frame")
                self._tell_stream(callback, media.sid, name, "stream-error", "connection lost")
            else:
                self._tell_stream(callback, media.sid, name, "stream-stopped")
        return ended_by

    async def _look_after(self, media: MediaStream) -> None:
        """Gives a connection up that shows no sign of life."""
        patience = self._unknowns.notices_silence_after
        while True:
            with trio.move_on_after(patience) as waiting:
                await media.is_there()
            if waiting.cancelled_caught:
                await media.abort()
                return
            await trio.sleep(patience / 2)

    # --- requests ---------------------------------------------------------------------------------

    def _form(self) -> dict[str, str]:
        sids = self.sids
        return webhook.form(
            sids.call, sids.account, self._numbers, status=self.status, direction=self._direction
        )

    async def _ask(
        self, url: str, fields: dict[str, str], method: str, *, longest: int = twiml.MAX_TWIML
    ) -> Answer:
        at = trio.current_time()
        try:
            answer = await self._carrier.webhooks.ask(url, fields, method, longest=longest)
        except NotAnswered as exc:
            self._requests.append(Requested(at, url, fields, str(exc)))
            raise
        self._requests.append(Requested(at, url, fields))
        return answer

    async def _tell(self, url: str, fields: dict[str, str], method: str = "POST") -> None:
        """Nobody follows what is answered."""
        try:
            await self._ask(url, fields, method)
        except NotAnswered as exc:
            self._report(exc)

    def _tell_stream(self, callback: Url, sid: str, name: str, event: str, error: str = "") -> None:
        if not callback.url:
            return
        fields = {
            "AccountSid": self.sids.account,
            "CallSid": self.sids.call,
            "StreamSid": sid,
            "StreamName": name or sid,
            "StreamEvent": event,
            "Timestamp": datetime.now(UTC).isoformat(),
            **({"StreamError": error} if error else {}),
        }

        async def tell() -> None:
            await trio.sleep(self._unknowns.status_callback_delay)
            await self._tell(callback.url, fields, callback.method)

        self._callbacks.start_soon(tell)

    def _report(self, exc: NotAnswered | twiml.NotTwiml) -> None:
        status = exc.status if isinstance(exc, NotAnswered) else None
        self._problem(exc.code, str(exc), status)

    def _problem(self, code: int, reason: str, status: int | None = None) -> None:
        self._problems.append(Problem(trio.current_time(), code, reason, status))
