"""A scripted agent's lines from a file. Pure, but for `read`.

# What the agent answers, a line for each turn, from the first again after the last.
We are open from nine to six.
@call look_up {"order": 7}
It is on its way.
@silence
"""

from pathlib import Path
from typing import Any

import msgspec

from sts_trio.errors import ConfigError
from sts_trio.offline.protocol.script import CallFunction, Line, Script, Silence
from sts_trio.wire.printable import one_line, quoted

# A conversation has some hundred turns.
MAX_BYTES = 2**20
_KNOWN = '@call NAME {"argument": …}, or @silence'

_arguments = msgspec.json.Decoder(dict[str, Any])


def read(path: Path) -> Script:
    """The script in that file.

    Raises:
        ConfigError: it cannot be read, or a line of it means nothing.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        # A ValueError is a path that no file system could have.
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise _mistake(f"{path}: cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise _mistake(f"{path}: expected a script of at most {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise _mistake(f"{path}: expected UTF-8 text: {exc}") from None
    return parse(text, str(path))


def parse(text: str, where: str) -> Script:
    """The script in a text; `where` is what to name in a mistake, before the line's number.

    Raises:
        ConfigError: a line means nothing, or there is none that is said.
    """
    lines = [
        _line(written.strip(), f"{where}, line {number}")
        for number, written in enumerate(text.splitlines(), 1)
        if written.strip() and not written.strip().startswith("#")
    ]
    try:
        return Script(tuple(lines))
    except ValueError as exc:
        raise _mistake(f"{where}: {exc}") from None


def _line(written: str, where: str) -> Line:
    if not written.startswith("@"):
        return written
    order, _, rest = written.partition(" ")
    match order, rest.strip():
        case "@silence", "":
            return Silence()
        case "@call", call if call:
            return _call(call, where)
    raise _mistake(f"{where}: expected {_KNOWN}, got {quoted(written)}")


def _call(written: str, where: str) -> CallFunction:
    name, _, arguments = written.partition(" ")
    try:
        return CallFunction(name, _arguments.decode(arguments) if arguments.strip() else {})
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise _mistake(
            f"{where}: expected the arguments of {quoted(name)} as a JSON object: {exc}"
        ) from None


def _mistake(text: str) -> ConfigError:
    return ConfigError(one_line(text))
