"""Modules of the user's: where they are looked for, and what is told when one cannot be had."""

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from sts_trio.config.raw import config_error

# Letters of a name, and of why it fails: whoever raises may say a lot.
MAX_TOLD = 300

_OURS = Path(__file__).parents[1]
_PATHS = sysconfig.get_paths()
# Where Python's own modules and those of others are.
_NOT_THE_USERS = [Path(_PATHS[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")]


def make_importable(directories: Iterable[Path]) -> None:
    """Modules in these can be imported from now on, as a script imports what lies beside it.

    For good: a function may import its neighbours when it is called.
    """
    for directory in directories:
        path = str(directory.resolve())
        if path not in sys.path:
            sys.path.insert(0, path)


def import_module(name: str, where: str) -> ModuleType:
    """The module of that name; `where` is what to name in a mistake.

    Raises:
        ConfigError: it is not there, or fails.
    """
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as exc:
        what, at = _told(exc)
        place = f" ({at})" if at else ""
        shown, reason = name[:MAX_TOLD], what[:MAX_TOLD]
        raise config_error(f"{where}: {shown} cannot be imported: {reason}{place}") from exc


def _told(error: BaseException) -> tuple[str, str]:
    """What happened, and in which line of a file of the user's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg}", f"{error.filename}, line {error.lineno}"
    frames = [
        each
        for each in traceback.extract_tb(error.__traceback__)
        if not each.filename.startswith("<") and not Path(each.filename).is_relative_to(_OURS)
    ]
    # What the user's line has called, and failed, is often Python's or a library's.
    own = [each for each in frames if not _is_installed(Path(each.filename))]
    # `importlib` itself is all there is of a module that was not found.
    others = [each for each in frames if Path(each.filename).parent.name != "importlib"]
    last = (own or others)[-1:]
    at = f"{last[0].filename}, line {last[0].lineno}" if last else ""
    return f"{type(error).__name__}: {error}", at


def _is_installed(file: Path) -> bool:
    return any(file.is_relative_to(place) for place in _NOT_THE_USERS)
