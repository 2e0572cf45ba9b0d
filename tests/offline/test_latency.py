"""How long a caller waits for the agent with ears, and for it to fall silent: on the real clock."""

import functools
from collections.abc import Callable
from pathlib import Path

import trio
import trio_websocket
from limits import HANG

from sts_trio.audio.frames import FRAME, seconds
from sts_trio.offline.mode import Mode
from sts_trio.offline.protocol import server
from sts_trio.wire import deepgram, deepgram_settings
from sts_trio.wire.deepgram import Audio, UserStartedSpeaking

SPEECH = Path(__file__).parent.parent / "data" / "speech"
TURNS = ("rms-02", "kal16-04", "rms-27", "awb-13")
MARGIN = 0.05  # of silence that a clip begins and ends with


class Caller:
    """Speaks in real time, over the agent if it speaks, and keeps when it heard what."""

    def __init__(self, socket: trio_websocket.WebSocketConnection) -> None:
        self.socket = socket
        self.audio = b""  # to be said; silence when there is none
        self.noticed = 0.0
        self.answered = 0.0
        self.heard = trio.Event()

    async def speak(self) -> None:
        due = trio.current_time()
        while True:
            frame, self.audio = self.audio[:FRAME], self.audio[FRAME:]
            await self.socket.send_message(frame.ljust(FRAME, b"\xff"))
            due += seconds(FRAME)
            await trio.sleep_until(due)

    async def listen(self) -> None:
        while True:
            message = deepgram.decode(await self.socket.get_message())
            if isinstance(message, UserStartedSpeaking):
                self.noticed = trio.current_time()
            elif isinstance(message, Audio) and not self.heard.is_set():
                self.answered = trio.current_time()
                self.heard.set()

    async def turn(self, clip: bytes) -> tuple[float, float]:
        """How long after its first word the clip was noticed, after its last one answered."""
        began = trio.current_time()
        self.audio = clip
        # What was on its way of the last answer is not this one's.
        await trio.sleep(seconds(len(clip)))
        self.heard = trio.Event()
        await self.heard.wait()
        ended = began + seconds(len(clip)) - MARGIN
        return self.noticed - began - MARGIN, self.answered - ended


async def test_every_turn_is_noticed_and_answered_and_how_soon_is_told(
    tell: Callable[[str], None],
) -> None:
    """On an idle machine half of the answers come within 0.9 s of the caller's last word."""
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            serve = functools.partial(server.serve, "127.0.0.1", 0, mode=Mode.EARS)
            port = await nursery.start(serve)
            url = f"ws://127.0.0.1:{port}/v1/agent/converse"
            async with trio_websocket.open_websocket_url(url) as socket:
                caller = Caller(socket)
                settings = deepgram_settings.phone_settings(
                    {"greeting": "Hello! How can I help you?"}
                )
                await socket.send_message(deepgram.encode(settings))
                nursery.start_soon(caller.listen)
                await caller.heard.wait()
                nursery.start_soon(caller.speak)
                await trio.sleep(0.5)
                measured = []
                for name in TURNS:
                    measured.append(await caller.turn((SPEECH / f"{name}.ulaw").read_bytes()))
                    await trio.sleep(0.3)
                nursery.cancel_scope.cancel()
    noticed, answered = zip(*measured, strict=True)
    waits = ", ".join(f"{wait:.2f}" for wait in answered)
    tell(f"answered after {waits} s; noticed after {max(noticed):.2f} s at most")
    # Times are the machine's, too, and are not asserted. That each turn was answered at all is what
    # was waited for.
    assert len(answered) == len(TURNS)
