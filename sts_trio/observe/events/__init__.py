"""The catalogue of events: all that is told of calls and of the process. Pure.

An event is a class in here: its name, its level, its fields with their types, units and meanings.
No other file writes a name; tests hold the package, the page's scripts and docs/events.md to that.

What happens in a call is an `OfCall`: it goes to the log and to the event feed. Everything else
goes to the log alone. To add an event, add a class to the file of its subject, emit it (in `logic/`
as an act, for a call by `Reports.report`, else by `sts_trio.observe.report`), and run
docs/generate.py. `event.py` has what an event is.
"""

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import msgspec

from sts_trio.observe.events import agents, calls, functions, records, server
from sts_trio.observe.events.agents import *  # noqa: F403
from sts_trio.observe.events.calls import *  # noqa: F403
from sts_trio.observe.events.event import *  # noqa: F403
from sts_trio.observe.events.event import Event, OfCall
from sts_trio.observe.events.functions import *  # noqa: F403
from sts_trio.observe.events.records import *  # noqa: F403
from sts_trio.observe.events.server import *  # noqa: F403


def _of(subject: ModuleType) -> Iterator[type[Event]]:
    for each in vars(subject).values():
        if getattr(each, "__module__", "") == subject.__name__:
            yield each


_ALL = [event for subject in (calls, agents, functions, records, server) for event in _of(subject)]
# {name: its class}, those of calls first, each in the order of its file.
EVENTS: Mapping[str, type[Event]] = {
    event.NAME: event for event in sorted(_ALL, key=lambda event: not issubclass(event, OfCall))
}


def read(name: str, fields: Mapping[str, Any]) -> Event | None:
    """The event that was told of as JSON; `None`: none of this version's.

    Raises:
        msgspec.ValidationError: it has other fields.
    """
    event = EVENTS.get(name)
    return None if event is None else msgspec.convert(fields, event)
