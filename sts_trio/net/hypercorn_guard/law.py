"""The law of connections.

*A connection that makes no progress, or whose peer is gone, is over within a named time, whatever
its tasks wait for.*

A connection is always at one step. Each step has a limit, and only the next step ends it: bytes
that drip in do not. The limit is the deadline of one cancel scope around all of the connection's
tasks, so that there is no wait that it does not end: in Hypercorn 0.18's own handler a reader may
wait for a writer, the writer for the peer, and the peer be gone.

| step      | waits for                                           | at most                   |
|-----------|-----------------------------------------------------|---------------------------|
| HANDSHAKE | the peer's side of TLS                              | `ssl_handshake_timeout`   |
| HEAD      | a request's head, since the accept, or since its    | `HEAD_TIME`               |
|           | first byte where it is not the first                |                           |
| IDLE      | the next request                                    | `keep_alive_timeout`      |
| BODY      | the rest of a request                               | `BODY_TIME`               |
| ANSWER    | the handler, from one piece to the next             | `ANSWER_TIME`             |
| ANSWERED  | the bookkeeping behind an answer                    | `CUT_OFF_GRACE`           |
| CALL      | nothing: an accepted websocket is a call, and its   |                           |
|           | legs know better when its caller is gone            |                           |
| END       | the tasks that still work for a peer that is gone   | `CUT_OFF_GRACE`,          |
|           |                                                     | of a call `CALL_GRACE`    |

A write has a limit of its own at every step, `WRITE_TIME` for each `PIECE`.

What is cancelled may still shield itself. Every shield in here has a deadline, and `CUT_OFF_GRACE`
after a cancellation, by the law or by a shutdown, the socket itself is reset.

An answer that is streamed, as server-sent events are, is no call, and has no limit as long as it
makes progress: something has to be sent each `ANSWER_TIME`, and to be taken each `WRITE_TIME`.

Pure: a table. `tcp.py` keeps it.
"""

import enum
from math import inf
from typing import assert_never

from hypercorn.config import Config

# How long a cancelled connection has for its goodbyes, and its handler to leave once the peer is
# gone: as long as a call has for hanging up.
CUT_OFF_GRACE = 2.0
# A call outlives its caller by what it has to tell Twilio and the agent: 6.5 s at the most
# (`call.GOODBYE_WITHIN` and `HANG_UP_GRACE`).
CALL_GRACE = 10.0
# One packet, or a few.
HEAD_TIME = 5.0
# The app has a limit for bodies that it asks for (10 s, `web.app.BODY_TIMEOUT`), and says 408. This
# one is behind it, for handlers that do not ask.
BODY_TIME = 15.0
# As reverse proxies have it: who is silent for longer than that has forgotten. Events that are
# streamed have a line at least each 15 s.
ANSWER_TIME = 60.0
# As long as the kernel waits for an acknowledgement, see `tcp.SOCKET_OPTIONS`. Before it has anyone
# wait it has taken what fits into its buffer, which is more than any answer of ours.
WRITE_TIME = 20.0
PIECE = 65536  # so that what is larger has time as long as some of it is taken


class Step(enum.Enum):
    """What a connection waits for. See the table above."""

    HANDSHAKE = enum.auto()
    HEAD = enum.auto()
    IDLE = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()
    ANSWERED = enum.auto()
    CALL = enum.auto()
    END = enum.auto()

    def limit(self, was: "Step", config: Config) -> float:
        """How long a connection may be at this step, which it has come to from `was`."""
        match self:
            case Step.HANDSHAKE:
                return float(config.ssl_handshake_timeout)
            case Step.HEAD:
                return HEAD_TIME
            case Step.IDLE:
                return config.keep_alive_timeout
            case Step.BODY:
                return BODY_TIME
            case Step.ANSWER:
                return ANSWER_TIME
            case Step.ANSWERED:
                return CUT_OFF_GRACE
            case Step.CALL:
                return inf
            case Step.END:
                return CALL_GRACE if was is Step.CALL else CUT_OFF_GRACE
            case _:
                assert_never(self)


BEFORE_A_REQUEST = frozenset({Step.HANDSHAKE, Step.HEAD, Step.IDLE})
# Who goes first when there are too many connections.
PEERS_TURN = BEFORE_A_REQUEST | {Step.BODY, Step.END}
