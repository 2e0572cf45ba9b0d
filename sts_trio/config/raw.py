"""What the operator wrote, in the environment and in a file, read by the table of `variables`.

Errors are one line each: where, what was expected, what was got.
"""

import difflib
import enum
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sts_trio.config.variables import FILE, SETTINGS, TABLES
from sts_trio.errors import ConfigError
from sts_trio.wire.deepgram_settings import Session
from sts_trio.wire.printable import one_line, quoted

T = TypeVar("T", bound=msgspec.Struct)


class RawConfig:
    """What the operator wrote, variable by variable: the environment first, then the file."""

    def __init__(
        self, environ: Mapping[str, str], file: Path | None, table: dict[str, Any]
    ) -> None:
        self._environ = environ
        self._file = file
        self.table = table

    def __call__(self, variable: str, default: Any = None) -> Any:
        """The value as its type, or `default` where nothing, or nothing but spaces, was written."""
        setting = SETTINGS[variable]
        value = self._environ.get(variable, "").strip() or self.table.get(setting.key, "")
        if isinstance(value, str):
            value = value.strip()
        if value == "":
            return default
        folded = value
        if isinstance(value, str) and isinstance(setting.type, enum.EnumType):
            folded = value.lower()
        try:
            return msgspec.convert(folded, setting.type, strict=False)
        except (msgspec.ValidationError, UnicodeError):
            raise self.config_error(variable, value) from None

    def several(self, variable: str) -> list[str]:
        """What a variable lists: with commas between, or as an array in the file."""
        value = self(variable, [])
        written = value.split(",") if isinstance(value, str) else value
        several = [each.strip() for each in written if each.strip()]
        if written and not several:
            raise self.config_error(variable, value)
        return several

    def where(self, variable: str) -> str:
        """The place to look at: the variable, or the file and its key."""
        if self._environ.get(variable, "").strip():
            return variable
        key = SETTINGS[variable].key
        return self.in_file(key) if key in self.table else variable

    def beside_file(self, path: str) -> Path:
        """A path that was written in the file, seen from there."""
        return (self._file.parent if self._file is not None else Path()) / path

    def in_file(self, *keys: str) -> str:
        """Of a key in a table, the table's before."""
        return f"{self._file}: {'.'.join(map(written_key, keys))}"

    def config_error(self, variable: str, value: Any) -> ConfigError:
        setting = SETTINGS[variable]
        got = _measured(value) if setting.secret else _shown(value)
        return config_error(f"{self.where(variable)}: expected {setting.expected}, got {got}")

    def misspelt_variables(self) -> list[str]:
        """Warnings, not errors: somebody else's program may use the prefixes too."""
        known = [*SETTINGS, "STS_CONFIG"]
        return [
            f"{variable} is no setting of ours; did you mean {close[0]}?"
            for variable in self._environ
            if variable.startswith(("STS_", "DEEPGRAM_", "TWILIO_")) and variable not in known
            for close in [difflib.get_close_matches(variable, known, n=1, cutoff=0.8)]
            if close
        ]

    def refuse_unknown_keys(self) -> None:
        known = [*(setting.key for setting in SETTINGS.values()), *TABLES]
        for key in self.table:
            if key in Session.__struct_fields__:
                raise config_error(
                    f"{self.in_file(key)}: write it below [settings], for all agents, or for one"
                    " below [agents.NAME.settings]"
                )
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                raise config_error(f"{self.in_file(key)}: unknown key; {hint}")

    def read_table(self, name: str, type: type[T]) -> T:
        """The file's table of that name, whose keys are the struct's fields."""
        section = self.section(name)
        known = msgspec.structs.fields(type)
        for key in section.keys() - {field.name for field in known}:
            names = ", ".join(field.name for field in known)
            raise config_error(f"{self.in_file(name, key)}: unknown key; known are {names}")
        try:
            return msgspec.convert(section, type)
        except msgspec.ValidationError as exc:
            # "Expected `str`, got `int` - at `$.asks`"
            reason, _, path = str(exc).partition(" - at `$")
            where = self.in_file(name) + path.rstrip("`")
            raise config_error(f"{where}: {reason[:1].lower()}{reason[1:]}") from None

    def section(self, name: str) -> dict[str, Any]:
        section = self.table.get(name, {})
        if not isinstance(section, dict):
            raise config_error(f"{self.in_file(name)}: expected a table, got {quoted(section)}")
        # In TOML, what is written below a [table] is in it. Agents may have any name.
        for key in section:
            is_deepgrams = name == "agents" or (name, key) == ("settings", "agent")
            if not is_deepgrams and key in (setting.key for setting in SETTINGS.values()):
                raise config_error(
                    f"{self.in_file(name, key)}: write {key} above the first [table]"
                )
        return section


def read_file(named: str, directory: Path) -> tuple[Path | None, dict[str, Any]]:
    """The configuration file and what is in it. Only one that was named must exist."""
    path = directory / (named or FILE)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if not named:
            return None, {}
        raise config_error(f"STS_CONFIG: there is no file {path}") from None
    except (OSError, ValueError) as exc:
        # A ValueError is a path that no file system could have.
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise config_error(f"{path}: cannot be read: {reason}") from None
    try:
        return path, tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise config_error(f"{path}: expected UTF-8 text: {exc}") from None
    except RecursionError:
        raise config_error(f"{path}: not TOML: nested too deeply") from None
    except ValueError as exc:
        # It names line and column.
        raise config_error(f"{path}: not TOML: {exc}") from None


def written_key(key: str) -> str:
    """As TOML has it: in quotes where it is not bare."""
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _shown(value: Any) -> str:
    if not isinstance(value, list):
        return quoted(value)
    return f"a list of {', '.join(map(quoted, value[:3]))}" if value else "an empty list"


def _measured(secret: Any) -> str:
    """What may be told of it: it may be cut off, or not there at all."""
    parts = secret if isinstance(secret, list) else [secret]
    if not parts or not all(isinstance(each, str) for each in parts):
        return "no text"
    return f"{', '.join(str(len(each)) for each in parts[:3])} characters"


def config_error(text: str) -> ConfigError:
    return ConfigError(one_line(text))
