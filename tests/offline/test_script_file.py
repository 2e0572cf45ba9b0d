"""A scripted agent's lines from a file: one format for the command line and for tests."""

from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from limits import HANG

from sts_trio.errors import ConfigError
from sts_trio.observe.events import CallTranscript
from sts_trio.offline.protocol.script import CallFunction, Line, Silence
from sts_trio.offline.protocol.script_file import MAX_BYTES, parse, read
from sts_trio.testing import call, running, scripted_agent
from sts_trio.testing import fast_clock as fast_clock

SCRIPT = """
# In the order in which they are said.
We are open from nine to six.

@call look_up {"order": 7, "by": ["name", null]}
  It is on its way.
@call hang_up
@silence
Grüße # is said
"""


def test_a_line_is_said_or_calls_a_function_or_is_silence() -> None:
    assert parse(SCRIPT, "here").lines == (
        "We are open from nine to six.",
        CallFunction("look_up", {"order": 7, "by": ["name", None]}),
        "It is on its way.",
        CallFunction("hang_up"),
        Silence(),
        "Grüße # is said",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "here: a script needs at least one line to say"),
        ("# Nothing.", "here: a script needs at least one line to say"),
        ("@call look_up", "here: a script needs at least one line to say"),
        ("Hi.\n@wait 3", 'here, line 2: expected @call NAME {"argument": …}, or @silence, got '),
        ("Hi.\n@", "here, line 2: expected @call NAME"),
        ("Hi.\n@call", "here, line 2: expected @call NAME"),
        ("Hi.\n@silence now", "here, line 2: expected @call NAME"),
        (
            "Hi.\n\n@call f 7",
            "here, line 3: expected the arguments of 'f' as a JSON object: Expected",
        ),
        (
            "@call f {x: 1}\nHi.",
            "here, line 1: expected the arguments of 'f' as a JSON object: JSON",
        ),
        ("@call f " + '{"a":' * 5000 + "\nHi.", "here, line 1: expected the arguments of 'f'"),
    ],
)
def test_a_line_that_means_nothing_is_told_by_its_number(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "here")
    assert str(caught.value).startswith(told)
    assert str(caught.value).isprintable()


@given(st.text() | st.from_regex(r"(@\w* ?\w* ?[{}\w\"]*\n)+"))
def test_any_text_is_a_script_or_a_mistake(text: str) -> None:
    try:
        lines: tuple[Line, ...] = parse(text, "here").lines
    except ConfigError:
        return
    assert all(lines)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"Gr\xfc\xdfe\n")
    (tmp_path / "long").write_bytes(b"x" * (MAX_BYTES + 1))
    for name, told in (
        ("nowhere", "nowhere: cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("a\0b", "cannot be read: "),
        ("latin", "latin: expected UTF-8 text"),
        ("long", "long: expected a script of at most"),
    ):
        with pytest.raises(ConfigError, match=told):
            read(tmp_path / name)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes("Hi.\r\nYes.\r\n".encode("utf-8-sig"))
    assert read(tmp_path / "script").lines == ("Hi.", "Yes.")


async def test_a_file_is_a_script_in_tests_too(fast_clock: Any, tmp_path: Path) -> None:
    def look_up(order: int) -> str:
        """Look up an order."""
        return f"order {order} is on its way"

    (tmp_path / "my.script").write_text('@call look_up {"order": 7}\nIt is on its way.\n')
    with trio.fail_after(HANG):
        async with (
            scripted_agent(tmp_path / "my.script", "Anything else?") as agent,
            running(agent=agent, functions=look_up) as server,
        ):
            report = await call(server.url, ["Where is my order?", "Thanks."])
            happened = await server.happened_in(report)
    said = [each.event.text for each in happened if isinstance(each.event, CallTranscript)]
    assert said[2::2] == ["It is on its way.", "Anything else?"]
