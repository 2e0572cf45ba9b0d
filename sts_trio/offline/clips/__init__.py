"""Rendered speech: a directory of µ-law files and a clips.toml that tells what they say.

This directory has the base install's; `make_clips.py` renders any.
"""

import functools
from importlib.resources import files

import msgspec


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
def recorded(text: str) -> bytes | None:
    """The text as µ-law, if there is a clip of it here."""
    file = _listed().get(text)
    return None if file is None else (files(__name__) / f"{file}.ulaw").read_bytes()


@functools.cache
def _listed() -> dict[str, str]:
    """{text: file}"""
    return {clip.text: clip.file for clip in read((files(__name__) / "clips.toml").read_bytes())}
