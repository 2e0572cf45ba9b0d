"""What a server finds in the network: its agents, its own public address, Twilio. Each step by
itself, with the time that it takes. What cannot be reached is said, not guessed."""

import email.utils
import time
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from typing import Any

import h11
import trio

from sts_trio.agents.choice import AgentChoice, ConfiguredAgents
from sts_trio.agents.credentials import AskCredential, credential_for
from sts_trio.agents.endpoints import Endpoint
from sts_trio.config import AgentKind, Config
from sts_trio.doctor.findings import Finding, State, fault, fine, odd, unknown
from sts_trio.doctor.reach import STEP_WITHIN, reach
from sts_trio.errors import AgentRejected, AgentUnreachable, LegEnded, TwilioFailed
from sts_trio.legs.handshake import open_agent
from sts_trio.net import http
from sts_trio.offline.mode import choose
from sts_trio.outbound.progress import STATUS_PATH
from sts_trio.outbound.twilio_rest import TwilioRest
from sts_trio.simulate.connect import NotConnected, connect, host_of
from sts_trio.simulate.websocket import websocket
from sts_trio.wire import deepgram, webhook
from sts_trio.wire.dialect import language

# Seconds. A signature of a webhook of ours may be five minutes old, a certificate starts at once.
CLOCK_ODD, CLOCK_WRONG = 2.0, 60.0
SLOW_DIAL = 1.0
# Of no call: what the server is asked about is nothing that it knows.
NO_CALL = "CA" + "d0c" * 10 + "00"
_LONGEST = 2**20  # bytes of an answer


# --- agents ---------------------------------------------------------------------------------------


async def agents(
    config: Config,
    endpoints: Sequence[Endpoint],
    credential: AskCredential | None,
) -> AsyncIterator[Finding]:
    """Each address by the default agent, and the first that answers by all others."""
    if config.agent is AgentKind.OFFLINE:
        mode, reason = choose(config.offline_mode)
        if reason is None:
            yield fine("agent", f"the offline one, {mode.value}")
        else:
            yield odd("agent", f"the offline one, {mode.value}", reason, "see STS_OFFLINE_MODE")
        return
    known = ConfiguredAgents(config.agents, config.sessions, config.variables, config.dialect)
    first, *others = config.agents
    for endpoint in endpoints:
        where = config.where("DEEPGRAM_URL")
        steps = await _reach("agent", endpoint.url, where, is_public=False)
        for finding in steps:
            yield finding
        if steps[-1].state is State.FAULT:
            continue
        findings = await _session(config, endpoint, credential, known, first)
        if all(each.state is not State.FAULT for each in findings):
            for name in others:
                told = await _session(config, endpoint, credential, known, name)
                findings += told[1:]  # that it can be reached was told
            others = []
        for finding in findings:
            yield finding


async def _session(
    config: Config,
    endpoint: Endpoint,
    credential: AskCredential | None,
    known: ConfiguredAgents,
    name: str,
) -> list[Finding]:
    """From the dial to the settings that are applied."""
    address = endpoint.address
    began = trio.current_time()
    step = "no websocket"
    where = config.where("DEEPGRAM_URL")
    key = config.where("DEEPGRAM_API_KEY")
    news: list[Any] = []
    more = trio.Event()

    def hear(batch: Sequence[Any]) -> None:
        news.extend(batch)
        more.set()

    async def until(wanted: type[Any]) -> Any:
        nonlocal more
        while True:
            while news:
                message = news.pop(0)
                if isinstance(message, wanted | deepgram.AgentError | LegEnded):
                    return message
            more = trio.Event()
            await more.wait()

    found: list[Finding] = []
    try:
        with trio.fail_after(3 * STEP_WITHIN):
            shown = await credential_for(endpoint, credential)
            spoken = language(config.dialect)
            async with open_agent(endpoint.url, shown, spoken) as leg:
                seconds = trio.current_time() - began
                if seconds > SLOW_DIAL:
                    cause = "name resolution, or the way there"
                    cure = "STS_DIAL_AHEAD=1 hides it from callers"
                    found.append(odd("agent", f"{address}: {seconds:.1f} s to dial", cause, cure))
                else:
                    found.append(fine("agent", f"{address}: reached, the key is accepted", seconds))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(leg.listen, hear, lambda now: None)
                    step, began = "no Welcome", trio.current_time()
                    answer = await until(deepgram.Welcome)
                    if isinstance(answer, deepgram.Welcome):
                        step = "no SettingsApplied"
                        await leg.send(known.settings(name, AgentChoice()))
                        answer = await until(deepgram.SettingsApplied)
                    seconds = trio.current_time() - began
                    if isinstance(answer, deepgram.SettingsApplied):
                        found.append(fine("agent", f"{name}: its settings are applied", seconds))
                    elif isinstance(answer, deepgram.AgentError):
                        said = f"{answer.code}: {answer.description}"
                        cure = f"mend [agents.{name}]; sts-trio check prints what it is told"
                        found.append(fault("agent", f"{name}: refused", said, cure))
                    else:
                        cause = f"the agent hung up ({answer.how.value} {answer.code or ''})"
                        cure = "try again; else its support, with the time of this"
                        found.append(fault("agent", f"{name}: {step}", cause.strip(), cure))
                    with trio.move_on_after(1.0):
                        await leg.aclose(1000)
                    nursery.cancel_scope.cancel()
    except* AgentRejected as group:
        exc: Any = group.exceptions[0]
        denied = exc.status in (401, 402, 403)
        cause = "the key is unknown there, or has no funds or rights" if denied else str(exc)
        cure = f"mend {key}" if denied else f"mend {where}, or wait: it may be overloaded"
        found.append(fault("agent", f"{address}: HTTP {exc.status}", cause, cure))
    except* AgentUnreachable as group:
        cure = f"mend {where}, the name server, or the firewall"
        found.append(fault("agent", f"{address}: {step}", str(group.exceptions[0]), cure))
    except* trio.TooSlowError:
        cause = f"nothing came within {3 * STEP_WITHIN:g} s"
        cure = "look at the firewall, and at the agent's status page"
        found.append(fault("agent", f"{address}: {step}", cause, cure))
    return found


# --- our own address ------------------------------------------------------------------------------


async def public_address(config: Config) -> AsyncIterator[Finding]:
    """As Twilio comes by it: a request, one that is signed, and a stream's handshake."""
    if config.public_url is None:
        if config.twilio_auth_tokens:
            cause = "signatures are checked for whatever host a request names"
            yield odd("public URL", "not set", cause, "set STS_PUBLIC_URL to the number's address")
        else:
            yield fine("public URL", "not set, and no phones are let in")
        return
    where = config.where("STS_PUBLIC_URL")
    steps = await _reach("public URL", config.public_url, where, is_public=True)
    for finding in steps:
        yield finding
    if steps[-1].state is State.FAULT:
        return
    try:
        answer, seconds = await _get(f"{config.public_url}/healthz")
    except NotConnected as exc:
        cure = f"look at the proxy's log; is that {where}?"
        yield fault("public URL", f"{config.public_url}/healthz has no answer", str(exc), cure)
        return
    if answer.status != 200 or b'"live"' not in answer.body:
        cause = "the proxy leads elsewhere, or the server is not running"
        cure = "start sts-trio serve; look at the proxy's log"
        yield fault("public URL", f"/healthz: HTTP {answer.status}, none of ours", cause, cure)
        return
    yield fine("public URL", f"{config.public_url} leads to a server of ours", seconds)
    if not config.twilio_auth_tokens:
        yield unknown("public URL", "signatures and streams", "there is no TWILIO_AUTH_TOKEN")
        return
    yield await _signed(config)
    if config.bins:
        yield await _upgraded(config)
    else:
        cause = "with STS_BINS=0 a stream is let in only for a call that was announced"
        yield unknown("public URL", "a stream's handshake", cause, "place a call")


async def _signed(config: Config) -> Finding:
    """A status of a call that there is not: it is let in, and changes nothing."""
    url = f"{config.public_url}{STATUS_PATH}"
    form = {"CallSid": NO_CALL, "CallStatus": "completed"}
    signature = webhook.sign(config.twilio_auth_tokens[0], url, form)
    try:
        answer, seconds = await _get(url, form=form, headers={webhook.SIGNATURE_HEADER: signature})
    except NotConnected as exc:
        return unknown("public URL", f"{STATUS_PATH}: no answer", str(exc))
    if answer.status == 403:
        return fault(
            "public URL",
            "a request signed as Twilio signs is refused",
            "the server that runs has another TWILIO_AUTH_TOKEN, or another STS_PUBLIC_URL",
            "give both the same as here; its log says for which address it has looked",
        )
    if answer.status >= 400:
        cause = "the proxy lets no POST through, or changes the path"
        return fault(
            "public URL", f"{STATUS_PATH}: HTTP {answer.status}", cause, "look at the proxy"
        )
    return fine("public URL", "a request signed as Twilio signs is let in", seconds)


async def _upgraded(config: Config) -> Finding:
    """A stream's handshake, without a call behind it: the server notes a socket that began none."""
    address = urllib.parse.urlsplit(config.public_url or "")
    # Twilio streams to no other scheme.
    url = f"wss://{host_of(address)}{address.path}/twilio"
    signature = webhook.sign(config.twilio_auth_tokens[0], url)
    began = trio.current_time()
    refusal: BaseException | None = None
    try:
        stream = await connect(*_place(address))
        async with websocket(
            stream,
            host=host_of(address),
            path=f"{address.path}/twilio",
            headers={webhook.SIGNATURE_HEADER: signature},
        ):
            pass
    except* NotConnected as group:
        refusal = group.exceptions[0]
    if refusal is None:
        took = trio.current_time() - began
        return fine("public URL", "a stream's handshake is let through", took)
    if getattr(refusal, "status", None) == 403:
        cause = "the proxy changes the path or the host, so the signature is for another one"
        cure = "STS_PUBLIC_URL as Twilio knows the server, on the server that runs"
        return fault("public URL", "a stream's handshake is refused", cause, cure)
    cause = "the proxy does not pass Upgrade on"
    cure = "proxy_set_header Upgrade and Connection (nginx), or HTTP/1.1 to the server"
    return fault("public URL", f"a stream's handshake: {refusal}", cause, cure)


async def _reach(subject: str, url: str, where: str, *, is_public: bool) -> list[Finding]:
    host, port, is_secure = _place(urllib.parse.urlsplit(url))
    way = reach(subject, host, port, is_secure=is_secure, where=where, is_public=is_public)
    return [each async for each in way]


def _place(parts: urllib.parse.SplitResult) -> tuple[str, int, bool]:
    """Host, port, and whether TLS is spoken there."""
    is_secure = parts.scheme in ("https", "wss")
    return parts.hostname or "", parts.port or (443 if is_secure else 80), is_secure


async def _get(
    url: str, *, form: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> tuple[http.Answer, float]:
    """The answer, and the seconds it took.

    Raises:
        NotConnected: there is none, and why.
    """
    parts = urllib.parse.urlsplit(url)
    began = trio.current_time()
    sent = {"Host": host_of(parts), **(headers or {})}
    method, body = "GET", b""
    if form is not None:
        method, body = "POST", urllib.parse.urlencode(form).encode()
        sent["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        with trio.fail_after(STEP_WITHIN):
            stream = await connect(*_place(parts))
            try:
                answer = await http.ask(
                    stream, method, parts.path or "/", sent, body, longest=_LONGEST
                )
            finally:
                await trio.aclose_forcefully(stream)
    except trio.TooSlowError:
        raise NotConnected(f"no answer within {STEP_WITHIN:g} s") from None
    except http.TooLong:
        raise NotConnected(f"the answer is longer than {_LONGEST} bytes") from None
    except (OSError, trio.BrokenResourceError, h11.ProtocolError) as exc:
        raise NotConnected(f"no answer: {exc}") from exc
    return answer, trio.current_time() - began


# --- the clock ------------------------------------------------------------------------------------


async def clock(addresses: Sequence[str]) -> Finding:
    """This machine's beside that of the first that tells its own, by HTTP."""
    for address in addresses:
        try:
            answer, seconds = await _get(address)
        except NotConnected:
            continue
        told = answer.headers.get("date")
        if told is None:
            continue
        theirs = email.utils.parsedate_to_datetime(told).timestamp()
        # A date is cut to the second, and was made somewhere within the answer's way.
        ahead = time.time() - theirs - 0.5 - seconds / 2
        host = urllib.parse.urlsplit(address).hostname
        shown = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {host}"
        if abs(ahead) > CLOCK_WRONG:
            cause = "no time service: certificates and signatures are taken for too old or too new"
            return fault("clock", shown, cause, "timedatectl set-ntp true")
        if abs(ahead) > CLOCK_ODD:
            return odd("clock", shown, "no time service", "timedatectl set-ntp true")
        return fine("clock", f"within {CLOCK_ODD:g} s of {host}")
    return unknown("clock", "not known", "nobody who tells the time could be reached")


def clocks_of(config: Config, rest: TwilioRest) -> list[str]:
    """Servers of others, which are asked for nothing but the time."""
    found = [rest.api] if not rest.missing else []
    if config.agent is AgentKind.DEEPGRAM:
        for url in config.deepgram_urls:
            parts = urllib.parse.urlsplit(url)
            found.append(f"{'https' if parts.scheme == 'wss' else 'http'}://{host_of(parts)}/")
    return found


# --- Twilio ---------------------------------------------------------------------------------------


async def twilio(config: Config, rest: TwilioRest) -> AsyncIterator[Finding]:
    if rest.missing:
        cause = f"{' and '.join(rest.missing)} not set"
        yield unknown("Twilio", "account and numbers", cause)
        return
    try:
        with trio.fail_after(3 * STEP_WITHIN):
            account = await rest.account()
            numbers = await rest.numbers()
    except TwilioFailed as exc:
        denied = exc.status in (401, 403)
        cure = "set TWILIO_ACCOUNT_SID and, first, TWILIO_AUTH_TOKEN of one account"
        if not denied:
            cure = "look at the network, and at Twilio's status page"
        yield fault("Twilio", "its REST API does not answer as it should", str(exc), cure)
        return
    except trio.TooSlowError:
        yield unknown("Twilio", "account and numbers", f"no answer in {3 * STEP_WITHIN:g} s")
        return
    if account.status != "active":
        cure = "Twilio's console says why"
        yield fault("Twilio", f"the account is {account.status}", "unpaid, or closed", cure)
    else:
        kind = " (a trial: it says so to each caller)" if account.type == "Trial" else ""
        yield fine("Twilio", f"the account is active{kind}")
    if not numbers:
        cure = "buy one, or another TWILIO_ACCOUNT_SID"
        yield odd("Twilio", "the account has no number", "or it is another's", cure)
    for number in numbers:
        yield _number(config, number.number, number.voice_url)


def _number(config: Config, number: str, url: str) -> Finding:
    wanted = f"{config.public_url}/twiml" if config.public_url else None
    if not url:
        cure = f"set its voice webhook{f' to {wanted}' if wanted else ''}"
        return odd("Twilio", f"{number} leads nowhere", "it has no voice webhook", cure)
    if wanted is None:
        return unknown("Twilio", f"{number} leads to {url}", "STS_PUBLIC_URL is not set")
    if url.partition("#")[0].rstrip("/") == wanted:
        return fine("Twilio", f"{number} leads here")
    cause = "another server, or a TwiML Bin"
    return odd("Twilio", f"{number} leads to {url}", cause, f"{wanted}, if it is to lead here")
