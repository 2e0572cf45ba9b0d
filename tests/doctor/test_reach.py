"""The way to an address: which step of it fails, why, and what is to be done."""

import contextlib
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from limits import HANG

from sts_trio.config import load
from sts_trio.doctor import network
from sts_trio.doctor import reach as reaching
from sts_trio.doctor.findings import Finding, State, in_words
from sts_trio.doctor.reach import reach
from sts_trio.server import Server

HOST = "voice.example"
Serve = Callable[[trio.SocketStream], Any]


class Names(trio.abc.HostnameResolver):
    """A name server with these names: their addresses, or the code of what it answers; 0: nothing,
    for ever."""

    def __init__(self, **names: str | int) -> None:
        self.names = {name.replace("_", "."): answer for name, answer in names.items()}

    async def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        await trio.lowlevel.checkpoint()
        answer = self.names[host.decode()]
        if answer == 0:
            await trio.sleep_forever()
        if isinstance(answer, int):
            raise socket.gaierror(answer, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in answer.split()
        ]

    async def getnameinfo(self, *args: Any) -> Any:
        raise NotImplementedError


def resolve(**names: str | int) -> None:
    """Until the test is over."""
    trio.socket.set_custom_hostname_resolver(Names(**names))


async def look(
    host: str, port: int, *, is_secure: bool = True, is_public: bool = False
) -> list[Finding]:
    with trio.fail_after(HANG):
        way = reach(
            "it", host, port, is_secure=is_secure, where="STS_PUBLIC_URL", is_public=is_public
        )
        found = [each async for each in way]
    for each in found:
        if each.state is State.FINE:
            assert each.seconds is not None
        else:
            assert each.cause
            assert each.cure
    assert all(each.state is not State.FAULT for each in found[:-1]), "the first one ends it"
    return found


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def tls(context: ssl.SSLContext) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        with contextlib.suppress(trio.BrokenResourceError):
            await secure.do_handshake()
            await secure.receive_some(1)
        await trio.aclose_forcefully(secure)

    return serve


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this machine knows."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


async def test_each_step_is_told_with_its_time(ca: trustme.CA) -> None:
    resolve(voice_example="127.0.0.1")
    async with listening(tls(serving(ca.issue_cert(HOST)))) as port:
        named, connected, secured = await look(HOST, port)
    assert named.found == f"{HOST} is 127.0.0.1"
    assert connected.found == f"{HOST}:{port} takes connections"
    assert secured.found.startswith("TLS 1.3, a certificate for ")


# --- the name -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cure"),
    [(socket.EAI_NONAME, "the DNS record"), (socket.EAI_AGAIN, "resolv.conf")],
)
async def test_a_name_that_there_is_not_is_told_from_a_name_server_that_is_away(
    code: int, cure: str
) -> None:
    resolve(voice_example=code)
    [named] = await look(HOST, 443)
    assert (named.state, named.found) == (State.FAULT, f"{HOST} has no address")
    assert cure in named.cure


async def test_a_name_server_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reaching, "STEP_WITHIN", 0.05)
    resolve(voice_example=0)
    [named] = await look(HOST, 443)
    assert (named.state, "no name server" in named.cause) == (State.FAULT, True)


async def test_a_name_that_none_can_be_is_a_fault() -> None:
    [named] = await look("a" * 64 + ".example", 443)
    assert named.state is State.FAULT


@pytest.mark.parametrize(
    ("addresses", "state"),
    [("10.0.0.5", State.ODD), ("127.0.0.1", State.ODD), ("10.0.0.5 1.1.1.1", State.FINE)],
)
async def test_a_public_name_with_none_but_private_addresses_is_odd(
    monkeypatch: pytest.MonkeyPatch, addresses: str, state: State
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    resolve(voice_example=addresses)
    named, _ = await look(HOST, 443, is_public=True)
    assert named.state is state


@pytest.mark.parametrize(
    ("address", "is_odd"),
    [
        ("10.0.0.5", True),
        ("172.31.0.1", True),
        ("192.168.1.7", True),
        ("127.0.0.1", True),
        ("169.254.10.10", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),
        ("::1", True),
        ("fc00::5", True),
        ("fe80::1", True),
        ("1.1.1.1", False),
        ("2606:4700::1111", False),
    ],
)
async def test_a_public_address_in_digits_that_is_a_private_one_is_odd(
    monkeypatch: pytest.MonkeyPatch, address: str, is_odd: bool
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    for_others = await look(address, 443, is_public=True)
    assert [each.state for each in for_others] == [State.ODD] * is_odd + [State.FAULT]
    assert for_others[0].found.startswith(address)
    for_us = await look(address, 443)
    assert [each.state for each in for_us] == [State.FAULT]


async def test_many_addresses_are_counted() -> None:
    resolve(voice_example="127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.1")
    named, _ = await look(HOST, 1)
    assert named.found == f"{HOST} is 127.0.0.1, 127.0.0.2 and 1 more"


# --- the connection -------------------------------------------------------------------------------


async def test_a_port_at_which_nobody_listens_is_told() -> None:
    [connected] = await look("127.0.0.1", 1)
    assert (connected.state, "nothing listens there" in connected.cause) == (State.FAULT, True)


async def test_an_address_that_swallows_what_comes_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(reaching, "STEP_WITHIN", 0.05)
    monkeypatch.setattr(trio, "open_tcp_stream", never)
    [connected] = await look("127.0.0.1", 1)
    assert (connected.state, "a firewall" in connected.cause) == (State.FAULT, True)


async def test_a_step_that_takes_long_is_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "SLOW", 0.0)
    async with listening(plain_http) as port:
        [connected] = await look("127.0.0.1", port, is_secure=False)
    assert (connected.state, "takes its time" in connected.cause) == (State.ODD, True)


# --- TLS ------------------------------------------------------------------------------------------


async def refused(context: ssl.SSLContext, host: str = "127.0.0.1") -> Finding:
    async with listening(tls(context)) as port:
        *_, found = await look(host, port)
    assert found.state is State.FAULT
    return found


async def test_a_certificate_that_has_ended_is_a_fault(ca: trustme.CA) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    ended = ca.issue_cert("127.0.0.1", not_before=yesterday - timedelta(9), not_after=yesterday)
    found = await refused(serving(ended))
    assert "it has ended" in found.cause
    assert "renew it" in found.cure


async def test_a_certificate_that_begins_later_tells_of_the_clock(ca: trustme.CA) -> None:
    later = ca.issue_cert("127.0.0.1", not_before=datetime.now(UTC) + timedelta(days=1))
    assert "clock" in (await refused(serving(later))).cure


@pytest.mark.parametrize("host", [HOST, "127.0.0.1"])
async def test_another_hosts_certificate_is_a_fault(ca: trustme.CA, host: str) -> None:
    resolve(voice_example="127.0.0.1")
    found = await refused(serving(ca.issue_cert("other.example")), host)
    assert "for another host" in found.cause
    assert host in found.cause


async def test_a_certificate_that_has_signed_itself_is_a_fault(
    ca: trustme.CA, tmp_path: Path
) -> None:
    """An authority's own, served as a host's."""
    other = trustme.CA()
    other.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    found = await refused(context)
    assert "signed itself" in found.cause
    assert "Encrypt" in found.cure


async def test_an_authority_that_nobody_knows_is_a_fault_and_ones_own_may_be_named(
    ca: trustme.CA,
) -> None:
    context = serving(trustme.CA().issue_cert("127.0.0.1"))
    assert "SSL_CERT_FILE" in (await refused(context)).cure
    async with listening(tls(context)) as port:
        *_, found = await look("127.0.0.1", port, is_public=True)
    assert "fullchain.pem" in found.cure
    assert "SSL_CERT_FILE" not in found.cure, "Twilio would not know it all the same"


async def test_a_certificate_that_ends_soon_is_odd(ca: trustme.CA) -> None:
    soon = ca.issue_cert("127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=3.4))
    async with listening(tls(serving(soon))) as port:
        _, secured, odd = await look("127.0.0.1", port)
    assert (secured.state, odd.state) == (State.FINE, State.ODD)
    assert "ends in 3 days" in odd.found


async def test_tls_that_is_too_old_is_a_fault(ca: trustme.CA) -> None:
    context = serving(ca.issue_cert("127.0.0.1"))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    def shake_hands(number: int) -> None:
        with socket.socket(fileno=number) as accepted, contextlib.suppress(OSError):
            accepted.settimeout(HANG)
            context.wrap_socket(accepted, server_side=True).close()

    async def serve(stream: trio.SocketStream) -> None:
        # In a thread, as Trio's own TLS hangs up without the alert that others send.
        await trio.to_thread.run_sync(shake_hands, stream.socket.detach())

    async with listening(serve) as port:
        *_, found = await look("127.0.0.1", port)
    assert found.state is State.FAULT
    assert found.found == "127.0.0.1: its TLS is too old"
    assert "1.2" in found.cause


async def plain_http(stream: trio.SocketStream) -> None:
    await stream.receive_some(4096)
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await stream.aclose()


async def http_that_hangs_up_on_others(stream: trio.SocketStream) -> None:
    if (await stream.receive_some(4096)).startswith(b"GET"):
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    await stream.aclose()


@pytest.mark.parametrize("serve", [plain_http, http_that_hangs_up_on_others])
async def test_plain_http_where_tls_should_be_is_told_as_that(serve: Serve) -> None:
    async with listening(serve) as port:
        _, found = await look("127.0.0.1", port)
    assert (found.state, found.found) == (State.FAULT, f"127.0.0.1:{port} speaks no TLS")
    assert found.cause == "plain HTTP is spoken at that port"


async def ssh(stream: trio.SocketStream) -> None:
    await stream.send_all(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.receive_some(4096)
    await trio.aclose_forcefully(stream)


async def silence(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def reset(stream: trio.SocketStream) -> None:
    await trio.aclose_forcefully(stream)


@pytest.mark.parametrize(
    ("serve", "cause"),
    [
        (ssh, "wrong version number"),
        (silence, "no answer within 0.3 s"),
        (reset, "it hangs up when it is greeted"),
    ],
)
async def test_what_speaks_neither_is_told_as_it_was(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, cause: str
) -> None:
    monkeypatch.setattr(reaching, "STEP_WITHIN", 0.3)
    async with listening(serve) as port:
        _, found = await look("127.0.0.1", port)
    assert (found.state, found.cause) == (State.FAULT, cause)


# --- as it stands in an examination ---------------------------------------------------------------


async def test_who_cannot_be_reached_is_asked_nothing_more(tmp_path: Path) -> None:
    async with listening(plain_http) as port:
        variables = {
            "STS_AGENT": "deepgram",
            "DEEPGRAM_API_KEY": "k",
            "DEEPGRAM_URL": f"wss://127.0.0.1:{port}",
            "STS_PUBLIC_URL": f"https://127.0.0.1:{port}",
            "TWILIO_AUTH_TOKEN": "t" * 32,
        }
        server = Server(load(variables, tmp_path))
        endpoints = server.agent_connections.endpoints
        public = [each async for each in network.public_address(server.config)]
        agents = [each async for each in network.agents(server.config, endpoints, None)]
    assert public.pop(0).state is State.ODD  # the address is this machine's
    for found in (public, agents):
        assert [each.state for each in found] == [State.FINE, State.FAULT], in_words(found)
        assert "plain HTTP" in found[-1].cause
