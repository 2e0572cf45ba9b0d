"""Strangers who come by what looks like this machine: real proxies that add no header.

Debian's packages nginx, haproxy and socat. Where they are missing the tests are skipped, but not
where the suite decides what lands (CI=true).
"""

import contextlib
import functools
import http.client
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import trio
from limits import HANG
from rig_app import ROUTES

from sts_trio.config import load
from sts_trio.testing import (
    Agent,
    HangUp,
    NotConnected,
    Result,
    WaitForSpeech,
    call,
    scripted_agent,
)
from sts_trio.web.app import App, create_app
from sts_trio.web.serve import serve

WEBHOOKS = [
    ("GET", "/twiml?CallSid=CA1"),
    ("POST", "/twiml"),
    ("GET", "/twiml/after?CallSid=CA1"),
    ("GET", "/twiml/status?CallSid=CA1"),
    ("GET", "/twiml/amd?CallSid=CA1"),
]

# https://nginx.org/en/docs/http/websocket.html, read 2026-11-29, with what it takes to run it.
NGINX = """
daemon off; master_process off; pid {here}/pid; error_log {here}/errors;
events {{}}
http {{
  access_log off;
  client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;
  uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{server};
      {recipe}
    }}
  }}
}}
"""
WEBSOCKETS = """
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
"""
FORWARDED = WEBSOCKETS + "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
HAPROXY = """
defaults
  mode {mode}
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend strangers
  bind 127.0.0.1:{port}
  default_backend ours
backend ours
  server ours 127.0.0.1:{server}
"""


def nginx(recipe: str, here: Path, port: int, server: int) -> list[str]:
    """Its arguments, as for each of these."""
    config = here / "nginx.conf"
    config.write_text(NGINX.format(here=here, port=port, server=server, recipe=recipe))
    return ["-p", str(here), "-c", str(config), "-e", str(here / "errors")]


def haproxy(mode: str, here: Path, port: int, server: int) -> list[str]:
    config = here / "haproxy.cfg"
    config.write_text(HAPROXY.format(mode=mode, port=port, server=server))
    return ["-db", "-f", str(config)]


def socat(here: Path, port: int, server: int) -> list[str]:
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"
    return [listen, f"TCP:127.0.0.1:{server}"]


Command = Callable[[Path, int, int], list[str]]
SILENT: dict[str, Command] = {  # they add nothing
    "nginx": functools.partial(nginx, WEBSOCKETS),
    "haproxy tcp": functools.partial(haproxy, "tcp"),
    "haproxy http": functools.partial(haproxy, "http"),
    "socat": socat,
}
TALKATIVE: dict[str, Command] = {
    "nginx of HTTP/1.0": functools.partial(nginx, ""),
    "nginx with X-Forwarded-For": functools.partial(nginx, FORWARDED),
}
PROXIES = SILENT | TALKATIVE


class Behind:
    """Our server, as it is seen through the proxy."""

    def __init__(self, app: App, agent: Agent, port: int, direct: int) -> None:
        self.app = app
        self.agent = agent
        self.port = port
        self.direct = direct  # the server's own port, which a stranger may know

    async def ask(self, method: str, path: str, headers: Mapping[str, str]) -> int:
        def ask() -> int:
            with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
            ) as connection:
                connection.request(method, path, headers=dict(headers))
                return connection.getresponse().status

        return await trio.to_thread.run_sync(ask)

    async def call(self, query: str = "") -> Result:
        url = f"ws://127.0.0.1:{self.port}/twilio{query}"
        return (await call(url, [WaitForSpeech(0.3), HangUp()])).result

    @property
    def has_given_nothing(self) -> bool:
        lines = self.app.server.agent_connections.state
        return not (self.agent.sessions or lines.waiting or self.app.live_calls.calls)


@contextlib.asynccontextmanager
async def behind(name: str, tmp_path: Path) -> AsyncIterator[Behind]:
    # Debian has them where only root looks.
    program = shutil.which(name.split()[0], path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None and os.environ.get("CI") != "true":
        pytest.skip(f"there is no {name.split()[0]} here")
    assert program is not None, f"install Debian's package {name.split()[0]}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with trio.fail_after(HANG):
        async with scripted_agent() as agent, trio.open_nursery() as nursery:
            environ = {"DEEPGRAM_API_KEY": "any", "DEEPGRAM_URL": agent.url}
            app = create_app(load(environ, tmp_path))
            run = functools.partial(serve, app.server.config, port=0, app=app, take_signals=False)
            direct = int((await nursery.start(run)).rpartition(":")[2])
            proxy = functools.partial(
                trio.run_process,
                [program, *PROXIES[name](tmp_path, port, direct)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            await nursery.start(proxy)
            while not await it_answers(port):  # noqa: ASYNC110 - another process listens there
                await trio.sleep(0.02)
            yield Behind(app, agent, port, direct)
            nursery.cancel_scope.cancel()


async def it_answers(port: int) -> bool:
    try:
        await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", PROXIES)
async def test_a_stranger_behind_it_is_given_nothing(tmp_path: Path, name: str) -> None:
    """Whatever they write themselves, and though they know the server's port."""
    async with behind(name, tmp_path) as server:
        for host in ("phone.example.com", "localhost", f"127.0.0.1:{server.direct}"):
            for headers in (
                {"Host": host},
                {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"},
            ):
                for method, path in [*ROUTES, ("POST", "/calls"), *WEBHOOKS]:
                    assert await server.ask(method, path, headers) == 403, (method, path, headers)
        for guess in ({"Authorization": "Bearer x"}, {"Cookie": f"sts_trio_key_{server.direct}=x"}):
            for method, path in [("GET", "/state"), *WEBHOOKS[:2]]:
                assert await server.ask(method, path, {"Host": "localhost"} | guess) == 403
        with pytest.raises(NotConnected, match="HTTP 4"):
            await server.call()
        assert server.has_given_nothing
        assert await server.ask("GET", "/healthz", {}) == 200


@pytest.mark.parametrize("name", SILENT)
async def test_who_has_the_key_is_served_behind_it(tmp_path: Path, name: str) -> None:
    async with behind(name, tmp_path) as server:
        key = {"Host": "localhost", "Authorization": f"Bearer {server.app.server.key}"}
        for method, path in [*ROUTES, *WEBHOOKS]:
            assert await server.ask(method, path, key) in (200, 204), (method, path)
        assert await server.ask("POST", "/calls", key) == 415
        assert await server.call(f"?key={server.app.server.key}") is Result.PROPER
        await server.app.live_calls.empty()


@pytest.mark.parametrize("name", TALKATIVE)
async def test_what_a_proxy_tells_of_itself_keeps_even_the_key_out(
    tmp_path: Path, name: str
) -> None:
    async with behind(name, tmp_path) as server:
        key = {"Host": "localhost", "Authorization": f"Bearer {server.app.server.key}"}
        for method, path in [*ROUTES, *WEBHOOKS]:
            assert await server.ask(method, path, key) == 403
        with pytest.raises(NotConnected):
            await server.call(f"?key={server.app.server.key}")
        assert server.has_given_nothing
