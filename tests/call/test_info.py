"""What is known of a call when it begins."""

import pytest

from sts_trio.call.info import CALLER, OUR_PARAMETERS, CallInfo, is_ours

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
