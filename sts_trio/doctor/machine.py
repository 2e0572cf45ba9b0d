"""What a server finds on its own machine: versions, the database, the disk, its port."""

import errno
import http.client
import importlib.metadata
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from sts_trio.config import Config
from sts_trio.doctor.findings import Finding, State, fault, fine, odd
from sts_trio.errors import ConfigError

# Bytes. Of a call some 100 KB are kept, and of an hour that is recorded 58 MB.
TIGHT, FULL = 2 * 2**30, 200 * 2**20
ASK_WITHIN = 3.0
MAX_ANSWER = 65536  # bytes

Version = tuple[int, ...]
# {package: (whether that version is one to be wary of, what it does, what to do)}
_WARY: dict[str, tuple[Callable[[Version], bool], str, str]] = {
    "hypercorn": (
        lambda version: version[:2] != (0, 18),
        "the guard of its connections is written for 0.18: one malformed request may end all calls",
        "pip install 'hypercorn>=0.18,<0.19'",
    ),
    "quart": (
        lambda version: version >= (0, 23),
        "quart-trio 0.12 breaks on import with it",
        "pip install 'quart>=0.22,<0.23'",
    ),
    "trio-websocket": (
        lambda version: version[:2] != (0, 12),
        "it is used beyond its documentation, as 0.12 has it",
        "pip install 'trio-websocket>=0.12,<0.13'",
    ),
}


def versions(installed: Callable[[str], str] = importlib.metadata.version) -> Iterator[Finding]:
    wary = False
    for package, (is_wary, what, cure) in _WARY.items():
        try:
            version = installed(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # it would not have come so far
        numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
        if is_wary(numbers):
            wary = True
            yield fault("versions", f"{package} {version}", what, cure)
    if not wary:
        known = ", ".join(f"{package} {installed(package)}" for package in _WARY)
        yield fine("versions", known)


def database(config: Config) -> Iterator[Finding]:
    """Without a change to it. Blocks, for seconds where a server does not answer."""
    url = config.records.database_url
    if url is None:
        yield fine("database", "none: nothing is kept of calls")
        return
    from sts_trio.records.database import Database, DatabaseAway
    from sts_trio.records.schema import VERSION

    where = config.where("STS_DATABASE_URL")
    try:
        database = Database(url)
        path = Path(database.url.database or "")
        if not database.is_postgresql and not path.exists():
            yield from _writable("database", path.parent, f"{path} will be made", where)
            return
        found = database.look()
    except ConfigError as exc:
        yield fault("database", "it is not fit for us", str(exc), f"mend {where}")
        return
    except DatabaseAway as exc:
        cure = f"start it, or mend {where}; calls go on without it, and rows wait on disk"
        yield fault("database", "it does not answer", str(exc), cure)
        return
    if found is None:
        yield fine("database", f"{database.shown} is empty: tables will be made")
    elif found[0] < VERSION:
        yield fine("database", f"schema {found[0]}: the next start brings it to {VERSION}")
    else:
        yield fine("database", f"{database.shown}, schema {found[0]}")


def disk(config: Config) -> Iterator[Finding]:
    records = config.records
    if records.database_url is None:
        yield fine("disk", "nothing is kept of calls")
        return
    places = {"STS_SPOOL": records.spool}
    if records.are_recorded:
        places["STS_RECORDINGS"] = records.recordings
    for variable, place in places.items():
        yield from _room(place, config.where(variable))


def _room(place: Path, where: str) -> Iterator[Finding]:
    [right] = _writable("disk", place, "", where)
    if right.state is not State.FINE:
        yield right
        return
    free = shutil.disk_usage(_nearest(place)).free
    shown = f"{place}: {free / 2**30:.1f} GiB are free"
    if free < FULL:
        what = "records and recordings get lost when it is full; calls go on"
        yield fault("disk", shown, what, f"make room, or name another place in {where}")
    elif free < TIGHT:
        yield odd("disk", shown, "an hour of recorded calls takes 58 MB a call", "make room")
    else:
        yield fine("disk", shown)


def _nearest(place: Path) -> Path:
    """The directory itself, or the one in which it would be made."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _writable(subject: str, place: Path, found: str, where: str) -> Iterator[Finding]:
    there = _nearest(place)
    if not there.is_dir():
        cure = f"name another place in {where}"
        yield fault(subject, f"{there} is no directory", "a file stands in the way", cure)
    elif not os.access(there, os.W_OK | os.X_OK):
        cure = f"give this user the right, or name another place in {where}"
        yield fault(subject, f"{there} cannot be written to", "no right", cure)
    else:
        yield fine(subject, found)


def port(host: str, number: int) -> Iterator[Finding]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, number))
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                why = exc.strerror or str(exc)
                yield fault("port", f"{host}:{number} cannot be had", why, "choose another: --port")
                return
        else:
            yield fine("port", f"{host}:{number} is free: no server of ours listens there")
            return
    if (live := _live_calls(host, number)) is not None:
        yield fine("port", f"{host}:{number}: a server of ours listens, calls under way: {live}")
    else:
        cure = "end it, or choose another: --port"
        yield fault("port", f"{host}:{number} is taken", "by another program", cure)


def _live_calls(host: str, number: int) -> int | None:
    """Of the server that listens there, if it is one of ours."""
    connection = http.client.HTTPConnection(host, number, timeout=ASK_WITHIN)
    try:
        connection.request("GET", "/healthz")
        return int(json.loads(connection.getresponse().read(MAX_ANSWER))["live"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()


def configuration(config: Config, functions: int) -> Iterator[Finding]:
    found = f"{config.file or 'the environment alone'}; agents: {len(config.agents)}"
    yield fine("configuration", f"{found}; functions: {functions}")
    for warning in config.warnings:
        yield odd(
            "configuration",
            warning,
            "it is allowed, and hardly meant",
            "mend it, or leave it if it is meant",
        )
