"""Stream tokens: one socket each, in time, and of the call that it was given to."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text

from sts_trio.web import tokens as stream_tokens
from sts_trio.web.tokens import CALL_LIFETIME, LIFETIME, MAX_SPENT, StreamTokens

CALL = "CA00000000000000000000000000000002"
LONGEST_NOTICE = "x" * 3000  # that STS_SAY_NOTICE may be


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def spends(tokens: StreamTokens, text: str) -> bool:
    """Whether it lets a stream in; it is spent then."""
    token = tokens.read(text)
    return token is not None and tokens.spend(token)


@pytest.mark.parametrize("call_sid", [None, CALL, ""])
def test_a_token_lets_one_in_and_no_second(call_sid: str | None) -> None:
    tokens = StreamTokens(Clock())
    token, other = tokens.mint(call_sid), tokens.mint(call_sid)
    assert spends(tokens, token)
    assert not spends(tokens, token)
    assert spends(tokens, other)


def test_two_who_come_at_the_same_time_are_one_too_many() -> None:
    tokens = StreamTokens(Clock())
    text = tokens.mint(CALL)
    first, second = tokens.read(text), tokens.read(text)
    assert first is not None
    assert second is not None
    assert tokens.spend(first)
    assert not tokens.spend(second)


def test_reading_a_token_does_not_spend_it() -> None:
    tokens = StreamTokens(Clock())
    token = tokens.mint(CALL)
    assert tokens.read(token) == tokens.read(token) is not None
    assert spends(tokens, token)


@pytest.mark.parametrize(
    ("call_sid", "notice", "lifetime"),
    [
        (None, "", LIFETIME),
        (None, LONGEST_NOTICE, LIFETIME),
        (CALL, "", CALL_LIFETIME),
        # In which even a voice that speaks ten letters a second has said it.
        (CALL, LONGEST_NOTICE, CALL_LIFETIME + 400),
    ],
)
def test_a_token_is_good_to_its_last_moment(
    call_sid: str | None, notice: str, lifetime: float
) -> None:
    clock = Clock()
    tokens = StreamTokens(clock, notice=notice)
    token, late = tokens.mint(call_sid), tokens.mint(call_sid)
    clock.now += lifetime - 0.01
    assert spends(tokens, token)
    clock.now += 0.02
    assert tokens.read(late) is None


@pytest.mark.parametrize("call_sid", [None, CALL])
def test_a_spent_token_is_refused_for_as_long_as_it_would_be_good(call_sid: str | None) -> None:
    clock = Clock()
    tokens = StreamTokens(clock, notice=LONGEST_NOTICE)
    text = tokens.mint(call_sid)
    assert spends(tokens, text)
    for _ in range(1000):
        clock.now += tokens.call_lifetime / 1000
        spends(tokens, tokens.mint())
        assert not spends(tokens, text)


def test_a_token_is_for_its_call_only() -> None:
    tokens = StreamTokens(Clock())
    token = tokens.read(tokens.mint(CALL))
    assert token is not None
    assert not token.is_softphone
    assert token.is_for(CALL)
    for other in ("", CALL.lower(), CALL + " ", CALL[:-1] + "3"):
        assert not token.is_for(other)


def test_a_softphone_names_its_call_itself() -> None:
    tokens = StreamTokens(Clock())
    token = tokens.read(tokens.mint())
    assert token is not None
    assert token.is_softphone
    assert token.is_for(CALL)
    assert token.is_for("")


def test_a_webhook_without_a_call_binds_its_token_to_none() -> None:
    tokens = StreamTokens(Clock())
    token = tokens.read(tokens.mint(""))
    assert token is not None
    assert not token.is_softphone
    assert token.is_for(CALL)


# --- guesses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("guess", ["", "x", "at", "x" * 100_000, "\udcff", "ä", "=" * 44])
def test_a_guess_is_no_token_and_spends_none(guess: str) -> None:
    tokens = StreamTokens(Clock())
    token = tokens.mint(CALL)
    for each in (guess, token[:-1], token + "x", token[4:], token + token):
        assert tokens.read(each) is None
    assert spends(tokens, token)


@pytest.mark.parametrize("call_sid", [None, CALL])
def test_no_bit_of_a_token_can_be_another(call_sid: str | None) -> None:
    """Neither its time, nor its call, nor its kind."""
    tokens = StreamTokens(Clock())
    data = base64.urlsafe_b64decode(tokens.mint(call_sid))
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert tokens.read(base64.urlsafe_b64encode(changed).decode()) is None
    for kept in range(len(data)):
        assert tokens.read(base64.urlsafe_b64encode(data[:kept]).decode()) is None
        assert tokens.read(base64.urlsafe_b64encode(data[kept + 1 :]).decode()) is None


def test_another_spelling_of_a_spent_token_is_spent() -> None:
    """Base64 has two alphabets, and readers that take both, and what is behind the end."""
    tokens = StreamTokens(Clock())
    texts = [tokens.mint(CALL) for _ in range(100)]
    for text in texts:
        assert spends(tokens, text)
        assert not spends(tokens, text.replace("-", "+").replace("_", "/"))
        assert not spends(tokens, text + "=")


@given(any_text)
def test_anything_can_be_read(text: str) -> None:
    assert StreamTokens(Clock()).read(text) is None


@given(st.none() | any_text)
def test_a_token_fits_into_a_path_whatever_the_call_is_called(call_sid: str | None) -> None:
    tokens = StreamTokens(Clock())
    text = tokens.mint(call_sid)
    assert len(text) == (44 if call_sid is None else 64)
    assert text.replace("-", "").replace("_", "").isalnum()
    token = tokens.read(text)
    assert token is not None
    assert token.is_for(call_sid or "")


def test_tokens_differ() -> None:
    tokens = StreamTokens(Clock())
    assert len({tokens.mint(CALL) for _ in range(1000)}) == 1000


# --- many -----------------------------------------------------------------------------------------


def test_however_many_are_given_none_pushes_another_out() -> None:
    """A webhook that is sent again and again costs no caller its way in, and us no memory."""
    tokens = StreamTokens(Clock())
    first = tokens.mint(CALL)
    for _ in range(20_000):
        tokens.mint("CA of somebody else")
    assert spends(tokens, first)


def test_what_is_spent_is_kept_within_bounds_and_fails_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_SPENT >= 40 * CALL_LIFETIME  # calls a second
    monkeypatch.setattr(stream_tokens, "MAX_SPENT", 3)
    clock = Clock()
    tokens = StreamTokens(clock)
    texts = [tokens.mint(CALL) for _ in range(4)]
    assert [spends(tokens, text) for text in texts] == [True, True, True, False]
    assert not any(spends(tokens, text) for text in texts)
    clock.now += CALL_LIFETIME
    assert spends(tokens, tokens.mint(CALL))


# --- several processes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mints", "reads", "is_taken"),
    [
        (["a"], ["a"], True),
        (["old", "new"], ["new", "old"], True),
        (["new"], ["old", "new"], True),
        (["a"], ["b"], False),
        ([], [], False),
    ],
    ids=["the same secret", "rotated", "one is left", "another", "none"],
)
def test_processes_that_have_a_secret_in_common_take_each_others_tokens(
    mints: list[str], reads: list[str], is_taken: bool
) -> None:
    clock = Clock()
    here, there = StreamTokens(clock, mints), StreamTokens(clock, reads)
    assert spends(there, here.mint(CALL)) is is_taken


@pytest.mark.parametrize("minute", [-60.0, 60.0])
def test_clocks_that_differ_by_a_minute_refuse_no_caller(minute: float) -> None:
    """Twilio comes within seconds of the answer, whichever process's clock is ahead."""
    here, there = Clock(), Clock()
    there.now += minute
    one, other = StreamTokens(here, ["secret"]), StreamTokens(there, ["secret"])
    for each, another in ((one, other), (other, one)):
        token = each.mint(CALL)
        here.now += 10
        there.now += 10
        assert spends(another, token)
        assert not spends(another, token)


def test_a_process_that_says_a_shorter_notice_forgets_no_token_too_early() -> None:
    clock = Clock()
    here, there = StreamTokens(clock, ["a"], notice=LONGEST_NOTICE), StreamTokens(clock, ["a"])
    token = here.mint(CALL)
    assert spends(there, token)
    for _ in range(10):
        clock.now += CALL_LIFETIME / 2
        spends(there, there.mint(CALL))
        assert not spends(there, token)


def test_a_softphones_token_is_taken_only_where_it_was_given() -> None:
    """Nothing else is asked of it, and whoever knows a secret could write one."""
    clock = Clock()
    here, there = StreamTokens(clock, ["a"]), StreamTokens(clock, ["a"])
    token = here.mint()
    assert there.read(token) is None
    assert spends(here, token)


def test_what_the_secret_signs_elsewhere_is_no_token() -> None:
    """The secret is Twilio's: it signs URLs with it, and nobody else's words may look like ours."""
    tokens = StreamTokens(Clock(), ["secret"])
    content = base64.urlsafe_b64decode(tokens.mint(CALL))[:-15]
    for digest in (hashlib.sha1, hashlib.sha256):
        mac = hmac.digest(b"secret", content, digest)[:15]
        assert tokens.read(base64.urlsafe_b64encode(content + mac).decode()) is None
