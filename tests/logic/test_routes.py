"""Every message that a call may hear has somebody who hears it."""

from typing import get_args

from sts_trio.logic.acts import Heard
from sts_trio.logic.routes import HANDLERS


def test_there_is_a_handler_for_each_message_that_may_be_heard_and_for_no_other() -> None:
    assert set(HANDLERS) == set(get_args(Heard))


def test_handlers_are_functions_of_no_call_in_particular() -> None:
    assert not any(hasattr(handler, "__self__") for handler in HANDLERS.values())
