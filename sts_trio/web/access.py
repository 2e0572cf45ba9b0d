"""Who is let in. Nothing fails open, and every refusal says what to set.

With an auth token set, only what Twilio signed. Without one, only who has the key of this run (see
`local_key`) and seems to be on this machine: a client on a loopback address, that no proxy has
forwarded. That alone would prove nothing: a proxy that adds no header, and whatever forwards TCP,
look the same.

What there is to see of the calls is the operator's: shown to who has that key, as long as no auth
token says that the server is on the network, and to who has the admin token.

A browser sends what it has to whoever's page asks for it. So it is refused what it says was asked
for by a page of another origin, whatever it has: a GET may have an effect, and `<img>` sends one.
"""

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from sts_trio.config import Config
from sts_trio.wire import webhook

# Whoever sets one of these speaks for a client that is not here: what proxies, balancers, tunnels
# and content networks add by themselves.
_FORWARDED = re.compile(
    r"""
    via | forwarded | x-forward.* | x-real-.* | x-original-.* | x-client-ip | x-cluster-client-ip
    | x-proxy.* | x-scheme | x-url-scheme | front-end-https | x-varnish | x-envoy-.* | x-arr-.*
    | x-azure-.* | x-amzn?-.* | x-appengine-.*
    | x-vercel-.* | cf-.* | cdn-loop | client-ip | true-client-ip | wl-proxy-client-ip
    | fastly-.* | fly-.* | ngrok-.* | tailscale-.* | surrogate-capability
    """,
    re.VERBOSE,
)

# In a query, what lets somebody on this machine in.
KEY = "key"

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
    http_version: str = "1.1"
    method: str = "GET"
    root_path: str = ""  # the prefix that our server is mounted at

    @property
    def fields(self) -> webhook.Form:
        """What Twilio says: in the body, or in a GET's query."""
        return self.form if self.form is not None else self.query_fields

    @property
    def query_fields(self) -> webhook.Form:
        """What we wrote into the URL that we gave Twilio."""
        return webhook.read_form(self.query.encode())

    def bases(self, config: Config) -> list[str]:
        """This server's address as the client wrote it, the likeliest first."""
        seen = webhook.Seen(
            scheme=self.scheme,
            host=self.headers.get("host", ""),
            root_path=self.root_path,
            forwarded_proto=self.headers.get("x-forwarded-proto", ""),
            forwarded_host=self.headers.get("x-forwarded-host", ""),
            forwarded_prefix=self.headers.get("x-forwarded-prefix", ""),
            forwarded=self.headers.get("forwarded", ""),
        )
        return webhook.base_urls(seen, config.public_url)


def base_of(request: RequestInfo, config: Config) -> str | None:
    """This server's address for Twilio to come back to: the one that it signed, if it did."""
    bases = request.bases(config)
    signed = (
        base for base in bases if _is_signed_for(request, config, _webhook_urls(request, [base]))
    )
    return next(signed, bases[0] if bases else None)


def request_info(scope: Any, *, form: webhook.Form | None = None, body: bytes = b"") -> RequestInfo:
    """The request that an ASGI scope is about."""
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
        http_version=scope["http_version"],
        method=scope.get("method", "GET"),  # a websocket's scope has none
        root_path=scope.get("root_path", ""),
    )


def denial(request: RequestInfo, config: Config, key: str | None, *, is_stream: bool) -> str | None:
    """Why this request is refused, for the log; `None` if it is welcome.

    `key` is that of this run; who has it is let in where there is no auth token.
    """
    if config.twilio_auth_tokens:
        return None if config.allow_unsigned else _signature_denial(request, config, is_stream)
    if not is_stream and any(name.startswith("sec-fetch-") for name in request.headers):
        return f"a webhook sent by a browser, and no browser is Twilio: {_LOCAL_ADVICE}"
    return None if config.allow_unsigned else _local_denial(request, config, key, _LOCAL_ADVICE)


class Refusal(msgspec.Struct, frozen=True):
    """`reason` is for the log; with 401, a password would change it."""

    status: int
    reason: str


def admin_denial(
    request: RequestInfo, config: Config, key: str | None, *, is_page: bool = False
) -> Refusal | None:
    """Why this request may not see or place calls here as the operator; `None` if it may.

    The admin token comes as a bearer token, or as the password of HTTP's basic authentication,
    which is the way of browsers. The page itself (`is_page`) may be opened from another one: by a
    link, as a document of its own, which that page cannot read and which has no effect.
    """
    elsewhere = None if is_page and _is_link(request) else _foreign_page(request, config)
    if _has_admin_token(request, config):
        if elsewhere is None:
            return None
        return Refusal(403, f"asked for by {elsewhere}, which is not of this server")
    if config.twilio_auth_tokens:
        token = config.where("TWILIO_AUTH_TOKEN")
        reason = f"no admin token, which is needed as {token} is set: {_ADMIN_ADVICE}"
    elif elsewhere is not None:
        reason = f"asked for by {elsewhere}: {_ADMIN_ADVICE}"
    else:
        local = _remote_denial(request, _ADMIN_ADVICE) or _key_denial(request, key, _ADMIN_ADVICE)
        if local is None:
            return None
        reason = local
    if config.admin_token and "authorization" in request.headers:
        reason = f"wrong admin token: {config.where('STS_ADMIN_TOKEN')} is another here"
    return Refusal(401 if config.admin_token else 403, reason)


# --- secrets --------------------------------------------------------------------------------------


def cookie_of(request: RequestInfo) -> str:
    """The name of the cookie that keeps the key. Cookies are a host's, not a port's, so the port is
    in its name: that of the address bar, which a tunnel may lead to another one here."""
    authority = _authority(f"{request.scheme}://{request.headers.get('host', '')}")
    return f"sts_trio_key_{authority[1] if authority else 0}"


def is_guess(request: RequestInfo, config: Config, key: str | None) -> bool:
    """Whether this request, which was refused, gave a secret that is none of ours."""
    has_tried = request.headers.get("authorization") or (key is not None and _given_keys(request))
    return bool(has_tried) and not _has_admin_token(request, config) and not has_key(request, key)


def _has_admin_token(request: RequestInfo, config: Config) -> bool:
    scheme, given = _authorization(request)
    if scheme == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme != "bearer":
        return False
    token = (config.admin_token or "").encode()
    return bool(token) and hmac.compare_digest(given, token)


def has_key(request: RequestInfo, key: str | None) -> bool:
    """Whether one of the keys that were given is this one; takes equally long whichever it is."""
    return bool(key) and any(
        [hmac.compare_digest(given, (key or "").encode()) for given in _given_keys(request)]
    )


def _given_keys(request: RequestInfo) -> list[bytes]:
    """What was given for the key: as a bearer token, in the query, as a cookie."""
    scheme, bearer = _authorization(request)
    given = [bearer] if scheme == "bearer" else []
    given += [each.encode(errors="replace") for each in request.query_fields.get(KEY, ())]
    for pair in request.headers.get("cookie", "").split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == cookie_of(request):
            given.append(value.strip().encode("latin-1", errors="replace"))
    return given


def _authorization(request: RequestInfo) -> tuple[str, bytes]:
    """The scheme, in lower case, and the credentials."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return scheme.lower(), credentials.strip().encode("latin-1", errors="replace")


# --- pages of others ------------------------------------------------------------------------------


def _is_link(request: RequestInfo) -> bool:
    """Whether a browser that is led here opens a window; to plain http it may not say so."""
    if "sec-fetch-site" not in request.headers:
        return "origin" not in request.headers
    sent = request.headers.get("sec-fetch-mode"), request.headers.get("sec-fetch-dest")
    return sent == ("navigate", "document")


def _foreign_page(request: RequestInfo, config: Config) -> str | None:
    """The page that had a browser ask for this, if that page is not of this server."""
    for name in ("origin", "referer"):
        url = request.headers.get(name)
        if url is not None and _authority(url) not in _own_names(request, config):
            return f"a page of {url}"
    # To another port of the same host, "same-site". "none" is a person: typed, or a bookmark.
    site = request.headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none"):
        return f"a page of another origin ({site})"
    return None


def _own_names(request: RequestInfo, config: Config) -> set[tuple[str, int] | None]:
    """What this server is called in the address bar of its own page."""
    host = request.headers.get("host", "")
    urls = (*request.bases(config), f"http://{host}", f"https://{host}")
    return {_authority(url) for url in urls} - {None}


# --- Twilio ---------------------------------------------------------------------------------------


def _signature_denial(request: RequestInfo, config: Config, is_stream: bool) -> str | None:
    if webhook.SIGNATURE_HEADER.lower() not in request.headers:
        return "not signed: no X-Twilio-Signature"
    bases = request.bases(config)
    urls = _stream_urls(request, bases) if is_stream else _webhook_urls(request, bases)
    if not urls:
        return "no Host header, so no URL to check the signature for: set STS_PUBLIC_URL"
    if _is_signed_for(request, config, urls):
        return None
    return (
        f"wrong signature for {urls[0]}: check {config.where('TWILIO_AUTH_TOKEN')}, and"
        f" {config.where('STS_PUBLIC_URL')} if Twilio knows this server by another address"
    )


def _stream_urls(request: RequestInfo, bases: list[str]) -> list[str]:
    return webhook.stream_urls(bases, path=request.path, query=request.query)


def _webhook_urls(request: RequestInfo, bases: list[str]) -> list[str]:
    return webhook.webhook_urls(bases, path=request.path, query=request.query)


def _is_signed_for(request: RequestInfo, config: Config, urls: list[str]) -> bool:
    return webhook.is_signed(
        tokens=config.twilio_auth_tokens,
        signature=request.headers.get(webhook.SIGNATURE_HEADER.lower(), ""),
        urls=urls,
        form=request.form,
        body=request.body,
    )


# --- this machine ---------------------------------------------------------------------------------


def _local_denial(request: RequestInfo, config: Config, key: str | None, advice: str) -> str | None:
    if (reason := _remote_denial(request, advice)) is not None:
        return reason
    if (page := _foreign_page(request, config)) is not None:
        return f"asked for by {page}: {advice}"
    return _key_denial(request, key, advice)


def _remote_denial(request: RequestInfo, advice: str) -> str | None:
    if not _is_loopback(request.client):
        return f"{request.client or 'the client'} is not on this machine: {advice}"
    # Proxies still speak HTTP/1.0 to what is behind them, and hardly anybody else does.
    if request.http_version == "1.0" or any(map(_FORWARDED.fullmatch, request.headers)):
        return f"forwarded by a proxy or tunnel: {advice}"
    host = _split(f"//{request.headers.get('host', '')}").hostname or ""
    if host != "localhost" and not _is_loopback(host):
        return f"asked for as {host or 'nobody'}, which is not this machine: {advice}"
    return None


def _key_denial(request: RequestInfo, key: str | None, advice: str) -> str | None:
    if has_key(request, key):
        return None
    wrong = "wrong key, it is another at each start" if _given_keys(request) else "no key"
    return f"{wrong}: open the address that was told at the start, or {advice}"


def _authority(url: str) -> tuple[str, int] | None:
    """Host and port as browsers compare them: whatever the case, and the port written or not."""
    parts = _split(url)
    try:
        port = parts.port or {"http": 80, "https": 443, "ws": 80, "wss": 443}[parts.scheme]
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
