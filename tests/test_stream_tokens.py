"""Stream tokens: one socket each, within a minute."""

import pytest

from sts_trio.stream_tokens import LIFETIME, MOST, StreamTokens


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_lets_one_in_and_no_second() -> None:
    tokens = StreamTokens(Clock())
    token, other = tokens.mint(), tokens.mint()
    assert tokens.spend(token)
    assert not tokens.spend(token)
    assert tokens.spend(other)


def test_a_token_is_old_after_a_minute() -> None:
    clock = Clock()
    tokens = StreamTokens(clock)
    token = tokens.mint()
    clock.now += 30
    younger = tokens.mint()
    clock.now += LIFETIME - 30
    assert not tokens.spend(token)
    assert tokens.spend(younger)


def test_a_token_is_good_to_its_last_moment() -> None:
    clock = Clock()
    tokens = StreamTokens(clock)
    token = tokens.mint()
    clock.now += LIFETIME - 0.001
    assert tokens.spend(token)


@pytest.mark.parametrize("guess", ["", "x", "x" * 100_000, "\udcff", "ä"])
def test_a_guess_is_no_token_and_spends_none(guess: str) -> None:
    tokens = StreamTokens(Clock())
    token = tokens.mint()
    assert not tokens.spend(guess)
    assert not tokens.spend(token[:-1])
    assert not tokens.spend(token + "x")
    assert tokens.spend(token)


def test_tokens_are_long_differ_and_fit_into_a_path() -> None:
    tokens = StreamTokens(Clock())
    minted = {tokens.mint() for _ in range(100)}
    assert len(minted) == 100
    assert all(len(token) == 43 for token in minted)
    assert all(token.replace("-", "").replace("_", "").isalnum() for token in minted)


def test_the_oldest_give_way_when_there_are_too_many() -> None:
    tokens = StreamTokens(Clock())
    first, second = tokens.mint(), tokens.mint()
    for _ in range(MOST - 1):
        tokens.mint()
    assert not tokens.spend(first)
    assert tokens.spend(second)
