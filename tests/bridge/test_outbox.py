"""The way toward a leg: order, what goes when it is too full, and how it ends."""

import weakref
from collections.abc import AsyncIterator

import pytest
import strategies  # noqa: F401  its profile: no deadline for one example
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st
from steps import at_most

from sts_trio.bridge import outbox as module
from sts_trio.bridge.outbox import MAX_MESSAGES, Outbox

# A message here is (its number, bytes of audio in it).
Message = tuple[int, int]

# 100 bytes of audio fit.
CAPACITY = 100 / 8000


def make_outbox() -> Outbox[Message]:
    return Outbox(CAPACITY, lambda message: message[1])


async def rest(outbox: Outbox[Message]) -> list[Message]:
    """Closes the outbox; returns what was still waiting in it."""
    outbox.close()
    return [message async for message in outbox]


async def test_messages_come_out_in_order() -> None:
    outbox = make_outbox()
    messages = [(0, 30), (1, 0), (2, 30), (3, 0)]
    assert [outbox.put(message) for message in messages] == [0, 0, 0, 0]
    assert await rest(outbox) == messages


async def test_the_oldest_audio_makes_room_and_control_messages_keep_their_place() -> None:
    outbox = make_outbox()
    for message in [(0, 0), (1, 40), (2, 0), (3, 40), (4, 0), (5, 20)]:
        assert outbox.put(message) == 0
    assert outbox.put((6, 50)) == 80
    assert outbox.put((7, 30)) == 0
    assert await rest(outbox) == [(0, 0), (2, 0), (4, 0), (5, 20), (6, 50), (7, 30)]


async def test_as_much_as_fits_is_dropped_of_nothing() -> None:
    outbox = make_outbox()
    assert [outbox.put((number, 10)) for number in range(10)] == [0] * 10
    assert outbox.put((10, 1)) == 10


async def test_a_full_outbox_still_takes_what_has_no_audio() -> None:
    outbox = make_outbox()
    outbox.put((0, 100))
    assert outbox.put((1, 0)) == 0
    assert await rest(outbox) == [(0, 100), (1, 0)]


async def test_a_message_larger_than_the_outbox_takes_it_alone() -> None:
    outbox = make_outbox()
    outbox.put((0, 60))
    assert outbox.put((1, 200)) == 60
    assert outbox.put((2, 10)) == 200
    assert await rest(outbox) == [(2, 10)]


async def test_taking_makes_room() -> None:
    outbox = make_outbox()
    outbox.put((0, 60))
    outbox.put((1, 40))
    assert await anext(outbox) == (0, 60)
    assert outbox.put((2, 60)) == 0
    assert await rest(outbox) == [(1, 40), (2, 60)]


async def test_flushing_drops_all_that_waits_and_makes_room() -> None:
    outbox = make_outbox()
    outbox.put((0, 100))
    outbox.put((1, 0))
    outbox.flush()
    outbox.flush()
    assert outbox.put((2, 100)) == 0
    assert await rest(outbox) == [(2, 100)]


async def test_closing_lets_the_rest_out_and_then_ends() -> None:
    outbox = make_outbox()
    outbox.put((0, 10))
    outbox.close()
    assert [message async for message in outbox] == [(0, 10)]
    assert [message async for message in outbox] == []


@pytest.mark.parametrize("late", [(1, 0), (1, 10), (1, 100)])
async def test_what_comes_after_closing_is_dropped_alone(late: Message) -> None:
    outbox = make_outbox()
    outbox.put((0, 60))
    outbox.close()
    assert outbox.put(late) == 0
    outbox.close()
    assert [message async for message in outbox] == [(0, 60)]


async def test_a_closed_outbox_can_be_flushed() -> None:
    outbox = make_outbox()
    outbox.put((0, 10))
    outbox.close()
    outbox.flush()
    assert [message async for message in outbox] == []


class Speaker:
    """Takes messages one by one, each when a test lets it."""

    def __init__(self, outbox: Outbox[Message]) -> None:
        self.took: list[Message] = []
        self._outbox = outbox

    async def take(self) -> None:
        self.took.append(await anext(self._outbox))


async def test_a_waiting_speaker_gets_a_message_directly() -> None:
    outbox = make_outbox()
    speaker = Speaker(outbox)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(speaker.take)
        await trio.testing.wait_all_tasks_blocked()
        outbox.put((0, 80))
        # It has been handed over: it can be neither flushed nor dropped to make room.
        outbox.flush()
        assert outbox.put((1, 80)) == 0
    assert speaker.took == [(0, 80)]
    assert outbox.put((2, 30)) == 80
    assert await rest(outbox) == [(2, 30)]


async def test_what_a_waiting_speaker_got_does_not_enlarge_the_outbox() -> None:
    outbox = make_outbox()
    speaker = Speaker(outbox)
    for number in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.take)
            await trio.testing.wait_all_tasks_blocked()
            outbox.put((number, 90))
            outbox.flush()
    outbox.put((3, 90))
    assert outbox.put((4, 20)) == 90
    assert await rest(outbox) == [(4, 20)]


async def test_a_message_is_written_through_to_a_leg_whose_speaker_waits() -> None:
    outbox = make_outbox()
    speaker = Speaker(outbox)
    written: list[Message] = []
    takes = True

    def try_send(message: Message) -> bool:
        if takes:
            written.append(message)
        return takes

    outbox.write_through(try_send)
    # Nobody speaks yet: it waits.
    outbox.put((0, 10))
    assert written == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(speaker.take)
        await trio.testing.wait_all_tasks_blocked()
        assert speaker.took == [(0, 10)]
        nursery.start_soon(speaker.take)
        await trio.testing.wait_all_tasks_blocked()
        assert outbox.put((1, 1000)) == 0
        outbox.put((2, 10))
        assert written == [(1, 1000), (2, 10)]
        takes = False
        outbox.put((3, 10))
        takes = True
        # Nothing overtakes what is on its way to the speaker, or waits.
        outbox.put((4, 10))
    assert speaker.took == [(0, 10), (3, 10)]
    assert written == [(1, 1000), (2, 10)]
    assert await rest(outbox) == [(4, 10)]


async def test_after_a_flush_messages_are_written_through_again() -> None:
    """The `clear` of a barge-in is to leave at once."""
    outbox = make_outbox()
    speaker = Speaker(outbox)
    written: list[Message] = []

    def try_send(message: Message) -> bool:
        written.append(message)
        return True

    outbox.write_through(try_send)
    outbox.put((0, 10))
    outbox.put((1, 10))
    outbox.flush()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(speaker.take)
        await trio.testing.wait_all_tasks_blocked()
        outbox.put((2, 0))
        assert written == [(2, 0)]
        outbox.write_through(None)
        outbox.put((3, 0))
    assert speaker.took == [(3, 0)]


async def test_nothing_is_written_through_after_closing() -> None:
    outbox = make_outbox()
    written: list[Message] = []

    async def speak() -> None:
        async for _ in outbox:
            pytest.fail("there was nothing to take")

    def try_send(message: Message) -> bool:
        written.append(message)
        return True

    outbox.write_through(try_send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        await trio.testing.wait_all_tasks_blocked()
        outbox.close()
        assert outbox.put((0, 10)) == 0
    assert written == []


async def test_a_speaker_that_waits_is_told_of_the_end() -> None:
    outbox = make_outbox()
    ended = trio.Event()

    async def speak() -> None:
        async for _ in outbox:
            pytest.fail("there was nothing to take")
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        await trio.testing.wait_all_tasks_blocked()
        outbox.close()
    assert ended.is_set()


async def test_a_speaker_cancelled_while_it_waits_takes_nothing_along() -> None:
    outbox = make_outbox()
    with trio.move_on_after(0):
        await anext(outbox)
    outbox.put((0, 10))
    assert await rest(outbox) == [(0, 10)]


@pytest.fixture
def eight_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MESSAGES", 8)


async def test_the_oldest_go_when_nobody_reads(eight_messages: None) -> None:
    outbox = make_outbox()
    for number in range(8):
        assert outbox.put((number, number % 2)) == 0
    # Many at once, as making room costs a pass over all that waits.
    assert outbox.put((8, 0)) == 1
    assert outbox.put((9, 0)) == 0
    left = await rest(outbox)
    assert left == [(number, number % 2 if number < 8 else 0) for number in range(2, 10)]


async def test_an_outbox_that_nobody_reads_never_grows_beyond_its_limit(
    eight_messages: None,
) -> None:
    outbox = make_outbox()
    for number in range(1000):
        outbox.put((number, 0))
    left = await rest(outbox)
    assert len(left) <= 8
    assert left[-1] == (999, 0)


weights = st.just(0) | st.integers(1, 60)
# Mostly puts: what is dropped has to become more than what waits.
steps = st.lists(weights | weights | weights | st.sampled_from(["take", "flush"]), max_size=60)


@given(steps)
@example([0, 60, 60, 60])
@example([60, 0, 60, 60, "take", 60, 0, 60])
async def test_an_outbox_keeps_the_newest_audio_and_every_control_message(
    steps: list[int | str],
) -> None:
    outbox = make_outbox()
    model: list[Message] = []
    for number, step in enumerate(steps):
        if isinstance(step, int):
            dropped = 0
            while sum(weight for _, weight in model) + step > 100:
                oldest = next(message for message in model if message[1])
                model.remove(oldest)
                dropped += oldest[1]
            model.append((number, step))
            assert outbox.put((number, step)) == dropped
        elif step == "flush":
            model.clear()
            outbox.flush()
        elif model:
            assert await anext(outbox) == model.pop(0)
    assert await rest(outbox) == model


async def test_what_has_passed_costs_nothing_later() -> None:
    """As long as there is room, a message is looked at once when put and once when taken."""
    weighed = 0

    def weigh(message: Message) -> int:
        nonlocal weighed
        weighed += 1
        return message[1]

    outbox = Outbox[Message](CAPACITY, weigh)
    for number in range(20):
        outbox.put((number, 90))
        await anext(outbox)
    for number in range(20):
        outbox.put((number, 90))
        outbox.flush()
    outbox.put((0, 90))
    outbox.put((1, 90))
    outbox.flush()
    weighed = 0
    for number in range(9):
        outbox.put((number, 10))
    assert weighed == 9


async def test_no_count_is_kept_of_what_has_passed(eight_messages: None) -> None:
    outbox = make_outbox()
    for number in range(20):
        outbox.put((number, 0))
        await anext(outbox)
    for number in range(20):
        outbox.put((number, 0))
        outbox.flush()
    for number in range(8):
        outbox.put((number, 0))
    assert await rest(outbox) == [(number, 0) for number in range(8)]


async def test_a_slow_speaker_gets_each_message_once_and_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    outbox = make_outbox()

    async def numbers() -> AsyncIterator[int]:
        async for number, _ in outbox:
            await trio.sleep(0.02)
            yield number

    async def fill() -> None:
        for number in range(100):
            assert outbox.put((number, 10)) == 0
            await trio.sleep(0.02)
        outbox.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill)
        assert [number async for number in numbers()] == list(range(100))


# --- what it costs when much waits --------------------------------------------------------------


MANY = 20_000


def crowd(outbox: Outbox[Message], of: int, weight: int) -> None:
    for number in range(of):
        outbox.put((number, weight))


@pytest.mark.parametrize(
    ("waiting", "weight", "put"),
    [
        # As many as may wait, each of them audio, and full of it.
        (MAX_MESSAGES, 1, 1),
        (MAX_MESSAGES, 1, 100),
        # Marks, which are not to be dropped for audio's sake, and audio that never fits.
        (MAX_MESSAGES - 100, 0, 90),
        # One more than may wait, and one less.
        (MAX_MESSAGES - 1, 0, 0),
        (MAX_MESSAGES, 0, 0),
        (MAX_MESSAGES + 1, 0, 0),
    ],
)
async def test_what_comes_costs_no_multiple_of_what_waits(
    waiting: int, weight: int, put: int
) -> None:
    """Each message costs its few steps twice at most: when it is put, and when it goes."""
    capacity = max(MAX_MESSAGES * weight, 100) / 8000
    outbox = Outbox[Message](capacity, lambda message: message[1])
    crowd(outbox, waiting, weight)
    with at_most(200 * (waiting + MANY)) as steps:
        crowd(outbox, MANY, put)
    assert steps.count > 50 * MANY


async def test_dropped_audio_is_not_kept() -> None:
    """However much waits that is not to be dropped."""

    class Sound:
        pass

    outbox = Outbox[Sound | None](CAPACITY, lambda message: 0 if message is None else 90)
    sounds = []
    for _ in range(100):
        outbox.put(None)
        sound = Sound()
        sounds.append(weakref.ref(sound))
        outbox.put(sound)
    del sound
    assert [ref() is None for ref in sounds] == [True] * 99 + [False]


async def test_it_tells_how_much_audio_waits() -> None:
    outbox = make_outbox()
    for message in [(0, 40), (1, 0), (2, 40), (3, 40)]:
        outbox.put(message)
    assert outbox.seconds == 80 / 8000, "the oldest made room"
    outbox.flush()
    assert outbox.seconds == 0
