"""What takes a session too long to do itself, and what comes of it.

A session asks by an act, under a ticket, and hears of the outcome by a message. The task that runs
the session sees to it in between.
"""

import msgspec


class Listen(msgspec.Struct, frozen=True):
    """To be recognised. Answered by `Heard`."""

    ticket: int
    audio: bytes  # µ-law


class Speak(msgspec.Struct, frozen=True):
    """To be spoken. Answered by `Spoken`."""

    ticket: int
    text: str


class Heard(msgspec.Struct, frozen=True):
    """The words, none if none were made out; with a `fault`, it could not be tried."""

    ticket: int
    words: str
    fault: str | None = None


class Spoken(msgspec.Struct, frozen=True):
    """The audio as µ-law; with a `fault`, there is none."""

    ticket: int
    audio: bytes
    fault: str | None = None


Job = Listen | Speak
Outcome = Heard | Spoken
