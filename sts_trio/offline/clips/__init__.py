"""Rendered speech: a directory of µ-law files and a clips.toml that tells what they say.

This directory has the base install's; `make_clips.py` renders any.
"""

import functools
from importlib.resources import files

from sts_trio.audio.clips import read


@functools.cache
def recorded(text: str) -> bytes | None:
    """The text as µ-law, if there is a clip of it here."""
    file = _listed().get(text)
    return None if file is None else (files(__name__) / f"{file}.ulaw").read_bytes()


@functools.cache
def _listed() -> dict[str, str]:
    """{text: file}"""
    return {clip.text: clip.file for clip in read((files(__name__) / "clips.toml").read_bytes())}
