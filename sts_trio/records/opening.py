"""From the configuration to what runs: what a server needs to keep its calls, and to find them."""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import trio

from sts_trio.config.records import Records
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.call_log import CallLog
from sts_trio.records.database import Database, DatabaseAway
from sts_trio.records.recorder import remove
from sts_trio.records.redaction import Redaction
from sts_trio.records.shipper import Shipper
from sts_trio.records.spool import Spool
from sts_trio.records.store import DAY, Process, Store
from sts_trio.records.writer import Writer


def make_store(settings: Records, url: str) -> Store:
    """Its database is still to be opened.

    Raises:
        ConfigError: the URL is none of a database for us.
    """
    key = settings.redact_key
    return Store(
        Database(url),
        prices=settings.prices,
        keeps_words=settings.keep_words,
        redaction=None if key is None else Redaction(key),
        remove=lambda uri: remove(settings.recordings, uri),
    )


class OpenRecords(msgspec.Struct, frozen=True):
    """`writer.run` is to be started, and `call_log` to be told what happens. `store` is for those
    who read."""

    process_id: str
    writer: Writer
    call_log: CallLog
    store: Store


def open_records(
    settings: Records,
    process: Callable[[str], Process],
    versions: Mapping[str, str] | None = None,
    tell: Callable[[events.Event], None] = lambda event: None,
    *,
    others: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
) -> OpenRecords | None:
    """None where nothing is to be kept. Blocks: for seconds where a server does not answer.

    `process` is given this process's id, and tells how it is; `versions` are those of the agents,
    by name; for `tell` and `others` see `Writer`. A server that does not answer now is no mistake:
    the rows wait for it.

    Raises:
        ConfigError: the database or the spool cannot be used.
    """
    if settings.database_url is None:
        return None
    process_id = uuid.uuid4().hex
    # Those that have one thread may be interrupted.
    written, tidied, read = (make_store(settings, settings.database_url) for _ in range(3))
    for each in (written, tidied, read):
        try:
            each.database.open()
        except DatabaseAway as exc:
            report(events.RecordsAway(each.database.shown, str(exc)))
            break
    spool = Spool(settings.spool, process_id)

    def tidy(is_wanted: Callable[[], bool]) -> None:
        now = time.time()
        tidied.prepare_day(now + DAY)
        tidied.close_unanswered(now)
        if settings.keep_days:
            before = now - settings.keep_days * DAY
            spool.expire(before)
            deleted = tidied.expire(before, is_wanted)
            if deleted.calls:
                report(events.RecordsExpired(deleted.calls, deleted.events))
        tidied.database.shrink_log()

    def close() -> None:
        tidied.database.close()
        read.database.close()

    shipper = Shipper(written, spool, process_id)
    writer = Writer(
        spool,
        shipper,
        lambda: process(process_id),
        redaction=written.redaction,
        tidy=tidy,
        interrupt=tidied.database.interrupt,
        close=close,
        others=others,
        tell=tell,
    )
    return OpenRecords(process_id, writer, CallLog(writer, process_id, versions), read)
