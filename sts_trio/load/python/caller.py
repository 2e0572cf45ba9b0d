"""Twilio: one Media Stream per call, its frames paced to the clock, marks echoed at once.

Source: Twilio, "Media Streams: WebSocket messages". Key order and strings for numbers are as in
its examples.
"""

import base64
import random
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from sts_trio.load.figures import Heard
from sts_trio.load.python.blocks import Ear, Way
from sts_trio.load.python.histogram import Histogram
from sts_trio.load.python.link import Link, Message
from sts_trio.load.python.listener import Listener
from sts_trio.wire import frames, twilio

if TYPE_CHECKING:
    from sts_trio.load.python.agent import Session
    from sts_trio.load.python.generator import Generator

PACE = 0.02
# A bridge that does not close its end for this long after our goodbye is hung up on.
PATIENCE = 3.0
# A caller whose agent has ended its session is let go within this, or was kept.
KEPT = 5.0
# A call that has stood for so long has been led to an agent, or never will be.
REACHED_WITHIN = 2.0
# Of a call that is heard at all so much arrives, whichever way.
HEARD = 0.95


class Caller:
    """A call. `parameters` are those of its stream, as JSON."""

    def __init__(self, generator: "Generator", serial: int, call_sid: str, parameters: str) -> None:
        self.serial = serial
        self.session: Session | None = None
        self.blocks = 0  # that agents have said
        self.dialled = trio.current_time()
        self.hung_up: float | None = None
        self.left_by_agent: float | None = None
        self.is_refused = self.is_cut_off = self.was_reached = self.is_ending = False
        self.sent = dict.fromkeys(Way, 0)  # blocks of the window, as those that arrived
        self.arrived = dict.fromkeys(Way, 0)
        self.known = dict.fromkeys(Way, 0)  # the number of the block that has not come yet
        self._generator = generator
        self._meters = generator.meters
        self.listener: Listener | None = None
        if generator.options.bridges_agent:
            self.listener = Listener(generator.speech, self._meters.answers.add)
        self._link: Link | None = None
        self._call_sid = call_sid
        self._parameters = parameters
        self._stream_sid = f"MZ{random.getrandbits(128):032x}"
        self._frames = 0
        self._messages = 0
        arrived = partial(generator.note_arrival, Way.DOWN)
        self._ear = Ear(Way.DOWN, self._meters.counts[Way.DOWN], arrived, serial)

    @property
    def is_through(self) -> bool:
        is_led = self.session is not None
        if self.listener is not None:
            is_led = self._frames > 0
        return self._link is not None and is_led and self.hung_up is None

    @property
    def has_failed(self) -> bool:
        end = trio.current_time() if self.hung_up is None else self.hung_up
        if self.is_refused or self.is_cut_off:
            return True
        if self.listener is not None:
            return bool(self.listener.faults)
        return (not self.was_reached and end - self.dialled >= REACHED_WITHIN) or self._was_unheard

    @property
    def _was_unheard(self) -> bool:
        meters = self._meters
        stood = self.dialled < meters.opened and (self.hung_up or meters.closed) >= meters.closed
        return stood and any(self.arrived[way] < HEARD * self.sent[way] for way in Way)

    # --- what Twilio says ---------------------------------------------------------------------

    def begin(self, link: Link) -> None:
        """The websocket is open."""
        now = trio.current_time()
        self._link = link
        self._meters.setup.add(now - self.dialled)
        link.say_text(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
        link.say_text(
            b'{"event":"start","sequenceNumber":"1","start":{"accountSid":'
            b'"AC00000000000000000000000000000001","streamSid":"%s","callSid":"%s",'
            b'"tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,'
            b'"channels":1},"customParameters":%s},"streamSid":"%s"}'
            % tuple(
                each.encode()
                for each in (self._stream_sid, self._call_sid, self._parameters, self._stream_sid)
            )
        )
        self._messages = 1
        # Callers do not speak in step: each has its own phase.
        self._generator.alarms.add(now + random.random() * PACE, self._beat)

    def _beat(self, due: float) -> float | None:
        link = self._link
        if link is None:
            return None
        if self.hung_up is not None:
            if trio.current_time() - self.hung_up < PATIENCE:
                return due + PACE
            link.drop()
            return None
        if self.left_by_agent is not None and trio.current_time() - self.left_by_agent > KEPT:
            self._meters.kept += 1
            self.hang_up()
            return due + PACE
        self._say_media(link)
        return due + PACE

    def _say_media(self, link: Link) -> None:
        if self.listener is not None:
            audio = self.listener.say(trio.current_time())
        else:
            audio = self._generator.make_block(Way.UP, self, self._frames)
        self._frames += 1
        self._messages += 1
        link.say_text(
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d",'
            b'"timestamp":"%d","payload":"%s"},"streamSid":"%s"}'
            % (
                self._messages,
                self._frames,
                20 * self._frames,
                base64.b64encode(audio),
                self._stream_sid.encode(),
            )
        )

    def _say(self, message: dict[str, object], event: str) -> None:
        if self._link is not None:
            self._messages += 1
            head = {"event": event, "sequenceNumber": str(self._messages)}
            whole = {**head, **message, "streamSid": self._stream_sid}
            self._link.say_text(msgspec.json.encode(whole))

    def hang_up(self) -> None:
        if self.hung_up is not None:
            return
        self.hung_up = trio.current_time()
        if self._link is not None:
            self._say({"stop": {"accountSid": "AC" + "0" * 32, "callSid": self._call_sid}}, "stop")
            self._link.goodbye()
        if self.session is not None:
            self.session.caller_left()

    def cut(self) -> None:
        """Their socket is lost."""
        if self.hung_up is None and self._link is not None:
            self.hung_up = trio.current_time()
            self._link.cut()
            if self.session is not None:
                self.session.caller_left()

    # --- what Twilio hears --------------------------------------------------------------------

    def heard(self, messages: Iterable[Message]) -> None:
        now = trio.current_time()
        for message in messages:
            if isinstance(message, frames.Binary):
                self._meters.strange += 1
                continue
            try:
                told = twilio.decode_as_twilio(message)
            except msgspec.MsgspecError:
                self._meters.strange += 1
                continue
            if told.stream_sid != self._stream_sid:
                self._meters.strange += 1
            else:
                self._take(told, now)

    def _take(self, told: twilio.ToCaller, now: float) -> None:
        match told:
            case twilio.PlayMedia(media=media):
                if self.listener is not None:
                    self.listener.hear(media.payload, now)
                else:
                    self._ear.hear(media.payload, now)
            case twilio.PlayMark(mark=mark):
                self._meters.marks += 1
                self._say({"mark": {"name": mark.name}}, "mark")
            case twilio.Clear():
                self._ear.clear()
                if self.session is not None:
                    self.session.clear_heard(now)
                else:
                    self._meters.clears_unasked += 1

    def lost(self) -> None:
        if self._link is None:
            return
        self._link = None
        now = trio.current_time()
        if self.left_by_agent is not None:
            if self.hung_up is None:
                self._meters.released.add(now - self.left_by_agent)
        elif self.hung_up is None:
            self.is_cut_off = True
            self._meters.cut_off += 1
        self.hang_up()

    def refuse(self) -> None:
        """There was no websocket."""
        self.is_refused = True
        self.hung_up = self.hung_up or trio.current_time()
        self._meters.refused += 1


class Past:
    """Calls that nothing more is to be told of: they are counted, and forgotten."""

    def __init__(self) -> None:
        self.failed = 0
        self._seconds = 0.0
        self._faults: Counter[str] = Counter()

    def count(self, caller: Caller) -> None:
        self.failed += caller.has_failed
        if caller.listener is not None:
            self._seconds += caller.listener.audible
            self._faults.update(caller.listener.faults)

    def heard(self, answers: Histogram) -> Heard:
        """Of the bridge's own agent."""
        return Heard(
            seconds=self._seconds,
            mute=self._faults["mute"],
            echoed=self._faults["echoed"],
            flooded=self._faults["flooded"],
            answer_ms=answers.delays(),
        )
