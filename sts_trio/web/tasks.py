"""The tasks of this process, as they are now. For who may see calls.

`/tasks`                the process's; a line of JSON each, the parent before its children
`/calls/CALL_SID/tasks` those of a live call
"""

from collections.abc import Sequence

import msgspec
from quart import Response

from sts_trio.observe.tasks import TaskState
from sts_trio.server import Server
from sts_trio.web import responses
from sts_trio.web.authentication import Authenticator
from sts_trio.web.responses import GET, UNKEPT, Rules


class Tasks:
    def __init__(self, server: Server, authenticator: Authenticator) -> None:
        self._server = server
        self._authenticator = authenticator

    @property
    def rules(self) -> Rules:
        return [("/tasks", self.tasks, GET), ("/calls/<call_sid>/tasks", self.tasks_of, GET)]

    async def tasks(self) -> Response:
        return await self._authenticator.operator() or _lines(await self._server.tasks())

    async def tasks_of(self, call_sid: str) -> Response:
        if refusal := await self._authenticator.operator():
            return refusal
        found = list(self._server.live_calls.find(call_sid))
        if not found or found[-1].task is None:
            return responses.text(responses.NOT_LIVE, 404)
        return _lines(await self._server.tasks(found[-1].task))


def _lines(tasks: Sequence[TaskState]) -> Response:
    lines = b"".join(msgspec.json.encode(task) + b"\n" for task in tasks)
    return Response(lines, content_type="application/x-ndjson", headers={**UNKEPT})
