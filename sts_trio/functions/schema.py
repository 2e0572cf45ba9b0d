"""What a function takes: its signature as JSON Schema, and a model's JSON as its arguments.

Pure. Everything that can be wrong with a signature is found at start-up; everything that can be
wrong with arguments is told at once, field by field, so that a model can mend it in one go.
"""

import contextlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sts_trio.call.api import Call
from sts_trio.config.raw import config_error
from sts_trio.errors import FunctionFailed
from sts_trio.functions import times
from sts_trio.wire.printable import one_line

_TYPES = (
    "expected a type that JSON can carry: str, int, float, bool, list, dict, Literal, an Enum,"
    " a dataclass, a TypedDict or a msgspec.Struct"
)
_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "cannot be given by name; take the / away",
    inspect.Parameter.VAR_POSITIONAL: "expected named parameters, not *args; a list can be one",
    inspect.Parameter.VAR_KEYWORD: "expected named parameters, not **kwargs; a dict can be one",
}
# What JSON Schema has to say about the schemas inside one: a schema, a list, or named ones.
_ONE = {"items", "additionalProperties", "propertyNames"}
_MANY = {"anyOf", "prefixItems"}
_NAMED = {"properties"}
# Names of classes, and OpenAPI's pointers to the definitions that are not there any more.
_NOISE = {"title", "discriminator"}
_TYPE_NAMES: dict[type, str] = {str: "string", int: "integer"}

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)


class Parameter(msgspec.Struct, frozen=True):
    schema: dict[str, Any]
    is_required: bool
    decoder: msgspec.json.Decoder[Any]
    times: times.Reader | None

    def read(self, name: str, given: msgspec.Raw) -> dict[str, Any]:
        """{name: its value}; nothing for a null that stands for the default.

        Raises:
            msgspec.MsgspecError, RecursionError: it does not fit.
        """
        if self.times is not None:
            given = msgspec.Raw(msgspec.json.encode(self.times(msgspec.json.decode(given))))
        try:
            return {name: self.decoder.decode(given)}
        except msgspec.ValidationError as exc:
            without = _without_nulls(msgspec.json.decode(given))
            if without is None and not self.is_required:
                return {}
            try:
                return {name: self.decoder.decode(msgspec.json.encode(without))}
            except msgspec.ValidationError:
                raise exc from None


class Parameters:
    """The parameters of one function; `call` names the one that the call is injected for."""

    def __init__(
        self, run: Callable[..., Any], where: str, descriptions: Mapping[str, str]
    ) -> None:
        """`descriptions` are for those whose annotations have none.

        Raises:
            ConfigError: a model could not be told of a parameter, which it names.
        """
        self.call: str | None = None
        self._known: dict[str, Parameter] = {}
        for name, parameter in inspect.signature(run).parameters.items():
            place = f"{where}: parameter {name}"
            if parameter.kind in _KINDS:
                raise config_error(f"{place}: {_KINDS[parameter.kind]}")
            if parameter.annotation is parameter.empty:
                raise config_error(f"{place}: has no annotation; {_TYPES}")
            hint = _resolve(run, parameter.annotation, place)
            if hint is not Call:
                description = descriptions.get(name, "")
                self._known[name] = _parameter(hint, parameter.default, description, place)
            elif self.call is None:
                self.call = name
            else:
                raise config_error(f"{place}: there is one call, and {self.call} is it")

    @property
    def names(self) -> list[str]:
        """Of those that are the model's to give."""
        return list(self._known)

    @property
    def schema(self) -> dict[str, Any]:
        """One object, with nothing left to look up elsewhere."""
        required = [name for name, each in self._known.items() if each.is_required]
        return {
            "type": "object",
            "properties": {name: each.schema for name, each in self._known.items()},
            **({"required": required} if required else {}),
        }

    def read(self, text: str) -> dict[str, Any]:
        """The arguments in `text`, the call not among them.

        Numbers may be written as strings, all of it as a string, and what is left out as null:
        models do, and nothing else can be meant.

        Raises:
            FunctionFailed: they do not fit; it says all that is wrong with them.
        """
        try:
            given = _object(text)
        except msgspec.ValidationError:
            raise FunctionFailed("the arguments have to be one JSON object") from None
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            raise FunctionFailed(f"the arguments are not JSON: {exc}") from None
        arguments: dict[str, Any] = {}
        faults = []
        for name, parameter in self._known.items():
            if name in given:
                try:
                    arguments |= parameter.read(name, given[name])
                except (msgspec.MsgspecError, RecursionError) as exc:
                    faults.append(_told(name, exc))
            elif parameter.is_required:
                faults.append(f"{name}: missing")
        known = ", ".join(self.names) or "none"
        faults += [f"{name}: unknown, known are: {known}" for name in given.keys() - self._known]
        if faults:
            raise FunctionFailed("; ".join(faults))
        return arguments


def _object(text: str) -> dict[str, msgspec.Raw]:
    """Raises `msgspec.MsgspecError`, or `RecursionError`, if it is none."""
    # Deepgram sends "" where a model gave none.
    if text.strip() in ("", "null"):
        return {}
    try:
        return _members.decode(text)
    except msgspec.ValidationError as exc:
        try:
            return _members.decode(_string.decode(text))
        except msgspec.MsgspecError:
            raise exc from None


def _without_nulls(value: Any) -> Any:
    """The value less the members that are null, which stand for what is left out."""
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _told(name: str, error: Exception) -> str:
    # "Expected `int`, got `str` - at `$.year`"
    reason, _, path = str(error).partition(" - at `$")
    reason = times.EXPECTED.get(reason, reason)
    return f"{name}{path.rstrip('`')}: {reason[:1].lower()}{reason[1:]}"


def _resolve(run: Callable[..., Any], annotation: Any, place: str) -> Any:
    """An annotation as a type, where it may still be the text of one.

    One at a time, so that a return annotation may name what exists under TYPE_CHECKING alone; and
    with our own `Call` known to everybody, since that is where it is mostly imported.
    """
    names = {"Call": Call, **getattr(inspect.unwrap(run), "__globals__", {})}
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except Exception as exc:
        raise config_error(
            f"{place}: its annotation {annotation!r} means nothing at run time"
            f" ({type(exc).__name__}: {exc}): expected one that its module can look up,"
            " not imported under TYPE_CHECKING nor defined inside a function"
        ) from exc


def _parameter(hint: Any, default: Any, description: str, place: str) -> Parameter:
    try:
        schema, definitions = times.schema_of(hint)
        decoder = msgspec.json.Decoder(hint, strict=False)
    except Exception as exc:
        # msgspec explains how its users could extend it, then names the type.
        reason = str(exc).splitlines()[-1]
        raise config_error(f"{place}: {_TYPES}, got {one_line(_shown(hint))} ({reason})") from exc
    if description:
        # What is said of the parameter goes before what is said of its type.
        schema.setdefault("description", description)
    schema = _inline(schema, definitions, (), place)
    reader = times.reader_of(hint)
    if default is inspect.Parameter.empty:
        return Parameter(schema, True, decoder, reader)
    if default is not None:  # that it is optional says as much
        # A value that only Python has is not told; the parameter is optional all the same.
        with contextlib.suppress(TypeError, ValueError, OverflowError, RecursionError):
            schema["default"] = msgspec.json.decode(msgspec.json.encode(default))
    return Parameter(schema, False, decoder, reader)


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _inline(
    schema: dict[str, Any], definitions: dict[str, Any], inside: tuple[str, ...], place: str
) -> dict[str, Any]:
    """The schema with its definitions where they are used: many a model does not look them up."""
    inlined: dict[str, Any] = {}
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in inside:
            raise config_error(
                f"{place}: expected a type that does not contain itself, as {name} does"
            )
        inlined = _inline(definitions[name], definitions, (*inside, name), place)

    def deeper(child: Any) -> Any:
        is_schema = isinstance(child, dict)
        return _inline(child, definitions, inside, place) if is_schema else child

    for key, value in schema.items():
        if key in _ONE:
            inlined[key] = deeper(value)
        elif key in _MANY:
            inlined[key] = [deeper(child) for child in value]
        elif key in _NAMED:
            inlined[key] = {name: deeper(child) for name, child in value.items()}
        elif key not in _NOISE and key != "$ref" and (key, value) != ("required", []):
            inlined[key] = value
    kinds = {type(value) for value in inlined.get("enum", [])}
    if len(kinds) == 1 and kinds <= _TYPE_NAMES.keys():
        # Google's models want the type of an enum said.
        inlined = {"type": _TYPE_NAMES[kinds.pop()], **inlined}
    return inlined
