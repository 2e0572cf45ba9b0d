"""Deepgram: a Voice Agent session per connection. The agent takes its turns by the clock, whatever
the caller says: every turn cuts the caller's playout, and speaks for a while.

Whose session it is, the first audio tells: nothing else does. Until then the agent is silent.
"""

import base64
import hashlib
import random
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import h11
import trio

from sts_trio.load.python.blocks import Ear, Way
from sts_trio.load.python.link import MOST_PER_HEAD, RECEIVE, Link, Message
from sts_trio.wire import frames

if TYPE_CHECKING:
    from sts_trio.load.python.caller import Caller
    from sts_trio.load.python.generator import Generator

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
LEAST_CHUNK, MOST_CHUNK = 6, 20  # blocks: 960 to 3200 bytes
CHUNK_PACE = 0.01
# Bridges wait for a greeting, and take an agent without one for dead.
FIRST_WORD = 3.0
# A client that sends no more audio is given up, as by the real one.
GIVE_UP = 10.0
# When the caller's words are told, and when the agent begins, in shares of a turn.
USER_TEXT, AUDIO = 0.2, 0.25


class Session:
    def __init__(self, generator: "Generator", link: Link) -> None:
        self.caller: Caller | None = None
        self._generator = generator
        self._meters = generator.meters
        self._link = link
        self._ear = Ear(
            Way.UP, self._meters.counts[Way.UP], partial(generator.note_arrival, Way.UP)
        )
        self._has_settings = False
        self._is_over = self._is_leaving = False
        self._barged_in: float | None = None
        self._unsaid = 0  # blocks of this utterance
        self._turn_began = 0.0

    # --- its turns ----------------------------------------------------------------------------

    def _take_turn(self, due: float) -> float | None:
        if self._is_over:
            return None
        self._turn_began = due
        self._barged_in = trio.current_time()
        self._meters.clears_asked += self._meters.in_window(self._barged_in)
        self._link.say_text(b'{"type":"UserStartedSpeaking"}')
        turn = self._generator.options.turn
        self._generator.alarms.add(due + USER_TEXT * turn, self._tell_words)
        return None

    def _tell_words(self, due: float) -> float | None:
        if self._is_over:
            return None
        self._link.say_text(
            b'{"type":"ConversationText","role":"user","content":"When does the last train leave?"}'
        )
        options = self._generator.options
        self._unsaid = int(options.speech * 50)
        begins = self._turn_began + AUDIO * options.turn
        self._generator.alarms.add(begins, self._say_chunk)
        return None

    def _say_chunk(self, due: float) -> float | None:
        if self._is_over or self.caller is None:
            return None
        count = min(self._unsaid, random.randint(LEAST_CHUNK, MOST_CHUNK))
        self._unsaid -= count
        chunk = b""
        for _ in range(count):
            chunk += self._generator.make_block(Way.DOWN, self.caller, self.caller.blocks)
            self.caller.blocks += 1
        self._link.say_audio(chunk)
        if self._unsaid:
            return due + CHUNK_PACE
        self._link.say_text(b'{"type":"AgentAudioDone"}')
        if self._is_leaving:
            self._is_over = True
            self.caller.left_by_agent = trio.current_time()
            self._link.goodbye()
            return None
        options = self._generator.options
        length = options.turn
        if random.random() < options.barge_in:  # while the half of it is not heard yet
            length = AUDIO * options.turn + options.speech / 2
        self._generator.alarms.add(max(self._turn_began + length, due), self._take_turn)
        return None

    def clear_heard(self, now: float) -> None:
        """It has come to the caller."""
        if self._barged_in is None:
            self._meters.clears_unasked += 1
            return
        if self._meters.in_window(self._barged_in):
            self._meters.clears_answered += 1
            self._meters.clear.add(now - self._barged_in)
        self._barged_in = None

    # --- its end ------------------------------------------------------------------------------

    def is_left_open(self, grace: float) -> bool:
        """Whether the caller hung up so long ago."""
        hung_up = None if self.caller is None else self.caller.hung_up
        return hung_up is not None and trio.current_time() - hung_up >= grace

    def caller_left(self) -> None:
        self._is_over = True
        self._generator.alarms.add(trio.current_time() + GIVE_UP, self._give_up)

    def _give_up(self, due: float) -> None:
        self._link.say_text(
            b'{"type":"Error","code":"CLIENT_MESSAGE_TIMEOUT","description":"No audio."}'
        )
        self._link.goodbye()

    def leave(self) -> None:
        """The agent ends it, properly, once it has said what it says in this turn."""
        self._is_leaving = True

    def lost(self) -> None:
        self._is_over = True
        self._generator.sessions.discard(self)
        caller = self.caller
        if caller is None:
            return
        if caller.session is self:
            caller.session = None
        if caller.hung_up is not None:
            self._meters.gone.add(trio.current_time() - caller.hung_up)
        elif caller.left_by_agent is None:
            caller.is_cut_off = True
            self._meters.cut_off += 1

    # --- what it hears ------------------------------------------------------------------------

    def heard(self, messages: Iterable[Message]) -> None:
        now = trio.current_time()
        for message in messages:
            if isinstance(message, frames.Binary):
                self._meters.strange += not self._has_settings
                self._ear.hear(message.data, now)
                if self.caller is None and self._ear.serial is not None:
                    self._recognise(self._ear.serial, now)
            elif not self._has_settings and b'"Settings"' in message:
                self._has_settings = True
                self._link.say_text(b'{"type":"SettingsApplied"}')
            elif b'"KeepAlive"' not in message:
                self._meters.strange += 1

    def _recognise(self, serial: int, now: float) -> None:
        caller = self._generator.caller(serial)
        if caller is None:
            self._meters.strange += 1
            return
        self.caller = caller
        caller.session = self
        caller.was_reached = True
        self._meters.reach.add(now - caller.dialled)
        if caller.hung_up is not None:
            self.caller_left()
        else:
            begins = now + random.random() * min(self._generator.options.turn, FIRST_WORD)
            self._generator.alarms.add(begins, self._take_turn)


async def answer(generator: "Generator", stream: trio.abc.Stream) -> None:
    """A connection to the agent. What is no handshake is let go, and so is who does not wait for
    the answer: a run goes on."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_PER_HEAD)
    try:
        while (request := http.next_event()) is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(RECEIVE)))
        rest = http.next_event()
    except (h11.RemoteProtocolError, trio.BrokenResourceError):
        return
    if not isinstance(request, h11.Request) or not isinstance(rest, h11.EndOfMessage):
        return
    named = dict(request.headers)
    key = named.get(b"sec-websocket-key")
    if key is None or named.get(b"upgrade", b"").lower() != b"websocket":
        return
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    headers = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", accept),
    ]
    switching = h11.InformationalResponse(status_code=101, headers=headers)
    try:
        await stream.send_all(http.send(switching) or b"")
    except trio.BrokenResourceError:
        return
    link = Link(stream, is_client=False)
    session = Session(generator, link)
    generator.sessions.add(session)
    link.say_text(b'{"type":"Welcome","request_id":"00000000-0000-4000-8000-000000000000"}')
    await link.run(session, bytes(http.trailing_data[0]))
