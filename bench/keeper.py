"""An agent with a memory, whose ears and voice are the tones of a phone's keys.

    python bench/keeper.py PORT LOG HOST

It speaks the offline agent's protocol. What a caller says are keys, the first of which tells what
it is: `A1234` is a code word to be remembered, `B7` has a function called, `C` asks for the code
word, and anything else is talk. `C` is answered with `*1234` if the word was said in this session,
or was told as what had been said before, and with `**` if not. Tones cost so little that hundreds
of calls can be heard word by word on one core.

Each line of the log is JSON: of which session, when, what happened, and the words.
"""

import json
import re
import sys
import time
from collections.abc import Container
from functools import partial
from typing import Any, TextIO

import numpy as np
import trio

from sts_trio.audio import g711
from sts_trio.audio.frames import BYTES_PER_SECOND
from sts_trio.audio.tones import COLUMNS, KEYS, ROWS, tones
from sts_trio.offline.hearing.endpointing import BY_LOUDNESS, Sense
from sts_trio.offline.protocol import server
from sts_trio.offline.protocol.script import CallFunction, Line
from sts_trio.offline.protocol.session import Session

CODE, DO, ASK = "A", "B", "C"
ANSWER, UNKNOWN = "*", "**"
# Two seconds and a half: long enough to be cut in the midst.
TALK = "D7D8D9D7D8D9"

# As the words are wanted, the audio has to be kept. It is off for them after 0.3 s of silence.
KEEPING = Sense(hears=BY_LOUDNESS.hears, begin=BY_LOUDNESS.begin, end=BY_LOUDNESS.end, pause=15)

# A tone lasts 100 ms, and so does the pause behind it.
_WINDOW, _HOP = 320, 160
_QUIET = 0.01  # of full scale, squared
_PURE = 0.7  # of a window's energy that is at two frequencies, of a tone

_LINEAR = np.array(g711.SAMPLES, dtype=np.float64) / 32768
_TURNS = 2j * np.pi * np.arange(_WINDOW) / BYTES_PER_SECOND
_AT = np.exp(np.outer(_TURNS, np.array(ROWS + COLUMNS)))


def keys(ulaw: bytes) -> str:
    """The keys whose tones are in it, in order."""
    count = (len(ulaw) - _WINDOW) // _HOP + 1
    if count < 1:
        return ""
    samples = _LINEAR[np.frombuffer(ulaw, dtype=np.uint8)]
    windows = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP][:count]
    energy = np.mean(windows**2, axis=1)
    # A sine of amplitude a has the energy a²/2, and a·WINDOW/2 at its frequency.
    power = 2 * np.abs(windows @ _AT / _WINDOW) ** 2
    rows, columns = power[:, :4], power[:, 4:]
    pure = rows.max(axis=1) + columns.max(axis=1) > _PURE * energy
    found, last = [], ""
    for at in np.arange(count):
        key = ""
        if pure[at] and energy[at] > _QUIET:
            key = KEYS[rows[at].argmax()][columns[at].argmax()]
        if key and key != last:
            found.append(key)
        last = key
    return "".join(found)


class Tones:
    """Ears and a voice."""

    async def hear(self, ulaw: bytes) -> str:
        return keys(ulaw)

    async def say(self, text: str) -> bytes:
        """Words that are no keys are talk."""
        return tones(text if re.fullmatch("[0-9A-D*#]+", text) else TALK)


class Keeper:
    """The mind of a session. It knows nothing but what it hears, and is told of the past."""

    thought = "The first key tells what is wanted."

    def __init__(self, log: "Log") -> None:
        self._log = log
        self._code = ""

    def reply(self, words: str, functions: Container[str] = ()) -> Line:
        self._log.tell("user", words)
        self._heed(words)
        if words.startswith(ASK):
            return self._say(ANSWER + self._code if self._code else UNKNOWN)
        if words.startswith(DO) and "note" in functions:
            return CallFunction("note", {"code": self._code, "number": words[1:]})
        return self._say(TALK)

    def go_on(self, result: str) -> Line:
        self._log.tell("function", result)
        return self._say(TALK)

    def speak_up(self) -> Line:
        return self._say(TALK)

    def recall_caller(self, words: str, functions: Container[str] = ()) -> None:
        self._log.tell("recalled", words)
        self._heed(words)

    def recall_agent(self, words: str) -> None:
        self._log.tell("recalled", words)

    def recall_function(self, name: str, result: str) -> None:
        self._log.tell("recalled", result)

    def _heed(self, words: str) -> None:
        if words.startswith(CODE):
            self._code = words[1:]

    def _say(self, words: str) -> str:
        self._log.tell("agent", words)
        return words


class Log:
    """Of one session."""

    def __init__(self, file: TextIO, session: str) -> None:
        self._file = file
        self._session = session

    def tell(self, what: str, words: str = "") -> None:
        line: dict[str, Any] = {"session": self._session, "at": time.time(), "what": what}
        self._file.write(json.dumps({**line, "words": words}) + "\n")
        self._file.flush()


async def serve(file: TextIO, stream: trio.abc.Stream) -> None:
    logs: list[Log] = []

    def make_session(request_id: str) -> Session:
        log = Log(file, request_id)
        logs.append(log)
        log.tell("begun")
        return Session(
            Keeper(log), sense=KEEPING, has_ears=True, has_voice=True, request_id=request_id
        )

    try:
        await server.serve_stream(stream, pool=Tones(), make_session=make_session)
    finally:
        for log in logs:
            log.tell("ended")


if __name__ == "__main__":
    with open(sys.argv[2], "a") as log_file:
        answer = partial(serve, log_file)
        trio.run(partial(trio.serve_tcp, answer, int(sys.argv[1]), host=sys.argv[3]))
