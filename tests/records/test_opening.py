"""What the operator wrote, and what runs then."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio
from call_stories import FROM, sid, whole
from limits import HANG
from rig_processes import process

from sts_trio.call.info import CallInfo
from sts_trio.config.records import KeptFlights, Prices, Records
from sts_trio.errors import ConfigError
from sts_trio.observe import events
from sts_trio.records.opening import OpenRecords, open_records
from sts_trio.records.search import Wanted

KEY = "0123456789abcdef0123456789abcdef"


def settings(url: str | None, spool: Path, **others: Any) -> Records:
    decided = {
        "process_name": None,
        "keep_days": 30.0,
        "keep_words": True,
        "redact_key": None,
        "are_recorded": False,
        "recordings": spool.parent / "recordings",
        "webhook": None,
        "kept_flights": KeptFlights.NONE,
        "flights": spool.parent / "flights",
    }
    return Records(database_url=url, spool=spool, prices=Prices(), **{**decided, **others})


def opened(tmp_path: Path, spool: str = "spool", **others: Any) -> OpenRecords:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    made = open_records(settings(url, tmp_path / spool, **others), process)
    assert made is not None
    return made


def test_with_none_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_records(settings(None, tmp_path / "spool"), process) is None
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_cannot_be_used_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "calls.db").write_bytes(b"GIF89a" * 1000)
    with pytest.raises(ConfigError, match="STS_DATABASE_URL: "):
        opened(tmp_path)


def test_a_spool_that_cannot_be_used_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="STS_SPOOL: "):
        opened(tmp_path, spool="/dev/null")
    # Whoever closes an SQLite database last takes the files beside it along.
    assert [name for name, _ in files(tmp_path)] == ["calls.db"]


async def test_a_call_is_kept_and_found_again(tmp_path: Path) -> None:
    kept = opened(tmp_path, redact_key=KEY)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            await nursery.start(kept.writer.run)
            kept.call_log.announce(CallInfo(call_sid=sid(1), from_=FROM), "webhook")
            # A busy machine may have the database locked at first: then it is safe in the spool.
            while not kept.store.calls(Wanted(number=FROM)).calls:
                assert await kept.writer.flush(60, is_last=True)
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    [call] = kept.store.calls(Wanted(number=FROM)).calls
    assert (call.call_sid, call.process_id) == (sid(1), kept.process_id)
    kept.store.database.close()
    [(name, content)] = files(tmp_path)
    assert name == "calls.db"
    assert FROM.encode() not in content


def files(directory: Path) -> list[tuple[str, bytes]]:
    return [(file.name, file.read_bytes()) for file in directory.rglob("*") if file.is_file()]


async def test_what_is_too_old_goes_as_soon_as_the_server_runs(tmp_path: Path) -> None:
    kept = opened(tmp_path)
    kept.store.write(whole(1, at=0.0))
    expected = {"event": events.RecordsExpired.NAME, "calls": 1, "events": len(whole())}
    with structlog.testing.capture_logs() as lines, trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            await nursery.start(kept.writer.run)
            while {**expected, "log_level": "info"} not in lines:  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert kept.store.calls(Wanted()).calls == []
    kept.store.database.close()


async def test_a_server_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        kept = open_records(
            settings("postgresql://u:hidden@127.0.0.1:9/calls", tmp_path / "spool"),
            process,
        )
        assert kept is not None
        with trio.fail_after(HANG):
            async with trio.open_nursery() as nursery:
                await nursery.start(kept.writer.run)
                for row in whole():
                    kept.writer.put(row)
                assert await kept.writer.flush(60)
                # On disk: that the database is away may take a moment more to be found out.
                while (figures := kept.writer.figures).status == "ok":  # noqa: ASYNC110
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
    assert (figures.status, figures.spooled) == ("behind", len(whole()))
    assert lines[0]["event"] == events.RecordsAway.NAME
    assert "hidden" not in str(lines)
    assert sorted(name for name, _ in files(tmp_path)) == ["00000001.ndjson", "lock"]


async def test_figures_can_be_told_as_json(tmp_path: Path) -> None:
    kept = opened(tmp_path)
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(kept.writer.figures))
    async with trio.open_nursery() as nursery:
        await nursery.start(kept.writer.run)
        nursery.cancel_scope.cancel()
    assert told["status"] == "ok"
