"""What is known of a call when it begins."""

import pytest

from sts_trio.call.info import CallInfo

US, THEM = "+15005550006", "+15005550010"


@pytest.mark.parametrize(
    ("direction", "from_", "to"), [("inbound", THEM, US), ("outbound-api", US, THEM)]
)
def test_which_number_is_ours_goes_by_who_called(direction: str, from_: str, to: str) -> None:
    parties = CallInfo(direction=direction, from_=from_, to=to).parties
    assert (parties.ours, parties.theirs) == (US, THEM)
