"""Twilio's voice webhook: signed requests in, TwiML out.

Pure: what a request held goes in as text, answers come out as text. Sources: Twilio, "Webhooks
security" and "TwiML for Programmable Voice", read 2026-11-22; the rules it leaves open, from
captures, are told where they are used.
"""

import hmac
import itertools
import re
from collections.abc import Container, Iterable, Mapping
from hashlib import sha256
from urllib.parse import parse_qs, parse_qsl

import msgspec

# The package has no type information of its own.
from twilio.request_validator import (  # type: ignore[import-untyped]
    HMAC_SHA1,
    RequestValidator,
)
from twilio.twiml.voice_response import (  # type: ignore[import-untyped]
    Connect,
    Dial,
    Stream,
    VoiceResponse,
)

SIGNATURE_HEADER = "X-Twilio-Signature"

# "For each <Parameter>, name and value together must be under 500 characters."
PARAMETER_LIMIT = 500
# TwiML that is handed to the REST API, not asked for by Twilio (error 32018).
REST_TWIML_LIMIT = 4000

# {scheme: port it means when none is written}
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# What XML 1.0 has no way to write, not even escaped (section 2.2, Char).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_FORWARDED_PAIR = re.compile(
    r"""\s*(?P<name>[a-z]+)\s*=\s*("(?P<quoted>([^"\\]|\\.)*)"|(?P<token>[^\s",;]*))\s*(?P<end>[,;]|$)""",
    re.IGNORECASE | re.DOTALL,
)
# Twilio's own are some forty, and what a phone system adds. 64 KiB of them, which anybody may send,
# took 17 ms to read, while everybody waits.
MAX_FIELDS = 500
# Each costs a stranger's request a few HMACs, and a stranger's headers may name many.
MAX_BASES = 12
# Beyond what a phone system, or an app, has to say of a call. Names and values are the caller's.
MAX_CALLER_PARAMETERS = 20
_SIP_HEADER = "SipHeader_"
# What Twilio itself tells in a webhook of a call. Some of a kind have the same beginning.
_FIELDS_OF_TWILIO = re.compile(
    """
    AccountSid | AddOns | AnsweredBy | ApiVersion | ApplicationSid | Call(Sid|Status|Token|Duration)
    | Call(er|ed)(|City|Country|Name|State|Zip) | (From|To)(|City|Country|State|Zip)
    | CallbackSource | Dial[A-Z].* | Digits | Direction | Duration | Error(Code|Url)
    | FinishedOnKey | ForwardedFrom | MachineDetection.* | ParentCallSid | QueueTime | Recording.*
    | SequenceNumber | Sip[A-Z].* | Stir[A-Z].* | Stream[A-Z].* | Timestamp | bodySHA256 | msg
    """,
    re.VERBOSE,
)

# --- The request --------------------------------------------------------------------------------


class Form(dict[str, list[str]]):
    """Form fields: {name: its values}, decoded exactly once, blank ones kept.

    Both matter to the signature: blank fields are signed by name, and `CallToken` holds text that
    is still percent-encoded after decoding.
    """

    def getlist(self, name: str) -> list[str]:
        """All values of a field; the question `RequestValidator` asks of a form."""
        return self[name]

    def first(self, name: str) -> str:
        """The first value of a field, "" if there is none."""
        return next(iter(self.get(name, ())), "")


def read_form(data: bytes) -> Form:
    """The fields of a POST body, or of a GET's raw query string. None of more than `MAX_FIELDS`."""
    form = Form()
    if data.count(b"&") >= MAX_FIELDS:
        return form
    for name, value in parse_qsl(data.decode(errors="replace"), keep_blank_values=True):
        form.setdefault(name, []).append(value)
    return form


class VoiceRequest(msgspec.Struct, frozen=True, rename="pascal"):
    """What a bridge wants to know of a call. Twilio adds fields unannounced; others are ignored."""

    call_sid: str = ""
    account_sid: str = ""
    from_: str = msgspec.field(default="", name="From")  # E.164, client:…, sip:… or "anonymous"
    to: str = ""
    call_status: str = ""
    direction: str = ""  # inbound, outbound-api, outbound-dial
    caller_name: str = ""
    forwarded_from: str = ""
    parent_call_sid: str = ""
    answered_by: str = ""  # human, machine_…, fax or unknown
    call_duration: str = ""  # seconds; when it is over
    sip_response_code: str = ""
    dial_call_status: str = ""  # how a <Dial> went: as `call_status`, or "answered"
    stir_verstat: str = ""
    stream_event: str = ""  # of a stream's status callback: stream-started, -stopped or -error

    @property
    def is_answered(self) -> bool:
        """Whether somebody is on the line. An inbound call rings until the first verb runs."""
        return self.call_status == "in-progress"

    @property
    def is_over(self) -> bool:
        """Whether there is nobody left to hear an answer."""
        return self.call_status in ("completed", "busy", "failed", "no-answer", "canceled")

    @property
    def is_on_machine(self) -> bool:
        """Whether a machine was reached, of whatever kind."""
        return self.answered_by.startswith("machine") or self.answered_by == "fax"

    @property
    def takes_message(self) -> bool:
        """Whether that machine has said all it says, and records now."""
        return self.answered_by.startswith("machine_end")


def read_request(form: Form) -> VoiceRequest:
    """The first value of each field we know; none is required."""
    return msgspec.convert({name: values[0] for name, values in form.items()}, VoiceRequest)


def caller_parameters(form: Form, ours: Container[str] = ()) -> dict[str, str]:
    """What the caller's side gave along: {name: value}. `ours` are fields that we wrote ourselves.

    Of a SIP call its headers of one's own, and `User-to-User`, as `SipHeader_NAME`; of a call by
    the Voice SDK the parameters of `connect`, by the names that the app has for them. Twilio passes
    on what it is given, unchecked.
    """
    voice = read_request(form)
    is_sdk = voice.from_.lower().startswith("client:")
    given = {
        name: values[0]
        for name, values in form.items()
        if name.startswith(_SIP_HEADER)
        or (is_sdk and name not in ours and not _FIELDS_OF_TWILIO.fullmatch(name))
    }
    return dict(itertools.islice(given.items(), MAX_CALLER_PARAMETERS))


# --- The signature ------------------------------------------------------------------------------


def is_signed(
    *,
    tokens: Iterable[str],
    signature: str,
    urls: Iterable[str],
    form: Form | None = None,
    body: bytes = b"",
    algorithm: str = HMAC_SHA1,
) -> bool:
    """Whether one of `tokens` signed a request for one of `urls`.

    `form` is for form posts. Any other `body` is covered through its hash, `bodySHA256` in the
    query, and is refused without one. Each URL is tried with and without its port: Twilio drops it
    for https voice webhooks, keeps it for http, and does not say what it does for wss. (The
    package's own `validate` takes 80 for the default port of wss.)

    Takes equally long whether and whatever matches, but for the number of candidates. `algorithm`
    goes with the tokens, never with the request's wish.
    """
    given = signature.encode(errors="replace")
    # Whatever a stranger's headers put into a URL: fit for hashing.
    encodable = (url.encode(errors="replace").decode() for url in urls)
    covered = [url for url in encodable if (form and not body) or _covers(url, body)]
    candidates = _unique(port_form for url in covered for port_form in _port_forms(url))
    found = False
    for token in tokens:
        if not token:
            continue  # anyone can sign with an empty key
        validator = RequestValidator(token)
        for url in candidates:
            computed: str = validator.compute_signature(url, form or {}, algorithm)
            found |= hmac.compare_digest(computed.encode(), given)
    return found


def sign(token: str, url: str, form: Mapping[str, str] | None = None) -> str:
    """The signature that Twilio, or who plays it in a test, gives a request."""
    signature: str = RequestValidator(token).compute_signature(url, form or {})
    return signature


def _covers(url: str, body: bytes) -> bool:
    """Whether a signature for `url` vouches for `body` too."""
    claimed = parse_qs(url.partition("?")[2]).get("bodySHA256")
    if claimed is None:
        return not body
    return hmac.compare_digest(sha256(body).hexdigest().encode(), claimed[0].encode())


def _port_forms(url: str) -> list[str]:
    """`url` as it is and with its port removed, or the default one added.

    Done on the text: parsing and joining again would mend what was signed unmended.
    """
    match = re.match(r"(?P<scheme>[a-z]+)://(?P<host>[^/?#]*?)(?P<port>:[0-9]+)?(?=[/?#]|$)", url)
    if match is None or match["scheme"] not in _DEFAULT_PORTS:
        return [url]
    base, rest = f"{match['scheme']}://{match['host']}", url[match.end() :]
    if match["port"]:
        return [url, base + rest]
    return [url, f"{base}:{_DEFAULT_PORTS[match['scheme']]}{rest}"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a request tells of the address that it was sent to, in its own words.

    The `forwarded_…` are the values of `X-Forwarded-…`, `forwarded` that of RFC 7239's `Forwarded`.
    `root_path` is the prefix that our own server is mounted at (ASGI).
    """

    scheme: str = ""
    host: str = ""
    root_path: str = ""
    forwarded_proto: str = ""
    forwarded_host: str = ""
    forwarded_prefix: str = ""
    forwarded: str = ""


def base_urls(seen: Seen, public_url: str | None) -> list[str]:
    """Where Twilio may have seen us, likeliest first, no slash at the end.

    A configured `public_url` is the only answer, but for the case of its host's letters, which is
    signed as somebody has typed it, and for the prefix that our server is mounted at. Else the
    headers are asked, a proxy's first, and believed: for checking it is safe, as nobody but Twilio
    can sign any URL for our token. A list in a header names the outermost proxy first, the one that
    Twilio met. `https` is always tried: tunnels end TLS without saying so. Empty if there is no
    host at all (HTTP/1.0).
    """
    outermost = _outermost(seen.forwarded)
    told = (_first(seen.forwarded_host), outermost.get("host", ""), seen.host)
    hosts = [host for host in told if host]
    if public_url is not None:
        scheme, _, rest = public_url.partition("://")
        name, slash, path = rest.partition("/")
        spelt = [host for host in hosts if host.lower() == name.lower()]
        found = [f"{scheme}://{host}{slash}{path}" for host in (name, *spelt, name.lower())]
        return _mounted(_unique(found), [seen.root_path])
    protos = (_first(seen.forwarded_proto), outermost.get("proto", ""), seen.scheme, "https")
    schemes = [_http(each) for each in protos if each]
    spellings = [host for each in hosts for host in (each, each.lower())]
    found = _unique(f"{scheme}://{host}" for host in spellings for scheme in schemes)
    return _mounted(found, [_first(seen.forwarded_prefix), seen.root_path])


def webhook_urls(bases: Iterable[str], *, path: str, query: str = "") -> list[str]:
    """The URLs a webhook may have been signed for; `path` and `query` raw, as on the wire.

    A prefix in the public URL may or may not be in `path`: some proxies strip it, some do not.
    """
    suffix = f"?{query}" if query else ""
    return [url + suffix for base in bases for url in _under(base, path)]


def stream_urls(bases: Iterable[str], *, path: str, query: str = "") -> list[str]:
    """The URLs a media stream's handshake may have been signed for.

    Signed is the `<Stream url>` as written, so with `wss`, though servers see the request as http
    or ws; "if validation of a wss URL fails, try it with a slash appended" (Twilio's security
    notes), and a URL without a path arrives as "/". Twilio takes any query away.
    """
    toggled = path.removesuffix("/") if path.endswith("/") else path + "/"
    urls = [
        url.partition("://")[2]
        for each in (path, toggled)
        for url in webhook_urls(bases, path=each, query=query)
    ]
    return _unique(f"{scheme}://{url}" for scheme in ("wss", "https") for url in urls)


def media_url(base: str, path: str) -> str:
    """The `<Stream url>` for `path` under one of the `base_urls`; Twilio itself takes wss only."""
    scheme, _, rest = base.partition("://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest}{path}"


def _mounted(bases: list[str], prefixes: list[str]) -> list[str]:
    """The same, each first below a prefix, where there is one that it does not have."""
    clean = [f"/{each.strip('/')}" for each in prefixes if each.strip("/")]
    found = [
        base + prefix
        for base in bases
        for prefix in (*clean, "")
        if not prefix or not base.endswith(prefix)
    ]
    return _unique(found)[:MAX_BASES]


def _first(values: str) -> str:
    return values.partition(",")[0].strip()


def _outermost(forwarded: str) -> dict[str, str]:
    """What the first of the proxies says, in a `Forwarded` header (RFC 7239, section 4)."""
    found: dict[str, str] = {}
    position, end = 0, ";"
    while end == ";" and (pair := _FORWARDED_PAIR.match(forwarded, position)) is not None:
        quoted = pair["quoted"]
        value = pair["token"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        found.setdefault(pair["name"].lower(), value)
        position, end = pair.end(), pair["end"]
    return found


def _http(scheme: str) -> str:
    scheme = scheme.strip().lower()
    return "http" if scheme in ("http", "ws") else "https"


def _under(base: str, path: str) -> list[str]:
    _, slash, rest = base.partition("://")[2].partition("/")
    prefix = slash + rest
    if prefix and path.startswith(f"{prefix}/"):
        return [base.removesuffix(prefix) + path, base + path]
    return [base + path]


def _unique(urls: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(urls))


# --- The answer ---------------------------------------------------------------------------------


def connect_stream(
    stream_url: str,
    action_url: str,
    *,
    notice: str | None = None,
    parameters: Mapping[str, str] | None = None,
    status_url: str | None = None,
) -> str:
    """TwiML that speaks `notice`, if any, and streams the call until either side ends that.

    Then Twilio asks `action_url` what next. Its documents do not say that it does where the
    stream's connection was lost, or never came about: if it goes on with this document instead, it
    is led there by `<Redirect>`. What becomes of the stream is told to `status_url`.

    Raises:
        ValueError: a parameter has no name, or is longer than Twilio takes.
    """
    response = VoiceResponse()
    if notice:
        response.say(_xml(notice))
    told = {} if status_url is None else {"status_callback": _xml(status_url)}
    stream = Stream(url=_xml(stream_url), **told)
    for name, value in (parameters or {}).items():
        if not name or len(name) + len(value) >= PARAMETER_LIMIT:
            raise ValueError(
                f"parameter {name[:40]!r}: a name, and with the value"
                f" fewer than {PARAMETER_LIMIT} characters, is what Twilio takes"
            )
        stream.parameter(name=_xml(name), value=_xml(value))
    connect = Connect(action=_xml(action_url), method="POST")
    connect.append(stream)
    response.append(connect)
    response.redirect(_xml(action_url), method="POST")
    return str(response)


def busy(*, answered: bool = False) -> str:
    """TwiML for a call there is no room for.

    While it rings, the busy tone: every phone and carrier understands it, the call is not answered
    and costs nobody anything, which matters when a crowd is calling. Once it is answered (an
    outbound call, a redirect) there is no busy tone left to give, so it is said.
    """
    response = VoiceResponse()
    if answered:
        response.say("Sorry, all our lines are busy. Please call again later. Goodbye.")
        response.hangup()
    else:
        response.reject(reason="busy")
    return str(response)


def apology() -> str:
    """TwiML for a call that failed through no fault of the caller."""
    response = VoiceResponse()
    response.say("Sorry, something went wrong on our side. Please call again later. Goodbye.")
    response.hangup()
    return str(response)


def dial(number: str, caller_id: str | None = None, action: str | None = None) -> str:
    """TwiML that connects the caller to `number`, which should be on the operator's list.

    `caller_id` is what the called one sees, else the caller's own number. When that call is over,
    Twilio asks `action` what next, with `DialCallStatus`; without one it hangs up. It must be
    absolute where the document is handed to the REST API.
    """
    response = VoiceResponse()
    given = {"caller_id": caller_id, "action": action and _xml(action)}
    dialling = Dial(**{name: value for name, value in given.items() if value})
    dialling.number(_xml(number))
    response.append(dialling)
    return str(response)


def not_taken() -> str:
    """TwiML for a caller whom nobody took over."""
    response = VoiceResponse()
    response.say("Sorry, nobody can take your call right now. Please call again later. Goodbye.")
    response.hangup()
    return str(response)


def redirect(url: str) -> str:
    """TwiML for a call that is to be asked for once more, there."""
    response = VoiceResponse()
    response.redirect(_xml(url), method="POST")
    return str(response)


def leave_message(text: str) -> str:
    """TwiML that says `text` to a machine, and hangs up."""
    response = VoiceResponse()
    response.say(_xml(text))
    response.hangup()
    return str(response)


def hang_up() -> str:
    response = VoiceResponse()
    response.hangup()
    return str(response)


def _xml(text: str) -> str:
    """`text` with what XML cannot carry replaced; the escaping is done by the package."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
