"""A simulated carrier and a bridge: what it asks, and where a call goes."""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from rig_site import Media, Site, listen, site

from sts_trio.audio import wav
from sts_trio.audio.frames import length
from sts_trio.net import http
from sts_trio.simulate.call_requests import Text, Url
from sts_trio.simulate.carrier import Carrier
from sts_trio.simulate.carrier_call import APPLICATION_ERROR, Call
from sts_trio.simulate.connect import NotAUrl, NotConnected
from sts_trio.simulate.media_stream import MediaStream, Sids
from sts_trio.simulate.party import Party
from sts_trio.simulate.phone import Phone
from sts_trio.simulate.phone_call import PhoneCall
from sts_trio.simulate.script import CallerScript, HangUp, Keys, Speak, Step, WaitForQuiet
from sts_trio.simulate.unknowns import Unknowns, readings
from sts_trio.testing import fast_clock as fast_clock
from sts_trio.wire import twilio
from sts_trio.wire.webhook import sign

TOKEN = "12345"
LOUD = b"\x00"
# Somebody who stays for a while.
STAYS: list[Step] = [WaitForQuiet(patience=20.0, silence=20.0)]


def loud(duration: float) -> bytes:
    return LOUD * length(duration)


async def place(at: Site, steps: list[Step] | None = None, **options: Any) -> PhoneCall:
    unknowns, parties = options.pop("unknowns", None), options.pop("parties", None)
    queues = options.pop("queues", None)
    carrier = Carrier(token=TOKEN, unknowns=unknowns, parties=parties, queues=queues)
    return await carrier.place(f"{at.base}/twiml", STAYS if steps is None else steps, **options)


def response(content: str) -> str:
    return f"<Response>{content}</Response>"


def closes(after: float, code: int = 1000) -> Callable[[Media], Awaitable[None]]:
    async def behave(media: Media) -> None:
        await media.begin()
        await media.hear_for(after)
        await media.socket.aclose(code)

    return behave


async def lose(media: Media) -> None:
    await media.begin()
    await media.hear_for(1.0)
    await trio.aclose_forcefully(media.tcp)


def paths(at: Site) -> list[str]:
    return [each.path for each in at.hits]


# --- what is asked --------------------------------------------------------------------------------


async def test_every_request_is_signed_for_its_url(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after"))
        at.reply("/after", response("<Hangup/>"))
        at.behaviours[0] = closes(1.0)
        await place(at)
    for hit in at.hits:
        signature = sign(TOKEN, f"{at.base}{hit.path}", hit.fields)
        assert hit.headers["x-twilio-signature"] == signature
    wss = "wss" + at.media.removeprefix("ws")
    assert at.streams[0].headers["x-twilio-signature"] == sign(TOKEN, wss)


async def test_what_is_told_of_the_call_changes_with_it(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after"))
        at.reply("/after", response("<Pause/>"))
        at.reply("/status", 204)
        at.behaviours[0] = closes(1.0)
        call = await place(at, status_callback=f"{at.base}/status")
    assert [(each.path, each.fields["CallStatus"]) for each in at.hits] == [
        ("/twiml", "ringing"),
        ("/after", "in-progress"),
        ("/status", "completed"),
    ]
    assert {each.fields["CallSid"] for each in at.hits} == {call.call_sid}
    assert at.hits[-1].fields["CallDuration"] == "2"


async def test_a_stream_gets_the_parameters_and_the_callers_voice(fast_clock: object) -> None:
    async with site() as at:
        stream = f'<Stream url="{at.media}"><Parameter name="a" value="b"/></Stream>'
        at.reply("/twiml", response(f"<Connect>{stream}</Connect>"))
        call = await place(at, [Speak(loud(0.5)), Keys("12"), HangUp()])
    (media,) = at.streams
    (start,) = media.of(twilio.Start)
    assert isinstance(start, twilio.Start)
    assert start.start.custom_parameters == {"a": "b"}
    assert start.start.call_sid == call.call_sid
    kinds = [type(each) for each in media.heard]
    assert kinds[:2] == [twilio.Connected, twilio.Start]
    assert kinds[-1] is twilio.Stop
    assert len(media.of(twilio.Dtmf)) == 2
    assert call.report.said.startswith(loud(0.5))
    assert (call.status, call.ended_by, call.fault) == (
        "completed",
        "caller",
        "nothing was heard: no audio came in 1.1 s",
    )


# --- verbs ----------------------------------------------------------------------------------------


async def test_what_is_said_played_and_paused_is_heard_in_order(fast_clock: object) -> None:
    async with site() as at:
        tone = http.Answer(200, {"content-type": "audio/wav"}, wav.ulaw_file(loud(0.5)))
        at.reply("/tone.wav", tone)
        content = '<Say>Hello.</Say><Pause length="2"/><Play loop="2">tone.wav</Play>'
        at.reply("/twiml", response(f'{content}<Play digits="1w2"/>'))
        call = await place(at)
    said, played = call.report.announced
    assert (said.words, played.words) == ("Hello.", "(plays a recording)")
    assert played.began - said.ended == pytest.approx(2.0, abs=0.05)
    assert played.ended - played.began == pytest.approx(1.0, abs=0.05)  # twice
    keys = [round(end - begin, 1) for begin, end in call.report.agent_spans]
    assert keys == pytest.approx([0.1, 0.1], abs=0.05)
    assert (call.status, call.ended_by, call.problems) == ("completed", "bridge", ())


async def test_a_call_that_is_rejected_was_never_answered(fast_clock: object) -> None:
    for reason, status in (("busy", "busy"), ("rejected", "no-answer")):
        async with site() as at:
            at.reply("/twiml", response(f'<Reject reason="{reason}"/>'))
            call = await place(at)
        assert (call.status, call.report.seconds) == (status, 0.0)
        with pytest.raises(NotConnected, match=f"the call ended as {status}"):
            call.check()


async def test_an_answered_call_can_only_be_hung_up_on(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", response("<Pause/><Reject/><Pause/>"))
        call = await place(at)
    assert call.status == "completed"
    assert call.report.seconds == pytest.approx(1.0, abs=0.05)


async def test_a_redirection_is_relative_to_the_document_and_final(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", response("<Redirect>deep/er</Redirect><Pause/>"))
        at.reply("/deep/er", response("<Redirect>../last</Redirect>"))
        at.reply("/last", response("<Hangup/>"))
        call = await place(at)
    assert paths(at) == ["/twiml", "/deep/er", "/last"]
    assert call.report.seconds == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(
    ("party", "status", "talked"),
    [
        (Party(answers_after=3.0, talks=4.0), "completed", 4.0),
        (Party(answers_after=31.0), "no-answer", 0.0),
        (Party(is_busy=True), "busy", 0.0),
        (None, "failed", 0.0),
    ],
)
async def test_a_call_is_put_through_and_its_action_told_how_that_went(
    party: Party | None,
    status: str,
    talked: float,
    fast_clock: object,
) -> None:
    async with site() as at:
        at.reply("/twiml", response('<Dial action="/dialled" callerId="+1">+1555</Dial>'))
        at.reply("/dialled", response("<Hangup/>"))
        parties = {"+1555": party} if party else {}
        call = await place(at, [WaitForQuiet(60.0, 60.0)], parties=parties)
    (other,) = call.connected
    assert (other.number, other.status, other.caller_id) == ("+1555", status, "+1")
    assert other.seconds == pytest.approx(talked)
    assert len(other.heard) == pytest.approx(length(talked), abs=320)
    told = at.hits[-1].fields
    assert told["DialCallStatus"] == status
    assert told["DialCallDuration"] == str(round(talked))


async def test_of_several_the_first_to_answer_is_talked_with(fast_clock: object) -> None:
    parties = {"+1": Party(answers_after=5.0), "+2": Party(answers_after=1.0, says=loud(0.5))}
    async with site() as at:
        numbers = "<Number>+1</Number><Number>+2</Number><Number>+3</Number>"
        at.reply("/twiml", response(f"<Dial>{numbers}</Dial><Say>Goodbye.</Say>"))
        call = await place(at, parties=parties)
    assert [each.number for each in call.connected] == ["+2"]
    assert call.report.agent_spans[0] == pytest.approx((1.0, 1.5), abs=0.05)
    [goodbye] = call.report.announced  # without an action the document goes on
    assert (goodbye.words, len(call.report.agent_spans)) == ("Goodbye.", 1)


async def test_who_hangs_up_while_it_rings_is_told_to_the_action(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", response('<Dial action="/dialled">+1555</Dial>'))
        at.reply("/dialled", response("<Say>Too late.</Say>"))
        steps: list[Step] = [Speak(loud(1.0)), HangUp()]
        call = await place(at, steps, parties={"+1555": Party(answers_after=5.0)})
    assert call.connected[0].status == "canceled"
    told = at.hits[-1].fields
    assert (told["CallStatus"], told["DialCallStatus"]) == ("completed", "canceled")


async def test_a_caller_waits_in_a_queue_and_is_talked_with(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", response('<Enqueue action="/queued">help</Enqueue>'))
        at.reply("/queued", response("<Hangup/>"))
        queues = {"help": Party(answers_after=40.0, talks=2.0)}
        call = await place(at, [WaitForQuiet(60.0, 60.0)], queues=queues)
    assert call.connected[0].status == "bridged"
    told = at.hits[-1].fields
    assert (told["QueueResult"], told["QueueTime"]) == ("bridged", "40")


async def test_nobody_in_a_queue_is_waited_for_until_the_caller_gives_up(
    fast_clock: object,
) -> None:
    async with site() as at:
        at.reply("/twiml", response("<Enqueue>help</Enqueue>"))
        call = await place(at, [Speak(loud(3.0)), HangUp()])
    assert (call.ended_by, call.connected[0].status) == ("caller", "hangup")


async def test_what_the_carrier_does_not_know_is_told_and_ends_the_call(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", response("<Gather/><Say>Hello.</Say>"))
        call = await place(at)
    assert call.fault == "the simulated carrier does not follow <Gather>"
    assert (call.report.agent_spans, call.report.announced) == ((), ())


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("unknowns", readings().values(), ids=list(readings()))
async def test_whatever_twilio_does_a_closed_stream_leads_to_the_action(
    unknowns: Unknowns,
    fast_clock: object,
) -> None:
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after", attributes=' statusCallback="/stream"'))
        at.reply("/after", at.connect(action="/end"))
        at.reply("/end", response("<Hangup/>"))
        at.reply("/stream", 204)
        at.behaviours.extend([closes(1.0, 1001), closes(1.0)])
        at.behaviours.popleft()
        call = await place(at, unknowns=unknowns)
    assert [each.ended_by for each in call.streams] == ["bridge", "bridge"]
    assert [each.close_code for each in call.streams] == [1001, 1000]
    assert [each for each in paths(at) if each != "/stream"] == ["/twiml", "/after", "/end"]
    first, second = at.streams
    assert first.sid != second.sid
    (again,) = second.of(twilio.Start)
    assert isinstance(again, twilio.Start)
    assert again.sequence_number == 1
    gap = call.streams[1].began - call.streams[0].ended
    assert gap == pytest.approx(unknowns.action_delay, abs=0.1)
    told = [each.fields["StreamEvent"] for each in at.hits_of("/stream")]
    assert told == ["stream-started", "stream-stopped"]
    fields = at.hits_of("/after")[0].fields
    assert unknowns.action_fields.items() <= fields.items()


@pytest.mark.parametrize("asks", [True, False])
async def test_a_stream_that_is_lost_leads_to_the_action_or_on(
    asks: bool,
    fast_clock: object,
) -> None:
    async with site() as at:
        attributes = ' statusCallback="/stream"'
        at.reply("/twiml", at.connect(action="/after", attributes=attributes, after="<Pause/>"))
        at.reply("/after", response("<Hangup/>"))
        at.reply("/stream", 204)
        at.behaviours[0] = lose
        call = await place(at, unknowns=Unknowns(action_on_reset=asks))
    assert call.streams[0].ended_by == "lost"
    assert bool(at.hits_of("/after")) == asks
    assert call.report.seconds == pytest.approx(1.0 if asks else 2.0, abs=0.1)
    assert [each.code for each in call.problems] == [31903]
    assert at.hits_of("/stream")[-1].fields["StreamEvent"] == "stream-error"


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ws://127.0.0.1:1/", 31902),
        ("https://a/b", 31922),
        ("wss://", 31923),
        ("{base}/twiml", 31920),
    ],
)
async def test_a_stream_that_never_begins_leads_to_the_action_or_on(
    url: str,
    code: int,
    asks: bool,
    fast_clock: object,
) -> None:
    async with site() as at:
        url = url.replace("{base}", "ws" + at.base.removeprefix("http"))
        stream = f'<Stream url="{url}" statusCallback="/stream"/>'
        at.reply("/twiml", response(f'<Connect action="/after">{stream}</Connect><Pause/>'), 404)
        at.reply("/after", response("<Hangup/>"))
        at.reply("/stream", 204)
        call = await place(at, unknowns=Unknowns(action_after_failed_handshake=asks))
    assert call.streams[0].ended_by == "refused"
    assert call.problems[0].code == code
    assert bool(at.hits_of("/after")) == asks
    assert at.hits_of("/stream")[0].fields["StreamEvent"] == "stream-error"
    with pytest.raises(NotConnected):
        call.check()


@pytest.mark.parametrize("asks", [True, False])
async def test_who_hangs_up_ends_the_stream_and_the_action_may_be_told(
    asks: bool,
    fast_clock: object,
) -> None:
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after"))
        at.reply("/after", response("<Say>Too late.</Say>"))
        unknowns = Unknowns(action_after_hang_up=asks)
        call = await place(at, [Speak(loud(1.0)), HangUp()], unknowns=unknowns)
    assert at.streams[0].of(twilio.Stop)
    assert call.streams[0].ended_by == "carrier"
    assert [each.fields["CallStatus"] for each in at.hits_of("/after")] == ["completed"] * asks
    assert (call.report.agent_spans, call.report.announced) == ((), ())


async def test_without_an_action_the_document_goes_on(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", at.connect(after="<Pause/>"))
        at.behaviours[0] = closes(1.0)
        call = await place(at)
    assert call.report.seconds == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("plays_out", [True, False])
async def test_what_is_buffered_when_the_stream_closes_is_heard_or_not(
    plays_out: bool,
    fast_clock: object,
) -> None:
    async def play(media: Media) -> None:
        await media.begin()
        await media.play(loud(3.0))
        await media.mark("end")
        await media.hear_for(1.0)
        await media.socket.aclose()

    async with site() as at:
        at.reply("/twiml", at.connect(after='<Pause length="5"/>'))
        at.behaviours[0] = play
        call = await place(at, unknowns=Unknowns(plays_out_after_close=plays_out))
    ((_, end),) = call.report.agent_spans
    assert end == pytest.approx(3.0 if plays_out else 1.0, abs=0.05)


@pytest.mark.parametrize("echoes", [True, False])
async def test_marks_that_were_not_reached_come_back_before_stop_or_not(
    echoes: bool,
    fast_clock: object,
) -> None:
    async def play(media: Media) -> None:
        await media.begin()
        await media.play(loud(30.0))
        await media.mark("end")
        await media.hear_to_the_end()

    async with site() as at:
        at.reply("/twiml", at.connect())
        at.behaviours[0] = play
        unknowns = Unknowns(echoes_marks_at_stop=echoes)
        await place(at, [Speak(loud(1.0)), HangUp()], unknowns=unknowns)
    kinds = [type(each) for each in at.streams[0].heard[-2:]]
    assert kinds == [twilio.Mark if echoes else twilio.Media, twilio.Stop]


async def test_a_bridge_that_shows_no_sign_of_life_is_given_up_if_twilio_looks(
    fast_clock: object,
) -> None:
    async def freeze(media: Media) -> None:
        await media.begin()
        # Nothing is read any more, so that no ping is answered.
        await trio.sleep(30)

    async with site() as at:
        at.reply("/twiml", at.connect(action="/after"))
        at.reply("/after", response("<Hangup/>"))
        at.behaviours[0] = freeze
        call = await place(at, unknowns=Unknowns(notices_silence_after=5.0))
    assert call.streams[0].ended_by == "lost"
    assert call.streams[0].ended < 15.0
    assert at.hits_of("/after")


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "code"),
    [(500, 11200), ("nonsense", 12100), (http.Answer(200, {"content-type": "a/b"}, b""), 12300)],
)
async def test_a_webhook_that_fails_leads_to_the_fallback(
    reply: Any,
    code: int,
    fast_clock: object,
) -> None:
    async with site() as at:
        at.reply("/twiml", reply)
        at.reply("/fallback", response("<Pause/>"))
        call = await place(at, fallback=f"{at.base}/fallback")
    told = at.hits[-1].fields
    assert (told["ErrorCode"], told["ErrorUrl"]) == (str(code), f"{at.base}/twiml")
    assert call.report.seconds == pytest.approx(1.0, abs=0.05)
    assert [each.code for each in call.problems] == [code]


async def test_an_action_that_fails_leads_to_the_fallback(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after"))
        at.reply("/after", 503)
        at.reply("/fallback", at.connect())
        at.behaviours.append(closes(1.0))
        at.behaviours[0] = closes(1.0)
        call = await place(at, fallback=f"{at.base}/fallback")
    assert len(call.streams) == 2


async def test_without_a_fallback_the_caller_hears_an_apology_and_the_call_is_over(
    fast_clock: object,
) -> None:
    async with site() as at:
        at.reply("/twiml", 500)
        call = await place(at)
    assert [each.words for each in call.report.announced] == [APPLICATION_ERROR]
    assert (call.report.agent_spans, call.report.agent_received) == ((), 0.0)
    assert (call.status, call.fault) == ("completed", "HTTP 500")


async def test_an_action_that_comes_back_late_is_found_by_its_retries(fast_clock: object) -> None:
    """As of one process that is restarted."""
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after#rc=5&rp=all"))
        at.reply("/after", 503, 503, 503, at.connect())
        at.behaviours[0] = closes(1.0)
        at.behaviours.append(listen)
        call = await place(at, [*STAYS], limit=30.0)
    assert len(at.hits_of("/after")) == 4
    assert [each.ended_by for each in call.streams] == ["bridge", "carrier"]
    assert call.streams[1].began - call.streams[0].ended == pytest.approx(1.5, abs=0.1)


async def test_a_fallback_that_fails_too_is_the_end(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", 500)
        at.reply("/fallback", "nonsense")
        at.reply("/status", 500)
        fallback, status = f"{at.base}/fallback", f"{at.base}/status"
        call = await place(at, fallback=fallback, status_callback=status)
    assert [each.code for each in call.problems] == [11200, 12100, 11200]
    assert call.ended_by == "bridge"


async def test_what_cannot_be_played_is_told_and_passed_over(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/noise.mp3", http.Answer(200, {"content-type": "audio/mpeg"}, b"ID3"))
        at.reply("/twiml", response("<Play>noise.mp3</Play><Play>gone.wav</Play><Pause/>"))
        call = await place(at)
    assert [each.code for each in call.problems] == [12300, 11200]
    assert call.report.seconds == pytest.approx(1.0, abs=0.05)


async def test_an_answer_that_is_audio_is_played_and_the_call_over(fast_clock: object) -> None:
    async with site() as at:
        tone = http.Answer(200, {"content-type": "audio/wav"}, wav.ulaw_file(loud(0.5)))
        at.reply("/twiml", tone)
        call = await place(at)
    [played] = call.report.announced
    assert played.ended - played.began == pytest.approx(0.5, abs=0.05)
    assert set(call.report.heard) != {0xFF}


async def test_a_url_that_nothing_can_be_asked_by_places_no_call(fast_clock: object) -> None:
    for url in ("ws://127.0.0.1/", "http://a:port", "nonsense"):
        with pytest.raises(NotAUrl):
            await Carrier().place(url, STAYS)


# --- other TwiML ----------------------------------------------------------------------------------


async def redirected(
    at: Site, source: Callable[[Site], Any], unknowns: Unknowns, after: float = 2.0
) -> PhoneCall:
    """A call that is given other TwiML in its first stream."""
    carrier = Carrier(token=TOKEN, unknowns=unknowns)

    async def redirect() -> None:
        await trio.sleep(after)
        (call,) = carrier.calls.values()
        assert isinstance(call, Call)
        call.redirect(source(at))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(redirect)
        return await carrier.place(f"{at.base}/twiml", STAYS, limit=30.0)
    raise AssertionError


@pytest.mark.parametrize("overlaps", [True, False])
async def test_the_newer_stream_wins(overlaps: bool, fast_clock: object) -> None:
    """And is told so by `stop`; the action of the older is not asked for."""
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after"))
        at.reply("/again", at.connect())
        unknowns = Unknowns(redirect_overlaps=overlaps)
        call = await redirected(at, lambda at: Url(f"{at.base}/again"), unknowns)
    assert paths(at) == ["/twiml", "/again"]
    first, second = at.streams
    assert first.of(twilio.Stop)
    assert len(first.of(twilio.Media)) == pytest.approx(100, abs=3)
    assert len(second.of(twilio.Media)) > 500
    assert [each.ended_by for each in call.streams] == ["carrier", "carrier"]


@pytest.mark.parametrize("overlaps", [True, False])
async def test_twiml_that_is_given_is_followed(overlaps: bool, fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after"))
        unknowns = Unknowns(redirect_overlaps=overlaps)
        call = await redirected(at, lambda at: Text(response("<Pause/>")), unknowns)
    assert paths(at) == ["/twiml"]
    assert call.report.seconds == pytest.approx(3.0, abs=0.05)
    assert call.ended_by == "bridge"


async def test_given_twiml_that_is_none_ends_the_call(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after"))
        call = await redirected(at, lambda at: Text("nonsense"), Unknowns())
    assert [each.code for each in call.problems] == [12100]
    assert [each.words for each in call.report.announced] == [APPLICATION_ERROR]  # told so


async def test_given_twiml_has_nothing_that_its_urls_could_be_relative_to(
    fast_clock: object,
) -> None:
    async with site() as at:
        at.reply("/twiml", at.connect(action="/after"))
        given = response("<Redirect>/next</Redirect>")
        call = await redirected(at, lambda at: Text(given), Unknowns())
    assert [each.code for each in call.problems] == [11100]


# --- what is kept ---------------------------------------------------------------------------------


async def test_a_call_is_saved_as_it_was_said_and_heard(tmp_path: Path, fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", response("<Say>Hello.</Say>"))
        call = await place(at, [Speak(loud(0.5))])
    call.save(tmp_path / "call.wav")
    assert wav.read(tmp_path / "call.wav")


def test_every_reading_differs_from_the_likeliest() -> None:
    """So that no switch is forgotten where all are tried."""
    names = set(msgspec.structs.asdict(Unknowns()))
    every = readings()
    assert set(every) == {"likeliest", "all others"} | names
    for name in names:
        assert getattr(every["all others"], name) != getattr(Unknowns(), name)
        assert getattr(every[name], name) == getattr(every["all others"], name)


async def test_two_calls_are_two(fast_clock: object) -> None:
    async with site() as at:
        at.reply("/twiml", response("<Pause/>"))
        carrier = Carrier()
        calls: list[PhoneCall] = []

        async def one() -> None:
            calls.append(await carrier.place(f"{at.base}/twiml", STAYS))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
    assert len({each.call_sid for each in calls}) == 2
    assert carrier.over == {each.call_sid: "completed" for each in calls}
    assert not carrier.calls
    with contextlib.suppress(NotConnected):
        calls[0].check()


async def test_a_phone_that_talks_meanwhile_is_heard_behind_start(fast_clock: object) -> None:
    """The second stream of a call begins in the midst of what the caller says."""

    class Socket:
        closed = None

        def __init__(self) -> None:
            self.sent: list[str] = []

        async def send_message(self, message: str) -> None:
            if not self.sent:
                await media.carry(b"\xff" * 160, "1", ["mark"])
            self.sent.append(twilio.decode(message).__class__.__name__)

    socket = Socket()
    phone = Phone(CallerScript([], 9.0), None)
    media = MediaStream(socket, trio.testing.memory_stream_pair()[0], phone, {}, Sids())  # type: ignore[arg-type]
    await media.begin()
    await media.carry(b"\xff" * 160, "", [])
    assert socket.sent == ["Connected", "Start", "Media"]
