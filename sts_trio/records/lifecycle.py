"""What becomes of a call, in the tables of calls, streams and recordings: it is announced, it
starts, it is answered, it ends, or it is lost.

Functions on a connection, in a transaction of whoever calls. Each row may come twice, and late: of
two streams of a call the one with the higher epoch counts.
"""

from typing import Any

import sqlalchemy as sa

from sts_trio.records import schema
from sts_trio.records.database import insert_into
from sts_trio.records.rows import Kind, Row, text

LOST = "lost"
# The ending of a stream that another has followed, and of which nobody has told how it ended.
CUT = "cut"
# The ending of a stream whose call another process is to go on with.
MOVED = "moved"
UNDER_WAY = ("announced", "live", "moving")
OVER = ("ended", LOST)

call, recording, stream = schema.call, schema.recording, schema.stream


def announce(connection: sa.Connection, row: Row) -> None:
    known = _info(row)
    insert = insert_into(connection, call).values(
        **_new_call(row), **known, state="announced", epoch=0, created_at=row.at
    )
    # A stream may have told of it first, when this waited in a spool.
    told = {"created_at": sa.case((call.c.created_at < row.at, call.c.created_at), else_=row.at)}
    connection.execute(insert.on_conflict_do_update(index_elements=["call_sid"], set_=known | told))


def start(connection: sa.Connection, row: Row) -> None:
    body = row.body
    how = str(body.get("how", "first"))
    process_id = str(body.get("process_id", ""))
    connection.execute(
        insert_into(connection, stream)
        .values(
            call_sid=row.call_sid,
            epoch=row.epoch,
            stream_sid=str(body.get("stream_sid", "")),
            process_id=process_id,
            how=how,
            started_at=row.at,
            gap_seconds=body.get("gap_seconds"),
        )
        .on_conflict_do_nothing()
    )
    # Its other streams are over: whoever had them could not say so.
    connection.execute(
        sa.update(stream)
        .where(
            stream.c.call_sid == row.call_sid,
            stream.c.epoch < row.epoch,
            stream.c.ended_at.is_(None),
        )
        .values(ended_at=row.at - float(body.get("gap_seconds") or 0.0), ending=CUT)
    )
    insert = insert_into(connection, call).values(
        **_new_call(row),
        **_info(row),
        state="live",
        epoch=row.epoch,
        created_at=row.at,
        answered_at=row.at,
    )
    live = {
        "state": "live",
        "epoch": row.epoch,
        "process_id": process_id,
        "answered_at": sa.func.coalesce(call.c.answered_at, row.at),
        "moves": call.c.moves + int(how != "first"),
        "claimed_by": None,
        "claimed_until": None,
        "ended_at": None,
        "ending": None,
        "verdict": None,
        "detail": None,
    }
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["call_sid"], set_=live, where=call.c.epoch < row.epoch
        )
    )


def answer(connection: sa.Connection, row: Row) -> None:
    """Who answers a call by a Bin is not known before an agent has taken it."""
    connection.execute(
        sa.update(call)
        .where(call.c.call_sid == row.call_sid, call.c.agent == "")
        .values(agent=text(row, "agent"))
    )


def end(connection: sa.Connection, row: Row) -> bool:
    """Whether that was the call's end, and not that of a stream which others go on without."""
    body = row.body
    ending = str(body.get("ending", ""))
    connection.execute(
        sa.update(stream)
        .where(stream.c.call_sid == row.call_sid, stream.c.epoch == row.epoch)
        .values(ended_at=row.at, ending=ending)
    )
    if ending == MOVED:
        connection.execute(
            sa.update(call)
            .where(
                call.c.call_sid == row.call_sid, call.c.epoch == row.epoch, call.c.state == "live"
            )
            .values(state="moving")
        )
        return False
    over = {
        "state": "ended",
        "ended_at": row.at,
        "ending": ending,
        "verdict": str(body.get("verdict", "")),
        "detail": str(body.get("detail", "")),
        "apologised": bool(body.get("apologised", False)),
    }
    insert = insert_into(connection, call).values(
        **(_new_call(row) | _info(row) | over), epoch=0, created_at=row.at
    )
    # Of a call by a Bin that no agent has taken it was not known before.
    known = sa.func.nullif(call.c.agent, "")
    done = connection.execute(
        insert.on_conflict_do_update(
            index_elements=["call_sid"],
            set_={**over, "agent": sa.func.coalesce(known, _info(row)["agent"])},
            # The end of its newest stream, or of a call that never had one.
            where=sa.or_(call.c.epoch == row.epoch, call.c.epoch == 0),
        ).returning(call.c.call_sid)
    )
    return done.first() is not None


def lose(
    connection: sa.Connection,
    sid: str,
    ended_at: float,
    ending: str,
    verdict: str,
    detail: str,
    *,
    state: str = LOST,
) -> Row:
    """Returns the row that its end would have been."""
    connection.execute(
        sa.update(stream)
        .where(stream.c.call_sid == sid, stream.c.ended_at.is_(None))
        .values(ended_at=ended_at, ending=ending)
    )
    connection.execute(
        sa.update(call)
        .where(call.c.call_sid == sid)
        .values(state=state, ended_at=ended_at, ending=ending, verdict=verdict, detail=detail)
    )
    return Row(sid, 0, 0, ended_at, Kind.ENDED, {"ending": ending})


def keep_recording(connection: sa.Connection, row: Row) -> None:
    body = row.body
    told = {
        "uri": str(body.get("uri", "")),
        "began_at": float(body.get("began_at", row.at)),
        "seconds": float(body.get("seconds", 0.0)),
        "bytes": int(body.get("bytes", 0)),
        "result": str(body.get("result", "")),
    }
    insert = insert_into(connection, recording).values(
        call_sid=row.call_sid, epoch=int(body.get("of", row.epoch)), **told
    )
    # One that could not be completed is told of again, once the next start has.
    connection.execute(
        insert.on_conflict_do_update(index_elements=["call_sid", "epoch"], set_=told)
    )


def _info(row: Row) -> dict[str, Any]:
    """Who calls whom, as far as a row tells."""
    body = row.body
    parameters = body.get("parameters")
    return {
        "direction": str(body.get("direction", "")),
        "from_": str(body.get("from", "")),
        "to": str(body.get("to", "")),
        "agent": str(body.get("agent", "")),
        "parameters": parameters if isinstance(parameters, dict) else {},
        "source": str(body.get("source", "")),
        "redacted_at": row.at if body.get("redacted") else None,
    }


def _new_call(row: Row) -> dict[str, Any]:
    return {
        "call_sid": row.call_sid,
        "process_id": str(row.body.get("process_id", "")),
        "moves": 0,
        "schema_version": schema.VERSION,
    }
