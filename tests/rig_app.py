"""An app on Quart's test client, without a socket."""

import base64
import hashlib
import hmac
from pathlib import Path
from urllib.parse import urlencode

from quart.typing import TestClientProtocol as Client
from quart.wrappers import Response

from sts_trio.config import load
from sts_trio.web.app import App, create_app


def make_app(tmp_path: Path, **environ: str) -> App:
    return create_app(load(environ, tmp_path))


def client_of(app: App) -> Client:
    return app.test_client()


def key(app: App) -> dict[str, str]:
    """What lets this machine in, where Twilio's token does not decide."""
    key = app.server.key
    return {} if key is None else {"authorization": f"Bearer {key}"}


async def post(
    app: App, path: str, fields: dict[str, str], headers: dict[str, str] | None = None
) -> Response:
    response = await client_of(app).post(
        path,
        data=urlencode(fields),
        headers={"content-type": "application/x-www-form-urlencoded"} | key(app) | (headers or {}),
        scope_base={"client": ("127.0.0.1", 5)},
    )
    assert isinstance(response, Response)
    return response


async def body_of(response: Response) -> str:
    return str(await response.get_data(as_text=True))


ROUTES = [
    ("GET", "/"),
    ("GET", "/past"),
    ("GET", "/web/page.js"),
    ("GET", "/state"),
    ("GET", "/calls"),
    ("GET", "/events"),
    ("GET", "/calls/CA1/events"),
    ("GET", "/metrics"),
    ("GET", "/tasks"),
    ("POST", "/stream-token"),
]


TOKEN = "12345"


def sign(url: str, fields: dict[str, str]) -> str:
    text = url + "".join(name + fields[name] for name in sorted(fields))
    digest = hmac.new(TOKEN.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()
