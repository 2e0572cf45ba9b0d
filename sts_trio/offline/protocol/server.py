"""The offline agent as a websocket server: `serve` on TCP, `serve_stream` on any Trio stream.

A session is one nursery with a listener, a timer and its jobs in it. All tell the `Session` and
do what it returns, one at a time and in that order; writing waits for a client that is slow to
read, and so does all else, as with any server. When the nursery ends, by whichever side, nothing is
left.

With a pool the agent recognises words and answers by the policy of its domain. With a script it
says the lines of that, in the pool's voice if there is one; with neither, those of a car seller's.
Or the sessions are somebody else's, and the pool does their jobs.
"""

import contextlib
import http
import uuid
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
import trio
import trio_websocket
import wsproto.utilities
from wsproto.frame_protocol import CloseReason

from sts_trio.observe import events
from sts_trio.observe.report import report
from sts_trio.offline import domain
from sts_trio.offline.answers.policy import Policy
from sts_trio.offline.mode import Mode
from sts_trio.offline.protocol.faults import Faults, FaultySession, FaultyStream, Garbage
from sts_trio.offline.protocol.jobs import Heard, Listen, Speak, Spoken
from sts_trio.offline.protocol.script import CAR_SELLER, Prompter, Script
from sts_trio.offline.protocol.session import NO_STATUS, Act, HangUp, Message, Session, Unparsable
from sts_trio.offline.workers import pool as workers
from sts_trio.offline.workers.pool import WorkerFailed, WorkerPool
from sts_trio.wire.deepgram import ToAgent
from sts_trio.wire.dialect import Dialect, Language, language
from sts_trio.wire.legacy import Untranslatable

PATHS = {"/v1/agent/converse": Dialect.V1, "/agent": Dialect.LEGACY}

HANDSHAKE_TIMEOUT = 10.0  # for the client's request
GOODBYE_TIMEOUT = 2.0  # for its answer to our close frame
# `Settings` with everything in it: a prompt of 25 000 characters, functions, a long history.
MAX_BYTES = 2**20

NO_FAULTS = Faults()


async def serve(
    host: str,
    port: int,
    *,
    mode: Mode = Mode.SCRIPTED,
    script: Script | None = None,
    faults: Faults = NO_FAULTS,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until cancelled. Reports the port it listens on, which tells what port 0 became.

    `Mode.EARS` takes the `demo` extra: `mode.choose` tells whether it is there. With a `script` it
    is for the voice alone.

    Raises:
        OSError: the address cannot be listened on.
    """
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(workers.open_pool()) if mode is Mode.EARS else None
        listeners = await trio.open_tcp_listeners(port, host=host)
        task_status.started(listeners[0].socket.getsockname()[1])
        serve_one = partial(_serve_one, script=script, pool=pool, faults=faults)
        await trio.serve_listeners(serve_one, listeners)


async def _serve_one(
    stream: trio.abc.Stream, *, script: Script | None, pool: WorkerPool | None, faults: Faults
) -> None:
    """The boundary: a bug ends one session and not the server, which may be somebody's bridge."""
    try:
        await serve_stream(stream, script=script, pool=pool, faults=faults)
    except* Exception:
        report(events.OfflineAgentCrashed(), exc_info=True)


class Pool(Protocol):
    """Who recognises and speaks, as `workers.pool.WorkerPool` does.

    Raises:
        WorkerFailed: there is nothing to be had.
    """

    async def hear(self, ulaw: bytes) -> str: ...
    async def say(self, text: str) -> bytes: ...


MakeSession = Callable[[str], Session]  # by the id of its handshake's request


async def serve_stream(
    stream: trio.abc.Stream,
    *,
    script: Script | None = None,
    pool: Pool | None = None,
    faults: Faults = NO_FAULTS,
    make_session: MakeSession | None = None,
) -> None:
    """Serves one client, from its handshake to the end of its session; closes the stream.

    A client that is lost or breaks the websocket protocol ends its session and raises nothing.
    """
    stream = FaultyStream(stream, faults)
    try:
        async with trio.open_nursery() as nursery:
            make_session = make_session or partial(_make_session, script, pool)
            await _serve_client(nursery, stream, make_session, pool, faults)
            nursery.cancel_scope.cancel()
    # trio-websocket's reader lets these out when frames come while closing (its issue 184), or
    # when the transport breaks under an answer to a bad handshake.
    except* (
        trio_websocket.ConnectionClosed,
        wsproto.utilities.ProtocolError,
        trio.BrokenResourceError,
        trio.ClosedResourceError,
    ):
        pass
    finally:
        await trio.aclose_forcefully(stream)


def _make_session(script: Script | None, pool: Pool | None, request_id: str) -> Session:
    if pool is None or script is not None:
        mind = Prompter(script or CAR_SELLER)
        return Session(mind, has_voice=pool is not None, request_id=request_id)
    # webrtcvad is in the extra.
    from sts_trio.offline.hearing import vad as voiced

    return Session(
        Policy(domain.load()),
        sense=voiced.sense(),
        has_ears=True,
        has_voice=True,
        request_id=request_id,
    )


async def _serve_client(
    nursery: trio.Nursery,
    stream: FaultyStream,
    make_session: MakeSession,
    pool: Pool | None,
    faults: Faults,
) -> None:
    request = None
    # A client that talks no HTTP is answered and closed by trio-websocket, which then never
    # reports a request.
    with trio.move_on_after(HANDSHAKE_TIMEOUT):
        request = await trio_websocket.wrap_server_stream(
            nursery,
            stream,
            message_queue_size=16,
            max_message_size=MAX_BYTES,
            receive_buffer_size=65536,
        )
    if request is None:
        return
    status, reason = _refusal(request, faults)
    if status is not None:
        await request.reject(status, body=reason.encode())
        return
    request_id = str(uuid.uuid4())
    # The path ends where a query begins; Deepgram's has none and neither does ours.
    speech = language(PATHS[_path(request)])
    socket = await request.accept(
        subprotocol=next(iter(request.proposed_subprotocols), None),
        extra_headers=[(b"dg-request-id", request_id.encode())],
    )
    stream.begin()
    nursery.start_soon(stream.run)
    session = FaultySession(make_session(request_id), faults)
    await _Conversation(socket, session, speech, pool).run()


def _path(request: trio_websocket.WebSocketRequest) -> str:
    return request.path.partition("?")[0]


def _refusal(request: trio_websocket.WebSocketRequest, faults: Faults) -> tuple[int | None, str]:
    """The status to refuse a handshake with and its reason, or None."""
    if faults.refuse_status is not None:
        return faults.refuse_status, "a fault made on purpose"
    if _path(request) not in PATHS:
        return http.HTTPStatus.NOT_FOUND, f"the agent is at {' or '.join(PATHS)}"
    for name, value in request.headers:
        if name.lower() == b"authorization":
            scheme, _, credential = value.partition(b" ")
            if scheme.lower() not in (b"token", b"bearer") or not credential.strip():
                return http.HTTPStatus.UNAUTHORIZED, "Authorization is `Token KEY` or `Bearer JWT`"
    return None, ""


class _Conversation:
    """A session on its websocket."""

    def __init__(
        self,
        socket: trio_websocket.WebSocketConnection,
        session: FaultySession,
        speech: Language,
        pool: Pool | None,
    ) -> None:
        self._socket = socket
        self._session = session
        self._speech = speech
        self._pool = pool
        self._nursery: trio.Nursery
        # Fair: acts are done in the order in which the session told them.
        self._turn = trio.Lock()
        self._alarm = trio.CancelScope()

    async def run(self) -> None:
        """Returns when the websocket is closed, by either side."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._do(self._session.open(trio.current_time()))
            nursery.start_soon(self._keep_time)
            await self._listen()
            # A goodbye of ours is let finish.
            async with self._turn:
                nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                data = await self._socket.get_message()
            except trio_websocket.ConnectionClosed:
                return
            await self._hear(self._decode(data))

    async def _hear(self, message: Message) -> None:
        acts = self._session.hear(message, trio.current_time())
        self._alarm.deadline = self._session.deadline
        await self._do(acts)

    def _decode(self, data: str | bytes) -> ToAgent | Unparsable:
        try:
            return self._speech.decode_as_agent(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
            return Unparsable(f"the message matches none of the protocol's: {exc}")

    async def _run(self, job: Listen | Speak) -> None:
        """Does it, and tells the session what came of it."""
        assert self._pool is not None
        outcome: Heard | Spoken
        try:
            if isinstance(job, Listen):
                outcome = Heard(job.ticket, await self._pool.hear(job.audio))
            else:
                outcome = Spoken(job.ticket, await self._pool.say(job.text))
        except WorkerFailed as exc:
            report(events.OfflineAgentWorkerFailed(str(exc)))
            outcome = (
                Heard(job.ticket, "", str(exc))
                if isinstance(job, Listen)
                else Spoken(job.ticket, b"", str(exc))
            )
        await self._hear(outcome)

    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._session.deadline) as self._alarm:
                await trio.sleep_forever()
            await self._do(self._session.wake(trio.current_time()))

    async def _do(self, acts: list[Act | Garbage]) -> None:
        """Says what there is to say, for as long as there is somebody to hear it.

        Only `_listen` ends a conversation: when it is told of the close, the answer to a close
        frame has left.
        """
        async with self._turn:
            with contextlib.suppress(trio_websocket.ConnectionClosed):
                for act in acts:
                    await self._perform(act)

    async def _perform(self, act: Act | Garbage) -> None:
        if isinstance(act, HangUp):
            # wsproto leaves the status out for its own constant only: the number becomes 1000.
            code = CloseReason.NO_STATUS_RCVD if act.code == NO_STATUS else act.code
            with trio.move_on_after(GOODBYE_TIMEOUT):
                await self._socket.aclose(code)
        elif isinstance(act, Garbage):
            await self._socket.send_message(act.text)
        elif isinstance(act, Listen | Speak):
            self._nursery.start_soon(self._run, act)
        else:
            try:
                frame = self._speech.encode_as_agent(act)
            except Untranslatable:
                return  # the legacy service never sent the like
            await self._socket.send_message(frame)
