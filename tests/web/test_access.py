"""Who is let in: what the routes' own tests leave out."""

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from sts_trio.config import Config, load
from sts_trio.web import access
from sts_trio.web.access import RequestInfo, admin_denial, cookie_of, is_guess

TOKEN = "12345"
KEY = "key-of-this-run"


def make_config(tmp_path: Path, **environ: str) -> Config:
    return load({"STS_AGENT": "offline"} | environ, tmp_path)


def a_request(
    client: str = "127.0.0.1",
    path: str = "/twilio",
    scheme: str = "http",
    query: str = "",
    http_version: str = "1.1",
    **headers: str,
) -> RequestInfo:
    return RequestInfo(
        client=client,
        scheme=scheme,
        path=path,
        query=query,
        http_version=http_version,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def denial(request: RequestInfo, config: Config, *, is_stream: bool) -> str | None:
    """As a server does, which has a key only if it has no token."""
    key = None if config.twilio_auth_tokens else KEY
    return access.denial(request, config, key, is_stream=is_stream)


def sign(url: str) -> str:
    digest = hmac.new(TOKEN.encode(), url.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    "signed",
    [
        "wss://bridge.example.com/twilio",
        "wss://bridge.example.com/twilio/",
        "wss://bridge.example.com:443/twilio",
        "https://bridge.example.com/twilio",
    ],
)
@pytest.mark.parametrize("public_url", ["https://bridge.example.com", None])
def test_a_signed_handshake_is_let_in(tmp_path: Path, signed: str, public_url: str | None) -> None:
    environ = {"TWILIO_AUTH_TOKEN": TOKEN} | ({"STS_PUBLIC_URL": public_url} if public_url else {})
    config = make_config(tmp_path, **environ)
    host = "10.0.0.7:5000" if public_url else "bridge.example.com"
    stream = a_request("192.0.2.7", host=host, x_twilio_signature=sign(signed))
    assert denial(stream, config, is_stream=True) is None


def test_a_handshake_signed_for_another_path_is_refused(tmp_path: Path) -> None:
    config = make_config(
        tmp_path, TWILIO_AUTH_TOKEN=TOKEN, STS_PUBLIC_URL="https://bridge.example.com"
    )
    signature = sign("wss://bridge.example.com/elsewhere")
    reason = denial(a_request(x_twilio_signature=signature), config, is_stream=True)
    assert reason is not None
    assert reason.startswith("wrong signature for wss://bridge.example.com/twilio: check")
    assert "STS_PUBLIC_URL" in reason
    assert signature not in reason


def test_being_on_this_machine_is_no_signature(tmp_path: Path) -> None:
    config = make_config(tmp_path, TWILIO_AUTH_TOKEN=TOKEN)
    reason = denial(a_request(host="localhost"), config, is_stream=True)
    assert reason == "not signed: no X-Twilio-Signature"


def test_a_signed_visit_without_a_host_is_refused_with_a_reason(tmp_path: Path) -> None:
    """HTTP/1.0 has no Host, and so nothing to check the signature for."""
    config = make_config(tmp_path, TWILIO_AUTH_TOKEN=TOKEN)
    for is_stream in (True, False):
        reason = denial(a_request(x_twilio_signature="bm8="), config, is_stream=is_stream)
        assert reason is not None
        assert "STS_PUBLIC_URL" in reason


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "[::1]:5000", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_let_in_under_each_of_its_names(
    tmp_path: Path, host: str, is_stream: bool
) -> None:
    mine = {"host": host, "authorization": f"Bearer {KEY}"}
    assert denial(a_request(**mine), make_config(tmp_path), is_stream=is_stream) is None
    for sent in ({"origin": f"http://{host}"}, {"referer": f"http://{host}/page?x"}):
        from_its_page = a_request(**mine, **sent)
        assert denial(from_its_page, make_config(tmp_path), is_stream=is_stream) is None


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        ("not an address", {"host": "localhost"}),
        ("::ffff:192.0.2.7", {"host": "localhost"}),
        ("fe80::1%eth0", {"host": "localhost"}),
        ("127.0.0.1", {}),
        ("127.0.0.1", {"host": ""}),
        ("127.0.0.1", {"host": "localhost.example"}),
        ("127.0.0.1", {"host": "127.0.0.1.example"}),
        ("127.0.0.1", {"host": "192.0.2.7"}),
        ("127.0.0.1", {"host": "0.0.0.0"}),
        ("127.0.0.1", {"host": "["}),
        ("127.0.0.1", {"host": "[localhost]"}),
        ("127.0.0.1", {"host": "localhost", "origin": "null"}),
        ("127.0.0.1", {"host": "localhost", "origin": ""}),
        ("127.0.0.1", {"host": "localhost", "origin": "http://["}),
        ("127.0.0.1", {"host": "localhost:5000", "origin": "http://localhost:5001"}),
        ("127.0.0.1", {"host": "localhost:5000", "origin": "http://localhost"}),
        ("127.0.0.1", {"host": "localhost", "forwarded": ""}),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-host": "localhost"}),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-proto": "https"}),
        ("127.0.0.1", {"host": "localhost", "x-real-ip": "127.0.0.1"}),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-for": ""}),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-port": "443"}),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-prefix": "/"}),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-anything": "x"}),
        ("127.0.0.1", {"host": "localhost", "x-real-port": "1"}),
        ("127.0.0.1", {"host": "localhost", "via": "1.1 proxy"}),
        ("127.0.0.1", {"host": "localhost", "true-client-ip": "192.0.2.7"}),
        ("127.0.0.1", {"host": "localhost", "cf-connecting-ip": "192.0.2.7"}),
        ("127.0.0.1", {"host": "localhost", "cf-ray": "1"}),
        ("127.0.0.1", {"host": "localhost", "x-client-ip": "192.0.2.7"}),
        ("127.0.0.1", {"host": "localhost", "x-envoy-external-address": "192.0.2.7"}),
        ("127.0.0.1", {"host": "localhost", "x-amzn-trace-id": "Root=1"}),
        ("127.0.0.1", {"host": "localhost", "x-original-host": "a.example"}),
        ("127.0.0.1", {"host": "localhost", "tailscale-user-login": "ann"}),
        ("127.0.0.1", {"host": "localhost", "referer": "https://evil.example/"}),
        ("127.0.0.1", {"host": "localhost", "referer": ""}),
        ("127.0.0.1", {"host": "localhost:5000", "referer": "http://localhost:5001/"}),
        ("127.0.0.1", {"host": "localhost", "sec-fetch-site": "cross-site"}),
        ("127.0.0.1", {"host": "localhost", "sec-fetch-site": "same-site"}),
        ("127.0.0.1", {"host": "localhost", "sec-fetch-site": ""}),
        ("127.0.0.1", {"host": "localhost", "sec-fetch-site": "same-origin, cross-site"}),
    ],
)
def test_whoever_is_elsewhere_or_may_be_is_refused(
    tmp_path: Path, client: str, headers: dict[str, str]
) -> None:
    """Though they have the key."""
    headers = {"authorization": f"Bearer {KEY}"} | headers
    reason = denial(a_request(client, **headers), make_config(tmp_path), is_stream=True)
    assert reason is not None
    assert "TWILIO_AUTH_TOKEN" in reason
    assert "\n" not in reason
    assert KEY not in reason


def test_what_speaks_http_1_0_is_a_proxy(tmp_path: Path) -> None:
    """nginx does, unless it is told otherwise."""
    old = a_request(host="localhost", authorization=f"Bearer {KEY}", http_version="1.0")
    reason = denial(old, make_config(tmp_path), is_stream=False)
    assert reason is not None
    assert reason.startswith("forwarded by a proxy or tunnel: ")


def test_anyone_is_let_in_only_where_the_operator_says_so(tmp_path: Path) -> None:
    config = make_config(tmp_path, STS_ALLOW_UNSIGNED="1")
    for is_stream in (True, False):
        assert denial(a_request("192.0.2.7", host="["), config, is_stream=is_stream) is None
    from_a_page = a_request("192.0.2.7", host="a", origin="https://b", sec_fetch_site="cross-site")
    assert denial(from_a_page, config, is_stream=True) is None


# --- the key --------------------------------------------------------------------------------------


def with_key(key: str = KEY) -> dict[str, RequestInfo]:
    """{how it is given: the request}"""
    return {
        "bearer": a_request(host="localhost:5000", authorization=f"bearer  {key}"),
        "query": a_request(host="localhost:5000", query=f"CallSid=CA1&key={key}"),
        "cookie": a_request(host="localhost:5000", cookie=f"a=b; sts_trio_key_5000={key} ;c"),
        "a cookie among others of its name": a_request(
            host="localhost:5000", cookie=f"sts_trio_key_5000=x; sts_trio_key_5000={key}"
        ),
        "all of them, the last is right": a_request(
            host="localhost:5000",
            authorization="Bearer x",
            query="key=y&key=",
            cookie=f"sts_trio_key_5000={key}",
        ),
    }


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("how", with_key())
def test_the_key_is_taken_wherever_it_is_given(tmp_path: Path, how: str, is_stream: bool) -> None:
    given, config = with_key()[how], make_config(tmp_path)
    assert denial(given, config, is_stream=is_stream) is None
    assert admin_denial(given, config, KEY) is None
    assert not is_guess(given, config, KEY)


@pytest.mark.parametrize(
    "wrong", ["", "x", KEY[:-1], f"{KEY}x", KEY.upper(), "\u00e4", "%ED%A0%80"]
)
@pytest.mark.parametrize("how", with_key())
def test_a_wrong_key_is_a_guess_and_lets_nobody_in(tmp_path: Path, how: str, wrong: str) -> None:
    given, config = with_key(wrong)[how], make_config(tmp_path)
    for is_stream in (True, False):
        reason = denial(given, config, is_stream=is_stream)
        assert reason is not None
        assert reason.startswith("wrong key, it is another at each start: open the address")
    refused = admin_denial(given, config, KEY)
    assert refused is not None
    assert (refused.status, "wrong key" in refused.reason) == (403, True)
    assert is_guess(given, config, KEY)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"cookie": f"sts_trio_key_5001={KEY}"},  # of a server at another port
        {"cookie": f"sts_trio_key={KEY}"},
        {"cookie": f"Xsts_trio_key_5000={KEY}"},
        {"cookie": KEY},
        {"key": KEY},
    ],
)
def test_being_on_this_machine_is_no_key(tmp_path: Path, headers: dict[str, str]) -> None:
    config = make_config(tmp_path)
    here = a_request(host="localhost:5000", **headers)
    for is_stream in (True, False):
        reason = denial(here, config, is_stream=is_stream)
        assert reason is not None
        assert reason.startswith("no key: open the address that was told at the start, or set TWIL")
    assert not is_guess(here, config, KEY)


def test_there_is_no_key_that_everybody_has(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    for key in (None, ""):
        for given in (a_request(host="localhost"), *with_key("").values()):
            assert access.denial(given, config, key, is_stream=True) is not None
            assert admin_denial(given, config, key) is not None


def test_no_secret_is_compared_but_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each that is given is, whether one before it was right or not."""
    compared = []

    def compare(given: bytes, right: bytes) -> bool:
        compared.append(given)
        return given == right

    monkeypatch.setattr(hmac, "compare_digest", compare)
    config = make_config(tmp_path, STS_ADMIN_TOKEN=TOKEN)
    given = a_request(
        host="a", authorization=f"Bearer {KEY}", query="key=x", cookie="sts_trio_key_80=y"
    )
    assert access.has_key(given, KEY)
    assert compared == [KEY.encode(), b"x", b"y"]
    compared.clear()
    assert admin_denial(a_request(host="a", authorization="Bearer z"), config, KEY) is not None
    assert b"z" in compared


def test_with_a_token_the_key_is_nothing(tmp_path: Path) -> None:
    """Nor is it a guess: it may be left of a time without a token."""
    config = make_config(tmp_path, TWILIO_AUTH_TOKEN=TOKEN)
    for how, given in with_key().items():
        assert access.denial(given, config, KEY, is_stream=True) is not None
        assert admin_denial(given, config, KEY) is not None
        assert is_guess(given, config, None) is ("authorization" in given.headers), how


def test_the_cookie_is_named_after_the_port_of_the_address_bar(tmp_path: Path) -> None:
    for host, name in [
        ("localhost:5000", "sts_trio_key_5000"),
        ("[::1]:8080", "sts_trio_key_8080"),
        ("localhost", "sts_trio_key_80"),
        ("localhost:x", "sts_trio_key_0"),
        ("", "sts_trio_key_0"),
    ]:
        assert cookie_of(a_request(host=host)) == name
    websocket = a_request(host="localhost", scheme="ws", cookie=f"sts_trio_key_80={KEY}")
    assert denial(websocket, make_config(tmp_path), is_stream=True) is None


# --- pages of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", "none"])
@pytest.mark.parametrize("environ", [{}, {"STS_ALLOW_UNSIGNED": "1"}])
def test_no_browser_is_twilio(tmp_path: Path, site: str, environ: dict[str, str]) -> None:
    """Not even one that opens a link of a mail, with the cookie."""
    config = make_config(tmp_path, **environ)
    sent = a_request(
        host="localhost:5000",
        cookie=f"sts_trio_key_5000={KEY}",
        sec_fetch_site=site,
        sec_fetch_mode="navigate",
    )
    reason = denial(sent, config, is_stream=False)
    assert reason is not None
    assert reason.startswith("a webhook sent by a browser, and no browser is Twilio")


NAVIGATION = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}


@pytest.mark.parametrize(
    ("headers", "is_shown"),
    [
        (NAVIGATION | {"sec_fetch_dest": "document"}, True),
        (NAVIGATION | {"sec_fetch_dest": "document", "referer": "https://elsewhere/"}, True),
        (NAVIGATION | {"sec_fetch_dest": "iframe"}, False),
        (NAVIGATION, False),
        ({"sec_fetch_site": "cross-site", "sec_fetch_dest": "document"}, False),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, False),
        ({"referer": "https://elsewhere/"}, True),
        ({"origin": "https://elsewhere"}, False),
        (NAVIGATION | {"sec_fetch_dest": "document", "origin": "null"}, True),
    ],
)
@pytest.mark.parametrize("environ", [{}, {"TWILIO_AUTH_TOKEN": TOKEN, "STS_ADMIN_TOKEN": KEY}])
def test_a_link_may_lead_to_the_page_and_to_nothing_else(
    tmp_path: Path, headers: dict[str, str], is_shown: bool, environ: dict[str, str]
) -> None:
    config = make_config(tmp_path, **environ)
    sent = a_request(host="localhost", authorization=f"Bearer {KEY}", **headers)
    assert (admin_denial(sent, config, KEY, is_page=True) is None) is is_shown
    assert admin_denial(sent, config, KEY) is not None


def test_who_asks_from_elsewhere_with_the_right_secret_has_not_guessed(tmp_path: Path) -> None:
    config = make_config(tmp_path, TWILIO_AUTH_TOKEN=TOKEN, STS_ADMIN_TOKEN=KEY)
    sent = a_request(host="a", authorization=f"Bearer {KEY}", origin="https://evil.example")
    assert admin_denial(sent, config, None) is not None
    assert not is_guess(sent, config, None)
    assert is_guess(a_request(host="a", authorization="Basic eDp5"), config, None)
    assert is_guess(a_request(host="a", authorization="junk"), config, None)
    assert not is_guess(a_request(host="a"), config, None)
