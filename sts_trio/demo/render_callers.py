"""Renders the clips of `callers/clips.toml` as the WAV files beside it.

    python -m sts_trio.demo.render_callers

Needs flite on the path (Debian: apt install flite). For developers: the files are in the package.
"""

import subprocess
import sys
from pathlib import Path

from sts_trio.audio import wav
from sts_trio.demo.clips import clips
from sts_trio.offline.speech.make_clips import render

DIRECTORY = Path(__file__).parent / "callers"


def main() -> None:
    for clip in clips().values():
        try:
            audio = render(clip.voice, clip.text)
        except FileNotFoundError:
            sys.exit("flite is not on the path: apt install flite")
        except subprocess.CalledProcessError as exc:
            sys.exit(f"flite failed: {exc.stderr.decode(errors='replace').strip()}")
        (DIRECTORY / clip.file).write_bytes(wav.ulaw_file(audio))
        print(f"{clip.file}: {len(audio) / wav.RATE:.2f} s")


if __name__ == "__main__":
    main()
