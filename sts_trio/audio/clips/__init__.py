"""Pre-rendered words for callers whose agent is gone: whole media frames of µ-law.

Synthetic speech, rendered from `clips.toml` by flite, as the offline agent's is: what holds for its
licence is told in `offline/clips/README.md`.
"""

import functools
from importlib.resources import files

from sts_trio.audio.frames import FRAME, SILENCE
from sts_trio.offline import clips


@functools.cache
def clip(name: str) -> bytes:
    """`one-moment` or `apology`."""
    return whole_frames((files(__name__) / f"{name}.ulaw").read_bytes())


@functools.cache
def words(name: str) -> str:
    """What that clip says."""
    listed = clips.read((files(__name__) / "clips.toml").read_bytes())
    return next(each.text for each in listed if each.file == name)


def whole_frames(audio: bytes) -> bytes:
    """`audio`, its last frame padded."""
    return audio + SILENCE * (-len(audio) % FRAME)
