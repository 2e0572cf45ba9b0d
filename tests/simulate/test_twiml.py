"""TwiML as the simulated carrier reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.simulate import twiml
from sts_trio.simulate.twiml import (
    Connect,
    Dial,
    Enqueue,
    Hangup,
    NotFollowed,
    NotTwiml,
    Pause,
    Play,
    Redirect,
    Reject,
    Say,
    Stream,
)
from sts_trio.wire import webhook

WSS = "wss://bridge.test/twilio/t0ken"
AFTER = "https://bridge.test/twiml/after"


def read(content: str) -> tuple[twiml.Step, ...]:
    return twiml.read(f"<Response>{content}</Response>".encode())


@pytest.mark.parametrize(
    ("content", "step"),
    [
        ("<Say>Hello &amp; <b>goodbye</b>.</Say>", Say("Hello & goodbye.")),
        ('<Say loop="2" voice="alice">Hi.</Say>', Say("Hi.", 2)),
        ("<Play> /a.wav\n</Play>", Play("/a.wav")),
        ('<Play digits="1w#"/>', Play("", "1w#")),
        ("<Pause/>", Pause(1.0)),
        ('<Pause length="10"/>', Pause(10.0)),
        ("<Redirect>/next</Redirect>", Redirect("/next", "POST")),
        ('<Redirect method="GET">/next</Redirect>', Redirect("/next", "GET")),
        ("<Reject/>", Reject("rejected")),
        ('<Reject reason="busy"/>', Reject("busy")),
        ("<Hangup/>", Hangup()),
        ("<Dial>+1555</Dial>", Dial(numbers=("+1555",))),
        (
            '<Dial action="/d" method="GET" timeout="9" timeLimit="60" callerId="+1">'
            "<Number>+1555</Number><Client>bob</Client><Sip>sip:a@b</Sip></Dial>",
            Dial(
                numbers=("+1555", "client:bob", "sip:a@b"),
                action="/d",
                method="GET",
                timeout=9.0,
                time_limit=60.0,
                caller_id="+1",
            ),
        ),
        ('<Enqueue action="/q">support</Enqueue>', Enqueue(queue="support", action="/q")),
        (
            '<Connect action="/after"><Stream url="wss://a/b" name="n" statusCallback="/s"'
            ' statusCallbackMethod="GET"><Parameter name="x" value="&lt;"/></Stream></Connect>',
            Connect(
                stream=Stream(
                    url="wss://a/b",
                    parameters={"x": "<"},
                    name="n",
                    status_callback="/s",
                    status_callback_method="GET",
                ),
                action="/after",
            ),
        ),
        ("<Gather/>", NotFollowed("Gather")),
        ("<Connect><ConversationRelay/></Connect>", NotFollowed("Connect><ConversationRelay")),
        ("<Dial><Conference>c</Conference></Dial>", NotFollowed("Dial><Conference")),
        (f"<{'x' * 1000}/>", NotFollowed("something else")),
    ],
)
def test_a_verb_is_read_with_what_it_says(content: str, step: twiml.Step) -> None:
    assert read(content) == (step,)


def test_the_steps_are_in_order() -> None:
    assert read("<Say>a</Say><Pause/><Hangup/>") == (Say("a"), Pause(), Hangup())
    assert read("") == ()


@pytest.mark.parametrize(
    ("document", "steps"),
    [
        (
            webhook.connect_stream(WSS, AFTER, notice="Hi.", parameters={"to": "+1", "n": "<&>"}),
            (
                Say("Hi."),
                Connect(stream=Stream(url=WSS, parameters={"to": "+1", "n": "<&>"}), action=AFTER),
                Redirect(AFTER),
            ),
        ),
        (webhook.busy(), (Reject("busy"),)),
        (webhook.hang_up(), (Hangup(),)),
        (
            webhook.dial("+1555", "+1556", AFTER),
            (Dial(numbers=("+1555",), caller_id="+1556", action=AFTER),),
        ),
    ],
)
def test_what_we_write_is_read_as_it_is_meant(document: str, steps: tuple[twiml.Step, ...]) -> None:
    assert twiml.read(document.encode()) == steps


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('<Pause length="soon"/>', "<Pause length='soon'>: expected a number"),
        ('<Pause length="-1"/>', "expected a number"),
        ('<Redirect method="PUT">/</Redirect>', "expected one of POST, GET"),
        ('<Reject reason="tired"/>', "expected one of rejected, busy"),
        ("<Play/>", "<Play>: expected a URL, or digits"),
        ('<Play digits="1x"/>', "expected keys"),
        ("<Connect/>", "expected a <Stream>"),
        ('<Connect><Stream url="wss://a" track="both_tracks"/></Connect>', "inbound_track"),
        ('<Connect><Stream><Parameter value="a"/></Stream></Connect>', "expected a name"),
        (
            f'<Connect><Stream><Parameter name="a" value="{"x" * 499}"/></Stream></Connect>',
            "fewer than 500",
        ),
    ],
)
def test_what_is_not_as_documented_is_the_documents_fault(content: str, reason: str) -> None:
    with pytest.raises(NotTwiml, match=reason) as caught:
        read(content)
    assert caught.value.code == 12200


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", 12100),
        (b"<Response", 12100),
        (b"SSH-2.0", 12100),
        (b"<Response>&nbsp;</Response>", 12100),
        (b'<?xml version="1.0" encoding="x-none"?><Response/>', 12100),
        (b"<!DOCTYPE Response><Response/>", 12100),
        ('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a><Response/>'.encode("utf-16"), 12100),
        (b"<html><body/></html>", 12102),
        (b"<response/>", 12102),
        (b"<Response>" + b" " * twiml.MAX_TWIML + b"</Response>", 11750),
    ],
)
def test_what_is_no_twiml_has_twilios_code(document: bytes, code: int) -> None:
    with pytest.raises(NotTwiml) as caught:
        twiml.read(document)
    assert caught.value.code == code


def test_a_document_that_grows_without_end_is_refused() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 100}">' for n in range(1, 20))
    bomb = f'<!DOCTYPE r [<!ENTITY e0 "xxxxxxxxxx">{entities}]><Response>&e19;</Response>'
    assert len(bomb) < twiml.MAX_TWIML
    with pytest.raises(NotTwiml, match="DOCTYPE"):
        twiml.read(bomb.encode())


def test_the_kind_of_content_decides() -> None:
    assert twiml.read(b"<Response/>", "application/xml; charset=utf-8") == ()
    assert twiml.read(b"<Response><Hangup/></Response>", "text/plain") == (Hangup(),)
    assert twiml.read(b" Hello. ", "text/plain") == (Say("Hello."),)
    with pytest.raises(NotTwiml) as caught:
        twiml.read(b"{}", "application/json")
    assert caught.value.code == 12300


@given(st.binary() | st.text().map(str.encode))
def test_any_document_is_read_or_refused(document: bytes) -> None:
    with pytest.raises(NotTwiml):
        twiml.read(document)
