"""Where each call of a load test is placed: at one websocket, or where its webhook says."""

import uuid
from collections.abc import Mapping
from urllib.parse import urlencode

import h11
import msgspec
import trio

from sts_trio.config import local_key
from sts_trio.errors import StsTrioError
from sts_trio.load.target import Target, find
from sts_trio.net import http
from sts_trio.simulate import twiml
from sts_trio.simulate.connect import WEBSOCKET, NotConnected, connect, parts_of, target_of
from sts_trio.simulate.media_stream import Sids
from sts_trio.simulate.webhook import ANSWER_TIMEOUT, FORM, NUMBERS, Sign, form

# What a simulated caller does not wait for: it comes before the stream.
_BEFORE = (twiml.Say, twiml.Play, twiml.Pause)


class Refused(StsTrioError):
    """A call was not led to a stream, and why."""


class Place(msgspec.Struct, frozen=True):
    """`stream` is a websocket; of a call that is placed there all the rest is told."""

    stream: Target
    call_sid: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]

    def line(self) -> bytes:
        """As the generator reads it."""
        parameters = msgspec.json.encode(self.parameters).decode()
        headers = (f"{name}: {value}" for name, value in self.headers.items())
        fields = (self.call_sid, self.stream.host, self.stream.path, parameters, *headers)
        if not self.headers:
            fields += ("",)
        return "\t".join(fields).encode() + b"\n"


# For the generator: the webhook led this call nowhere.
NOWHERE = b"!\n"


class Places:
    """Asks for one place after the other. `sign` makes the headers that Twilio would send."""

    def __init__(
        self,
        target: Target,
        sign: Sign | None,
        parameters: Mapping[str, str],
        *,
        is_ours: bool,
    ) -> None:
        self.refusals: dict[str, int] = {}  # {reason: how often}
        self._target = target
        self._sign = sign
        self._parameters = parameters
        self._is_ours = is_ours
        self._account = Sids().account
        self._streams: dict[str, Target] = {}  # {scheme and host: where that is}

    async def find(self) -> Place:
        """Raises:
        Refused: the webhook leads nowhere.
        NotOurs: it leads to another machine.
        """
        call_sid = f"CA{uuid.uuid4().hex}"
        try:
            if self._target.is_webhook:
                stream = await self._ask(call_sid)
                target = await self._stream(stream.url)
                parameters = {**stream.parameters, **self._parameters}
            else:
                target, parameters = self._target, dict(self._parameters)
        except (Refused, NotConnected) as exc:
            self.refusals[str(exc)] = self.refusals.get(str(exc), 0) + 1
            raise Refused(str(exc)) from exc
        signed = {} if self._sign is None else self._sign(target.url, {})
        return Place(target, call_sid, parameters, {**_key(target), **signed})

    async def _stream(self, url: str) -> Target:
        """Each host is looked up once, as a call has a path of its own."""
        parts, _ = parts_of(url, WEBSOCKET)
        host = f"{parts.scheme}://{parts.netloc}"
        if (known := self._streams.get(host)) is None:
            known = self._streams[host] = await find(url, is_ours=self._is_ours)
        return msgspec.structs.replace(known, url=url, path=target_of(parts))

    async def _ask(self, call_sid: str) -> twiml.Stream:
        """No redirection is followed: it may lead elsewhere, and costs what is not measured."""
        target = self._target
        fields = form(call_sid, self._account, NUMBERS)
        signed = {} if self._sign is None else self._sign(target.url, fields)
        body = urlencode(fields).encode()
        headers = {"Host": target.host, "Content-Type": FORM, **_key(target), **signed}
        dialled = target.name if target.is_secure else target.address
        stream = await connect(dialled, target.port, target.is_secure, ANSWER_TIMEOUT)
        try:
            with trio.fail_after(ANSWER_TIMEOUT):
                answer = await http.ask(
                    stream, "POST", target.path, headers, body, longest=twiml.MAX_TWIML
                )
        except (trio.TooSlowError, trio.BrokenResourceError, h11.RemoteProtocolError) as exc:
            raise Refused(f"the webhook did not answer: {exc or type(exc).__name__}") from None
        except http.TooLong:
            raise Refused("the webhook's answer is longer than TwiML may be") from None
        finally:
            await trio.aclose_forcefully(stream)
        if answer.status != 200:
            raise Refused(f"the webhook answered HTTP {answer.status}")
        return _stream_of(answer)


def _stream_of(answer: http.Answer) -> twiml.Stream:
    try:
        steps = twiml.read(answer.body, answer.headers.get("content-type", ""))
    except twiml.NotTwiml as exc:
        raise Refused(f"the webhook's answer: {exc}") from None
    first = next((step for step in steps if not isinstance(step, _BEFORE)), None)
    if not isinstance(first, twiml.Connect):
        told = type(first).__name__ if first is not None else "nothing"
        raise Refused(f"the webhook has the call streamed nowhere: <{told}>")
    return first.stream


def _key(target: Target) -> dict[str, str]:
    """What lets this user in at a server of their own on this machine."""
    key = local_key.find((target.address, target.port))
    return {} if key is None else {"Authorization": f"Bearer {key}"}
