"""What the car seller understands and says, by table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.offline import domain
from sts_trio.offline.answers.policy import Policy
from sts_trio.offline.answers.understanding import Understanding
from sts_trio.offline.protocol.script import CallFunction

CARS = domain.load()
HELP = CARS.says.help
LOST = CARS.says.lost
ANSWERS = {answer.name: answer for answer in CARS.answers}
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
        ("please go on", HELP),
        ("where is my new car", "I am sorry, I cannot look up orders."),
        ("can i speak to somebody in sales", "You are talking to sales already."),
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
        (["book a test drive", "where are you"], f"{ANSWERS['place'].say} {DAY}"),
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
CALL = CallFunction("book_test_drive", {"day": "Tuesday", "time": "10:00", "name": "Mary"})


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
    told = policy.go_on('{"error": "at ten there is somebody else"}')
    assert told == f"{CARS.form.failed} At ten there is somebody else."
    # What was wrong can be changed; nothing is tried again without being asked for.
    again = CONFIRM.format("one of our cars", "on Tuesday", "eleven", "Mary")
    assert policy.reply("at eleven", CAN_BOOK) == again


def test_a_booking_that_was_interrupted_is_asked_about_again() -> None:
    policy = confirmed()
    again = CONFIRM.format("one of our cars", "on Tuesday", "eleven", "Mary")
    assert policy.reply("no at eleven", CAN_BOOK) == again
    assert policy.reply("yes", CAN_BOOK) == CallFunction(
        CALL.name, CALL.arguments | {"time": "11:00"}
    )


def test_a_result_that_comes_when_the_form_was_dropped_is_not_told_as_a_booking() -> None:
    """Typed words, unlike spoken ones, call nothing off."""
    policy = confirmed()
    assert policy.reply("never mind", CAN_BOOK) == CARS.says.cancelled
    assert policy.go_on("done") == HELP


# --- functions that answer ------------------------------------------------------------------------

FOUND = '{"model": "Heron", "price": 23000, "in_stock": 2}'
OFFER = (
    "The Heron costs 23000 dollars, and we have 2 of them here."
    " Would you like to book a test drive?"
)
FIND = CallFunction("find_car", {"model": "Heron"})
DESK = {"find_car", "order_status", "hand_over_to_sales", "hang_up"}


def test_a_function_is_asked_where_the_client_has_one_for_it() -> None:
    policy = Policy(CARS)
    assert policy.reply("how much is the heron", DESK) == FIND
    assert policy.go_on(FOUND) == OFFER
    assert policy.reply("say that again", DESK) == OFFER


@pytest.mark.parametrize("said", ["what are your prices", "how much is it"])
def test_it_is_not_asked_before_it_is_known_about_what(said: str) -> None:
    assert last(said) == ANSWERS["price"].say
    assert Policy(CARS).reply(said, DESK) == ANSWERS["price"].say


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ('"It is sold."', "It is sold."),
        ("sold", "Sold."),
        ('{"price": 23000, "is_new": true}', "Price: 23000. is new: yes."),
        ('["red", "blue"]', "Red, blue."),
        ('{"error": "no result within 10 s"}', f"{CARS.says.failed} No result within 10 s."),
        ('{"error": {"code": 5}}', f"{CARS.says.failed} Code: 5."),
        (
            "null",
            "The Heron costs twenty three thousand dollars. Would you like to book a test drive?",
        ),
        ("", "The Heron costs twenty three thousand dollars. Would you like to book a test drive?"),
    ],
)
def test_whatever_a_function_returns_is_told(result: str, told: str) -> None:
    policy = Policy(CARS)
    policy.reply("how much is the heron", DESK)
    assert policy.go_on(result) == told


def test_a_form_goes_on_after_a_function_that_was_asked_in_between() -> None:
    policy = Policy(CARS)
    can = {"find_car", "book_test_drive"}
    policy.reply("book a test drive", can)
    assert policy.reply("how much is the heron", can) == FIND
    assert policy.go_on(FOUND) == f"{OFFER} {DAY}"


def test_a_function_that_was_called_off_is_not_told_of() -> None:
    policy = Policy(CARS)
    policy.reply("how much is the heron", DESK)
    policy.reply("where are you", DESK)
    assert policy.go_on(FOUND) == HELP


def test_who_hangs_up_for_the_caller_says_goodbye_first() -> None:
    policy = Policy(CARS)
    assert policy.reply("thanks goodbye", DESK) == CallFunction("hang_up")
    assert policy.go_on('{"status": "soon"}') == ANSWERS["goodbye"].say


@pytest.mark.parametrize(
    "turns",
    [["book a test drive on friday"], ["talk to sales please"], ["how much is the otter", "yes"]],
)
def test_who_cannot_book_hands_over_to_who_can(turns: list[str]) -> None:
    policy = Policy(CARS)
    lines = []
    for turn in turns:
        lines.append(policy.reply(turn, {"hand_over_to_sales"}))
    assert lines[-1] == CallFunction("hand_over_to_sales")
    assert policy.go_on('{"error": "nobody is there"}') == f"{CARS.says.failed} Nobody is there."


def test_who_can_book_does_not_hand_over() -> None:
    assert Policy(CARS).reply("book a test drive", {"hand_over_to_sales", "book_test_drive"}) == DAY


# --- a conversation that another session began ----------------------------------------------------


def resumed(*items: str, functions: set[str] = CAN_BOOK) -> Policy:
    """Items are what the caller said, `< ` what the agent did, `! name result` a function."""
    policy = Policy(CARS)
    for item in items:
        if item.startswith("< "):
            policy.recall_agent(item[2:])
        elif item.startswith("! "):
            _, name, result = item.split(" ", 2)
            policy.recall_function(name, result)
        else:
            policy.recall_caller(item, functions)
    return policy


HOURS = ANSWERS["hours"].say
HOURS_1, HOURS_2 = HOURS.split(". ")[0] + ".", HOURS.split(". ")[1]


@pytest.mark.parametrize(
    ("items", "said", "answered"),
    [
        # What was cut is said from the sentence on in which it was.
        (["when do you open", "< We are open from nine"], "please go on", HOURS),
        (["when do you open", f"< {HOURS_1}"], "please go on", HOURS),
        (["when do you open", f"< {HOURS_1} On Sunday"], "please go on", HOURS_2),
        (["when do you open", f"< {HOURS}"], "please go on", HOURS_2),
        (["when do you open"], "please go on", HOURS),
        # What another one said can be repeated, too.
        (["< Hello! How can I help you today?"], "repeat that", "Hello! How can I help you today?"),
        (["< Hello! How can I help you today?"], "go on", "How can I help you today?"),
        ([], "go on", HELP),
        # A form goes on where it was.
        (["book a test drive on monday", f"< {TIME}"], "at ten", NAME),
        ([*FILLED, "< So that is"], "yes", CALL),
        # Whether a function has run is known; one that has not is not taken to have.
        ([*FILLED, "yes", "! book_test_drive done"], "please go on", BOOKED),
        ([*FILLED, "yes", '! book_test_drive {"error": "no"}'], "at two", "So that is a test"),
        (
            [*FILLED, "yes"],
            "please go on",
            CONFIRM.format("one of our cars", "on Tuesday", "ten", "Mary"),
        ),
        (["how much is the heron", f"! find_car {FOUND}"], "please go on", OFFER),
        (["how much is the heron", f"! find_car {FOUND}", f"< {OFFER}"], "yes", DAY),
        (["how much is the heron", "< Let me look."], "please go on", "Let me look."),
    ],
)
def test_a_fresh_session_goes_on_where_the_last_one_was_lost(
    items: list[str], said: str, answered: object
) -> None:
    told = resumed(*items).reply(said, CAN_BOOK)
    if isinstance(answered, str):
        assert str(told).startswith(answered)
    else:
        assert told == answered


def test_who_takes_over_knows_what_was_said_at_the_other_desk() -> None:
    sales = {"book_test_drive", "hang_up"}
    policy = resumed(
        "< Hello!",
        "how much is the heron",
        f"! find_car {FOUND}",
        f"< {OFFER}",
        "yes please",
        '! hand_over_to_sales {"handed_over_to": "sales"}',
        functions=sales,
    )
    assert policy.speak_up() == DAY
    assert policy.reply("on tuesday at ten", sales) == NAME
    assert policy.reply("my name is mary", sales) == CONFIRM.format(
        "the Heron", "on Tuesday", "ten", "Mary"
    )
    assert policy.reply("yes", sales) == CallFunction(
        CALL.name, CALL.arguments | {"model": "Heron"}
    )


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
