"""What is known of a call when it begins."""

import msgspec
import pytest

from sts_trio.call.info import (
    CALLER,
    OUR_PARAMETERS,
    CallInfo,
    Elsewhere,
    announced,
    is_from_bin,
    is_ours,
    parameters,
    streamed,
    was_elsewhere,
)
from sts_trio.wire import twilio, webhook

US, THEM = "+15005550006", "+15005550010"


@pytest.mark.parametrize(
    ("direction", "from_", "to"), [("inbound", THEM, US), ("outbound-api", US, THEM)]
)
def test_which_number_is_ours_goes_by_who_called(direction: str, from_: str, to: str) -> None:
    parties = CallInfo(direction=direction, from_=from_, to=to).parties
    assert (parties.ours, parties.theirs) == (US, THEM)


@pytest.mark.parametrize("name", [*sorted(OUR_PARAMETERS), f"{CALLER}SipHeader_X"])
def test_names_that_mean_something_to_us_are_ours(name: str) -> None:
    assert is_ours(name)


@pytest.mark.parametrize("name", ["", "order", "SipHeader_X"])
def test_all_other_names_are_anybodys(name: str) -> None:
    assert not is_ours(name)


def test_a_call_as_the_webhook_tells_of_it_is_the_call_that_its_stream_tells_of() -> None:
    voice = webhook.VoiceRequest(
        call_sid="CA1",
        account_sid="AC1",
        from_=THEM,
        to=US,
        call_status="ringing",
        direction="inbound",
        stir_verstat="",
        caller_name="ANN",
        forwarded_from="+15005550007",
    )
    info = announced(voice, {"SipHeader_X-Order": "4711"})
    start = twilio.StreamStart("MZ1", "CA1", account_sid="AC1", custom_parameters=parameters(info))
    assert streamed(start) == msgspec.structs.replace(info, stream_sid="MZ1")
    assert streamed(None) == CallInfo()


def test_a_stream_alone_tells_what_is_asked_of_it_before_the_call_is_known() -> None:
    before = Elsewhere("recovered", 1, 2.0)
    for call in (CallInfo(call_sid="CA1"), CallInfo(call_sid="CA1", elsewhere=before)):
        start = twilio.StreamStart("MZ1", "CA1", custom_parameters=parameters(call))
        assert not is_from_bin(start)
        assert was_elsewhere(start) == (call.elsewhere is not None)
        assert streamed(start) == msgspec.structs.replace(call, stream_sid="MZ1")
    from_bin = twilio.StreamStart("MZ1", "CA1", custom_parameters={"order": "7"})
    assert is_from_bin(from_bin)
    assert streamed(from_bin).is_from_bin
    assert not was_elsewhere(from_bin)


def test_where_a_call_was_before_goes_by_its_parameters() -> None:
    before = Elsewhere("recovered", 1764499999123457, 1764500000.125)
    call = CallInfo(call_sid="CA1", elsewhere=before)
    start = twilio.StreamStart("MZ1", "CA1", custom_parameters=parameters(call))
    assert streamed(start).elsewhere == before
    assert streamed(start).parameters == {}


@pytest.mark.parametrize("text", ["", "moved", "moved x 1.0", "moved 1 x", "moved 1 1.0 more"])
def test_what_nobody_of_us_wrote_tells_of_no_other_process(text: str) -> None:
    start = twilio.StreamStart("MZ1", "CA1", custom_parameters={"moved": text})
    assert streamed(start).elsewhere is None


@pytest.mark.parametrize(("now", "gap"), [(101.2504, 1.25), (99.0, 0.0)])
def test_the_gap_of_a_moved_call_is_never_negative(now: float, gap: float) -> None:
    """Two hosts have two clocks, and the one that goes on may be behind."""
    assert Elsewhere("moved", 1, 100.0).gap(now) == gap
