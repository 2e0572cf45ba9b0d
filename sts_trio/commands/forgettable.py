"""What `sts-trio calls forget` is asked for, looked at before anything is deleted."""

from sts_trio.commands.common import Failure, Misuse
from sts_trio.config.records import Records
from sts_trio.flight import keeper
from sts_trio.records.search import Wanted
from sts_trio.records.spool import is_refused
from sts_trio.records.store import Store
from sts_trio.wire.addresses import is_address
from sts_trio.wire.printable import quoted


def is_anything_kept(
    store: Store, settings: Records, call_sid: str | None, number: str | None
) -> bool:
    """Whether anything is kept of this call, or of a call with this number."""
    if call_sid is None:
        is_kept = bool(store.calls(Wanted(number=number)).calls)
    else:
        flights = keeper.flights_of(settings.flights, call_sid)
        is_kept = bool(flights) or store.record(call_sid) is not None
    try:
        return is_kept or is_refused(settings.spool, [call_sid or number or ""])
    except OSError as exc:
        raise Failure(f"{settings.spool}: {exc.strerror}") from None


def check_number(store: Store, number: str) -> None:
    """Who mistypes it is not to believe that somebody is forgotten."""
    is_known = number != "" and store.calls(Wanted(number=number)).calls
    if not is_address(number) and not is_known:
        raise Misuse(
            "--number: expected a number like +15005550006, or an address like"
            f" sip:ann@example.com, got {quoted(number)}"
        )
