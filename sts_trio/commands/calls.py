"""`sts-trio calls`: past calls, read from the database itself. No server has to run."""

import contextlib
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from sts_trio.commands.common import FILE, Failure, Group, Misuse, fail, run, say

if TYPE_CHECKING:
    from sts_trio.config.records import Records
    from sts_trio.records.record import CallRow, Record
    from sts_trio.records.search import Wanted
    from sts_trio.records.store import Store

F = TypeVar("F", bound=Callable[..., Any])

# Read at once, while they are written to a file.
_LOT = 500


@click.group(
    "calls", cls=Group, short_help="Look at past calls: list, show, play, export, forget …"
)
@click.option("--config", "file", type=FILE, help="Instead of ./sts-trio.toml.")
@click.pass_context
def calls(context: click.Context, file: str | None) -> None:
    """Look at past calls: list, show, play, export, forget; and at what was told of them.

    They are read from the database that the configuration names (STS_DATABASE_URL).
    """
    context.obj = file


def _filtered(command: F) -> F:
    """Which calls."""
    for option in reversed(
        (
            click.option("--since", metavar="TIME", help="Began then or later: 2026-11-30, 24h …"),
            click.option("--until", metavar="TIME", help="Began before then."),
            click.option("--number", metavar="+NUMBER", help="Of either side."),
            click.option("--agent", metavar="NAME"),
            click.option("--ending", metavar="NAME", help="As in docs/endings.md."),
            click.option(
                "--verdict", metavar="NAME", help="success, caller, agent, ours, unclear."
            ),
            click.option("--words", metavar="TEXT", help="Said by either side."),
        )
    ):
        command = option(command)
    return command


@calls.command("list")
@_filtered
@click.option("--limit", type=click.IntRange(1, 500), default=30, show_default=True)
@click.pass_obj
def list_(file: str | None, /, limit: int, **filters: str | None) -> None:
    """List calls, the newest first."""
    wanted = _wanted(filters)
    with _open(file) as store:
        found: list[CallRow] = []
        after: str | None = None
        while len(found) < limit:
            page = store.calls(wanted, limit - len(found), after)
            found += page.calls
            after = page.after
            if after is None:
                break
    if not found:
        say("No call is kept that is like this.")
        return
    titles = ("began", "seconds", "from", "to", "agent", "ending", "call")
    _table(titles, [_cells(call) for call in found])
    if after is not None:
        # To the microsecond: of calls in one second none is passed over.
        last = datetime.fromtimestamp(found[-1].created_at).astimezone().isoformat()
        say(f"There are more: --limit takes up to 500, or go on with --until {last}")


@calls.command()
@click.pass_obj
def live(file: str | None) -> None:
    """List the calls that are under way, in whichever process."""
    with _open(file) as store:
        found = store.live_calls()
    if not found:
        say("No call is under way.")
        return
    _table(
        ("process", "seconds", "from", "to", "agent", "call"),
        [
            (
                f"{call.process or '-'}{'' if call.is_alive else ' (gone)'}",
                f"{call.seconds:.0f}",
                call.from_,
                call.to,
                call.agent,
                call.call_sid,
            )
            for call in found
        ],
    )


def _table(titles: tuple[str, ...], rows: "list[tuple[str, ...]]") -> None:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(padded).rstrip())


def _cells(call: "CallRow") -> tuple[str, ...]:
    seconds = (call.summary or {}).get("seconds")
    return (
        _local(call.created_at),
        "" if seconds is None else f"{seconds:.0f}",
        call.from_,
        call.to,
        call.agent,
        call.ending or call.state,
        call.call_sid,
    )


@calls.command(short_help="Show one call: what was said, heard and done, and its figures.")
@click.argument("call_sid", metavar="CALL_SID")
@click.option("--json", "as_json", is_flag=True, help="The whole record, with its events.")
@click.pass_obj
def show(file: str | None, call_sid: str, as_json: bool) -> None:
    """Show one call: what was said and heard, what functions did, its figures."""
    record = _record(file, call_sid)
    if as_json:
        from sts_trio.records.export import json_line

        click.echo(json_line(record), nl=False)
        return
    for line in _lines(record):
        say(line)


def _lines(record: "Record") -> Iterator[str]:
    from sts_trio.records import call_transcript

    call = record.call
    yield f"{call.call_sid}  {call.direction}  {call.from_ or '-'} -> {call.to or '-'}"
    yield f"began     {_local(call.created_at)}"
    if call.answered_at is not None:
        yield f"answered  {_local(call.answered_at)}"
    if call.ended_at is not None:
        yield f"ended     {_local(call.ended_at)}"
    told = f" ({call.verdict})" if call.verdict else ""
    detail = f": {call.detail}" if call.detail else ""
    yield f"ending    {call.ending or call.state}{told}{detail}"
    for name, value in call.parameters.items():
        yield f"parameter {name} = {value}"
    for session in record.sessions:
        yield f"agent     {session.agent}  request {session.request_id or '-'}"
    for recording in record.recordings:
        yield f"recording {recording.uri or '-'}  {recording.seconds:.1f} s, {recording.result}"
    if said := call_transcript.text(record):
        yield ""
        yield from said.splitlines()
    if record.notes:
        yield ""
    for name, note in record.notes.items():
        yield f"{name} = {note}"
    if call.summary:
        yield ""
        figures = dict(_figures(call.summary))
        width = max(map(len, figures), default=0)
        for name, value in figures.items():
            yield f"{name:<{width}}  {value}"


@calls.command()
@click.argument("call_sid", metavar="CALL_SID")
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 1000),
    default=1.0,
    show_default=True,
    help="The words alone, faster or slower.",
)
@click.pass_obj
def play(file: str | None, call_sid: str, speed: float) -> None:
    """Tell a call's words as they were said, with its recording.

    The recording is heard by paplay, aplay, afplay, ffplay or sox's play, whichever is there.
    """
    from sts_trio.commands import playback
    from sts_trio.records import call_transcript
    from sts_trio.records.recordings import find

    record = _record(file, call_sid)
    start = call_transcript.answered_at(record)
    root = _settings(file).recordings
    kept = [
        (recording.began_at - start, find(root, recording.uri)) for recording in record.recordings
    ]
    sounds = [playback.Sound(at, path) for at, path in kept if path is not None]
    player = playback.find_player()
    if not sounds:
        say("It is not recorded, so these are its words alone.", err=True)
    elif speed != 1:
        say("At another speed these are its words alone.", err=True)
    elif player is None:
        say(f"Nothing here plays {sounds[0].file}, so these are its words alone.", err=True)
    lines = [(at, f"{at:7.1f}  {words}") for at, words in call_transcript.timed(record)]
    audible = sounds if speed == 1 and player is not None else []
    run(
        functools.partial(
            playback.play, lines, say, speed=speed, sounds=audible, player=player or ()
        )
    )


def _figures(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in summary.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{part}", str(each)) for part, each in value.items())
        elif value is not None:
            yield name, str(value)


@calls.command()
@_filtered
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="jsonl: one JSON object a line.",
)
@click.option("--whole", is_flag=True, help="With jsonl: whole records, with what was said.")
@click.option("-o", "--out", type=click.Path(dir_okay=False), help="A file. [default: stdout]")
@click.pass_obj
def export(
    file: str | None, /, form: str, whole: bool, out: str | None, **filters: str | None
) -> None:
    """Write calls for other programs, the newest first."""
    if whole and form == "csv":
        raise Misuse("--whole: takes --format jsonl")
    wanted = _wanted(filters)
    with _open(file) as store, _output(out) as target:
        for line in _exported(store, wanted, form, whole):
            target.write(line)


def _exported(store: "Store", wanted: "Wanted", form: str, whole: bool) -> Iterator[str]:
    from sts_trio.records.export import csv_header, csv_line, json_line

    if form == "csv":
        yield csv_header()
    after: str | None = None
    while True:
        page = store.calls(wanted, _LOT, after)
        for call in page.calls:
            if form == "csv":
                yield csv_line(call)
            elif not whole:
                yield json_line(call)
            elif (record := store.record(call.call_sid)) is not None:
                yield json_line(record)
        after = page.after
        if after is None:
            return


@contextlib.contextmanager
def _output(out: str | None) -> Iterator[IO[str]]:
    """Only for who runs it: it holds numbers and words. A file is there once all of it is."""
    if out in (None, "-"):
        yield sys.stdout
        return
    path = Path(out).resolve()
    try:
        if path.exists() and not path.is_file():  # a pipe or a device
            with path.open("w", encoding="utf-8", newline="") as target:
                yield target
            return
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=".sts-trio-", delete=False
        ) as target:
            part = Path(target.name)
            try:
                yield target
                target.flush()
                part.replace(path)
            except BaseException:
                part.unlink()
                raise
    except OSError as exc:
        fail(f"{out}: cannot be written: {exc.strerror}")


@calls.command()
@click.argument("call_sid", metavar="[CALL_SID]", required=False)
@click.option("--number", metavar="+NUMBER", help="All calls from or to it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def forget(file: str | None, call_sid: str | None, number: str | None, yes: bool) -> None:
    """Delete all that is known of a call, or of a caller, for good.

    A call that is still under way is left: forget it when it has ended.
    """
    if (call_sid is None) == (number is None):
        raise Misuse("expected a CALL_SID or --number, one of them")
    from sts_trio.commands.forgettable import check_number, is_anything_kept
    from sts_trio.flight import keeper
    from sts_trio.records.filters import with_plus
    from sts_trio.records.search import Wanted
    from sts_trio.records.spool import forget_refused

    with _open(file) as store:
        if number is not None:
            number = with_plus(number)
            check_number(store, number)
        is_known = is_anything_kept(store, _settings(file), call_sid, number)
        if call_sid is not None and not is_known:
            fail(f"{call_sid}: no such call is kept")
        if is_known and not yes:
            what = call_sid or f"all calls from or to {number}"
            click.confirm(f"Delete {what}, for good?", abort=True)
        try:
            forgotten = store.forget(call_sid=call_sid, number=number)
        except OSError as exc:  # a recording
            raise Failure(f"{exc.filename}: cannot be deleted: {exc.strerror}") from None
        count = len(forgotten)
        sought = [*forgotten, *([] if number is None else [number])]
        try:
            forget_refused(_settings(file).spool, sought)
        except OSError as exc:
            raise Failure(f"{_settings(file).spool}: {exc.strerror}") from None
        if call_sid is not None and store.record(call_sid) is None:
            forgotten = [*forgotten, call_sid]  # perhaps its flight is all that is left of it
        try:
            keeper.remove(_settings(file).flights, forgotten)
        except OSError as exc:
            raise Failure(f"{exc.filename}: cannot be deleted: {exc.strerror}") from None
        say(f"Deleted: {count} call{'' if count == 1 else 's'}.")
        left = store.calls(Wanted(number=number)).calls if number else []
        if (call_sid is not None and store.record(call_sid) is not None) or left:
            fail("what is still under way is left: forget it when it has ended")


@calls.command(short_help="List what the receiver of ended calls is still to be told.")
@click.option(
    "--state",
    type=click.Choice(["waiting", "dead", "delivered"]),
    help="[default: waiting and dead]",
)
@click.option("--limit", type=click.IntRange(1, 500), default=30, show_default=True)
@click.pass_obj
def deliveries(file: str | None, state: str | None, limit: int) -> None:
    """List what the receiver of ended calls (STS_WEBHOOK_URL) is still to be told, or was not."""
    from sts_trio.records.deliveries import DEAD, WAITING, Deliveries

    with _open(file) as store:
        found = Deliveries(store.database).all([state] if state else [WAITING, DEAD], limit)
    if not found:
        say("There are none.")
    for each in found:
        due = f", due {_local(each.next_at)}" if each.state == WAITING else ""
        tried = f"{each.attempts} attempt{'' if each.attempts == 1 else 's'}"
        say(f"{each.webhook_id}  {each.state}, {tried}{due}  call {each.call_sid}")


@calls.command("send-again", short_help="Have the receiver told again what it did not take.")
@click.argument("webhook_id", metavar="[WEBHOOK_ID]", required=False)
@click.option("--all", "all_", is_flag=True, help="All that are dead.")
@click.pass_obj
def send_again(file: str | None, webhook_id: str | None, all_: bool) -> None:
    """Have a running server tell the receiver again what it did not take: see `deliveries`."""
    if (webhook_id is None) != all_:
        raise Misuse("expected a WEBHOOK_ID or --all, one of them")
    from sts_trio.records.deliveries import Deliveries

    with _open(file) as store:
        count = Deliveries(store.database).send_again(time.time(), webhook_id=webhook_id)
    if not count and webhook_id is not None:
        fail(f"{webhook_id}: none that is dead")
    say(f"To be sent again: {count}.")


@calls.command(short_help="Bring the database up to the schema of this version.")
@click.pass_obj
def migrate(file: str | None) -> None:
    """Bring the database up to the schema of this version, as `serve` does at its start.

    It may be made anew. An older version goes on with it: the one before this one at least.
    """
    from sts_trio.records import schema
    from sts_trio.records.opening import make_store

    settings = _settings(file)
    if settings.database_url is None:
        raise Misuse("STS_DATABASE_URL is none: no calls are kept")
    database = make_store(settings, settings.database_url).database
    database.open()
    database.close()
    say(f"{database.shown} has schema {schema.VERSION}.")


# ------------------------------------------------------------------------------------------------


def _settings(file: str | None) -> "Records":
    from sts_trio import config

    return config.from_environment(file).records


@contextlib.contextmanager
def _open(file: str | None) -> "Iterator[Store]":
    from sts_trio.records.database import DatabaseAway
    from sts_trio.records.opening import make_store

    settings = _settings(file)
    if settings.database_url is None:
        raise Misuse("STS_DATABASE_URL is none: no calls are kept")
    store = make_store(settings, settings.database_url)
    database = store.database
    if not database.is_postgresql and not Path(database.url.database or "").exists():
        fail(f"{database.url.database}: no calls are kept yet: `sts-trio serve` makes this file")
    try:
        database.open()
    except DatabaseAway as exc:
        fail(f"STS_DATABASE_URL: {database.shown} cannot be read: {exc}")
    try:
        yield store
    finally:
        database.close()


def _record(file: str | None, call_sid: str) -> "Record":
    with _open(file) as store:
        record = store.record(call_sid)
    if record is None:
        fail(f"{call_sid}: no such call is kept")
    return record


def _wanted(filters: dict[str, str | None]) -> "Wanted":
    from sts_trio.records.filters import BadFilter, read_wanted

    given = {name: text for name, text in filters.items() if text is not None}
    try:
        return read_wanted(given, time.time())
    except BadFilter as exc:
        raise Misuse(f"--{exc}") from None


def _local(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
