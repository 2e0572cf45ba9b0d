"""What the agent of a session says: sentence by sentence, in order, at a voice's pace. Pure.

A sentence is rendered elsewhere, by a pool's voice (`Speak`, `Spoken`), while the ones before it
are heard. Without that voice, and where it fails, the base install's has all of it at once.
"""

from collections.abc import Callable

from sts_trio.offline.protocol.jobs import Speak, Spoken
from sts_trio.offline.speech import voice
from sts_trio.offline.speech.pacing import Mouth, pieces
from sts_trio.offline.speech.sentence_queue import Recital, sentences
from sts_trio.wire import deepgram

Told = list[deepgram.TextFromAgent | deepgram.Audio | Speak]


def told(role: str, content: str, *, with_history: bool) -> list[deepgram.TextFromAgent]:
    """What the client is told of something that was said."""
    text: list[deepgram.TextFromAgent] = [deepgram.ConversationText(role, content)]
    if with_history:
        text.append(deepgram.History(role, content))
    return text


class Speaker:
    """Methods return what is to be told now; the speech itself comes by `utter`.

    `next_ticket` gives a number that no other job of the session has.
    """

    def __init__(self, next_ticket: Callable[[], int], *, has_voice: bool) -> None:
        self.with_history = True  # whether `History` is told beside the text
        self._next_ticket = next_ticket
        self._has_voice = has_voice
        self._mouth = Mouth()
        self._recital = Recital()

    @property
    def deadline(self) -> float:
        """When to call `utter`."""
        return self._mouth.deadline

    @property
    def is_speaking(self) -> bool:
        return self._mouth.speaking or self._recital.is_on

    def utter(self, now: float) -> Told:
        """What is to be heard by now."""
        return [*self._mouth.utter(now)]

    def say(self, text: str, now: float) -> Told:
        if not self._has_voice:
            self._say_by_base_voice(text, now)
            return []
        jobs: Told = []
        lines = sentences(text) or [text]
        for number, sentence in enumerate(lines, 1):
            ticket = self._next_ticket()
            messages = told("assistant", sentence, with_history=self.with_history)
            self._recital.add(ticket, messages, is_last=number == len(lines))
            jobs.append(Speak(ticket, sentence))
        return jobs

    def hear(self, spoken: Spoken, now: float) -> Told:
        """A sentence has been rendered, or could not be."""
        if spoken.ticket not in self._recital:
            return []  # the caller spoke first
        if spoken.fault is None:
            self._mouth.say(self._recital.deliver(spoken.ticket, spoken.audio), now)
            return []
        self._recital.drop()
        self._say_by_base_voice(voice.APOLOGY, now)
        reason = f"an apology is said instead: {spoken.fault}"
        return [deepgram.AgentWarning("SPEAK_FAILED", reason)]

    def hush(self) -> Told:
        """Nothing more of it is said."""
        # Both, whatever the first one says.
        was_speaking = any([self._mouth.hush(), self._recital.drop()])
        return [deepgram.AgentAudioDone()] if was_speaking else []

    def _say_by_base_voice(self, text: str, now: float) -> None:
        messages = told("assistant", text, with_history=self.with_history)
        self._mouth.say([*messages, *pieces(voice.say(text)), deepgram.AgentAudioDone()], now)
