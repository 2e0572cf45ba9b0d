"""Who is let in: what the routes' own tests leave out."""

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from sts_trio.config import Config, load
from sts_trio.web.access import RequestInfo, denial

TOKEN = "12345"


def make_config(tmp_path: Path, **environ: str) -> Config:
    return load({"STS_AGENT": "offline"} | environ, tmp_path)


def visit(client: str = "127.0.0.1", path: str = "/twilio", **headers: str) -> RequestInfo:
    return RequestInfo(
        client=client,
        scheme="http",
        path=path,
        query="",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


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
    stream = visit("192.0.2.7", host=host, x_twilio_signature=sign(signed))
    assert denial(stream, config, is_stream=True) is None


def test_a_handshake_signed_for_another_path_is_refused(tmp_path: Path) -> None:
    config = make_config(
        tmp_path, TWILIO_AUTH_TOKEN=TOKEN, STS_PUBLIC_URL="https://bridge.example.com"
    )
    signature = sign("wss://bridge.example.com/elsewhere")
    reason = denial(visit(x_twilio_signature=signature), config, is_stream=True)
    assert reason is not None
    assert reason.startswith("wrong signature for wss://bridge.example.com/twilio: check")
    assert "STS_PUBLIC_URL" in reason
    assert signature not in reason


def test_being_on_this_machine_is_no_signature(tmp_path: Path) -> None:
    config = make_config(tmp_path, TWILIO_AUTH_TOKEN=TOKEN)
    reason = denial(visit(host="localhost"), config, is_stream=True)
    assert reason == "not signed: no X-Twilio-Signature"


def test_a_signed_visit_without_a_host_is_refused_with_a_reason(tmp_path: Path) -> None:
    """HTTP/1.0 has no Host, and so nothing to check the signature for."""
    config = make_config(tmp_path, TWILIO_AUTH_TOKEN=TOKEN)
    for is_stream in (True, False):
        reason = denial(visit(x_twilio_signature="bm8="), config, is_stream=is_stream)
        assert reason is not None
        assert "STS_PUBLIC_URL" in reason


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "[::1]:5000", "[::ffff:127.0.0.1]"]
)
def test_this_machine_is_let_in_under_each_of_its_names(
    tmp_path: Path, host: str, is_stream: bool
) -> None:
    assert denial(visit(host=host), make_config(tmp_path), is_stream=is_stream) is None
    from_its_page = visit(host=host, origin=f"http://{host}")
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
    ],
)
def test_whoever_is_elsewhere_or_may_be_is_refused(
    tmp_path: Path, client: str, headers: dict[str, str]
) -> None:
    reason = denial(visit(client, **headers), make_config(tmp_path), is_stream=True)
    assert reason is not None
    assert "TWILIO_AUTH_TOKEN" in reason
    assert "\n" not in reason


def test_anyone_is_let_in_only_where_the_operator_says_so(tmp_path: Path) -> None:
    config = make_config(tmp_path, STS_ALLOW_UNSIGNED="1")
    assert denial(visit("192.0.2.7", host="["), config, is_stream=True) is None
