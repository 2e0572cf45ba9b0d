import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text, damaged, structs

from sts_trio.errors import Leg
from sts_trio.wire import twilio
from sts_trio.wire.anomalies import Malformed, Unknown

DATA = Path(__file__).parent.parent / "data" / "twilio"
FROM_TWILIO = {
    path.stem: json.loads(path.read_text()) for path in sorted((DATA / "from-twilio").iterdir())
}
TO_TWILIO = {
    path.stem: json.loads(path.read_text()) for path in sorted((DATA / "to-twilio").iterdir())
}
ODD = json.loads((DATA / "odd" / "from-twilio.json").read_text())
HOSTILE = json.loads((DATA / "odd" / "from-twilio-hostile.json").read_text())
REFUSED = json.loads((DATA / "odd" / "to-twilio-refused.json").read_text())

STREAM = "MZ00000000000000000000000000000003"
FRAME = b"\xff" * 160


def decoded(message: dict[str, Any]) -> twilio.FromCaller:
    return twilio.decode(json.dumps(message))


def media(**body: Any) -> dict[str, Any]:
    return {"event": "media", "streamSid": STREAM, "media": {"payload": "/w==", **body}}


# --- What Twilio sends --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FROM_TWILIO)
def test_a_message_of_twilio_is_read_whole_and_written_as_twilio_writes_it(name: str) -> None:
    message = decoded(FROM_TWILIO[name])
    assert not isinstance(message, Unknown | Malformed)
    assert json.loads(twilio.encode_as_twilio(message)) == FROM_TWILIO[name]


def test_start_tells_whose_call_it_is() -> None:
    message = decoded(FROM_TWILIO["start"])
    assert message == twilio.Start(
        start=twilio.StreamStart(
            stream_sid=STREAM,
            call_sid="CA00000000000000000000000000000002",
            account_sid="AC00000000000000000000000000000001",
            custom_parameters={"session": "made-up-per-call-secret", "from": "+15005550010"},
        ),
        stream_sid=STREAM,
        sequence_number=1,
    )


def test_media_is_bytes_and_numbers() -> None:
    assert decoded(FROM_TWILIO["media"]) == twilio.Media(
        media=twilio.Inbound(payload=FRAME, chunk=2, timestamp=175),
        stream_sid=STREAM,
        sequence_number=4,
    )


def test_bytes_are_read_like_text() -> None:
    text = json.dumps(FROM_TWILIO["media"])
    assert twilio.decode(text.encode()) == twilio.decode(text)


@pytest.mark.parametrize("case", ODD, ids=lambda case: case["why"])
def test_an_odd_message_is_understood(case: dict[str, Any]) -> None:
    message = decoded(case["message"])
    if case["expect"] == "ignore, log once":
        assert message == Unknown(Leg.CALLER, case["message"]["event"])
    else:
        assert not isinstance(message, Unknown | Malformed)


def test_an_absent_list_of_parameters_is_an_empty_one() -> None:
    raw = json.loads(json.dumps(FROM_TWILIO["start"]))
    del raw["start"]["customParameters"]
    message = decoded(raw)
    assert isinstance(message, twilio.Start)
    assert message.start.custom_parameters == {}


@pytest.mark.parametrize("counter", [3, "3", 3.0])
def test_counters_may_be_numbers(counter: object) -> None:
    message = decoded(media(chunk=counter) | {"sequenceNumber": counter})
    assert isinstance(message, twilio.Media)
    assert (message.media.chunk, message.sequence_number) == (3, 3)


@pytest.mark.parametrize("wrong", [None, "many", "", [], {}, 1.5, True, -1, "9" * 400])
def test_a_counter_that_is_none_does_not_cost_the_audio(wrong: object) -> None:
    raw = media(chunk=wrong, timestamp=wrong, track=None)
    assert decoded(raw | {"sequenceNumber": wrong, "streamSid": 7}) == twilio.Media(
        media=twilio.Inbound(payload=b"\xff")
    )


def test_parameters_that_are_no_texts_become_texts() -> None:
    raw = {
        "event": "start",
        "start": {"streamSid": STREAM, "customParameters": {"n": 1, "l": ["é"], "t": "x"}},
    }
    message = decoded(raw)
    assert isinstance(message, twilio.Start)
    assert message.start.custom_parameters == {"n": "1", "l": '["é"]', "t": "x"}


def test_an_echoed_mark_may_grow() -> None:
    raw = FROM_TWILIO["mark"] | {"mark": {"name": "e7-12", "playedAt": 5}}
    assert decoded(raw) == decoded(FROM_TWILIO["mark"])


@pytest.mark.parametrize("stop", [None, 5, {"callSid": 5}, [{}]])
def test_stop_is_stop_whatever_is_in_it(stop: object) -> None:
    raw = {"event": "stop", "streamSid": STREAM, "sequenceNumber": "9", "stop": stop}
    message = decoded(raw)
    assert isinstance(message, twilio.Stop)
    assert message.stream_sid == STREAM
    assert message.sequence_number == 9


def test_connected_needs_nothing_at_all() -> None:
    assert decoded({"event": "connected", "version": 2}) == twilio.Connected()


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("not JSON", "not JSON"),
        ("JSON but not an object", "not a JSON object"),
        ("no event", "no event"),
        ("payload not base64", "media: Invalid base64 encoded string - at `$.media.payload`"),
        ("start without start object", "start: Object missing required field `start`"),
    ],
)
def test_what_is_no_message_is_malformed_and_says_why(why: str, expected: str) -> None:
    (text,) = [case["text"] for case in HOSTILE if case["why"] == why]
    assert twilio.decode(text) == Malformed(Leg.CALLER, expected)


def test_nothing_hostile_raises() -> None:
    # What is well-formed but out of place (a second start, say) is for the dialogue to judge.
    malformed = [
        case["why"] for case in HOSTILE if isinstance(twilio.decode(case["text"]), Malformed)
    ]
    assert len(malformed) == 5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "empty message"),
        (b"", "empty message"),
        (b"\xff\xfe", "not JSON"),
        ("\ud800", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"event": 5}', "no event"),
        ('{"event": "dtmf", "dtmf": "1"}', "dtmf: Expected `object`, got `str` - at `$.dtmf`"),
    ],
)
def test_bytes_that_are_no_message_have_a_reason(data: str | bytes, reason: str) -> None:
    assert twilio.decode(data) == Malformed(Leg.CALLER, reason)


@pytest.mark.parametrize("event", ["media", "start", "mark", "unheard of"])
def test_a_long_message_that_is_not_as_it_should_be_is_not_read_a_second_time(event: str) -> None:
    """Of a megabyte of objects that would take a tenth of a second of every call's time."""
    message = {"event": event, event: 1, "more": [{"a": {}}] * (twilio.MAX_LENIENT // 11)}
    text = msgspec.json.encode(message)
    assert len(text) < twilio.MAX_LENIENT
    short = twilio.decode(text)
    message["more"] = [{"a": {}}] * (twilio.MAX_LENIENT // 8)
    told = twilio.decode(msgspec.json.encode(message))
    if event == "unheard of":
        assert short == Unknown(Leg.CALLER, event)
    assert isinstance(told, Malformed)
    assert told.reason.startswith("over 131072 bytes, and not as it should be: ")


@given(any_text | st.binary())
def test_decode_is_total_for_anything(data: str | bytes) -> None:
    assert isinstance(twilio.decode(data), twilio.FromCaller)


@given(damaged([*FROM_TWILIO.values(), *(case["message"] for case in ODD)]))
def test_decode_is_total_for_damaged_messages(text: str) -> None:
    message = twilio.decode(text)
    assert isinstance(message, twilio.FromCaller)
    # Text or bytes, it is the same message, and as much of it as counts survived.
    assert twilio.decode(text.encode()) == message


# --- Both ways ----------------------------------------------------------------------------------


@given(structs(twilio.Message))
def test_what_twilio_writes_we_read(message: twilio.Message) -> None:
    assert twilio.decode(twilio.encode_as_twilio(message)) == message


@given(structs(twilio.ToCaller))
def test_what_we_write_twilio_reads(message: twilio.ToCaller) -> None:
    assert twilio.decode_as_twilio(twilio.encode(message)) == message


# --- What Twilio takes --------------------------------------------------------------------------


@pytest.mark.parametrize("name", TO_TWILIO)
def test_a_message_to_twilio_holds_what_it_must_and_no_more(name: str) -> None:
    message = twilio.decode_as_twilio(json.dumps(TO_TWILIO[name]))
    assert json.loads(twilio.encode(message)) == TO_TWILIO[name]


def test_audio_goes_out_as_base64() -> None:
    message = twilio.PlayMedia(stream_sid="MZ1", media=twilio.Outbound(payload=b"\xff\x7f"))
    assert twilio.encode(message) == (
        b'{"event":"media","streamSid":"MZ1","media":{"payload":"/38="}}'
    )


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["why"])
def test_what_twilio_refuses_is_refused(case: dict[str, Any]) -> None:
    # A stream of another SID, and audio that is no audio, only Twilio itself can tell.
    passes = case["why"].startswith(("streamSid of another", "payload with a WAV header"))
    text = b"\xff\xff" if case["message"] is None else json.dumps(case["message"])
    if passes:
        assert isinstance(twilio.decode_as_twilio(text), twilio.ToCaller)
    else:
        with pytest.raises(msgspec.MsgspecError):
            twilio.decode_as_twilio(text)
