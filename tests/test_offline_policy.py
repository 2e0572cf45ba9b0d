"""What the car seller understands and says, by table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.offline import domain
from sts_trio.offline.policy import Policy
from sts_trio.offline.script import CallFunction
from sts_trio.offline.understanding import Understanding

CARS = domain.load()
HELP = CARS.says.help
LOST = CARS.says.lost
DAY, TIME, NAME = (slot.ask for slot in CARS.form.slots)
BOOKED = (
    "It is booked for Mary, on Tuesday at ten. We look forward to seeing you. "
    "Is there anything else?"
)
CONFIRM = "So that is a test drive of {}, {} at {}, for {}. Is that right?"


def answers(*turns: str) -> list[object]:
    policy = Policy(CARS)
    return [policy.reply(turn, ()) for turn in turns]


def last(*turns: str) -> object:
    return answers(*turns)[-1]


@pytest.mark.parametrize(
    ("said", "meant", "values"),
    [
        ("how much does the otter cost", ("price",), {"model": "the Otter"}),
        ("no thank you that is all", ("goodbye", "thanks", "no"), {}),
        ("half past nine", (), {"time": "half past nine"}),
        ("at nine thirty please", (), {"time": "half past nine"}),
        ("nine no ten", ("no",), {"time": "ten"}),
        ("monday or rather on tuesday", (), {"day": "on Tuesday"}),
        ("that's not right", ("no", "yes"), {}),
        ("That’s RIGHT!", ("yes",), {}),
        ("closed", ("hours",), {}),
        ("enclosed", (), {}),
        ("", (), {}),
        ("?!", (), {}),
        ("quelque chose", (), {}),
    ],
)
def test_cues_and_values_are_found_in_what_was_said(
    said: str, meant: tuple[str, ...], values: dict[str, str]
) -> None:
    understood = Understanding(CARS).understand(said)
    assert (understood.meant, understood.values) == (meant, values)


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("hello there", f"Hello! {HELP}"),
        ("which cars do you have", "We have three models."),
        ("i'm looking for a family car", "We have three models."),
        ("what is your cheapest car", "The Otter is fourteen thousand dollars, the Heron"),
        ("how much does the bison cost", "The Bison costs thirty one thousand dollars."),
        ("tell me about the heron", "The Heron is a family car with five seats"),
        ("the otter please", "The Otter is a small electric city car"),
        ("when do you close on saturday", "We are open from nine to six on weekdays"),
        ("where are you", "You find us at twelve Station Road"),
        ("thanks", "You are welcome."),
        ("thank you goodbye", "Thank you for calling. Goodbye!"),
        ("what can you do for me", HELP),
        ("repeat that", HELP),
        ("yes", CARS.says.nothing_to_confirm),
        ("no", CARS.says.nothing_to_cancel),
        ("never mind", CARS.says.nothing_to_cancel),
        ("i would like to book a test drive", DAY),
        ("book a test drive of the heron on monday at two", NAME),
        ("can i try it", DAY),
        ("", f"{LOST} {HELP}"),
        ("the weather is fine", f"{LOST} {HELP}"),
        ("tomorrow", f"{LOST} {HELP}"),
    ],
)
def test_a_first_turn_is_answered(said: str, answered: str) -> None:
    assert str(last(said)).startswith(answered)


def test_a_test_drive_is_asked_for_slot_by_slot_and_booked_only_when_confirmed() -> None:
    assert answers("book a test drive", "on tuesday", "at ten", "my name is mary", "yes") == [
        DAY,
        TIME,
        NAME,
        CONFIRM.format("one of our cars", "on Tuesday", "ten", "Mary"),
        BOOKED,
    ]


@pytest.mark.parametrize(
    ("turns", "answered"),
    [
        # The car that was talked about is the one to be tried.
        (["how much is the otter", "yes please"], DAY),
        (
            ["tell me about the bison", "can i try it on friday at noon", "i am tom"],
            CONFIRM.format("the Bison", "on Friday", "twelve", "Tom"),
        ),
        # What was offered can be declined, and is then not on offer any more.
        (["how much is the otter", "no"], CARS.says.nothing_to_cancel),
        (["how much is the otter", "hello", "yes"], CARS.says.nothing_to_confirm),
        # Values come in any order, and more than one at a time.
        (["book a test drive", "my name is anna", "at four"], DAY),
        # A question in between is answered, and the form goes on.
        (["book a test drive", "where are you"], f"{CARS.answers[3].say} {DAY}"),
        (["book a test drive", "what can you do"], f"{HELP} {DAY}"),
        # What does not help is said so, and asked again.
        (["book a test drive", "bananas"], f"{LOST} {DAY}"),
        (["book a test drive", ""], f"{LOST} {DAY}"),
        (["book a test drive", "book a test drive"], DAY),
        (["book a test drive", "could you say that again"], DAY),
        # What cannot be is refused.
        (["book a test drive", "on sunday"], f"We are closed on Sunday. {DAY}"),
        (
            ["book a test drive on saturday at five"],
            f"On Saturday, test drives are from ten to three. {TIME}",
        ),
        # One can always leave.
        (["book a test drive", "on monday", "never mind"], CARS.says.cancelled),
        (["book a test drive", "goodbye"], "Thank you for calling. Goodbye!"),
        (["book a test drive", "goodbye", "on monday"], f"{LOST} {HELP}"),
        (["book a test drive", "on monday", "cancel", "book a test drive"], DAY),
    ],
)
def test_a_form_bears_with_its_caller(turns: list[str], answered: str) -> None:
    assert last(*turns) == answered


FILLED = ("book a test drive on tuesday at ten", "mary")


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        ("yes", BOOKED),
        ("that's right", BOOKED),
        ("yes please book it", BOOKED),
        ("no", CARS.form.unsure),
        ("yes no", CARS.form.unsure),
        ("no at eleven", CONFIRM.format("one of our cars", "on Tuesday", "eleven", "Mary")),
        ("yes but on friday", CONFIRM.format("one of our cars", "on Friday", "ten", "Mary")),
        ("the heron", CONFIRM.format("the Heron", "on Tuesday", "ten", "Mary")),
        ("on sunday", f"We are closed on Sunday. {DAY}"),
        ("cancel", CARS.says.cancelled),
        (
            "bananas",
            f"{LOST} " + CONFIRM.format("one of our cars", "on Tuesday", "ten", "Mary"),
        ),
        (
            "how much is the otter",
            "The Otter costs fourteen thousand dollars. Would you like to book a test drive? "
            + CONFIRM.format("the Otter", "on Tuesday", "ten", "Mary"),
        ),
    ],
)
def test_nothing_is_booked_but_by_a_clear_yes(said: str, answered: str) -> None:
    assert last(*FILLED, said) == answered


# --- a client that books --------------------------------------------------------------------------

CAN_BOOK = {"book_test_drive", "find_car"}
CALL = CallFunction("book_test_drive", {"day": "on Tuesday", "time": "ten", "name": "Mary"})


def confirmed(said: str = "yes") -> Policy:
    policy = Policy(CARS)
    for turn in FILLED:
        policy.reply(turn, CAN_BOOK)
    assert policy.reply(said, CAN_BOOK) == CALL
    return policy


@pytest.mark.parametrize("result", ["", "done", '{"ok": true}', "[]", '"error"'])
def test_a_client_that_can_book_does_and_its_word_is_taken(result: str) -> None:
    assert confirmed().go_on(result) == BOOKED


def test_a_booking_that_failed_is_not_said_to_be_one() -> None:
    policy = confirmed()
    assert policy.go_on('{"error": "no such day"}') == CARS.form.failed
    assert policy.reply("yes", CAN_BOOK) == CARS.says.nothing_to_confirm


def test_a_booking_that_was_interrupted_is_asked_about_again() -> None:
    policy = confirmed()
    again = CONFIRM.format("one of our cars", "on Tuesday", "eleven", "Mary")
    assert policy.reply("no at eleven", CAN_BOOK) == again
    assert policy.reply("yes", CAN_BOOK) == CallFunction(
        CALL.name, CALL.arguments | {"time": "eleven"}
    )


def test_a_result_that_comes_when_the_form_was_dropped_is_not_told_as_a_booking() -> None:
    """Typed words, unlike spoken ones, call nothing off."""
    policy = confirmed()
    assert policy.reply("never mind", CAN_BOOK) == CARS.says.cancelled
    assert policy.go_on("done") == HELP


def test_asked_to_speak_up_it_says_what_it_can_do_or_what_it_waits_for() -> None:
    policy = Policy(CARS)
    assert policy.speak_up() == HELP
    policy.reply("book a test drive", ())
    assert policy.speak_up() == DAY


def test_two_callers_do_not_hear_of_each_other() -> None:
    first, second = Policy(CARS), Policy(CARS)
    first.reply("book a test drive on tuesday at ten", ())
    assert second.reply("mary", ()) == f"{LOST} {HELP}"


VOCABULARY = (
    "yes no cancel again help goodbye open otter heron book drive monday sunday saturday nine half"
    " past four thirty mary tom about the banana"
)
WORDS = st.sampled_from(VOCABULARY.split())


@given(st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=12))
def test_whatever_is_said_there_is_an_answer_and_no_gap_in_it(turns: list[str]) -> None:
    for answer in answers(*turns):
        assert isinstance(answer, str)
        assert answer.strip()
        assert "{" not in answer
