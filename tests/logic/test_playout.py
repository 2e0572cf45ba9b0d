"""The ledger of what was heard, against a Twilio that plays, echoes marks and clears."""

import collections

import pytest
import strategies  # noqa: F401  its profile: no deadline for one example
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sts_trio.logic.playout import MARK_EVERY, MAX_PENDING_MARKS, Echo, Playout


class TwilioPlayout(RuleBasedStateMachine):
    """Plays what it holds, a bit at a time, and echoes marks, which are a while under way."""

    def __init__(self) -> None:
        super().__init__()
        self.playout = Playout()
        self.buffer: collections.deque[int | str] = collections.deque()  # bytes, or a mark
        self.under_way: collections.deque[str] = collections.deque()  # echoes not yet with us
        self.sent: list[str] = []  # marks of this epoch, not yet echoed to us
        self.past: list[str] = []  # marks that were echoed, cleared, or overtaken by an echo
        self.played = 0
        self.heard = 0

    @rule(count=st.integers(1, 9000))
    def play(self, count: int) -> None:
        self.playout.play(count)
        self.buffer.append(count)
        assert not self.playout.is_marked

    @rule()
    def mark(self) -> None:
        name = self.playout.mark()
        assert name not in self.sent
        assert name not in self.past
        self.sent.append(name)
        self.buffer.append(name)
        assert self.playout.is_marked
        assert not self.playout.play(0)

    @rule(count=st.integers(1, 9000))
    @precondition(lambda self: self.buffer)
    def time_passes(self, count: int) -> None:
        while count and self.buffer:
            first = self.buffer.popleft()
            if isinstance(first, str):
                self.under_way.append(first)
                continue
            now = min(first, count)
            self.played += now
            count -= now
            if first > now:
                self.buffer.appendleft(first - now)
        while self.buffer and isinstance(self.buffer[0], str):
            self.under_way.append(str(self.buffer.popleft()))

    @rule()
    def clear(self) -> None:
        unheard = self.playout.unheard
        assert self.playout.clear() == unheard
        assert self.playout.unheard == 0
        assert self.playout.is_marked
        self.under_way += [item for item in self.buffer if isinstance(item, str)]
        self.buffer.clear()
        self.past += self.sent
        self.sent.clear()

    @rule()
    @precondition(lambda self: self.under_way)
    def an_echo_comes(self) -> None:
        self.echo(self.under_way.popleft())

    @rule()
    @precondition(lambda self: self.under_way)
    def an_echo_is_lost(self) -> None:
        self.under_way.popleft()

    @rule(data=st.data())
    @precondition(lambda self: len(self.under_way) > 1)
    def echoes_change_places(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(1, len(self.under_way) - 1))
        name = self.under_way[place]
        del self.under_way[place]
        self.under_way.appendleft(name)

    @rule(data=st.data())
    @precondition(lambda self: self.past)
    def an_echo_comes_again(self, data: st.DataObject) -> None:
        self.echo(data.draw(st.sampled_from(self.past)))

    @rule(name=st.text(max_size=8))
    def a_stranger_comes(self, name: str) -> None:
        assume(name not in self.sent)
        before = self.playout.heard
        assert self.playout.echo(name) is not Echo.HEARD
        assert self.playout.heard == before

    def echo(self, name: str) -> None:
        before, unheard = self.playout.heard, self.playout.unheard
        told = self.playout.echo(name)
        if name in self.sent:
            assert told is Echo.HEARD
            place = self.sent.index(name) + 1
            self.past += self.sent[:place]
            del self.sent[:place]
        else:
            assert told is Echo.CLEARED
            assert (self.playout.heard, self.playout.unheard) == (before, unheard)

    @invariant()
    def the_ledger_balances(self) -> None:
        playout = self.playout
        assert playout.sent == playout.heard + playout.cut + playout.unheard
        assert playout.unheard >= 0

    @invariant()
    def heard_never_decreases_nor_exceeds_what_was_played(self) -> None:
        assert self.heard <= self.playout.heard <= self.played
        self.heard = self.playout.heard


TestTwilioPlayout = TwilioPlayout.TestCase


def test_a_mark_tells_that_all_audio_before_it_was_heard() -> None:
    playout = Playout()
    playout.play(4000)
    first = playout.mark()
    playout.play(160)
    second = playout.mark()
    playout.play(800)
    assert playout.echo(first) is Echo.HEARD
    assert (playout.heard, playout.unheard) == (4000, 960)
    assert playout.echo(second) is Echo.HEARD
    assert (playout.heard, playout.unheard) == (4160, 800)


def test_an_echo_stands_for_those_it_overtook() -> None:
    playout = Playout()
    playout.play(4000)
    first = playout.mark()
    playout.play(4000)
    second = playout.mark()
    assert playout.echo(second) is Echo.HEARD
    assert playout.heard == 8000
    assert playout.echo(first) is Echo.CLEARED
    assert playout.heard == 8000


def test_a_clear_cuts_what_was_not_heard_and_its_echoes_mean_nothing() -> None:
    playout = Playout()
    playout.play(4000)
    heard = playout.mark()
    playout.play(4000)
    cut = playout.mark()
    playout.echo(heard)
    assert playout.clear() == 4000
    assert playout.echo(cut) is Echo.CLEARED
    assert (playout.sent, playout.heard, playout.cut) == (8000, 4000, 4000)
    playout.play(800)
    assert playout.echo(cut) is Echo.CLEARED
    assert playout.echo(playout.mark()) is Echo.HEARD
    assert (playout.sent, playout.heard, playout.cut) == (8800, 4800, 4000)


def test_clearing_nothing_cuts_nothing() -> None:
    playout = Playout()
    assert playout.clear() == 0
    assert playout.clear() == 0
    assert (playout.sent, playout.heard, playout.cut) == (0, 0, 0)


def test_names_differ_across_a_clear() -> None:
    playout = Playout()
    names = [playout.mark(), playout.mark()]
    playout.clear()
    names += [playout.mark(), playout.mark()]
    assert len(set(names)) == 4


def test_a_mark_is_wanted_each_half_second() -> None:
    assert MARK_EVERY == 4000
    playout = Playout()
    assert not playout.play(3999)
    assert playout.play(1)
    playout.mark()
    assert not playout.play(3999)
    playout.clear()
    assert not playout.play(1)


def test_no_more_marks_are_wanted_than_twilio_can_hold_audio_for() -> None:
    playout = Playout()
    names = []
    for _ in range(MAX_PENDING_MARKS):
        playout.play(MARK_EVERY)
        names.append(playout.mark())
    assert not playout.play(MARK_EVERY)
    playout.echo(names[0])
    assert playout.play(MARK_EVERY)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "e",
        "e0",
        "e0-",
        "-1",
        "0-1",
        "e0-0",
        "e0-3",  # two were sent
        "e1-1",  # there was no clear
        "e-1-1",
        "ee0-1",
        "e0-1 ",
        "E0-1",
        "e0-1-1",
        "e0-01",
        "e00-1",
        "e0-1\n",
        "e0-x",
        "e\u0660-\u0661",  # digits to Python, but not to us
        "e0-\N{SUPERSCRIPT ONE}",
        "\ud800",
        "e" + "9" * 5000 + "-1",  # more than int() takes
        "e0-" + "9" * 5000,
    ],
)
def test_a_mark_never_sent_is_told_apart(name: str) -> None:
    playout = Playout()
    for _ in range(2):
        playout.play(4000)
        playout.mark()
    assert playout.echo(name) is Echo.NEVER_SENT
    assert (playout.heard, playout.unheard) == (0, 8000)


def test_marks_that_a_clear_has_taken_along_are_not_waited_for() -> None:
    playout = Playout()
    for _ in range(MAX_PENDING_MARKS):
        playout.play(MARK_EVERY)
        playout.mark()
    assert not playout.play(MARK_EVERY), "too many are under way"
    playout.clear()
    assert playout.play(MARK_EVERY)
