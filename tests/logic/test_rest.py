"""What of an utterance is kept in case that a noise cuts it."""

from sts_trio.logic.rest import LEAD_IN, MAX_REST, MAX_RESUMES, Hold, Rest


def frames(number: int, count: int = 1) -> bytes:
    return bytes([number]) * 160 * count


def kept(*pieces: bytes) -> Rest:
    rest = Rest()
    end = 0
    for piece in pieces:
        end += len(piece)
        rest.keep(piece, end)
    return rest


def test_what_was_heard_is_gone_but_for_a_little() -> None:
    rest = kept(frames(1, 50), frames(2, 50))
    rest.cut(8000, is_whole=True)
    assert rest.is_whole
    assert rest.take() == frames(1, LEAD_IN // 160) + frames(2, 50)
    assert not rest


def test_of_what_was_heard_no_more_is_kept_than_that_little() -> None:
    piece = frames(1, 50)
    rest = kept(*[piece] * 10)
    rest.forget_heard(9 * len(piece) + LEAD_IN)
    rest.cut(0, is_whole=True)
    assert rest.take() == piece


def test_in_what_was_heard_to_its_end_there_is_nothing_to_play_on() -> None:
    rest = kept(frames(1, 50))
    rest.cut(8000, is_whole=True)
    assert not rest
    assert rest.take() == b""


def test_what_the_agent_still_sends_of_it_comes_behind_in_whole_frames() -> None:
    rest = kept(frames(1))
    rest.cut(0, is_whole=False)
    rest.add(b"\x02" * 100)
    rest.add(b"\x03" * 100)
    assert not rest.is_whole
    assert rest.take() == frames(1) + b"\x02" * 100 + b"\x03" * 60
    rest.add(frames(4))
    assert not rest, "of nothing that was cut there is no more"


def test_a_second_noise_leaves_what_the_first_has_cut() -> None:
    rest = kept(frames(1))
    rest.cut(0, is_whole=False)
    rest.cut(160, is_whole=True)
    assert not rest.is_whole
    assert rest.take() == frames(1)


def test_what_is_cut_again_is_the_newer_one() -> None:
    rest = kept(frames(1))
    rest.cut(0, is_whole=True)
    rest.keep(frames(2), 320)
    rest.cut(160, is_whole=True)
    assert rest.take() == frames(2)


def test_no_more_than_a_minute_is_kept() -> None:
    rest = kept(*[frames(1, 50)] * 100)
    rest.cut(0, is_whole=True)
    rest.add(frames(2, 50))
    assert len(rest.take()) <= MAX_REST + 16_000


def test_the_end_of_a_piece_that_was_no_frame_is_gone_with_what_was_cut() -> None:
    rest = kept(frames(1))
    rest.cut(0, is_whole=False)
    rest.add(b"\x02" * 100)
    rest.drop()
    rest.keep(frames(3), 320)
    rest.cut(160, is_whole=False)
    rest.add(frames(4))
    assert rest.take() == frames(3) + frames(4)


def test_noise_after_noise_holds_up_nothing_until_the_caller_says_something() -> None:
    hold = Hold()
    for _ in range(MAX_RESUMES):
        assert hold.begin(0.0)
        hold.resume()
    assert not hold.begin(0.0)
    hold.hear_words()
    assert hold.begin(0.0)
    assert hold.count == MAX_RESUMES
