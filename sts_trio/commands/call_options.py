"""What `sts-trio call` was asked for: from options to what a call takes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from sts_trio.commands.common import Misuse, make_directory, pairs
from sts_trio.errors import ConfigError

if TYPE_CHECKING:
    from sts_trio.simulate.script import Keys, Said, Speak
    from sts_trio.simulate.webhook import Sign

LOCAL = ("127.0.0.1", "::1", "localhost")


def stream_parameters(
    url: str, from_: str | None, to: str | None, agent: str | None, given: Sequence[str]
) -> dict[str, str]:
    """Those of the stream, among them what a TwiML Bin would say of the call."""
    from sts_trio.call.info import FROM, NAMED, TO

    found = pairs("--parameter", given)
    if url.startswith("http"):
        if agent is not None:
            raise Misuse(
                "--agent: a webhook decides who answers: call the websocket, as a TwiML Bin does,"
                " or give the agent's number by --to"
            )
        return found
    named = {FROM: from_, TO: to, NAMED: agent}
    return found | {name: value for name, value in named.items() if value is not None}


def operator_key(url: str) -> str | None:
    """What lets this user in as the operator of the server that is called, if it is theirs: the key
    in its URL or of its run, or the admin token. That goes to a server on this machine, or to the
    one at STS_PUBLIC_URL; nobody else's is asked anything."""
    from sts_trio import config
    from sts_trio.config import local_key

    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme in ("https", "wss") else 80)
        # Who only calls needs no agent.
        settings = config.from_environment(STS_AGENT="offline")
    except (ConfigError, ValueError):
        return None  # of a URL that is none; or it is told by the command that takes it
    if key := parse_qs(parts.query).get("key"):
        return key[0]
    ours = urlsplit(settings.public_url or "")
    is_ours = parts.scheme in ("https", "wss") and parts.hostname == ours.hostname
    if settings.admin_token and (is_ours or parts.hostname in LOCAL):
        return settings.admin_token
    if parts.hostname not in LOCAL:
        return None
    hosts = ("127.0.0.1", "::1") if parts.hostname == "localhost" else (parts.hostname,)
    found = (local_key.find((host, port)) for host in hosts)
    return next((key for key in found if key), None)


def in_order(order: Sequence[str], texts: Sequence[str], keys: Sequence[str]) -> Iterator["Said"]:
    """`order` has the names of the options, as they were given."""
    left = {"texts": iter(texts), "keys": iter(keys)}
    for name in order:
        if name == "texts":
            yield _spoken(next(left[name]))
        elif name == "keys":
            yield _pressed(next(left[name]))


def _pressed(keys: str) -> "Keys":
    from sts_trio.simulate.script import Keys

    try:
        return Keys(keys.upper())
    except ValueError as exc:
        raise Misuse(f"--keys: {exc}") from exc


def readable(path: str) -> "Speak":
    from sts_trio.audio import wav
    from sts_trio.simulate.script import Speak

    try:
        return Speak(wav.read(path), Path(path).name)
    except wav.NotAWav as exc:
        raise Misuse(str(exc)) from exc


def _spoken(text: str) -> "Speak":
    from sts_trio.simulate.spoken import spoken

    clip = spoken(text)
    if not clip.audio:
        raise Misuse(f"--say {text!r}: there is nothing in it to be said")
    return clip


def signer() -> "Sign":
    """What makes the header that Twilio would send."""
    from sts_trio import config
    from sts_trio.wire import webhook

    # Who only calls needs no agent.
    settings = config.from_environment(STS_AGENT="offline")
    if not settings.twilio_auth_tokens:
        raise ConfigError("--signed: TWILIO_AUTH_TOKEN is not set: give the token the bridge has")

    def sign(url: str, form: Mapping[str, str]) -> dict[str, str]:
        parts = urlsplit(url)
        # Twilio asks a webhook by http as well, but streams by wss alone.
        is_stream = parts.scheme in ("ws", "wss")
        base = f"https://{parts.netloc}" if is_stream else f"{parts.scheme}://{parts.netloc}"
        if settings.public_url is not None and parts.hostname in LOCAL:
            base = settings.public_url
        if is_stream:
            written = f"wss://{base.partition('://')[2]}{parts.path}"
        else:
            written = base + parts.path + (f"?{parts.query}" if parts.query else "")
        signature = webhook.sign(settings.twilio_auth_tokens[0], written, form)
        return {webhook.SIGNATURE_HEADER: signature}

    return sign


def recording_file(out: str) -> Path:
    """The file to record to; its directory exists then."""
    path = Path(out)
    if path.suffix.lower() != ".wav":
        if path.suffix and not path.exists():
            raise Misuse(f"--out {out}: expected a directory, or a file ending in .wav")
        path /= time.strftime("call-%Y%m%d-%H%M%S.wav")
    make_directory(path.parent)
    return path
