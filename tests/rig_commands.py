"""The commands, run in this process."""

import struct
import wave
from pathlib import Path

from click.testing import CliRunner, Result

from sts_trio import cli

NUMBER = "+15005550010"


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, arguments)
    # Anything but these is a traceback at the operator's terminal.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def failure(*arguments: str, code: int) -> str:
    """The one line that a command fails with."""
    result = run(*arguments)
    assert result.exit_code == code
    *usage, line = result.stderr.strip().splitlines()
    assert all(each.startswith(("Usage:", "Try ")) or not each for each in usage)
    assert line.startswith("Error: ")
    return line


def a_wav(path: Path, seconds: float = 0.1) -> str:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<h", 9000) * int(8000 * seconds))
    return str(path)
