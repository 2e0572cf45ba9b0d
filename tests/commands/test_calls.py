"""`sts-trio calls`: what is shown of past calls, and what is deleted."""

import csv
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from call_stories import FROM, NOON, Story, sid, whole
from click.testing import CliRunner, Result
from rig_processes import process

from sts_trio import cli
from sts_trio.flight.keeper import path_of
from sts_trio.records import export, schema
from sts_trio.records.database import Database
from sts_trio.records.deliveries import Deliveries
from sts_trio.records.rows import Kind
from sts_trio.records.spool import Spool
from sts_trio.records.store import Store

OTHER = "+14155550188"


@pytest.fixture(autouse=True)
def _nothing_configured(
    monkeypatch: pytest.MonkeyPatch, calls_kept_by_default: None, tmp_path: Path
) -> None:
    for variable in os.environ:
        if variable.startswith(("DEEPGRAM_", "STS_", "TWILIO_", "FORCE_COLOR")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(migrated_file: Path, tmp_path: Path) -> Iterator[Store]:
    database = Database(f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'sts-trio.db')}")
    database.open()
    yield Store(database)
    database.close()


def run(*arguments: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(cli.main, ["calls", *arguments], input=answer)
    # Anything but these is a traceback at the operator's terminal.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def told(*arguments: str) -> list[str]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def failure(*arguments: str, code: int) -> str:
    result = run(*arguments)
    assert result.exit_code == code
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("Error: ")
    return line


def test_calls_are_listed_the_newest_first(store: Store) -> None:
    store.write([*whole(1), *whole(2, at=NOON + 60, caller=OTHER)])
    store.write(Story(sid(3), at=NOON + 120).announce().rows)
    title, *lines = told("list")
    assert title.split() == ["began", "seconds", "from", "to", "agent", "ending", "call"]
    assert [line.split()[-1] for line in lines] == [sid(3), sid(2), sid(1)]
    assert [line.split()[-2] for line in lines] == ["announced", "stop", "stop"]


def test_live_calls_are_listed_with_their_processes(store: Store) -> None:
    assert told("live") == ["No call is under way."]
    store.beat(process("p1", name="s-1"))
    for number, process_id in ((1, "p1"), (2, "p2")):
        store.write(Story(sid(number)).start(process_id=process_id, agent="default").rows)
    store.write(whole(3))
    title, *lines = told("live")
    assert title.split() == ["process", "seconds", "from", "to", "agent", "call"]
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [
        ("s-1", sid(1)),
        ("-", sid(2)),
    ]
    assert "(gone)" in lines[1]


def test_they_are_chosen_by_what_is_asked_for(store: Store) -> None:
    store.write([*whole(1), *whole(2, at=NOON + 60, caller=OTHER)])
    for arguments in (
        ("--number", OTHER),
        ("--since", str(NOON + 30)),
        ("--since", "2026-11-30T12:00:30Z"),
        ("--words", "CARS", "--since", str(NOON + 30)),
        ("--limit", "1"),
    ):
        lines = told("list", *arguments)[1:]
        assert lines[0].endswith(sid(2)), arguments
        assert not any(line.endswith(sid(1)) for line in lines)
    assert told("list", "--ending", "crashed") == ["No call is kept that is like this."]


def test_a_list_that_is_not_all_says_how_to_go_on(store: Store) -> None:
    store.write([*whole(1, at=NOON + 60.25), *whole(2, at=NOON + 60.75)])  # of one second
    _, first, hint = told("list", "--limit", "1")
    assert first.endswith(sid(2))
    assert hint.startswith("There are more: ")
    *_, option, last = hint.split()
    _, second = told("list", option, last)
    assert second.endswith(sid(1))
    assert not told("list", "--limit", "2")[-1].startswith("There are more: ")


def test_a_filter_that_is_none_is_one_line(store: Store) -> None:
    line = failure("list", "--since", "yesterday", code=2)
    assert line.startswith("Error: --since: expected a date like 2026-11-30, ")


def test_a_call_is_shown_with_what_was_said_and_heard(store: Store) -> None:
    story = Story().announce(parameters={"name": "Ann"}).start().talk()
    story.tell(Kind.FUNCTION_ASKED, id="f", name="look_up", arguments="{}", shield=False)
    story.tell(Kind.AGENT_LOST, ending="agent_lost", detail="FIN")
    story.tell(Kind.NOTE, mood="good")
    store.write(story.end().rows)
    lines = told("show", sid(1))
    assert lines[0] == f"{sid(1)}  inbound  {FROM} -> +15005550006"
    text = "\n".join(lines)
    for part in (
        "ending    stop (success)",
        "parameter name = Ann",
        "caller  What cars do you have?",
        "agent   Three of [not heard: them.]  (2.40 s)",
        "[look_up: not known]",
        "[agent lost: agent_lost]",
        "mood = good",
        "waits.p50         2.4",
    ):
        assert part in text, part


def test_the_figures_of_a_call_stand_in_one_column(store: Store) -> None:
    story = Story().announce(caller="").start().talk()
    store.write(story.end(statistics={"a_figure_with_a_long_name": 0.25}).rows)
    first, *lines = told("show", sid(1))
    assert first == f"{sid(1)}  inbound  - -> +15005550006"
    assert "statistics.a_figure_with_a_long_name  0.25" in lines
    figures = lines[len(lines) - lines[::-1].index("") :]
    names = [figure.split()[0] for figure in figures]
    column = max(map(len, names)) + 2
    for name, figure in zip(names, figures, strict=True):
        assert figure[:column] == name.ljust(column)
        assert figure[column] != " "


def test_a_call_is_shown_as_json_with_its_events(store: Store) -> None:
    store.write(whole())
    [line] = told("show", sid(1), "--json")
    record = msgspec.json.decode(line)
    assert record["call"]["from"] == FROM
    assert len(record["events"]) == len(whole())


def test_what_callers_and_peers_say_moves_no_cursor(store: Store) -> None:
    evil = "\x1b[2J\x07\u202eevil"
    story = Story().announce(evil, agent=evil).start()
    story.tell(Kind.USER, text=evil)
    store.write(story.end(ending=evil).rows)
    for arguments in (("list",), ("show", sid(1))):
        text = "\n".join(told(*arguments))
        assert "evil" in text
        assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_a_call_that_is_not_kept_is_one_line(store: Store) -> None:
    assert failure("show", "CA0", code=1) == "Error: CA0: no such call is kept"


def test_calls_are_exported_as_csv_and_json_lines(store: Store, tmp_path: Path) -> None:
    store.write([*whole(1), *whole(2, at=NOON + 60)])
    header, *lines = csv.reader(told("export"))
    assert [line[header.index("call_sid")] for line in lines] == [sid(2), sid(1)]
    assert [msgspec.json.decode(line)["call_sid"] for line in told("export", "--format", "jsonl")]
    out = tmp_path / "calls.jsonl"
    assert told("export", "--format", "jsonl", "--whole", "-o", str(out)) == []
    records = [msgspec.json.decode(line) for line in out.read_text().splitlines()]
    assert records[0]["turns"][0]["said"] == "Hello!"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_an_export_that_is_interrupted_leaves_what_was_there_and_no_part_of_a_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write([*whole(1), *whole(2, at=NOON + 60)])
    out = tmp_path / "out" / "calls.csv"
    out.parent.mkdir()
    out.write_text("those of yesterday")
    out.chmod(0o644)

    def interrupted(call: Any) -> str:
        assert [*out.parent.iterdir()] != [out]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(export, "csv_line", interrupted)
        assert run("export", "-o", str(out)).exit_code == 130
    assert [(each, each.read_text()) for each in out.parent.iterdir()] == [
        (out, "those of yesterday")
    ]
    assert told("export", "-o", str(out)) == []
    assert [*out.parent.iterdir()] == [out]
    assert len(out.read_text().splitlines()) == 3
    # It was for everybody; what is in it now is not.
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_an_export_goes_where_a_link_leads_and_into_a_pipe(store: Store, tmp_path: Path) -> None:
    store.write(whole())
    kept, link, pipe = (tmp_path / name for name in ("kept.csv", "link.csv", "pipe"))
    link.symlink_to(kept)
    assert told("export", "-o", str(link)) == []
    assert link.is_symlink()
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert told("export", "-o", str(pipe)) == []
        assert os.read(reader, 65536) == kept.read_bytes()
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_an_export_that_is_asked_for_wrongly_or_cannot_be_written_is_one_line(
    store: Store,
) -> None:
    assert failure("export", "--whole", code=2) == "Error: --whole: takes --format jsonl"
    assert "cannot be written" in failure("export", "-o", "/nowhere/calls.csv", code=1)


def test_a_call_is_forgotten(store: Store) -> None:
    store.write([*whole(1), *whole(2)])
    assert told("forget", sid(1), "--yes") == ["Deleted: 1 call."]
    assert [line.split()[-1] for line in told("list")[1:]] == [sid(2)]


@pytest.mark.parametrize("options", [(), ("--yes",)])
def test_who_names_a_call_that_is_not_kept_is_told_and_not_asked(
    store: Store, options: tuple[str, ...]
) -> None:
    store.write(whole())
    told = failure("forget", sid(2), *options, code=1)
    assert told == f"Error: {sid(2)}: no such call is kept"


def test_who_has_no_call_is_forgotten_without_a_question(store: Store) -> None:
    store.write(whole())
    assert told("forget", "--number", OTHER) == ["Deleted: 0 calls."]


def test_what_is_left_of_a_call_beside_the_database_is_asked_for(
    store: Store, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "sts-trio.spool", "p1")
    for row in (whole(1)[0], whole(2, caller=OTHER)[0]):
        spool.refuse(msgspec.json.encode(row))
    spool.close()
    for arguments in ((sid(1),), ("--number", OTHER)):
        assert run("forget", *arguments, answer="n\n").exit_code == 1
        assert run("forget", *arguments, answer="y\n").exit_code == 0


def test_the_flights_of_a_call_are_forgotten_with_it(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "sts-trio.flights"
    flights = {name: path_of(root, name, NOON) for name in (sid(1), sid(2), sid(3), sid(4))}
    for path in flights.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    lasting = Story(sid(4)).announce(OTHER).start().rows
    store.write([*whole(1), *whole(2, caller=OTHER), *lasting])
    told("forget", "--number", FROM, "--yes")
    assert [name for name, path in flights.items() if path.exists()] == [sid(2), sid(3), sid(4)]
    told("forget", sid(3), "--yes")  # of which there is no record any more
    assert run("forget", sid(4), "--yes").exit_code == 1
    assert [name for name, path in flights.items() if path.exists()] == [sid(2), sid(4)]


def test_a_caller_is_forgotten_wherever_they_are(store: Store, tmp_path: Path) -> None:
    """Also what no database took, and was put aside."""
    spool = Spool(tmp_path / "sts-trio.spool", "p1")
    for row in (whole(1)[0], whole(2, caller=OTHER)[0]):
        spool.refuse(msgspec.json.encode(row))
    store.write([*whole(1), *whole(2, caller=OTHER), *whole(3, caller=OTHER)])
    assert told("forget", "--number", OTHER, "--yes") == ["Deleted: 2 calls."]
    spool.close()
    store.database.close()
    left = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert OTHER.encode() not in left
    assert sid(2).encode() not in left
    assert FROM.encode() in left


def test_nothing_is_deleted_that_was_not_confirmed(store: Store) -> None:
    store.write(whole())
    assert run("forget", sid(1), answer="n\n").exit_code == 1
    assert told("list")[-1].endswith(sid(1))
    assert run("forget", sid(1), answer="y\n").exit_code == 0
    assert told("list") == ["No call is kept that is like this."]


def test_a_call_that_lasts_is_left_and_said(store: Store) -> None:
    store.write([*Story(sid(1)).announce().start().rows, *whole(2)])
    expected = "Error: what is still under way is left: forget it when it has ended"
    assert failure("forget", sid(1), "--yes", code=1) == expected
    assert failure("forget", "--number", FROM, "--yes", code=1) == expected
    assert [line.split()[-1] for line in told("list")[1:]] == [sid(1)]


@pytest.mark.parametrize("arguments", [(), (sid(1), "--number", FROM)])
def test_what_is_to_be_forgotten_is_named_once(store: Store, arguments: tuple[str, ...]) -> None:
    assert failure("forget", *arguments, code=2).startswith("Error: expected a CALL_SID or")


@pytest.mark.parametrize("number", ["nonsense", "+1 (415) 555-0188", "sip:", "+0123456789"])
def test_a_number_that_is_none_is_told_and_nobody_is_asked(store: Store, number: str) -> None:
    store.write(whole())
    told = failure("forget", "--number", number, code=2)
    assert told.startswith("Error: --number: expected a number like +15005550006, or an address")
    assert failure("forget", "--number", number, "--yes", code=2) == told


def test_a_number_without_its_plus_and_a_word_for_who_withheld_theirs_are_known(
    store: Store,
) -> None:
    store.write([*whole(1), *whole(2, caller="anonymous"), *whole(3, caller="client:ann")])
    assert told("forget", "--number", FROM.removeprefix("+"), "--yes") == ["Deleted: 1 call."]
    assert told("forget", "--number", "anonymous", "--yes") == ["Deleted: 1 call."]
    assert told("forget", "--number", "client:ann", "--yes") == ["Deleted: 1 call."]
    assert told("forget", "--number", "client:ann", "--yes") == ["Deleted: 0 calls."]


def test_what_was_put_aside_and_cannot_be_deleted_is_said(store: Store, tmp_path: Path) -> None:
    (tmp_path / "sts-trio.spool" / "refused.ndjson").mkdir(parents=True)
    assert "Is a directory" in failure("forget", "--number", FROM, "--yes", code=1)


# --- no database --------------------------------------------------------------------------------


def test_where_nothing_is_kept_yet_no_file_is_made(tmp_path: Path) -> None:
    assert failure("list", code=1).startswith("Error: sts-trio.db: no calls are kept yet: ")
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_is_to_be_kept_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STS_DATABASE_URL", "none")
    assert failure("list", code=2) == "Error: STS_DATABASE_URL is none: no calls are kept"


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sts-trio.db").write_bytes(b"GIF89a" * 1000)
    assert "is not a database" in failure("list", code=2)


def test_a_server_that_does_not_answer_is_one_line_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STS_DATABASE_URL", "postgresql://u:hidden@127.0.0.1:9/calls")
    line = failure("list", code=1)
    assert "hidden" not in line


def test_the_configuration_may_be_named(store: Store, tmp_path: Path) -> None:
    store.write(whole())
    file = tmp_path / "elsewhere.toml"
    file.write_text('database_url = "none"\n')
    line = failure("--config", str(file), "list", code=2)
    assert line == "Error: STS_DATABASE_URL is none: no calls are kept"


# --- what the receiver of ended calls was not told ------------------------------------------------


@pytest.fixture
def undelivered(store: Store) -> list[str]:
    """Two calls have ended, and the receiver would not hear of them. Their webhook-ids."""
    telling = Store(store.database, tells_endings=True)
    telling.write([*whole(1), *whole(2, at=NOON + 60)])
    deliveries = Deliveries(store.database)
    ids = [each.webhook_id for each in deliveries.claim(NOON * 2, 10)]
    for webhook_id in ids:
        deliveries.settle_failed(webhook_id, None)
    return ids


def test_what_could_not_be_told_is_listed_and_sent_again(
    store: Store, undelivered: list[str]
) -> None:
    first, second = undelivered
    lines = told("deliveries")
    assert sorted(lines) == sorted(
        f"{webhook_id}  dead, 1 attempt  call {sid(number)}"
        for webhook_id, number in ((first, 1), (second, 2))
    )
    assert told("send-again", first) == ["To be sent again: 1."]
    [waiting] = told("deliveries", "--state", "waiting")
    assert waiting.startswith(f"{first}  waiting, 0 attempts, due 20")
    assert len(told("deliveries", "--limit", "1")) == 1
    assert told("send-again", "--all") == ["To be sent again: 1."]
    assert len(Deliveries(store.database).claim(NOON * 2, 10)) == 2
    assert told("deliveries", "--state", "delivered") == ["There are none."]


def test_what_is_not_dead_is_not_sent_again(store: Store, undelivered: list[str]) -> None:
    assert failure("send-again", "msg_1", code=1) == "Error: msg_1: none that is dead"
    for wrong in ((), (undelivered[0], "--all")):
        assert "expected a WEBHOOK_ID or --all" in failure("send-again", *wrong, code=2)


def test_a_recording_is_forgotten_with_its_call(store: Store, tmp_path: Path) -> None:
    uri = f"2026-11-30/{sid(1)}-10.wav"
    path = tmp_path / "sts-trio.recordings" / uri
    path.parent.mkdir(parents=True)
    path.write_bytes(b"RIFF")
    story = Story(sid(1)).announce().start().talk().end()
    recorded: dict[str, Any] = {
        "of": 10,
        "began_at": NOON,
        "seconds": 1.0,
        "bytes": 4,
        "result": "ok",
    }
    story.tell(Kind.RECORDED, uri=uri, **recorded)
    story.tell(Kind.RECORDED, uri="", **{**recorded, "of": 11})
    store.write(story.rows)
    record = store.record(sid(1))
    assert record is not None
    assert [each.uri for each in record.recordings] == [uri, ""]
    shown = [line for line in told("show", sid(1)) if line.startswith("recording ")]
    assert shown == [f"recording {uri}  1.0 s, ok", "recording -  1.0 s, ok"]
    assert told("forget", sid(1), "--yes") == ["Deleted: 1 call."]
    assert not path.exists()


def test_a_recording_that_cannot_be_deleted_keeps_its_call(store: Store, tmp_path: Path) -> None:
    """Else it would be there, and nobody would know of it."""
    uri = f"2026-11-30/{sid(1)}-10.wav"
    story = Story(sid(1)).announce().start().end()
    story.tell(Kind.RECORDED, of=10, uri=uri, began_at=NOON, seconds=1.0, bytes=4, result="ok")
    store.write(story.rows)
    path = tmp_path / "sts-trio.recordings" / uri
    path.parent.mkdir(parents=True)
    path.write_bytes(b"RIFF")

    def unlink(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "unlink", unlink)
        line = failure("forget", sid(1), "--yes", code=1)
    assert line == f"Error: {path.relative_to(tmp_path)}: cannot be deleted: Permission denied"
    assert store.record(sid(1)) is not None


def test_a_call_is_played_with_its_recording(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"2026-11-30/{sid(1)}-10.wav"
    story = Story(sid(1)).announce().start()
    story.tell(Kind.AGENT, 0.0, text="Hello!")
    story.end().tell(
        Kind.RECORDED, of=10, uri=uri, began_at=NOON, seconds=1.0, bytes=4, result="ok"
    )
    store.write(story.rows)
    path = tmp_path / "sts-trio.recordings" / uri
    path.parent.mkdir(parents=True)
    path.write_bytes(b"RIFF")
    player = tmp_path / "paplay"
    player.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/played"\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    result = run("play", sid(1))
    assert "agent   Hello!" in result.stdout
    assert "could not play" not in result.stdout
    assert result.stderr == ""
    assert (tmp_path / "played").read_text() == f"{path.relative_to(tmp_path)}\n"


def test_without_a_recording_a_calls_words_are_played(store: Store) -> None:
    store.write(whole())
    result = run("play", sid(1), "--speed", "1000")
    assert result.exit_code == 0
    assert "    5.0  caller  What cars do you have?" in result.stdout.splitlines()
    assert result.stderr == "It is not recorded, so these are its words alone.\n"
    assert failure("play", "CA0", code=1) == "Error: CA0: no such call is kept"
    assert "--speed" in run("play", sid(1), "--speed", "0").stderr


def test_a_database_is_brought_up_to_this_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STS_DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")
    for _ in range(2):  # a hook may run again
        [line] = told("migrate")
        assert line == f"sqlite:///{tmp_path / 'new.db'} has schema {schema.VERSION}."
    assert told("list") == ["No call is kept that is like this."]
    monkeypatch.setenv("STS_DATABASE_URL", "none")
    assert "no calls are kept" in failure("migrate", code=2)
