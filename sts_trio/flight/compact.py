"""What a dialogue hears and does, as small values that can be written down. Pure.

Audio is its length, and what is decided by its sound. All else is a name and the fields. What was
heard is read again as the messages that it was; acts are only compared, and shown.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from sts_trio.audio import wav
from sts_trio.audio.frames import SILENCE, SILENT
from sts_trio.errors import Cause, Ending, LegEnded
from sts_trio.logic import acts as logic
from sts_trio.logic.acts import Act, Heard
from sts_trio.logic.session import SettingsWanted
from sts_trio.observe import events
from sts_trio.observe.events import OfCall
from sts_trio.wire import deepgram, deepgram_settings, twilio
from sts_trio.wire.anomalies import Malformed, TooBig, Unknown

# Bytes of a WAV file's beginning that are kept as they came: a header takes 44 as a rule.
MAX_HEADER = 4096
# The agent's audio, when it was to be heard: no sound that ever was, but none of silence either.
SOUND = b"\x00"
# MessagePack's.
_LEAST_INTEGER, _MOST_INTEGER = -(2**63), 2**64 - 1
# What the agent's audio is beside a number.
_SILENT_AUDIO, _BEGIN = "silent", "begin"

_HEARD: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *twilio.Message.__args__,
        *deepgram.TextFromAgent.__args__,
        Malformed,
        TooBig,
        Unknown,
        LegEnded,
        logic.AgentReached,
        logic.Ask,
        logic.CallReleased,
        logic.CallerGone,
        logic.CancelRequest,
        logic.Collect,
        logic.DialFailed,
        logic.FunctionDone,
        logic.FunctionsRunAway,
        logic.HandOver,
        logic.MoveAway,
        logic.OperatorHangsUp,
        logic.OutboxFull,
        logic.Protect,
        logic.ShutDown,
        logic.Tick,
        logic.WaitUntilHeard,
        logic.WindUp,
    )
}
_AS_THEY_ARE: dict[type[Any], str] = {
    kind: name for name, kind in _HEARD.items() if kind is not twilio.Media
}
_SOUNDS = (logic.Unsent, logic.PlayTones)
_ENDS = (logic.HangUp, logic.ReleaseCall)
_CAUSES = {cause.label: cause for cause in Cause}


class NotOfThisVersion(ValueError):
    """There is something in it that this version does not know."""


class Writer:
    """Of one call: it knows of the agent's audio whether a WAV file's header goes on in it."""

    __slots__ = ("_header",)

    def __init__(self) -> None:
        self._header = b""

    def heard(self, batch: Sequence[Heard], stream_sid: str) -> list[Any] | None:
        """For `read_heard`. Numbers are bytes of audio: the caller's, or (negative) the agent's.
        `None`: what is heard is not to be written down."""
        written: list[Any] = []
        for message in batch:
            kind = type(message)
            # Sound first: while it matters whether the caller is heard, it comes 50 times a second.
            if isinstance(message, twilio.Media):
                written.append(_caller_audio(message, stream_sid))
            elif isinstance(message, deepgram.Audio):
                written.append(self._agent_audio(message.data))
            elif (name := _AS_THEY_ARE.get(kind)) is not None:
                written.append((name, message))
            elif isinstance(message, logic.Close):
                written.append(("Close", _ending(message.ending)))
            elif isinstance(message, logic.Recalled):
                return None
            else:
                assert isinstance(message, _SOUNDS)
                written.append((kind.__name__, len(message.audio)))
        return written

    def _agent_audio(self, data: bytes) -> Any:
        if self._header or data[:4] == b"RIFF":
            return self._begin(data)
        if not data.strip(SILENT):
            return (_SILENT_AUDIO, len(data))
        return -len(data)

    def _begin(self, data: bytes) -> Any:
        whole = self._header + data
        behind = wav.behind_header(whole)
        if behind is None and len(whole) < MAX_HEADER:
            self._header = whole
            return (_BEGIN, data, 0, False)
        self._header = b""
        size = min(len(data), MAX_HEADER if behind is None else len(behind))
        audio = data[len(data) - size :]
        return (_BEGIN, data[: len(data) - size], size, not audio.strip(SILENT))


def _caller_audio(message: twilio.Media, stream_sid: str) -> Any:
    media = message.media
    if message.stream_sid == stream_sid and media.track == "inbound":
        return len(media.payload)
    return ("Media", message.stream_sid, media.track, len(media.payload))


def _ending(ending: Ending) -> tuple[str, str, bool]:
    return ending.cause.label, ending.detail, ending.apologised


def done(acts: Sequence[Act], wanted: SettingsWanted | None) -> list[Any]:
    """Acts, to be compared and shown. Numbers are bytes of audio: to the agent, or (negative) to
    the caller; a text alone is the name of a mark. `wanted` is what settings were made for."""
    written: list[Any] = []
    for act in acts:
        if isinstance(act, logic.SendToCaller):
            message = act.message
            if isinstance(message, twilio.PlayMedia):
                written.append(-len(message.media.payload))
            elif isinstance(message, twilio.PlayMark):
                written.append(message.mark.name)
            else:
                written.append(("Clear",))
        elif isinstance(act, logic.SendToAgent):
            written.append(_to_agent(act.message, wanted))
        elif isinstance(act, OfCall):
            written.append((act.NAME, act))
        elif isinstance(act, _ENDS):
            written.append((type(act).__name__, _ending(act.ending)))
        elif isinstance(act, logic.Collected):
            written.append(("Collected", {"number": act.number, "keys": len(act.digits)}))
        else:
            written.append((type(act).__name__, act))
    return written


def _defaults() -> dict[str, dict[str, Any]]:
    """{an act, as `done` names it: its fields that have a default}"""
    named: dict[str, type[msgspec.Struct]] = {
        kind.__name__: kind
        for kind in (*Act.__args__, *deepgram.TextToAgent.__args__)
        if not issubclass(kind, OfCall)
    }
    for name, event in events.EVENTS.items():
        named[name] = event
    return {
        name: {
            field.encode_name: field.default
            for field in msgspec.structs.fields(kind)
            if field.default is not msgspec.NODEFAULT
        }
        for name, kind in named.items()
    }


_DEFAULTS = _defaults()


def as_then(now: Any, then: Any) -> Any:
    """An act, as plain values, without the fields that it had not then, where they have their
    defaults: who adds a field has not changed what is done."""
    for each in (now, then):
        if not (isinstance(each, list) and len(each) == 2 and isinstance(each[1], dict)):
            return now
    if now[0] != then[0]:
        return now
    defaults = _DEFAULTS.get(now[0], {})
    kept = {
        name: value
        for name, value in now[1].items()
        if name in then[1] or name not in defaults or defaults[name] != value
    }
    return [now[0], kept]


def plain(written: Any) -> Any:
    """As it is read again."""
    try:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(written))
    except OverflowError:
        return narrowed(written)


def narrowed(written: Any) -> Any:
    """The same as plain values, each integer as near as MessagePack can hold it: an agent may write
    any into what is JSON of its own.

    Raises `TypeError`: it is not plain at all.
    """
    return _narrowed(msgspec.to_builtins(written, builtin_types=(bytes,)))


def _narrowed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _narrowed(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_narrowed(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(value, _LEAST_INTEGER), _MOST_INTEGER)
    return value


def _to_agent(message: deepgram.ToAgent, wanted: SettingsWanted | None) -> Any:
    if isinstance(message, deepgram.Audio):
        return len(message.data)
    if isinstance(message, deepgram_settings.Settings) and wanted is not None:
        # What they say is configured; what they were asked for with is the dialogue's.
        told = {"agent": wanted.agent, "greets": wanted.greets, "history": wanted.history}
        return ("Settings", told)
    return (type(message).__name__, message)


def read_heard(written: Any, stream_sid: str) -> Heard:
    """Raises `NotOfThisVersion`."""
    try:
        return _read_heard(written, stream_sid)
    except (msgspec.ValidationError, ValueError, TypeError, KeyError) as exc:
        raise NotOfThisVersion(f"{str(written)[:60]}: {exc}") from None


def _read_heard(written: Any, stream_sid: str) -> Heard:
    if isinstance(written, int):
        if written < 0:
            return deepgram.Audio(SOUND * -written)
        return caller_speech(written, stream_sid)
    name, *fields = written
    match name, fields:
        case "silent", [int() as size]:
            return deepgram.Audio(SILENCE * size)
        case "begin", [bytes() as head, int() as size, bool() as is_silent]:
            return deepgram.Audio(head + (SILENCE if is_silent else SOUND) * size)
        case "Media", [str() as sid, str() as track, int() as size]:
            return twilio.Media(twilio.Inbound(SILENCE * size, track), sid)
        case "Unsent", [int() as size]:
            return logic.Unsent(SILENCE * size)
        case "PlayTones", [int() as size]:
            return logic.PlayTones(SOUND * size)
        case "Close", [[label, detail, apologised]]:
            return logic.Close(Ending(_CAUSES[label], detail, apologised))
        case _, [given]:
            message: Heard = msgspec.convert(given, _HEARD[name])
            return message
    raise ValueError("no message")


def caller_speech(size: int, stream_sid: str) -> twilio.Media:
    """So many bytes of the caller's; whether they are to be heard is asked of the perception."""
    return twilio.Media(twilio.Inbound(SILENCE * size), stream_sid)
