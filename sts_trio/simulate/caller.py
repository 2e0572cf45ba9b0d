"""One simulated phone call to any bridge's websocket, made as Twilio makes it.

`place_call` dials a URL, that of a media websocket or of a voice webhook; `call_over` calls over
any Trio stream. What the caller does is told by steps, see `script`, and what came of it by a
`Report`. By a webhook the call is a carrier's, see `carrier`.
"""

from collections.abc import Mapping, Sequence

import trio

from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.connect import (
    WEBSOCKET,
    connect,
    host_of,
    key_for,
    parts_of,
    target_of,
)
from sts_trio.simulate.media_stream import MediaStream, Sids
from sts_trio.simulate.phone import Phone, Watch
from sts_trio.simulate.report import Report, report
from sts_trio.simulate.script import CallerScript, IsBusy, Step, never
from sts_trio.simulate.webhook import NUMBERS, Numbers, Sign
from sts_trio.simulate.websocket import websocket


async def place_call(
    url: str,
    steps: Sequence[Step],
    *,
    limit: float = 120.0,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    sign: Sign | None = None,
    watch: Watch | None = None,
    is_busy: IsBusy | None = None,
    sids: Sids | None = None,
    numbers: Numbers = NUMBERS,
) -> Report:
    """Calls the websocket at `url`, takes the steps, hangs up, and reports.

    Where `url` is that of a voice webhook (http or https), a carrier follows its TwiML.

    Whatever happens once the call is connected is told by the report. `limit` is the most seconds
    it may last; `parameters` are TwiML's `<Parameter>`s, beside those that a webhook gives;
    `headers` go with every request, and those that `sign` makes for it; `watch` is told 50 times a
    second. `is_busy` is asked whether the agent is at work at that second of the call, so that what
    it said is no answer yet. `numbers` are told to a webhook.

    Raises:
        NotConnected: there was no call.
    """
    sids = sids or Sids()
    if url.startswith(("http://", "https://")):
        carrier = Carrier(sids.account, sign=sign, headers=headers, parameters=parameters)
        phone_call = await carrier.place(
            url, steps, limit=limit, watch=watch, is_busy=is_busy, sids=sids, numbers=numbers
        )
        phone_call.check()
        return phone_call.report
    parts, port = parts_of(url, WEBSOCKET)
    signed = {} if sign is None else sign(url, {})
    stream = await connect(parts.hostname or "", port, parts.scheme == "wss")
    return await call_over(
        stream,
        steps,
        host=host_of(parts),
        path=target_of(parts),
        limit=limit,
        parameters=parameters,
        headers={**key_for(stream), **(headers or {}), **signed},
        watch=watch,
        is_busy=is_busy,
        sids=sids,
    )


async def call_over(
    stream: trio.abc.Stream,
    steps: Sequence[Step],
    *,
    host: str = "localhost",
    path: str = "/twilio",
    limit: float = 120.0,
    parameters: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    watch: Watch | None = None,
    is_busy: IsBusy | None = None,
    sids: Sids | None = None,
) -> Report:
    """`place_call` over a stream that is connected already. Closes it."""
    sids = sids or Sids()
    phone = Phone(CallerScript(steps, limit, is_busy or never), watch)
    has_hung_up = False
    async with websocket(stream, host=host, path=path, headers=headers or {}) as socket:
        media = MediaStream(socket, stream, phone, dict(parameters or {}), sids)
        is_over = trio.Event()

        async def talk() -> None:
            nonlocal has_hung_up
            goodbye = await phone.talk(media.begin)
            has_hung_up = True
            await (media.abort() if goodbye.abruptly else media.end())
            is_over.set()

        phone.begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            await media.listen()
            if has_hung_up:
                await is_over.wait()
            nursery.cancel_scope.cancel()
        told = report(
            phone,
            seconds=phone.now,
            refused=media.refused,
            first_refusal=media.first_refusal,
            closed_by="caller" if has_hung_up else "bridge",
            close_code=media.close_code,
            call_sid=sids.call,
        )
    return told
