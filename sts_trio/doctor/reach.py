"""The way to an address: its name, a connection, TLS. Each step by itself, with its time, as what
has to be mended is another thing for each."""

import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import trio

from sts_trio.doctor.findings import Finding, State, fault, fine, odd
from sts_trio.simulate.connect import reason

STEP_WITHIN = 5.0
# Seconds for one step. A caller waits for each of them.
SLOW = 1.0
CERTIFICATE_DAYS = 14
_DAY = 86400.0
_ADDRESSES_SHOWN = 2
_NOT_PUBLIC = "that is no address of the internet: Twilio cannot come there"

# What OpenSSL finds of a certificate (x509_vfy.h, 3.0): the cause, the cure.
_CHAIN = "serve the whole chain (fullchain.pem), of an authority that is known everywhere"
# Who dials an agent of their own may trust whom they like; Twilio does not.
_OWN = "serve the whole chain (fullchain.pem), or name your own authority by SSL_CERT_FILE"
_OTHER_NAME = "it was made for another host", "a certificate for that name; or the proxy's SNI"
_CERTIFICATE = {
    9: ("it begins later, or this machine's clock is behind", "look at the clock of both"),
    10: ("it has ended", "renew it, have the proxy reload it, and see why nothing renews it"),
    18: ("it has signed itself", "take one of a known authority, such as Let's Encrypt"),
    19: ("its authority has signed itself, and is not known here", _CHAIN),
    20: ("its authority is not known here, or one between is not served", _CHAIN),
    21: ("its authority is not known here, or one between is not served", _CHAIN),
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
_TOO_OLD = frozenset(
    {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"}
)


async def reach(
    subject: str,
    host: str,
    port: int,
    *,
    is_secure: bool,
    where: str,
    is_public: bool,
) -> AsyncIterator[Finding]:
    """The last finding is a fault if the address cannot be reached. `where` says what names it;
    `is_public`: others than this machine have to find it, too."""
    if _is_address(host):
        if is_public and not _is_of_the_internet(host):
            cure = f"{where}: the name that Twilio finds, of the proxy or the tunnel before this"
            yield odd(subject, host, _NOT_PUBLIC, cure)
    else:
        named = await _resolve(subject, host, port, where, is_public=is_public)
        yield named
        if named.state is State.FAULT:
            return
    began = trio.current_time()
    try:
        with trio.fail_after(STEP_WITHIN):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, UnicodeError, trio.TooSlowError) as exc:
        yield _unconnected(subject, f"{host}:{port}", exc, where)
        return
    try:
        yield _took(subject, f"{host}:{port} takes connections", began, "the way there")
        if is_secure:
            async for finding in _secure(subject, host, port, stream, is_public):
                yield finding
    finally:
        await trio.aclose_forcefully(stream)


async def _resolve(subject: str, host: str, port: int, where: str, *, is_public: bool) -> Finding:
    began = trio.current_time()
    try:
        with trio.fail_after(STEP_WITHIN):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except trio.TooSlowError:
        cause = f"no name server has answered within {STEP_WITHIN:g} s"
        return fault(subject, f"{host} has no address", cause, "look at /etc/resolv.conf")
    except (OSError, UnicodeError) as exc:
        is_down = isinstance(exc, socket.gaierror) and exc.errno == socket.EAI_AGAIN
        cure = "look at /etc/resolv.conf" if is_down else f"mend {where}, or make the DNS record"
        return fault(subject, f"{host} has no address", reason(exc), cure)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    shown = ", ".join(addresses[:_ADDRESSES_SHOWN])
    if len(addresses) > _ADDRESSES_SHOWN:
        shown += f" and {len(addresses) - _ADDRESSES_SHOWN} more"
    if is_public and not any(map(_is_of_the_internet, addresses)):
        cure = "unless names are others outside: a DNS record with the proxy's public address"
        return odd(subject, f"{host} is {shown}", _NOT_PUBLIC, cure)
    return _took(subject, f"{host} is {shown}", began, "the name server")


def _unconnected(subject: str, address: str, exc: BaseException, where: str) -> Finding:
    said = reason(exc)
    if isinstance(exc, trio.TooSlowError):
        cause = f"no answer within {STEP_WITHIN:g} s: a firewall, or nobody has that address"
        cure = f"let the port through; is that {where}?"
    else:
        cause = f"{said}: nothing listens there" if "refused" in said else said
        cure = f"start what should listen; is that {where}?"
    return fault(subject, f"{address} cannot be reached", cause, cure)


async def _secure(
    subject: str, host: str, port: int, tcp: trio.SocketStream, is_public: bool
) -> AsyncIterator[Finding]:
    context = ssl.create_default_context()
    stream = trio.SSLStream(tcp, context, server_hostname=host, https_compatible=True)
    began = trio.current_time()
    try:
        with trio.fail_after(STEP_WITHIN):
            await stream.do_handshake()
    except trio.TooSlowError:
        yield await _no_tls(subject, host, port, f"no answer within {STEP_WITHIN:g} s")
        return
    except trio.BrokenResourceError as exc:
        error = exc.__cause__
        if isinstance(error, ssl.SSLCertVerificationError):
            cause, cure = _CERTIFICATE.get(error.verify_code, ("", _CHAIN))
            cure = _OWN if cure == _CHAIN and not is_public else cure
            cause = f"{cause} ({error.verify_message})" if cause else error.verify_message
            yield fault(subject, f"{host}: its certificate is not taken", cause, cure)
        elif isinstance(error, ssl.SSLError) and error.reason in _TOO_OLD:
            cause = "it knows no TLS 1.2, which Twilio and this want at least"
            cure = "have the proxy speak TLS 1.2 and 1.3 (nginx: ssl_protocols)"
            yield fault(subject, f"{host}: its TLS is too old", cause, cure)
        else:
            said = "it hangs up when it is greeted"
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                said = str(error.reason or error).replace("_", " ").lower()
            yield await _no_tls(subject, host, port, said)
        return
    told: Any = stream
    ends = told.getpeercert()["notAfter"]
    days = (ssl.cert_time_to_seconds(ends) - time.time()) / _DAY
    shown = f"{str(told.version()).replace('v', ' ')}, a certificate for {days:.0f} more days"
    yield _took(subject, shown, began, "the other side, or a clock that is starved")
    if days < CERTIFICATE_DAYS:
        found = f"its certificate ends in {days:.0f} days"
        yield odd(subject, found, "it was not renewed", "renew it")


async def _no_tls(subject: str, host: str, port: int, said: str) -> Finding:
    if await _speaks_http(host, port):
        cause = "plain HTTP is spoken at that port"
        cure = "have the proxy speak TLS there, or name its port that does"
    else:
        cause = said
        cure = "look at the log of what listens there"
    return fault(subject, f"{host}:{port} speaks no TLS", cause, cure)


async def _speaks_http(host: str, port: int) -> bool:
    with trio.move_on_after(STEP_WITHIN):
        try:
            async with await trio.open_tcp_stream(host, port) as stream:
                asked = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                await stream.send_all(asked.encode())
                return bytes(await stream.receive_some(5)).startswith(b"HTTP/")
        except (OSError, trio.BrokenResourceError):
            return False
    return False


def _took(subject: str, found: str, began: float, slow: str) -> Finding:
    seconds = trio.current_time() - began
    if seconds > SLOW:
        cause = f"{slow} takes its time"
        return odd(subject, f"{found}, after {seconds:.1f} s", cause, "look there: callers wait")
    return fine(subject, found, seconds)


def _is_of_the_internet(address: str) -> bool:
    """Not of one machine, link or network, nor behind a carrier's NAT (RFC 6598)."""
    return ipaddress.ip_address(address).is_global


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
