"""From the configuration to what runs: what a server needs to keep its calls, and to find them."""

import time
import uuid
from collections.abc import Callable

import msgspec

from sts_trio.config.records import Records
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.call_log import CallLog
from sts_trio.records.database import Database, DatabaseAway
from sts_trio.records.redaction import Redaction
from sts_trio.records.shipper import Shipper
from sts_trio.records.spool import Spool
from sts_trio.records.store import DAY, Process, Store
from sts_trio.records.writer import Writer


class Opened(msgspec.Struct, frozen=True):
    """`writer.run` is to be started, and `call_log` to be told what happens. `store` is for those
    who read."""

    process_id: str
    writer: Writer
    call_log: CallLog
    store: Store


def open_records(
    settings: Records,
    process: Callable[[str], Process],
    tell: Callable[[events.Event], None] = lambda event: None,
) -> Opened | None:
    """None where nothing is to be kept. Blocks: for seconds where a server does not answer.

    `process` is given this process's id, and tells how it is; for `tell` see `Writer`. A server
    that does not answer now is no mistake: the rows wait for it.

    Raises:
        ConfigError: the database or the spool cannot be used.
    """
    if settings.database_url is None:
        return None
    process_id = uuid.uuid4().hex

    def store() -> Store:
        key = settings.redact_key
        assert settings.database_url is not None
        return Store(
            Database(settings.database_url),
            prices=settings.prices,
            keeps_words=settings.keep_words,
            redaction=None if key is None else Redaction(key),
        )

    # The writer's is its own: it may be interrupted.
    written, read = store(), store()
    for each in (written, read):
        try:
            each.database.open()
        except DatabaseAway as exc:
            report(events.RecordsAway(each.database.shown, str(exc)))
            break
    spool = Spool(settings.spool, process_id)

    def tidy() -> None:
        now = time.time()
        read.prepare_day(now + DAY)
        read.close_unanswered(now)
        if settings.keep_days:
            before = now - settings.keep_days * DAY
            spool.expire(before)
            deleted = read.expire(before)
            if deleted.calls:
                report(events.RecordsExpired(deleted.calls, deleted.events))
        read.database.shrink_log()

    shipper = Shipper(written, spool, process_id)
    writer = Writer(
        spool,
        shipper,
        lambda: process(process_id),
        redaction=written.redaction,
        tidy=tidy,
        tell=tell,
    )
    return Opened(process_id, writer, CallLog(writer, process_id), read)
