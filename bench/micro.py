"""What single steps of the hot path cost, in µs, ours beside the same with json and base64.

python bench/micro.py
"""

import base64
import json
import timeit
from collections.abc import Callable
from typing import Any

from results import Unit
from rich.console import Console
from rich.table import Table

from sts_trio.audio.frames import FRAME
from sts_trio.logic.acts import AgentReached, Heard
from sts_trio.logic.dialogue import Dialogue
from sts_trio.logic.states import Phase
from sts_trio.wire import deepgram, deepgram_settings, twilio

BEST_OF = 7
# Each try lasts at least this long, so that the clock's grain does not show.
LEAST_TRY = 0.05

STREAM_SID = "MZ00000000000000000000000000000003"
FRAME_AUDIO = bytes(range(FRAME))
CHUNK = bytes(range(250)) * 8  # 2000 bytes, a usual chunk of the agent's
SENTENCE = "The last one leaves at ten past eleven, from platform four."


def measure() -> list[Unit]:
    frame = twilio.encode_as_twilio(
        twilio.Media(twilio.Inbound(FRAME_AUDIO, chunk=7, timestamp=140), STREAM_SID, 8)
    )
    play = twilio.PlayMedia(STREAM_SID, twilio.Outbound(CHUNK))
    said = json.dumps({"type": "ConversationText", "role": "assistant", "content": SENTENCE})
    batch = [twilio.decode(frame) for _ in range(5)]
    turn: list[Heard] = [
        deepgram.UserStartedSpeaking(),
        deepgram.ConversationText("user", SENTENCE),
        deepgram.ConversationText("assistant", SENTENCE),
        *[deepgram.Audio(CHUNK)] * 8,
        deepgram.AgentAudioDone(),
    ]
    talking = _talking()

    def decode_with_json() -> bytes:
        media: dict[str, Any] = json.loads(frame)
        return base64.b64decode(media["media"]["payload"])

    def encode_with_json() -> str:
        payload = base64.b64encode(CHUNK).decode("ascii")
        media = {"event": "media", "streamSid": STREAM_SID, "media": {"payload": payload}}
        return json.dumps(media)

    return [
        _unit("decode a media frame", lambda: twilio.decode(frame), decode_with_json),
        _unit("the dialogue hears five media frames", lambda: talking.hear(batch, 1.0), None),
        _unit("the dialogue hears a turn of the agent's", lambda: talking.hear(turn, 1.0), None),
        _unit("encode 2000 bytes for the caller", lambda: twilio.encode(play), encode_with_json),
        _unit("decode a sentence", lambda: deepgram.decode(said), lambda: json.loads(said)),
        _unit(
            "encode a message to the agent",
            lambda: deepgram.encode(deepgram.InjectAgentMessage(SENTENCE)),
            lambda: json.dumps({"type": "InjectAgentMessage", "message": SENTENCE}),
        ),
    ]


def _talking() -> Dialogue:
    """A dialogue in the midst of a call."""
    settings = deepgram_settings.Settings(deepgram_settings.AudioSettings(), {})
    dialogue = Dialogue(lambda start: settings)
    start = twilio.Start(twilio.StreamStart(STREAM_SID))
    for heard in (start, AgentReached(), deepgram.Welcome(), deepgram.SettingsApplied()):
        dialogue.hear([heard], 0.0)
    if dialogue.phase is not Phase.TALKING:
        raise RuntimeError(f"the dialogue should be talking by now, not in {dialogue.phase}")
    return dialogue


def _unit(name: str, ours: Callable[[], object], stdlib: Callable[[], object] | None) -> Unit:
    return Unit(name, _microseconds(ours), _microseconds(stdlib) if stdlib else None)


def _microseconds(action: Callable[[], object]) -> float:
    """The best of some tries: what else the machine does can only add to it."""
    timer = timeit.Timer(action)
    number = 1000
    while (took := timer.timeit(number)) < LEAST_TRY:
        number = max(2 * number, int(number * LEAST_TRY / took))
    return min(timer.repeat(BEST_OF, number)) / number * 1e6


def table(units: list[Unit]) -> Table:
    shown = Table("step", "ours µs", "json, base64 µs")
    for unit in units:
        shown.add_row(unit.name, f"{unit.ours:.2f}", f"{unit.stdlib:.2f}" if unit.stdlib else "")
    return shown


if __name__ == "__main__":
    Console().print(table(measure()))
