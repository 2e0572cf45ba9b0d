"""Twilio's REST API as an HTTP server on the loopback, and as an account without any HTTP."""

import base64
import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import trio

from sts_trio.errors import TwilioFailed
from sts_trio.outbound.twilio_rest import Placed, TwilioRest

ACCOUNT = "AC00000000000000000000000000000001"
TOKEN = "s3cret-auth-token"
CALL = "CA00000000000000000000000000000002"


class Asked(NamedTuple):
    """A request that the API got."""

    path: str  # what is behind our account; of another one, with the account
    form: dict[str, list[str]]
    user: str
    password: str


class Answer(NamedTuple):
    status: int
    body: object = ""
    headers: Mapping[str, str] = {}


def refusal(status: int, code: int, message: str = "No.", **headers: str) -> Answer:
    return Answer(status, {"code": code, "message": message, "status": status}, headers)


DROP = Answer(-1)  # closes the connection instead
STALL = Answer(-2)  # says nothing until the server is closed


class FakeApi:
    """Answers as told by `answers`, in turn, and after that as Twilio does when all is well.

    `placed`, if set, is told each call before its answer is sent: Twilio, too, is that quick.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: deque[Answer] = deque()
        self.placed: Callable[[Asked], None] = lambda asked: None
        self.url = ""
        self.reached = threading.Event()
        self.over = threading.Event()

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        self.reached.set()
        if self.answers:
            return self.answers.popleft()
        if asked.path == "/Calls.json":
            self.placed(asked)
            return Answer(201, {"sid": CALL, "status": "queued"})
        return Answer(200, {"sid": CALL, "status": "in-progress"})


@contextlib.contextmanager
def serving() -> Iterator[FakeApi]:
    api = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            credentials = self.headers["Authorization"].removeprefix("Basic ")
            user, _, password = base64.b64decode(credentials).decode().partition(":")
            path = urlsplit(self.path).path.removeprefix("/2010-04-01/Accounts/")
            path = path.removeprefix(ACCOUNT)
            answer = api.answer(Asked(path, parse_qs(body), user, password))
            if answer is STALL:
                api.over.wait()
            if answer.status < 0:
                self.close_connection = True
                return
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            """Nothing to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield api
    finally:
        api.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class FakeAccount(TwilioRest):
    """An account whose calls are placed as soon as `open` is, each with a SID of its own.

    `failures` are raised instead, in turn.
    """

    def __init__(self, account_sid: str | None = ACCOUNT, auth_token: str | None = TOKEN) -> None:
        super().__init__(account_sid, auth_token)
        self.created: list[tuple[float, dict[str, str]]] = []  # (time, arguments)
        self.redirected: list[tuple[str, str]] = []  # (call SID, TwiML)
        self.sent: list[tuple[str, str]] = []  # (call SID, URL)
        self.hung_up: list[str] = []
        self.failures: deque[Exception] = deque()
        self.accounts: list[str] = []  # that the calls were said to be of
        self.takes = 0.0
        self.are_over = False  # whatever is asked for comes too late
        self.open = trio.Event()
        self.open.set()

    @staticmethod
    def sid(number: int) -> str:
        return f"CA{number:032x}"

    def token(self, number: int = 0) -> str:
        """The token in the URLs of a call that was created."""
        return self.created[number][1]["url"].partition("?outbound=")[2]

    async def create_call(self, **arguments: str) -> Placed:
        self.created.append((trio.current_time(), arguments))
        sid = self.sid(len(self.created))
        failure = self.failures.popleft() if self.failures else None
        await self.open.wait()
        if failure is not None:
            raise failure
        return Placed(sid, "queued")

    async def redirect(self, call_sid: str, twiml: str, account_sid: str = "") -> bool:
        self.redirected.append((call_sid, twiml))
        return await self._answer(account_sid)

    async def have_asked(self, call_sid: str, url: str, account_sid: str = "") -> bool:
        self.sent.append((call_sid, url))
        return await self._answer(account_sid)

    async def hang_up(self, call_sid: str, account_sid: str = "") -> bool:
        self.hung_up.append(call_sid)
        return await self._answer(account_sid)

    async def _answer(self, account_sid: str) -> bool:
        self.accounts.append(account_sid)
        await trio.sleep(self.takes)
        self._fail()
        return not self.are_over

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.popleft()


UNCERTAIN = TwilioFailed("no answer", is_uncertain=True)
REFUSED = TwilioFailed("not a valid number", status=400, code=21211)
