"""Wrong secrets are answered more and more slowly, up to a point."""

from sts_trio.web.guesses import FREE, LONGEST, PAUSE, Guesses


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def exhausted(clock: Clock) -> Guesses:
    guesses = Guesses(clock)
    assert [guesses.pause() for _ in range(FREE)] == [0.0] * FREE
    return guesses


def test_each_further_one_waits_behind_the_one_before() -> None:
    guesses = exhausted(Clock())
    assert [guesses.pause() for _ in range(3)] == [1.0, 2.0, 3.0]
    assert guesses.wrong == FREE + 3


def test_one_after_the_other_waits_a_second_each() -> None:
    clock = Clock()
    guesses = exhausted(clock)
    for _ in range(100):
        assert guesses.pause() == PAUSE
        clock.now += PAUSE
    clock.now += 1e6
    assert guesses.pause() == PAUSE


def test_a_flood_waits_no_longer_than_ten_seconds_and_is_not_kept_in_mind() -> None:
    clock = Clock()
    guesses = exhausted(clock)
    pauses = [guesses.pause() for _ in range(100_000)]
    assert pauses[:10] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, LONGEST]
    assert set(pauses[10:]) == {None}
    clock.now += 1.5
    assert guesses.pause() == 9.5
    assert guesses.pause() is None
    clock.now += LONGEST
    assert guesses.pause() == PAUSE
