"""What the callers of the demonstration say: the WAV files of `callers/`, with their words."""

import functools
from importlib.resources import files

import msgspec

from sts_trio.audio import wav
from sts_trio.audio.frames import length
from sts_trio.simulate.script import Speak


class Clip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    voice: str
    text: str


class _Clips(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    clips: tuple[Clip, ...]


@functools.cache
def clips() -> dict[str, Clip]:
    """{file name without its ending: clip}"""
    listed = (files("sts_trio.demo") / "callers" / "clips.toml").read_bytes()
    each = msgspec.toml.decode(listed, type=_Clips).clips
    return {clip.file.removesuffix(".wav"): clip for clip in each}


@functools.cache
def speak(name: str) -> Speak:
    """The step of saying a clip.

    Raises:
        KeyError: there is no clip of that name.
    """
    clip = clips()[name]
    data = (files("sts_trio.demo") / "callers" / clip.file).read_bytes()
    return Speak(wav.parse(data), clip.text)


def broken_off(whole: Speak, after: float) -> Speak:
    """The first seconds of it, and of its words about as many."""
    audio = whole.audio[: length(after)]
    letters = round(len(whole.text) * len(audio) / len(whole.audio))
    return Speak(audio, whole.text[:letters].rstrip() + "\N{EM DASH}")
