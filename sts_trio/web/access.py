"""Who is let in. Nothing fails open, and every refusal says what to set.

With an auth token set, only what Twilio signed. Without one, only this machine: a client on a
loopback address, that no proxy or tunnel forwarded, and that is no web page of somebody else's.

What there is to see of the calls is the operator's: shown to this machine, as long as no auth token
says that the server is on the network, and else to who has the admin token.
"""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from sts_trio.config import Config
from sts_trio.wire import webhook

# Whoever sets one of these speaks for a client that is not here.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")

_LOCAL_ADVICE = "set TWILIO_AUTH_TOKEN to serve Twilio, or STS_ALLOW_UNSIGNED=1 to serve anyone"
_ADMIN_ADVICE = "set STS_ADMIN_TOKEN, and give it as a bearer token or as the password"


class RequestInfo(msgspec.Struct, frozen=True):
    """One request, as far as it matters here. Header names are lower case."""

    client: str  # the peer's address, "" if it has none
    scheme: str
    path: str  # raw, as on the wire
    query: str  # raw, as on the wire
    headers: Mapping[str, str]
    form: webhook.Form | None = None
    body: bytes = b""

    @property
    def fields(self) -> webhook.Form:
        """What Twilio says: in the body, or in a GET's query."""
        return self.form if self.form is not None else self.query_fields

    @property
    def query_fields(self) -> webhook.Form:
        """What we wrote into the URL that we gave Twilio."""
        return webhook.read_form(self.query.encode())

    def bases(self, config: Config) -> list[str]:
        """This server's address as the visitor wrote it, the likeliest first."""
        return webhook.base_urls(
            public_url=config.public_url,
            scheme=self.scheme,
            host=self.headers.get("host", ""),
            forwarded_proto=self.headers.get("x-forwarded-proto", ""),
            forwarded_host=self.headers.get("x-forwarded-host", ""),
        )


def base_of(visit: RequestInfo, config: Config) -> str | None:
    """This server's address for Twilio to come back to: the one that it signed, if it did."""
    bases = visit.bases(config)
    signed = (base for base in bases if _is_signed_for(visit, config, _webhook_urls(visit, [base])))
    return next(signed, bases[0] if bases else None)


def request_info(scope: Any, *, form: webhook.Form | None = None, body: bytes = b"") -> RequestInfo:
    """The visit that an ASGI scope is about."""
    client = scope.get("client") or ("",)
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return RequestInfo(
        client=client[0],
        scheme=scope["scheme"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        # Of two lines one list (RFC 9110, section 5.3): proxies add lines of their own.
        headers={name: ", ".join(values) for name, values in headers.items()},
        form=form,
        body=body,
    )


def denial(visit: RequestInfo, config: Config, *, is_stream: bool) -> str | None:
    """Why this visit is refused, for the log; `None` if it is welcome."""
    if config.allow_unsigned:
        return None
    if config.twilio_auth_tokens:
        return _why_not_signed(visit, config, is_stream)
    return _why_not_local(visit)


class Refusal(msgspec.Struct, frozen=True):
    """`reason` is for the log; with 401, a password would change it."""

    status: int
    reason: str


def admin_denial(visit: RequestInfo, config: Config) -> Refusal | None:
    """Why this visit may not see or place calls here as the operator; `None` if it may.

    The admin token comes as a bearer token, or as the password of HTTP's basic authentication,
    which is the way of browsers. They send it with whatever asks them to, so the origin counts.
    """
    if _has_admin_token(visit, config):
        origin = visit.headers.get("origin")
        if origin is None or _authority(origin) in _own_names(visit, config):
            return None
        return Refusal(403, f"asked for by a page of {origin}, which is not of this server")
    if not config.twilio_auth_tokens:
        reason = _why_not_local(visit, _ADMIN_ADVICE)
        if reason is None:
            return None
    else:
        reason = f"no admin token, which is needed as TWILIO_AUTH_TOKEN is set: {_ADMIN_ADVICE}"
    if config.admin_token and "authorization" in visit.headers:
        reason = "wrong admin token: STS_ADMIN_TOKEN is another here"
    return Refusal(401 if config.admin_token else 403, reason)


def _has_admin_token(visit: RequestInfo, config: Config) -> bool:
    scheme, _, credentials = visit.headers.get("authorization", "").partition(" ")
    given = credentials.strip().encode("latin-1", errors="replace")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != "bearer":
        return False
    token = (config.admin_token or "").encode()
    return bool(token) and hmac.compare_digest(given, token)


def _own_names(visit: RequestInfo, config: Config) -> set[tuple[str, int] | None]:
    """What this server is called in the address bar of its own page."""
    host = visit.headers.get("host", "")
    urls = (*visit.bases(config), f"http://{host}", f"https://{host}")
    return {_authority(url) for url in urls} - {None}


def _why_not_signed(visit: RequestInfo, config: Config, is_stream: bool) -> str | None:
    if webhook.SIGNATURE_HEADER.lower() not in visit.headers:
        return "not signed: no X-Twilio-Signature"
    bases = visit.bases(config)
    urls = _stream_urls(visit, bases) if is_stream else _webhook_urls(visit, bases)
    if not urls:
        return "no Host header, so no URL to check the signature for: set STS_PUBLIC_URL"
    if _is_signed_for(visit, config, urls):
        return None
    return (
        f"wrong signature for {urls[0]}: check TWILIO_AUTH_TOKEN, and STS_PUBLIC_URL"
        " if Twilio knows this server by another address"
    )


def _stream_urls(visit: RequestInfo, bases: list[str]) -> list[str]:
    return webhook.stream_urls(bases, path=visit.path, query=visit.query)


def _webhook_urls(visit: RequestInfo, bases: list[str]) -> list[str]:
    return webhook.webhook_urls(bases, path=visit.path, query=visit.query)


def _is_signed_for(visit: RequestInfo, config: Config, urls: list[str]) -> bool:
    return webhook.is_signed(
        tokens=config.twilio_auth_tokens,
        signature=visit.headers.get(webhook.SIGNATURE_HEADER.lower(), ""),
        urls=urls,
        form=visit.form,
        body=visit.body,
    )


def _why_not_local(visit: RequestInfo, advice: str = _LOCAL_ADVICE) -> str | None:
    if not _is_loopback(visit.client):
        return f"{visit.client or 'the client'} is not on this machine: {advice}"
    if any(name in visit.headers for name in _FORWARDED):
        return f"forwarded by a proxy or tunnel: {advice}"
    host = _split(f"//{visit.headers.get('host', '')}").hostname or ""
    if host != "localhost" and not _is_loopback(host):
        return f"asked for as {host or 'nobody'}, which is not this machine: {advice}"
    origin = visit.headers.get("origin")
    if origin is not None and _split(origin).netloc != visit.headers.get("host"):
        return f"asked for by a page of {origin}: {advice}"
    return None


def _authority(url: str) -> tuple[str, int] | None:
    """Host and port as browsers compare them: whatever the case, and the port written or not."""
    parts = _split(url)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (KeyError, ValueError):
        return None
    return (parts.hostname, port) if parts.hostname else None


def _split(url: str) -> SplitResult:
    """The parts of what a stranger gives for an address; none if it is not one."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
