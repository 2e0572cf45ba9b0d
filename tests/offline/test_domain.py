"""The domain's source, and what is made of it for the ears."""

import math
import random
import sys
from pathlib import Path

import pocketsphinx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.offline import domain
from sts_trio.offline.answers.policy import Policy
from sts_trio.offline.answers.understanding import Understanding
from sts_trio.offline.domain import SOURCE, build, ngrams, phrases
from sts_trio.offline.hearing.recogniser import Recogniser

CARS = domain.load()
DICTIONARY = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))
SPEECH = Path(__file__).parent.parent / "data" / "speech"


def changed(*changes: tuple[str, str]) -> str:
    """The source with something else in it."""
    text = SOURCE.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


# --- phrases --------------------------------------------------------------------------------------


def ways(phrase: str, slots: phrases.Slots | None = None) -> set[str]:
    """Every way to say it, found by saying it often."""
    chance = random.Random(1)
    row = phrases.parse(phrase)
    return {" ".join(phrases.say(row, slots or {}, chance)) for _ in range(300)}


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("hello", {"hello"}),
        ("(yes|no) thanks", {"yes thanks", "no thanks"}),
        ("[please] stop", {"please stop", "stop"}),
        ("yes|no way", {"yes", "no way"}),
        ("[a [b]] c", {"c", "a c", "a b c"}),
        ("that's  (it) ", {"that's it"}),
        ("on <day>", {"on monday", "on the first"}),
    ],
)
def test_a_phrase_is_all_its_choices(phrase: str, expected: set[str]) -> None:
    assert ways(phrase, {"day": ["monday", "the first"]}) == expected


@pytest.mark.parametrize(
    ("phrase", "complaint"),
    [
        ("at 9", "'at 9': '9' cannot be said"),
        ("Hello", "'Hello': 'H' cannot be said"),
        ("(a|b", "'(a|b': ( is not closed"),
        ("[a)", "'[a)': [ is not closed"),
        ("a]", "'a]': ] closes nothing"),
        ("<Day>", "'<Day>': '<' cannot be said"),
    ],
)
def test_a_malformed_phrase_is_told(phrase: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=r"cannot|closes|closed") as caught:
        phrases.parse(phrase)
    assert str(caught.value) == complaint


def test_every_word_and_slot_of_a_phrase_is_known() -> None:
    row = phrases.parse("[a] (b|c <day>) <time>")
    assert list(phrases.words(row)) == ["a", "b", "c"]
    assert list(phrases.slot_names(row)) == ["day", "time"]


# --- the language model ---------------------------------------------------------------------------

WORDS = st.sampled_from("abcd")


@given(st.lists(st.lists(WORDS, max_size=5), min_size=1, max_size=8), st.lists(WORDS, max_size=2))
def test_what_may_follow_adds_up_to_one_whatever_went_before(
    sentences: list[list[str]], before: list[str]
) -> None:
    model = ngrams.Model(sentences)
    history = (*[ngrams.START] * (len(before) < 2), *before)
    vocabulary = {word for sentence in sentences for word in sentence} | {ngrams.END}
    total = sum(model.probability(word, history) for word in vocabulary)
    assert math.isclose(total, 1.0, abs_tol=1e-9)


def test_what_was_seen_is_likelier_and_what_was_not_is_possible() -> None:
    model = ngrams.Model([["a", "b"], ["a", "b"], ["a", "c"]])
    assert model.probability("b", ("a",)) > model.probability("c", ("a",)) > 0.1
    assert 0 < model.probability("a", ("a",)) < model.probability("c", ("a",)) / 2


def test_the_file_tells_the_models_probabilities_by_backing_off() -> None:
    """Read as any decoder reads it: the longest gram there is, else the weight of its history."""
    model = ngrams.Model([["a", "b", "c"], ["a", "c"], ["b"]])
    grams: dict[tuple[str, ...], tuple[float, float]] = {}
    for line in model.arpa():
        fields = line.split("\t")
        if len(fields) > 1:
            weight = float(fields[2]) if len(fields) == 3 else 0.0
            grams[tuple(fields[1].split())] = (float(fields[0]), weight)

    def read(word: str, history: tuple[str, ...]) -> float:
        if (*history, word) in grams:
            return grams[(*history, word)][0]
        return grams.get(history, (0.0, 0.0))[1] + read(word, history[1:])

    for history in [(), ("a",), ("c",), ("a", "b"), ("b", "a"), (ngrams.START, "b")]:
        for word in ("a", "b", "c", ngrams.END):
            wanted = math.log10(model.probability(word, history))
            assert read(word, history) == pytest.approx(wanted, abs=2e-4)


def test_nothing_makes_no_model() -> None:
    with pytest.raises(ValueError, match="needs a sentence"):
        ngrams.Model([])


# --- the files ------------------------------------------------------------------------------------


def test_the_files_in_the_package_are_those_of_the_source(tmp_path: Path) -> None:
    """After a change of the source: python -m sts_trio.offline.domain.build"""
    source = tmp_path / SOURCE.name
    source.write_bytes(SOURCE.read_bytes())
    # Pronunciations differ between pocketsphinx's versions; the words must not.
    known = SOURCE.with_suffix(".dict").read_text("utf-8")
    for path in build.build(source, lambda: known):
        assert path.read_bytes() == SOURCE.with_suffix(path.suffix).read_bytes(), path.name


def test_the_pronunciations_are_pocketsphinxs() -> None:
    known = set(DICTIONARY.read_text("utf-8").splitlines())
    ours = SOURCE.with_suffix(".dict").read_text("utf-8").splitlines()
    assert len(known.intersection(ours)) > 0.95 * len(ours)


def test_the_grammar_is_one() -> None:
    grammar = pocketsphinx.Jsgf(str(SOURCE.with_suffix(".gram")))
    assert grammar.get_rule("car_seller.said").is_public()


def test_every_cue_can_be_heard() -> None:
    """One with a word that the ears do not know would never be met in what they hear."""
    heard = set(build.vocabulary(CARS))
    moves = [getattr(CARS.moves, name) for name in domain.Moves.__struct_fields__]
    cues = {cue for each in (CARS.form, *CARS.answers, *moves) for cue in each.cues}
    assert {cue for cue in cues if not set(cue.split()) <= heard} == set()


def test_every_phrase_is_understood_as_it_is_meant() -> None:
    """As far as one turn tells: those for the form's slots are read off its values."""
    understanding = Understanding(CARS)
    chance, slots = random.Random(1), build.slots_of(CARS)
    lost = [
        (meaning, said)
        for meaning, rows in build.parsed(CARS).items()
        for row in rows
        for _ in range(10)
        if (said := " ".join(phrases.say(row, slots, chance)))
        and meaning not in (understood := understanding.understand(said)).meant
        and not understood.values
    ]
    assert lost == []


def test_a_change_of_the_domain_is_heard_and_answered(tmp_path: Path) -> None:
    source = tmp_path / "dogs.toml"
    source.write_text(changed(('["heron"]', '["terrier"]'), ("the Heron", "the Terrier")), "utf-8")
    build.main(source)
    assert "terrier T EH R IY ER" in source.with_suffix(".dict").read_text().splitlines()
    heard = Recogniser(source).words((SPEECH / "rms-02.ulaw").read_bytes())
    assert heard == "what cars do you have"
    dogs = Policy(domain.parse(source.read_bytes()))
    assert str(dogs.reply("how much does the terrier cost", ())).startswith("The Heron costs")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[says]", "[says", "Expected ']'"),
        ('lost = "', 'lots = "', "$.says"),
        ('name = "day"', 'name = "hour"', "slot hour is used but not defined under [slots]"),
        ('arguments = ["model"]', 'arguments = ["car"]', "slot car is used but not defined"),
        ('"the Otter" = "Otter"', '"an Otter" = "Otter"', "'an Otter' is no value of slot model"),
        ('day = ["on Sunday"]', 'day = ["on Someday"]', "'on Someday' is no value of slot day"),
        ("[maybe|perhaps] <day>", "[maybe|perhaps <day>", "[ is not closed"),
        ("[maybe|perhaps] <day>", "[maybe|perhaps] <week>", "slot week is used but not defined"),
        ("tell me about your", "show me xyzzy", "no pronunciation is known of xyzzy"),
    ],
)
def test_a_mistake_in_the_source_is_one_line_and_changes_nothing(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    source = tmp_path / "cars.toml"
    source.write_text(changed((old, new)), "utf-8")
    with pytest.raises(SystemExit) as caught:
        build.main(source)
    told = str(caught.value.code)
    assert told.startswith(f"{source}: ")
    assert complaint in told
    assert "\n" not in told
    assert [*tmp_path.iterdir()] == [source]


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="No such file"):
        build.main(tmp_path / "none.toml")


def test_without_pocketsphinx_the_script_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(SystemExit, match=r"pip install -e '.\[demo\]'"):
        build.main()
