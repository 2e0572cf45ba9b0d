"""Pre-rendered words for callers whose agent is gone: whole media frames of µ-law.

Synthetic speech, rendered from `clips.toml` by flite, as the offline agent's is: what holds for its
licence is told in `offline/clips/README.md`.
"""

import functools
from importlib.resources import files

import msgspec

from sts_trio.audio.frames import FRAME, SILENCE


class Clip(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str  # its name without .ulaw
    voice: str
    text: str


class Clips(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    clips: tuple[Clip, ...]


def read(toml: bytes) -> tuple[Clip, ...]:
    """What a clips.toml lists.

    Raises:
        msgspec.MsgspecError: it is no list of clips; the path is named.
    """
    return msgspec.toml.decode(toml, type=Clips).clips


@functools.cache
def clip(name: str) -> bytes:
    """`one-moment` or `apology`."""
    return whole_frames((files(__name__) / f"{name}.ulaw").read_bytes())


@functools.cache
def words(name: str) -> str:
    """What that clip says."""
    listed = read((files(__name__) / "clips.toml").read_bytes())
    return next(each.text for each in listed if each.file == name)


def whole_frames(audio: bytes) -> bytes:
    """`audio`, its last frame padded."""
    return audio + SILENCE * (-len(audio) % FRAME)
