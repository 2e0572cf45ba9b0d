"""What is owed to who is on the line, whoever was to blame."""

import pytest

from sts_trio.call.owed import Owed, owed
from sts_trio.errors import Cause, Ending
from sts_trio.wire.webhook import VoiceRequest

IN_PROGRESS = VoiceRequest("CA1", call_status="in-progress")
SAID = {Cause.HUNG_UP, Cause.NOT_HUNG_UP, Cause.AGENT_FINISHED, Cause.SILENCE, Cause.TIME_UP}


@pytest.mark.parametrize("cause", Cause)
def test_who_has_heard_no_goodbye_is_owed_the_call(cause: Cause) -> None:
    expected = Owed.NOTHING if cause in SAID else Owed.CALL
    if cause is Cause.TRANSFERRED:
        expected = Owed.TRANSFER
    assert owed(IN_PROGRESS, Ending(cause)) is expected


@pytest.mark.parametrize("cause", Cause)
def test_a_caller_who_was_told_that_something_went_wrong_is_told_once(cause: Cause) -> None:
    ending = Ending(cause, apologised=True)
    assert owed(IN_PROGRESS, ending) is (
        Owed.TRANSFER if cause is Cause.TRANSFERRED else Owed.NOTHING
    )


def test_of_a_call_that_nobody_here_knows_all_is_owed() -> None:
    assert owed(IN_PROGRESS, None) is Owed.CALL
    assert owed(VoiceRequest("CA1"), None) is Owed.CALL, "it is not said that it is over"


@pytest.mark.parametrize("status", ["completed", "busy", "failed", "no-answer", "canceled"])
@pytest.mark.parametrize("ending", [None, Ending(Cause.TRANSFERRED), Ending(Cause.AGENT_LOST)])
def test_nothing_is_owed_to_who_is_gone(status: str, ending: Ending | None) -> None:
    assert owed(VoiceRequest("CA1", call_status=status), ending) is Owed.NOTHING


@pytest.mark.parametrize(
    ("dialled", "expected"),
    [
        ("completed", Owed.NOTHING),
        ("answered", Owed.NOTHING),
        ("no-answer", Owed.REGRET),
        ("busy", Owed.REGRET),
        ("failed", Owed.REGRET),
        ("canceled", Owed.REGRET),
    ],
)
@pytest.mark.parametrize("ending", [None, Ending(Cause.TRANSFERRED)])
def test_behind_a_transfer_it_depends_on_whether_somebody_took_the_call(
    dialled: str, expected: Owed, ending: Ending | None
) -> None:
    voice = VoiceRequest("CA1", call_status="in-progress", dial_call_status=dialled)
    assert owed(voice, ending) is expected
