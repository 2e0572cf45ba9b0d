"""Renders the clips of a directory: speech as µ-law files, from the texts in its clips.toml.

    python -m sts_trio.offline.speech.make_clips DIRECTORY

Needs the synthesisers on the path (Debian: apt install flite espeak-ng). Voices are flite's (slt,
rms, awb, kal, kal16) or espeak-ng's as `espeak:NAME` (espeak:en-us, espeak:en-gb).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from sts_trio.audio import g711, wav
from sts_trio.audio.clips import read
from sts_trio.offline.speech.loudness import even_out


def command(voice: str, text: str, target: Path) -> list[str]:
    family, _, name = voice.rpartition(":")
    if family == "espeak":
        return ["espeak-ng", "-v", name, "-s", "150", "-w", str(target), text]
    return ["flite", "-voice", name, "-t", text, "-o", str(target)]


def render(voice: str, text: str) -> bytes:
    """The text as µ-law, at a phone's level, with little silence around it.

    Raises:
        FileNotFoundError: the synthesiser is not installed.
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "said.wav")
        subprocess.run(command(voice, text, target), check=True, capture_output=True)
        return even_out([g711.SAMPLES[code] for code in wav.read(target)])


def main(arguments: list[str]) -> None:
    if len(arguments) != 1:
        sys.exit("give one directory with a clips.toml in it")
    directory = Path(arguments[0])
    try:
        for clip in read((directory / "clips.toml").read_bytes()):
            target = directory / f"{clip.file}.ulaw"
            target.write_bytes(render(clip.voice, clip.text))
            print(target)
    except FileNotFoundError as exc:
        sys.exit(f"{exc.filename}: not found; the synthesisers come with flite and espeak-ng")
    except (msgspec.MsgspecError, subprocess.CalledProcessError, OSError) as exc:
        sys.exit(f"{directory}: {exc}")


if __name__ == "__main__":
    main(sys.argv[1:])
