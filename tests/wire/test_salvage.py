"""What is used of a message with something wrong in it; `test_deepgram.py` has the messages."""

import pytest

from sts_trio.wire import deepgram
from sts_trio.wire.salvage import salvaged


@pytest.mark.parametrize(
    "data",
    ["", "{", "[" * 100_000, b'{"type": "\xff"}', "[]", '"text"', "null"],
    ids=["nothing", "broken", "too deep", "no Unicode", "a list", "a text", "null"],
)
def test_there_is_nothing_in_what_is_no_json_object(data: str | bytes) -> None:
    assert salvaged(data, deepgram.ConversationText) is None
