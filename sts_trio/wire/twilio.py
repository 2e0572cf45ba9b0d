"""Twilio's Media Streams language, both ways.

The bridge decodes what Twilio sends and encodes what Twilio takes; `decode_as_twilio` and
`encode_as_twilio` are the other side of the same wire, for simulated callers.

Every message is a websocket text frame with one JSON object told apart by `event`. Twilio writes
its counters as strings ("sequenceNumber": "3"), clones write numbers: both are read.
Source: Twilio, "Media Streams: WebSocket messages", read 2026-11-22.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from sts_trio.errors import Leg
from sts_trio.wire.anomalies import Malformed, Unknown
from sts_trio.wire.schema import Counter

# Bytes of a message that is read though something is wrong with it: 7 ms, if all of them are
# objects. Twilio's are of 400.
MAX_LENIENT = 128 * 1024


class Connected(msgspec.Struct, frozen=True, tag_field="event", tag="connected", rename="camel"):
    """The first message, once, before any SID is known."""

    protocol: str = "Call"
    version: str = "1.0.0"


class MediaFormat(msgspec.Struct, frozen=True, rename="camel"):
    encoding: str = "audio/x-mulaw"
    sample_rate: int = 8000
    channels: int = 1


class StreamStart(msgspec.Struct, frozen=True, rename="camel"):
    stream_sid: str
    call_sid: str = ""
    account_sid: str = ""
    tracks: tuple[str, ...] = ("inbound",)
    media_format: MediaFormat = MediaFormat()
    # {<Parameter> name: value}; captures of 2019 and 2020 lack the key when there is none.
    custom_parameters: dict[str, str] = {}


class Start(msgspec.Struct, frozen=True, tag_field="event", tag="start", rename="camel"):
    """Once, right after `Connected`: who is calling, in what format."""

    start: StreamStart
    stream_sid: str = ""
    sequence_number: Counter = 0


class Inbound(msgspec.Struct, frozen=True, gc=False):
    payload: bytes  # µ-law; 20 ms in every capture, though no length is promised
    track: str = "inbound"
    chunk: Counter = 0
    timestamp: Counter = 0  # milliseconds since the stream began, with jitter; never chunk x 20


class Media(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="media", rename="camel"):
    """The caller's audio."""

    media: Inbound
    stream_sid: str = ""
    sequence_number: Counter = 0


class Digit(msgspec.Struct, frozen=True):
    digit: str
    track: str = "inbound_track"  # sic: not "inbound"


class Dtmf(msgspec.Struct, frozen=True, tag_field="event", tag="dtmf", rename="camel"):
    """One key pressed by the caller."""

    dtmf: Digit
    stream_sid: str = ""
    sequence_number: Counter = 0


class MarkName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class Mark(msgspec.Struct, frozen=True, tag_field="event", tag="mark", rename="camel"):
    """Our mark, echoed: all audio before it was played, or a `clear` dropped it."""

    mark: MarkName
    stream_sid: str = ""
    sequence_number: Counter = 0


class StreamStop(msgspec.Struct, frozen=True, rename="camel"):
    call_sid: str = ""
    account_sid: str = ""


class Stop(msgspec.Struct, frozen=True, tag_field="event", tag="stop", rename="camel"):
    """The stream is over; whether the call is, it does not say."""

    stop: StreamStop = StreamStop()
    stream_sid: str = ""
    sequence_number: Counter = 0


# What Twilio takes. Its parser refuses keys it does not know as well as missing ones (31951).
class Outbound(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    payload: bytes


class PlayMedia(
    msgspec.Struct,
    frozen=True,
    gc=False,
    tag_field="event",
    tag="media",
    rename="camel",
    forbid_unknown_fields=True,
):
    """Audio for the caller, appended to Twilio's playout buffer."""

    stream_sid: str
    media: Outbound


class PlayMark(
    msgspec.Struct,
    frozen=True,
    tag_field="event",
    tag="mark",
    rename="camel",
    forbid_unknown_fields=True,
):
    """Asks for an echo once all audio sent before it has been played."""

    stream_sid: str
    mark: MarkName


class Clear(
    msgspec.Struct,
    frozen=True,
    tag_field="event",
    tag="clear",
    rename="camel",
    forbid_unknown_fields=True,
):
    """Empties the playout buffer at once. Pending marks come back all the same."""

    stream_sid: str


Message = Connected | Start | Media | Dtmf | Mark | Stop
FromCaller = Message | Unknown | Malformed
ToCaller = PlayMedia | PlayMark | Clear

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message, strict=False)
_peer_decoder: msgspec.json.Decoder[ToCaller] = msgspec.json.Decoder(ToCaller)
_encoder = msgspec.json.Encoder()

_KNOWN = {"connected", "start", "media", "dtmf", "mark", "stop"}


def decode(data: str | bytes) -> FromCaller:
    """One message from Twilio. Total: never raises, whatever the bytes."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        return _decode_leniently(data, exc)


def decode_all(texts: Sequence[bytes]) -> list[FromCaller]:
    """Many messages, each as `decode` reads it."""
    try:
        return list(map(_decoder.decode, texts))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return list(map(decode, texts))


def encode(message: ToCaller) -> bytes:
    return _encoder.encode(message)


def _decode_leniently(data: str | bytes, error: Exception) -> FromCaller:
    """What can be read of a message that is not quite right: fields nobody needs may be wrong."""
    if len(data) > MAX_LENIENT:
        return Malformed(Leg.CALLER, f"over {MAX_LENIENT} bytes, and not as it should be: {error}")
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Malformed(Leg.CALLER, "not JSON" if data else "empty message")
    if not isinstance(raw, dict):
        return Malformed(Leg.CALLER, "not a JSON object")
    event = raw.get("event")
    if not isinstance(event, str):
        return Malformed(Leg.CALLER, "no event")
    if event not in _KNOWN:
        return Unknown(Leg.CALLER, event)
    try:
        message: Message = msgspec.convert(_without_wrong_extras(raw, event), Message, strict=False)
    except (msgspec.MsgspecError, UnicodeError):
        return Malformed(Leg.CALLER, f"{event}: {error}")
    return message


def _without_wrong_extras(raw: dict[str, Any], event: str) -> dict[str, Any]:
    """The message less the counters and texts that are of a wrong type, so that the rest serves."""
    fixed = {key: value for key, value in raw.items() if value is not None}
    _drop_unless_counter(fixed, "sequenceNumber")
    if not isinstance(fixed.get("streamSid", ""), str):
        del fixed["streamSid"]
    if event in ("connected", "stop"):
        # Nothing in these is needed to act on them.
        return {"event": event} | {
            key: fixed[key] for key in ("streamSid", "sequenceNumber") if key in fixed
        }
    body = fixed.get(event)
    if isinstance(body, dict):
        body = {key: value for key, value in body.items() if value is not None}
        _drop_unless_counter(body, "chunk")
        _drop_unless_counter(body, "timestamp")
        if event == "mark":
            # Ours may hold nothing but a name; an echo may grow.
            body = {key: body[key] for key in body if key == "name"}
        parameters = body.get("customParameters")
        if isinstance(parameters, dict):
            body["customParameters"] = {
                name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
                for name, value in parameters.items()
            }
        fixed[event] = body
    return fixed


def _drop_unless_counter(raw: dict[str, Any], key: str) -> None:
    try:
        msgspec.convert(raw.get(key, 0), Counter, strict=False)
    except msgspec.ValidationError:
        del raw[key]


def decode_as_twilio(data: str | bytes) -> ToCaller:
    """One message of ours, read as strictly as Twilio reads it.

    Raises:
        msgspec.MsgspecError: where Twilio would log warning 31951 and ignore the message.
    """
    return _peer_decoder.decode(data)


def encode_as_twilio(message: Message) -> str:
    """One message as Twilio writes it: counters are strings."""
    raw = msgspec.to_builtins(message)
    body = raw.get("media")
    for fields, key in ((raw, "sequenceNumber"), (body, "chunk"), (body, "timestamp")):
        if isinstance(fields, dict) and key in fields:
            fields[key] = str(fields[key])
    return _encoder.encode(raw).decode()
