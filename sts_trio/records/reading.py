"""What is read of a call: its rows, and the record that is made of them.

Functions on a connection, in a transaction of whoever calls.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from sts_trio.records import schema
from sts_trio.records.record import CallRow, Record, RecordingRow, StreamRow, record
from sts_trio.records.rows import Kind, Row

_KINDS = frozenset(Kind)

call, event, recording, stream = schema.call, schema.event, schema.recording, schema.stream
_Struct = TypeVar("_Struct", bound=msgspec.Struct)
# What a record is read from. A newer schema has columns that we do not know of.
_CALL = [call.c[name] for name in CallRow.__struct_fields__]
_RECORDING = [recording.c[name] for name in RecordingRow.__struct_fields__]
_STREAM = [stream.c[name] for name in StreamRow.__struct_fields__]


def is_askable(text: str) -> bool:
    """What a database has no words for is in none of its rows."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text


def read_record(connection: sa.Connection, call_sid: str) -> Record | None:
    found = _structs(
        CallRow, connection.execute(sa.select(*_CALL).where(call.c.call_sid == call_sid))
    )
    if not found:
        return None
    streams = connection.execute(
        sa.select(*_STREAM).where(stream.c.call_sid == call_sid).order_by(stream.c.epoch)
    )
    recordings = connection.execute(
        sa.select(*_RECORDING).where(recording.c.call_sid == call_sid).order_by(recording.c.epoch)
    )
    return record(
        found[0],
        _structs(StreamRow, streams),
        read_rows(connection, [call_sid])[call_sid],
        _structs(RecordingRow, recordings),
    )


def read_calls(connection: sa.Connection, sids: Sequence[str]) -> dict[str, CallRow]:
    """{call: its row}, of those that there are"""
    found = connection.execute(sa.select(*_CALL).where(call.c.call_sid.in_(sids)))
    return {each.call_sid: each for each in _structs(CallRow, found)}


def read_rows(connection: sa.Connection, sids: Sequence[str]) -> dict[str, list[Row]]:
    """{call: its rows, in order}"""
    found: dict[str, list[Row]] = defaultdict(list)
    columns = (event.c.call_sid, event.c.epoch, event.c.seq, event.c.at, event.c.kind, event.c.body)
    for row in connection.execute(
        sa.select(*columns)
        .where(event.c.call_sid.in_(sids))
        .order_by(event.c.call_sid, event.c.epoch, event.c.seq)
    ):
        sid, epoch, seq, at, kind, body = row
        if kind in _KINDS:  # else of a newer release
            found[sid].append(Row(sid, epoch, seq, at, Kind(kind), body))
    return found


def _structs(of: type[_Struct], rows: Iterable[sa.Row[Any]]) -> list[_Struct]:
    """Of rows whose columns are the fields, in their order."""
    names = of.__struct_encode_fields__
    return [msgspec.convert(dict(zip(names, row, strict=True)), of) for row in rows]
