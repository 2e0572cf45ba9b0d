"""The plain command, `hypercorn sts_trio.app:app --worker-class trio`, as its own process."""

import os
import re
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trustme
from limits import HANG
from rig_hypercorn import (
    PLAIN,
    children,
    close_code,
    free_port,
    hear_the_greeting,
    hypercorn,
    in_a_container,
    phone_at,
    running,
    until_it_answers,
)
from rig_peers import STOP

from sts_trio.config import local_key
from sts_trio.wire import twilio


@pytest.mark.parametrize(
    ("workers", "signum"),
    [
        ("0", signal.SIGTERM),
        ("1", signal.SIGTERM),
        ("2", signal.SIGTERM),
        ("0", signal.SIGHUP),
    ],
)
async def test_the_plain_command_logs_the_pages_key_serves_and_says_going_away(
    workers: str, signum: signal.Signals, tmp_path: Path
) -> None:
    """All of its workers have one key, as they share a socket; when it ends the file is gone."""
    log = tmp_path / "log"
    with trio.fail_after(HANG):
        async with hypercorn("--workers", workers, log=log) as (process, port):
            told = await keys_told(log, port, max(1, int(workers)))
            assert local_key.find(("127.0.0.1", port)) == told[0]
            assert set(told) == {told[0]}
            for _ in range(8):
                assert await status_of(port, f"/state?key={told[0]}") == b"200"
            assert await status_of(port, "/state") == b"403"
            async with phone_at(port) as phone:
                await hear_the_greeting(phone)
                process.send_signal(signum)
                assert await close_code(phone) == 1001
            await process.wait()
            assert local_key.find(("127.0.0.1", port)) is None


async def test_as_the_first_process_of_a_container_it_ends_when_it_is_told_to() -> None:
    """The kernel does nothing to PID 1 for a signal that it has no handler for."""
    inside = in_a_container()
    port = free_port()
    command = [sys.executable, "-m", "hypercorn", "sts_trio.app:app", "--worker-class", "trio"]
    command += ["--workers", "0", "--bind", f"127.0.0.1:{port}"]
    with trio.fail_after(HANG):
        async with running([*inside, *command]) as process:
            await until_it_answers(port)
            [first] = children(process.pid)
            async with phone_at(port) as phone:
                await hear_the_greeting(phone)
                os.kill(first, signal.SIGTERM)
                assert await close_code(phone) == 1001
            assert await process.wait() == 128 + signal.SIGTERM


async def keys_told(log: Path, port: int, count: int) -> list[str]:
    address = re.compile(rf"page\.address .*http://127\.0\.0\.1:{port}/\?key=([^' ]+)")
    # Another process writes it.
    while len(told := address.findall(log.read_text())) < count:  # noqa: ASYNC110, ASYNC240
        await trio.sleep(0.05)
    return told


async def status_of(port: int, path: str) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        await stream.send_all(request.encode())
        return (await stream.receive_some()).split(b" ")[1]


async def test_the_plain_command_serves_wss_with_a_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with trio.fail_after(HANG):
        async with (
            hypercorn("--certfile", certificate, "--keyfile", key) as (_, port),
            phone_at(port, trusting) as phone,
        ):
            await hear_the_greeting(phone)
            await phone.send_message(twilio.encode_as_twilio(STOP))
            assert await close_code(phone) == 1000


def test_a_mistake_in_the_configuration_is_one_line_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sts_trio.app"],
        env=PLAIN | {"STS_FORWARD_MS": "5"},
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "sts_trio: STS_FORWARD_MS: expected milliseconds from 20 to 400, got '5'\n"
    )


async def test_a_worker_that_does_not_run_in_trio_ends_with_what_to_do() -> None:
    command = [sys.executable, "-m", "hypercorn", "sts_trio.app:app", "--bind", "127.0.0.1:0"]
    with trio.fail_after(HANG):
        process: subprocess.CompletedProcess[bytes] = await trio.run_process(
            [*command, "--workers", "0"],
            env=PLAIN | {"STS_AGENT": "offline"},
            check=False,
            capture_stderr=True,
        )
    assert process.returncode != 0
    assert b"sts_trio runs in Trio: add --worker-class trio" in process.stderr.splitlines()[-1]
