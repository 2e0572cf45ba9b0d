"""Calls that have ended are found by their words through an index, and it keeps nothing that the
records do not."""

import random
from pathlib import Path

import pytest
import sqlalchemy as sa
from call_stories import NOON, Story, sid, whole

from sts_trio.errors import ConfigError
from sts_trio.records import schema, word_index
from sts_trio.records.database import Database
from sts_trio.records.rows import Kind
from sts_trio.records.search import Wanted
from sts_trio.records.store import Store

HOUR = 3600


def ended(number: int, *said: str, at: float | None = None, **info: str) -> Story:
    story = Story(sid(number), at=NOON + number if at is None else at).announce(**info).start()
    for count, text in enumerate(said):
        story.tell(Kind.AGENT if count % 2 else Kind.USER, text=text)
    return story.end()


def found(store: Store, words: str, **wanted: object) -> list[str]:
    """On all pages."""
    sids: list[str] = []
    after: str | None = None
    while True:
        page = store.calls(Wanted(words=words, **wanted), 3, after)  # type: ignore[arg-type]
        sids += [call.call_sid for call in page.calls]
        if (after := page.after) is None:
            return sids


def indexed(store: Store) -> int:
    """How many calls are in the index."""
    with store.database.reading() as connection:
        return int(
            connection.execute(sa.text(f"SELECT count(*) FROM {word_index.TABLE}")).scalar_one()
        )


def forget_index(store: Store) -> None:
    """As a release leaves calls that knows of none."""
    with store.database.writing() as connection:
        connection.execute(sa.text(f"DELETE FROM {word_index.TABLE}"))
        connection.execute(sa.update(schema.call).values(word_place=None))


@pytest.mark.parametrize("rare", [0, 100])
def test_it_is_asked_for_calls_that_have_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch, rare: int
) -> None:
    monkeypatch.setattr("sts_trio.records.search.said_in", None)  # no rows are read
    monkeypatch.setattr(word_index, "RARE", rare)
    for number in range(8):
        store.write(ended(number, "A boat?" if number % 2 else "A car?", "Certainly, SIR.").rows)
    assert found(store, "boat") == [sid(number) for number in (7, 5, 3, 1)]
    assert found(store, "certainly sir") == [sid(number) for number in range(7, -1, -1)]
    assert found(store, "cert") == [sid(number) for number in range(7, -1, -1)]
    assert found(store, "submarine") == found(store, "boat certainly sir indeed") == []


@pytest.mark.parametrize(("few", "rare"), [(5, 0), (100, 0), (5, 10)])
def test_all_that_are_looked_at_are_told_once_and_in_order(
    store: Store, monkeypatch: pytest.MonkeyPatch, few: int, rare: int
) -> None:
    """Some are in the index, some are not; some began at once; and pages are short."""
    monkeypatch.setattr("sts_trio.records.search.SEARCHED", 4)
    monkeypatch.setattr("sts_trio.records.word_index.LOOKED_AT", 5)
    monkeypatch.setattr("sts_trio.records.word_index.FEW", few)
    monkeypatch.setattr("sts_trio.records.word_index.RARE", rare)
    chance = random.Random(1)
    expected: list[tuple[float, str]] = []
    for number in range(40):
        at = NOON + chance.randrange(12)
        has_boat = chance.random() < 0.4
        story = ended(number, "A boat." if has_boat else "A car.", at=at, agent=chance.choice("ab"))
        is_over = chance.random() < 0.7
        store.write(story.rows if is_over else story.rows[:-1])
        if has_boat:
            expected.append((at, sid(number)))
    expected.sort(reverse=True)
    assert found(store, "boat") == [each for _, each in expected]
    since, until = NOON + 3, NOON + 9
    inner = [each for at, each in expected if since <= at < until]
    assert found(store, "boat", since=since, until=until) == inner
    of_a = [each for each in found(store, "boat", agent="a")]
    of_b = [each for each in found(store, "boat", agent="b")]
    assert sorted(of_a + of_b) == sorted(each for _, each in expected)
    assert found(store, "boat", number="+15005550006") == [each for _, each in expected]
    assert found(store, "boat", number="+15005550007") == []


@pytest.mark.parametrize("few", [5, 30, 100])
def test_the_same_words_in_another_order_are_another_phrase(
    store: Store, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Few calls say it, of few that have its words or of many; or many do."""
    monkeypatch.setattr(word_index, "FEW", few)
    monkeypatch.setattr(word_index, "LOOKED_AT", 5)
    monkeypatch.setattr(word_index, "RARE", 0)
    for number in range(40):
        said = "Turn left, right?" if number % 5 == 0 else "Turn right, left?"
        store.write(ended(number, said, agent="ab"[number % 2]).rows)
    expected = [sid(number) for number in range(35, -1, -5)]
    assert found(store, "left right") == found(store, "turn left rig") == expected
    if few > len(expected):  # the index tells them, however few of all calls are looked at
        page = store.calls(Wanted(words="left right"), 3)
        assert [call.call_sid for call in page.calls] == expected[:3]
    assert found(store, "left right", agent="b") == expected[::2]
    assert found(store, "left right", since=NOON + 6, until=NOON + 31) == expected[1:6]
    assert found(store, "left right", number="+15005550007") == found(store, "left turn") == []


def test_calls_of_an_older_release_are_found_and_put_in_later(store: Store) -> None:
    for number in range(70):
        store.write(ended(number, "A boat?").rows)
    forget_index(store)
    everyone = [sid(number) for number in range(69, -1, -1)]
    assert found(store, "boat") == everyone
    assert store.index() == 70
    assert (store.index(), indexed(store)) == (0, 70)
    assert found(store, "boat") == everyone


def test_it_is_filled_no_longer_than_is_wanted(store: Store) -> None:
    for number in range(60):
        store.write(ended(number, "A boat?").rows)
    forget_index(store)
    asked = iter([True, False])
    assert store.index(lambda: next(asked)) == indexed(store) == 50


def test_an_older_release_that_deletes_a_call_deletes_its_words(store: Store) -> None:
    for number in range(3):
        store.write(ended(number, "A boat?").rows)
    with store.database.writing() as connection:
        connection.execute(sa.text(f"DELETE FROM call WHERE call_sid = '{sid(1)}'"))
    assert indexed(store) == 2
    assert found(store, "boat") == [sid(2), sid(0)]


def test_what_comes_late_is_found_too(store: Store) -> None:
    story = ended(1, "A boat?")
    store.write(story.rows)
    store.write([story.tell(Kind.AGENT, text="Goodbye, captain.")])
    assert found(store, "captain") == [sid(1)]
    store.index()
    assert (found(store, "captain"), found(store, "boat")) == ([sid(1)], [sid(1)])
    assert indexed(store) == 1


def test_writing_an_end_again_changes_nothing(store: Store) -> None:
    for _ in range(3):
        store.write(whole())
    assert (indexed(store), found(store, "cars")) == (1, [sid(1)])


def test_calls_that_began_at_the_same_instant_are_all_in_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_index, "RARE", 0)
    for number in range(30):
        store.write(ended(number, "A boat?", at=NOON).rows)
    assert found(store, "boat") == [sid(number) for number in range(29, -1, -1)]


@pytest.mark.parametrize("at", [0.0, 1e-7, 4e9, 4e13])
def test_whenever_a_call_began_it_is_in_it(store: Store, at: float) -> None:
    store.write(ended(1, "A boat?", at=at).rows)
    assert found(store, "boat") == [sid(1)]


def test_without_words_there_is_nothing_in_it(store: Store) -> None:
    store.write(ended(1).rows)
    store.write(ended(2, "…").rows)
    assert (indexed(store), store.index()) == (0, 0)


def test_a_huge_transcript_is_found_by_its_beginning(store: Store) -> None:
    story = Story(sid(1)).announce().start()
    story.tell(Kind.USER, text="A boat?")
    for number in range(40):
        story.tell(Kind.AGENT, text=" ".join(f"w{number}x{each}" for each in range(2000)))
    store.write(story.end().rows)
    assert found(store, "boat") == found(store, "w20x1999") == [sid(1)]


def test_what_is_deleted_is_in_no_index(database: Database) -> None:
    store = Store(database)
    for number in range(20):
        number_of = "+14155550188" if number % 2 else "+15005550001"
        store.write(ended(number, "Xanthippe " * 200, caller=number_of).rows)
    assert len(store.forget(number="+14155550188")) == 10
    assert indexed(store) == 10
    store.expire(NOON + 10)
    assert indexed(store) == 5
    store.forget(number="+15005550001")
    assert indexed(store) == 0
    if not database.is_postgresql:
        assert b"anthippe" not in files(database)


def files(database: Database) -> bytes:
    path = Path(str(database.url.database))
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file()).lower()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_of_one_call_among_many_no_word_is_left_in_a_file(database: Database) -> None:
    """FTS5 keeps deleted words in its segments until these are merged."""
    store = Store(database)
    for number in range(60):
        said = "Xanthippe and Zopyrion." if number == 30 else f"A boat {number}?"
        store.write(ended(number, said).rows)
    assert b"xanthippe" in files(database)
    store.forget(call_sid=sid(30))
    for word in (b"anthippe", b"opyrion"):
        assert word not in files(database)
    assert len(found(store, "boat")) == 59


def test_where_words_are_not_kept_the_index_has_none(database: Database) -> None:
    store = Store(database, keeps_words=False)
    story = Story().announce().start().talk()
    store.write(story.end().rows)
    store.write(whole(2)[:-1])
    store.mark_lost("p1")
    assert (indexed(store), store.index(), indexed(store)) == (0, 0, 0)
    store.write([story.tell(Kind.USER, text="Xanthippe.")])
    assert (store.index(), indexed(store)) == (0, 0)
    # Of a call that was put in while they were.
    kept = Store(database)
    kept.write(ended(3, "A boat?").rows)
    late = ended(3, "A boat?").tell(Kind.USER, text="Xanthippe.")
    store.write([late])
    assert (indexed(store), found(store, "boat")) == (0, [])


@pytest.fixture
def no_fts5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sts_trio.records.database.has_fts5", lambda connection: False)


@pytest.mark.usefixtures("no_fts5")
def test_without_fts5_words_are_looked_for_call_by_call(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'calls.db'}")
    database.open()
    store = Store(database)
    assert not store.has_word_index
    for number in range(8):
        store.write(ended(number, "A boat?").rows)
    assert store.index() == 0
    assert found(store, "boat") == [sid(number) for number in range(7, -1, -1)]
    assert store.forget(call_sid=sid(1)) == [sid(1)]
    assert len(found(store, "boat")) == 7
    database.close()


def test_an_index_that_nobody_can_delete_from_is_a_mistake(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A file that was made where SQLite has FTS5."""
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    database = Database(url)
    database.open()
    assert Store(database).has_word_index
    database.close()
    request.getfixturevalue("no_fts5")
    with pytest.raises(ConfigError, match=r"takes FTS5, which SQLite [0-9.]+ of this Python is"):
        Database(url).open()
