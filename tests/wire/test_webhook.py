import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from sts_trio.wire import webhook
from sts_trio.wire.webhook import Form

DATA = Path(__file__).parent.parent / "data" / "twilio"
VECTORS = json.loads((DATA / "signature-vectors.json").read_text())
INBOUND = json.loads((DATA / "voice-inbound.json").read_text())
HANDSHAKE = json.loads((DATA / "handshake-request.json").read_text())

TOKEN = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def sign(url: str, token: str = TOKEN, form: Form | None = None) -> str:
    return str(RequestValidator(token).compute_signature(url, form or {}))


def inbound_form() -> Form:
    fields = [(name, value) for name, value in INBOUND["form"]]
    return webhook.read_form(urlencode(fields).encode())


# --- The request --------------------------------------------------------------------------------


def test_a_form_is_decoded_once_and_keeps_its_blanks() -> None:
    form = webhook.read_form(b"CallToken=%257B%2522a%2522&ToZip=&Name=Jos%C3%A9+B&Digits=1&Digits=")
    assert form == {
        "CallToken": ["%7B%22a%22"],
        "ToZip": [""],
        "Name": ["José B"],
        "Digits": ["1", ""],
    }


def test_a_voice_request_tells_who_calls_whom() -> None:
    request = webhook.read_request(inbound_form())
    assert request == webhook.VoiceRequest(
        call_sid="CA00000000000000000000000000000002",
        account_sid="AC00000000000000000000000000000001",
        from_="+15005550010",
        to="+15005550006",
        call_status="ringing",
        direction="inbound",
        stir_verstat="TN-Validation-Passed-A",
    )
    assert not request.is_answered
    assert not request.is_over


def test_a_form_of_more_fields_than_anybody_sends_is_not_read() -> None:
    fields = [b"f%d=%d" % (n, n) for n in range(webhook.MAX_FIELDS)]
    assert len(webhook.read_form(b"&".join(fields))) == webhook.MAX_FIELDS
    assert webhook.read_form(b"&".join([*fields, b""])) == {}
    assert webhook.read_form(b"a&" * 32_000) == {}


def test_a_voice_request_needs_no_field_and_refuses_none() -> None:
    assert webhook.read_request(Form()) == webhook.VoiceRequest()
    form = webhook.read_form(b"To=client%3Aann&FutureField=x&To=second&CallStatus=in-progress")
    request = webhook.read_request(form)
    assert request.to == "client:ann"
    assert request.is_answered


@pytest.mark.parametrize("status", ["completed", "busy", "failed", "no-answer", "canceled"])
def test_a_call_that_ended_is_over(status: str) -> None:
    request = webhook.VoiceRequest(call_status=status)
    assert request.is_over
    assert not request.is_answered


@given(st.binary())
def test_any_body_is_some_request(body: bytes) -> None:
    request = webhook.read_request(webhook.read_form(body))
    assert isinstance(request.from_, str)


# --- The signature ------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_signature_is_judged_rightly(vector: dict[str, Any]) -> None:
    fields = vector["params"].items()
    verdict = webhook.is_signed(
        tokens=[vector["auth_token"]],
        signature=vector["signature"],
        urls=[vector["url"]],
        form=Form({name: [each] if isinstance(each, str) else each for name, each in fields}),
        body=vector.get("body", "").encode(),
        **({"algorithm": vector["algorithm"]} if vector.get("algorithm") else {}),
    )
    assert verdict is vector["valid"]


def test_there_are_seventy_vectors() -> None:
    assert (len(VECTORS), sum(vector["valid"] for vector in VECTORS)) == (70, 34)


@pytest.mark.parametrize("form", [None, {"CallSid": "CA1", "From": "+15005550010"}])
def test_what_we_sign_is_signed_as_twilio_would(form: dict[str, str] | None) -> None:
    url = "https://x.example/twiml"
    posted = webhook.read_form(urlencode(form or {}).encode())
    signature = webhook.sign(TOKEN, url, form)
    assert signature == sign(url, form=posted)
    assert webhook.is_signed(tokens=[TOKEN], signature=signature, urls=[url], form=posted)


def test_a_captured_webhook_is_signed() -> None:
    assert webhook.is_signed(
        tokens=[TOKEN],
        signature=dict(INBOUND["headers"])["x-twilio-signature"],
        urls=[INBOUND["url"]],
        form=inbound_form(),
    )


def test_any_of_several_tokens_and_urls_will_do() -> None:
    url = "https://bridge.example.com/twiml"
    for token in ("old", "new"):
        assert webhook.is_signed(
            tokens=["old", "new"], signature=sign(url, token), urls=["https://x/", url]
        )
    assert not webhook.is_signed(tokens=["old", "new"], signature=sign(url, "gone"), urls=[url])
    assert not webhook.is_signed(tokens=["old"], signature=sign(url, "old"), urls=[])
    assert not webhook.is_signed(tokens=[], signature=sign(url, "old"), urls=[url])


def test_an_empty_token_lets_nobody_in() -> None:
    url = "https://bridge.example.com/twiml"
    assert not webhook.is_signed(tokens=[""], signature=sign(url, ""), urls=[url])


def test_a_body_that_the_signature_does_not_cover_is_refused() -> None:
    url = "https://bridge.example.com/json"
    form = Form({"CallSid": ["CA1"]})
    assert webhook.is_signed(tokens=[TOKEN], signature=sign(url), urls=[url])
    assert not webhook.is_signed(tokens=[TOKEN], signature=sign(url), urls=[url], body=b"{}")
    assert not webhook.is_signed(
        tokens=[TOKEN], signature=sign(url, form=form), urls=[url], form=form, body=b"{}"
    )


def test_a_form_needs_no_hash_of_its_body() -> None:
    url = "https://bridge.example.com/twiml?bodySHA256=00"
    form = Form({"CallSid": ["CA1"]})
    signature = sign(url, form=form)
    assert webhook.is_signed(tokens=[TOKEN], signature=signature, urls=[url], form=form)


@pytest.mark.parametrize(
    ("signed", "seen"),
    [
        ("https://[2001:db8::1]:443/twiml", "https://[2001:db8::1]/twiml"),
        ("https://[2001:db8::1]/twiml", "https://[2001:db8::1]:8443/twiml"),
        ("https://h.example", "https://h.example:443"),
        ("http://h.example:80?a=1", "http://h.example?a=1"),
        ("ws://h.example:80/a", "ws://h.example/a"),
        ("ftp://h.example/a", "ftp://h.example/a"),
    ],
)
def test_a_port_may_come_or_go(signed: str, seen: str) -> None:
    assert webhook.is_signed(tokens=[TOKEN], signature=sign(signed), urls=[seen])


@given(signature=any_text, url=any_text | any_text.map("https://{}".format), body=st.binary())
def test_a_stranger_gets_an_answer_whatever_he_sends(signature: str, url: str, body: bytes) -> None:
    form = webhook.read_form(body)
    assert not webhook.is_signed(tokens=[TOKEN], signature=signature, urls=[url], form=form)
    assert not webhook.is_signed(tokens=[TOKEN], signature=signature, urls=[url], body=body)


# --- What the caller's side gave along ----------------------------------------------------------

SIP_CALL = (
    b"From=sip%3Aann%40example.com&To=sip%3Ab%40c&SipHeader_X-Account=42&SipHeader_User-to-User=aa"
    b"&SipCallId=1&SipDomain=c&Called=b&NewField=x"
)
SDK_CALL = (
    b"From=client%3Aann&To=&customer=42&Topic=&ApplicationSid=AP1&CallSid=CA1&CallStatus=ringing"
    b"&ApiVersion=2010-04-01&Caller=client%3Aann&CallerCity=&FromZip=&StirVerstat=x&Direction=inbound"
    b"&outbound=t0ken&key=s3cret&AccountSid=AC1&CallToken=%7B%7D&customer=second&agent=sales"
)


@pytest.mark.parametrize(
    ("body", "given"),
    [
        (SIP_CALL, {"SipHeader_X-Account": "42", "SipHeader_User-to-User": "aa"}),
        (SDK_CALL, {"customer": "42", "Topic": "", "agent": "sales"}),
        (b"From=%2B15005550010&NewField=x", {}),
        (b"", {}),
    ],
)
def test_what_a_sip_call_or_an_app_gives_along_is_told_from_what_twilio_says(
    body: bytes, given: dict[str, str]
) -> None:
    form = webhook.read_form(body)
    assert webhook.caller_parameters(form, {"outbound", "key"}) == given


def test_nothing_of_a_captured_webhook_is_taken_for_the_callers() -> None:
    form = inbound_form()
    form["From"] = ["client:ann"]
    form.pop("Name", None)
    assert webhook.caller_parameters(form) == {}


def test_a_caller_gives_no_more_than_so_much_along() -> None:
    form = webhook.read_form(b"From=client:a" + b"".join(b"&p%d=x" % n for n in range(100)))
    assert len(webhook.caller_parameters(form)) == webhook.MAX_CALLER_PARAMETERS


# --- Where we were seen -------------------------------------------------------------------------


def base_urls(public_url: str | None = None, **seen: str) -> list[str]:
    return webhook.base_urls(webhook.Seen(**seen), public_url)


def test_a_public_url_is_the_only_base() -> None:
    assert base_urls(
        "https://bridge.example.com/pre",
        scheme="http",
        host="127.0.0.1:5000",
        forwarded_host="evil.example",
        forwarded_prefix="/evil",
        forwarded="host=evil.example;proto=http",
    ) == ["https://bridge.example.com/pre"]


def test_a_proxy_is_believed_first_and_the_request_next() -> None:
    assert base_urls(
        scheme="http",
        host="127.0.0.1:5000",
        forwarded_proto="https, http",
        forwarded_host="tunnel.example, inner.example",
    ) == [
        "https://tunnel.example",
        "http://tunnel.example",
        "https://127.0.0.1:5000",
        "http://127.0.0.1:5000",
    ]


def test_a_tunnel_that_ends_tls_silently_is_thought_of() -> None:
    for scheme in ("http", "ws"):
        assert base_urls(scheme=scheme, host="tunnel.example") == [
            "http://tunnel.example",
            "https://tunnel.example",
        ]


def test_without_a_host_there_is_no_base() -> None:
    assert base_urls(scheme="http") == []


@pytest.mark.parametrize(
    ("forwarded", "first"),
    [
        ("for=192.0.2.1;host=tunnel.example;proto=https", "https://tunnel.example"),
        ('FOR="[2001:db8::1]:4711"; Host = "tunnel.example:8443" ;PROTO=http, host=inner', None),
        (r'for="a\"b;host=evil.example,c";host="tunnel.example"', "http://tunnel.example"),
        ("host=tunnel.example, host=inner.example;proto=http", "http://tunnel.example"),
        ("for=192.0.2.1, host=inner.example", "http://127.0.0.1:5000"),
        ("for=192.0.2.1;proto=https", "https://127.0.0.1:5000"),
        ("nonsense;host=tunnel.example", "http://127.0.0.1:5000"),
        ('host="unfinished', "http://127.0.0.1:5000"),
        (";;", "http://127.0.0.1:5000"),
    ],
)
def test_the_outermost_proxy_of_a_forwarded_header_is_believed(
    forwarded: str, first: str | None
) -> None:
    found = base_urls(scheme="http", host="127.0.0.1:5000", forwarded=forwarded)
    assert found[0] == (first or "http://tunnel.example:8443")
    assert not any("inner" in base or "evil" in base for base in found)


@pytest.mark.parametrize("public_url", ["https://bridge.example.com", "https://Bridge.Example.COM"])
@pytest.mark.parametrize(
    "typed", ["bridge.example.com", "Bridge.Example.COM", "BRIDGE.EXAMPLE.com"]
)
def test_a_host_may_be_typed_in_capitals(public_url: str, typed: str) -> None:
    """Into Twilio's console, and here. Some clients ask for it as it was typed."""
    is_asked = typed not in ("bridge.example.com", public_url.removeprefix("https://"))
    found = base_urls(public_url, scheme="http", host=typed if is_asked else "127.0.0.1:5000")
    assert f"https://{typed}" in found
    assert {base.lower() for base in found} == {"https://bridge.example.com"}
    assert f"https://{typed.lower()}" in base_urls(scheme="https", host=typed)


def test_a_prefix_that_we_are_mounted_at_or_that_a_proxy_takes_off_is_part_of_the_address() -> None:
    prefixed, bare = "https://a.example/voice", "https://a.example"
    for mounted in ({"root_path": "/voice"}, {"forwarded_prefix": "voice/, /inner"}):
        assert base_urls(scheme="https", host="a.example", **mounted) == [prefixed, bare]
    assert base_urls("https://a.example", root_path="/voice") == [prefixed, bare]
    assert base_urls("https://a.example/voice", root_path="/voice") == [prefixed]
    assert base_urls("https://a.example", forwarded_prefix="/voice") == [bare]


def test_a_webhook_is_at_its_path_with_its_query_untouched() -> None:
    assert webhook.webhook_urls(
        ["https://a.example", "http://b.example"], path="/twiml", query="b=%2b&a="
    ) == ["https://a.example/twiml?b=%2b&a=", "http://b.example/twiml?b=%2b&a="]


def test_a_prefix_may_have_been_stripped_by_the_proxy_or_not() -> None:
    base = ["https://a.example/pre"]
    assert webhook.webhook_urls(base, path="/twiml") == ["https://a.example/pre/twiml"]
    assert webhook.webhook_urls(base, path="/pre/twiml") == [
        "https://a.example/pre/twiml",
        "https://a.example/pre/pre/twiml",
    ]
    assert webhook.webhook_urls(base, path="/prefix") == ["https://a.example/pre/prefix"]


def test_a_stream_is_wss_or_https_with_a_slash_or_without() -> None:
    bases = base_urls(scheme="ws", host="a.example")
    assert webhook.stream_urls(bases, path="/twilio") == [
        "wss://a.example/twilio",
        "wss://a.example/twilio/",
        "https://a.example/twilio",
        "https://a.example/twilio/",
    ]
    assert webhook.stream_urls(["https://a.example"], path="/")[:2] == [
        "wss://a.example/",
        "wss://a.example",
    ]
    assert webhook.stream_urls(["https://a.example"], path="/t", query="x=1")[:2] == [
        "wss://a.example/t?x=1",
        "wss://a.example/t/?x=1",
    ]


@pytest.mark.parametrize(
    ("public_url", "signed"),
    [
        ("https://bridge.example.com", "wss://bridge.example.com/twilio"),
        ("https://bridge.example.com", "wss://bridge.example.com/twilio/"),
        ("https://bridge.example.com", "wss://bridge.example.com:443/twilio"),
        ("https://bridge.example.com:443", "wss://bridge.example.com/twilio"),
        ("https://bridge.example.com:8443", "wss://bridge.example.com:8443/twilio"),
        ("https://bridge.example.com", "https://bridge.example.com/twilio"),
        ("https://bridge.example.com/pre", "wss://bridge.example.com/pre/twilio"),
    ],
)
def test_a_handshake_is_let_in_by_what_its_stream_url_may_be(public_url: str, signed: str) -> None:
    bases = base_urls(public_url, scheme="ws", host="127.0.0.1:5000")
    urls = webhook.stream_urls(bases, path="/twilio")
    assert webhook.is_signed(tokens=[TOKEN], signature=sign(signed), urls=urls)
    for other in (f"{signed}x", signed.replace("bridge", "b")):
        assert not webhook.is_signed(tokens=[TOKEN], signature=sign(other), urls=urls)


def test_a_captured_handshake_is_let_in_with_nothing_configured() -> None:
    headers = dict(HANDSHAKE["headers"])
    bases = base_urls(scheme="ws", host=headers["Host"])
    assert webhook.is_signed(
        tokens=[TOKEN],
        signature=headers[webhook.SIGNATURE_HEADER],
        urls=webhook.stream_urls(bases, path=HANDSHAKE["target"]),
    )


def test_the_stream_url_is_a_websocket_url() -> None:
    assert webhook.media_url("https://a.example/pre", "/twilio") == "wss://a.example/pre/twilio"
    assert webhook.media_url("http://127.0.0.1:5000", "/twilio") == "ws://127.0.0.1:5000/twilio"


@given(host=any_text, proto=any_text, forwarded=any_text, path=any_text)
def test_strange_headers_make_strange_urls_and_no_trouble(
    host: str, proto: str, forwarded: str, path: str
) -> None:
    bases = base_urls(
        scheme="ws",
        host=host,
        root_path=path,
        forwarded_proto=proto,
        forwarded_host=forwarded,
        forwarded_prefix=proto,
        forwarded=f"host={forwarded};proto={proto}",
    )
    assert len(bases) <= webhook.MAX_BASES
    for urls in (
        webhook.webhook_urls(bases, path=path, query=host),
        webhook.stream_urls(bases, path=path, query=host),
    ):
        assert not webhook.is_signed(tokens=[TOKEN], signature="x", urls=urls)


# --- The answer ---------------------------------------------------------------------------------


def test_a_call_is_connected_to_a_stream() -> None:
    assert webhook.connect_stream(
        "wss://a.example/twilio",
        "https://a.example/twiml/after",
        notice="This call is recorded.",
        parameters={"token": "t", "to": "+15005550006"},
        status_url="https://a.example/twiml/stream",
    ) == (
        '<?xml version="1.0" encoding="UTF-8"?><Response>'
        "<Say>This call is recorded.</Say>"
        '<Connect action="https://a.example/twiml/after" method="POST">'
        '<Stream statusCallback="https://a.example/twiml/stream" url="wss://a.example/twilio">'
        '<Parameter name="token" value="t" />'
        '<Parameter name="to" value="+15005550006" />'
        '</Stream></Connect><Redirect method="POST">https://a.example/twiml/after</Redirect>'
        "</Response>"
    )


def test_nothing_is_said_and_passed_on_unless_asked_for() -> None:
    twiml = webhook.connect_stream("wss://a.example/twilio", "https://a.example/after")
    response = ElementTree.fromstring(twiml)
    assert [verb.tag for verb in response] == ["Connect", "Redirect"]
    assert len(response[0][0]) == 0


@given(st.dictionaries(any_text.filter(bool), any_text, max_size=3), any_text, any_text)
def test_any_text_ends_up_in_valid_xml(parameters: dict[str, str], notice: str, query: str) -> None:
    url = f"wss://a.example/?{query}"
    twiml = webhook.connect_stream(url, url, notice=notice, parameters=parameters)
    response = ElementTree.fromstring(twiml.encode())
    stream = response.find("./Connect/Stream")
    assert stream is not None
    assert [verb.tag for verb in response] == [*(["Say"] if notice else []), "Connect", "Redirect"]
    assert len(stream) == len(parameters)


# What XML can carry: https://www.w3.org/TR/xml/#charsets
carriable = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r<>&\"'")
)


@given(st.dictionaries(carriable.filter(bool), carriable, max_size=3))
def test_parameters_arrive_as_they_were_given(parameters: dict[str, str]) -> None:
    twiml = webhook.connect_stream("wss://a.example", "https://a.example", parameters=parameters)
    arrived = {
        each.get("name"): each.get("value")
        for each in ElementTree.fromstring(twiml.encode()).iter("Parameter")
    }
    assert arrived == parameters


@pytest.mark.parametrize("text", ["\x00", "\x1b[31m", "\ufffe", "\ud800"])
def test_what_xml_cannot_carry_leaves_a_mark(text: str) -> None:
    twiml = webhook.connect_stream("wss://a", "https://a", notice=text, parameters={text: text})
    response = ElementTree.fromstring(twiml.encode())
    assert response.findtext("Say") == f"\N{REPLACEMENT CHARACTER}{text[1:]}"


def test_a_parameter_has_a_length_that_twilio_takes() -> None:
    webhook.connect_stream("wss://a", "https://a", parameters={"n": "x" * 498})
    for parameters in ({"n": "x" * 499}, {"n" * 500: ""}, {"": "x"}):
        with pytest.raises(ValueError, match="fewer than 500 characters"):
            webhook.connect_stream("wss://a", "https://a", parameters=parameters)


def test_a_ringing_call_hears_the_busy_tone_and_costs_nothing() -> None:
    response = ElementTree.fromstring(webhook.busy())
    assert [(verb.tag, verb.attrib) for verb in response] == [("Reject", {"reason": "busy"})]


def test_an_answered_call_is_told_and_ended() -> None:
    response = ElementTree.fromstring(webhook.busy(answered=True))
    assert [verb.tag for verb in response] == ["Say", "Hangup"]


def test_an_apology_is_spoken_before_the_end() -> None:
    response = ElementTree.fromstring(webhook.apology())
    assert [verb.tag for verb in response] == ["Say", "Hangup"]
    assert (response.findtext("Say") or "").startswith("Sorry")


def test_hanging_up_is_one_verb() -> None:
    assert [verb.tag for verb in ElementTree.fromstring(webhook.hang_up())] == ["Hangup"]


@pytest.mark.parametrize(
    ("caller_id", "action", "attributes"),
    [
        (None, None, {}),
        ("+15005550006", None, {"callerId": "+15005550006"}),
        (None, "https://a/b?c&d", {"action": "https://a/b?c&d"}),
    ],
)
def test_a_transfer_dials_one_number(
    caller_id: str | None, action: str | None, attributes: dict[str, str]
) -> None:
    response = ElementTree.fromstring(webhook.dial("+15005550020", caller_id, action))
    [dial] = response
    assert (dial.tag, dial.attrib) == ("Dial", attributes)
    assert [(noun.tag, noun.text) for noun in dial] == [("Number", "+15005550020")]


def test_a_call_that_is_to_be_asked_for_once_more_is_told_where() -> None:
    url = "https://x.example/twiml?a=1&b=2"
    [redirect] = ElementTree.fromstring(webhook.redirect(url).encode())
    assert (redirect.tag, redirect.text, redirect.attrib) == ("Redirect", url, {"method": "POST"})


@pytest.mark.parametrize("twiml", [webhook.not_taken(), webhook.leave_message("Call back.")])
def test_a_last_word_is_said_before_the_end(twiml: str) -> None:
    assert [verb.tag for verb in ElementTree.fromstring(twiml)] == ["Say", "Hangup"]


@given(any_text)
def test_any_message_ends_up_in_valid_xml(text: str) -> None:
    ElementTree.fromstring(webhook.leave_message(text).encode())


@pytest.mark.parametrize(
    ("by", "is_on_machine", "takes_message"),
    [
        ("human", False, False),
        ("unknown", False, False),
        ("", False, False),
        ("fax", True, False),
        ("machine_start", True, False),
        ("machine_end_beep", True, True),
        ("machine_end_silence", True, True),
        ("machine_end_other", True, True),
    ],
)
def test_who_or_what_answered(by: str, is_on_machine: bool, takes_message: bool) -> None:
    request = webhook.read_request(webhook.read_form(urlencode({"AnsweredBy": by}).encode()))
    assert (request.is_on_machine, request.takes_message) == (is_on_machine, takes_message)


def test_the_first_value_of_a_field_may_be_none() -> None:
    form = webhook.read_form(b"a=1&a=2&b=")
    assert [form.first(name) for name in "abc"] == ["1", "", ""]
