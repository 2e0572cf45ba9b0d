"""From the configuration to what runs: what a server needs to keep its calls, and to find them."""

import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import trio

from sts_trio.config.raw import config_error
from sts_trio.config.records import Records, Webhook
from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.records.call_log import CallLog
from sts_trio.records.courier import Courier
from sts_trio.records.database import Database, DatabaseAway
from sts_trio.records.deliveries import Deliveries
from sts_trio.records.ending_hook import EndingHook, Hook
from sts_trio.records.event_days import DAY
from sts_trio.records.process_state import Process
from sts_trio.records.receiver import BadUrl, Receiver
from sts_trio.records.record import Record
from sts_trio.records.recordings import remove
from sts_trio.records.redaction import Redaction
from sts_trio.records.shared import Shared
from sts_trio.records.shipper import Shipper
from sts_trio.records.spool import Spool
from sts_trio.records.store import Store
from sts_trio.records.webhook import Signer
from sts_trio.records.writer import Writer


def make_store(
    settings: Records, url: str, on_ended: Callable[[Sequence[str]], None] = lambda call_sids: None
) -> Store:
    """Its database is still to be opened. For `on_ended` see `Store`.

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
        tells_endings=settings.webhook is not None,
        on_ended=on_ended,
    )


class OpenRecords(msgspec.Struct, frozen=True):
    """What has a `run` is to be started, `hook` first, and `call_log` to be told what happens.
    `store` is for those who read."""

    process_id: str
    writer: Writer
    call_log: CallLog
    store: Store
    courier: Courier | None
    hook: EndingHook | None
    shared: Shared  # what all processes on this database do together


def open_records(
    settings: Records,
    process: Callable[[str], Process],
    versions: Mapping[str, str] | None = None,
    tell: Callable[[events.Event], None] = lambda event: None,
    *,
    others: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
    hooks: Sequence[Hook] = (),
) -> OpenRecords | None:
    """None where nothing is to be kept. Blocks: for seconds where a server does not answer.

    `process` is given this process's id, and tells how it is; `versions` are those of the agents,
    by name; for `tell` and `others` see `Writer`. A server that does not answer now is no mistake:
    the rows wait for it. `hooks` are called with the records of calls that have ended.

    Raises:
        ConfigError: the database, the spool or the receiver's URL cannot be used.
    """
    if settings.database_url is None:
        return None
    process_id = uuid.uuid4().hex
    receiver = _receiver(settings.webhook)
    # Those that have one thread may be interrupted.
    tidied, read, told = (make_store(settings, settings.database_url) for _ in range(3))

    def record(call_sid: str) -> Record | None:
        try:
            return read.record(call_sid)
        except DatabaseAway:
            return None

    hook = EndingHook(hooks, record) if hooks else None
    on_ended = (lambda call_sids: None) if hook is None else hook.put_soon
    written = make_store(settings, settings.database_url, on_ended)
    together = Database(settings.database_url)
    with contextlib.ExitStack() as opened:  # all or none, where one cannot be used
        for each in (written.database, tidied.database, read.database, together):
            try:
                each.open()
            except DatabaseAway as exc:
                report(events.RecordsAway(each.shown, str(exc)))
                break
            opened.callback(each.close)
        if read.database.is_open and not read.has_word_index:
            report(events.RecordsWithoutIndex("this Python's SQLite is compiled without FTS5"))
        spool = Spool(settings.spool, process_id)
        opened.pop_all()

    shared = Shared(together, process_id)

    def tidy(is_wanted: Callable[[], bool]) -> None:
        now = time.time()
        tidied.prepare_day(now + DAY)
        tidied.close_unanswered(now)
        tidied.forget_used()
        if settings.keep_days:
            before = now - settings.keep_days * DAY
            spool.expire(before)
            deleted = tidied.expire(before, is_wanted)
            if deleted.calls:
                report(events.RecordsExpired(deleted.calls, deleted.events))
        tidied.index(is_wanted)
        tidied.database.shrink_log()

    def close() -> None:
        tidied.database.close()
        read.database.close()
        shared.close()

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
    courier = None
    if settings.webhook is not None and receiver is not None:
        courier = Courier(
            Deliveries(told.database),
            receiver,
            Signer(settings.webhook.secrets),
            close=told.database.close,
        )
    call_log = CallLog(writer, process_id, versions)
    writer.gather = call_log.gather
    return OpenRecords(process_id, writer, call_log, read, courier, hook, shared)


def _receiver(webhook: Webhook | None) -> Receiver | None:
    if webhook is None:
        return None
    try:
        return Receiver(webhook.url, allows_private=webhook.allows_private)
    except BadUrl as exc:
        raise config_error(f"STS_WEBHOOK_URL: {exc}") from None
