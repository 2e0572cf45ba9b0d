"""What is to be kept of calls, as the operator writes it."""

from pathlib import Path

import pytest

from sts_trio.config import load
from sts_trio.config.records import KeptFlights, Prices, Records, Webhook
from sts_trio.errors import ConfigError

KEY = "0123456789abcdef0123456789abcdef"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "b" * 32
NOWHERE = Path("/nonexistent")


def settings(environ: dict[str, str] | None = None, directory: Path = NOWHERE) -> Records:
    return load({"STS_AGENT": "offline", **(environ or {})}, directory).records


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"STS_DATABASE_URL": "sqlite:///kept/calls.db"}, "kept/calls.recordings"),
        ({"STS_DATABASE_URL": "none"}, "sts-trio.recordings"),
        ({"STS_DATABASE_URL": "none", "STS_RECORDINGS": "/var/heard"}, "/var/heard"),
    ],
)
def test_recordings_are_beside_the_database(variables: dict[str, str], place: str) -> None:
    kept = settings({"STS_RECORD": "1", **variables})
    assert kept.are_recorded
    assert kept.recordings == Path(place)


def test_nothing_set_is_a_file_beside_the_configuration(
    tmp_path: Path, calls_kept_by_default: None
) -> None:
    assert settings() == Records(
        database_url="sqlite:///sts-trio.db",
        spool=Path("sts-trio.spool"),
        process_name=None,
        keep_days=30.0,
        keep_words=True,
        redact_key=None,
        prices=Prices(),
        are_recorded=False,
        recordings=Path("sts-trio.recordings"),
        kept_flights=KeptFlights.FAULTS,
        flights=Path("sts-trio.flights"),
        webhook=None,
    )
    (tmp_path / "sts-trio.toml").write_text("")
    kept = settings(directory=tmp_path)
    assert kept.database_url == f"sqlite:///{tmp_path}/sts-trio.db"
    assert kept.spool == tmp_path / "sts-trio.spool"


def test_all_of_it_can_be_set_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "sts-trio.toml").write_text(
        f"""
        database_url = "sqlite:///kept/calls.db"
        spool = "waiting"
        process_name = "phone-1"
        keep_days = 0
        keep_words = false
        redact = true
        redact_key = "{KEY}"
        recordings = "heard"
        flight = 0
        flights = "flown"
        webhook_url = "https://crm.example/calls"
        webhook_secret = ["{SECRET}", "{OTHER}"]
        webhook_private = true
        [prices]
        currency = "EUR"
        agent_per_minute = 0.08
        phone_per_minute = 0.01
        """
    )
    assert settings(directory=tmp_path) == Records(
        database_url=f"sqlite:///{tmp_path}/kept/calls.db",
        spool=tmp_path / "waiting",
        process_name="phone-1",
        keep_days=0.0,
        keep_words=False,
        redact_key=KEY,
        prices=Prices("EUR", 0.08, 0.01),
        are_recorded=False,
        recordings=tmp_path / "heard",
        kept_flights=KeptFlights.NONE,
        flights=tmp_path / "flown",
        webhook=Webhook(
            url="https://crm.example/calls", secrets=(SECRET, OTHER), allows_private=True
        ),
    )


def test_a_server_is_named_as_it_is_and_its_spool_is_beside_the_file(tmp_path: Path) -> None:
    url = "postgresql+psycopg://u:p@db.example/calls"
    assert settings({"STS_DATABASE_URL": url}).database_url == url
    assert settings({"STS_DATABASE_URL": url}).spool == Path("sts-trio.spool")


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"STS_DATABASE_URL": "calls.db"}, "STS_DATABASE_URL: expected sqlite:///PATH, "),
        (
            {"STS_DATABASE_URL": "mysql://u:hidden@h/d"},
            "STS_DATABASE_URL: expected sqlite:///PATH, ",
        ),
        ({"STS_PROCESS_NAME": "a b"}, "STS_PROCESS_NAME: expected up to 63 letters, "),
        ({"STS_PROCESS_NAME": "../a"}, "STS_PROCESS_NAME: expected up to 63 letters, "),
        ({"STS_KEEP_DAYS": "-1"}, "STS_KEEP_DAYS: expected days from 0 to 3653"),
        ({"STS_KEEP_DAYS": "nan"}, "STS_KEEP_DAYS: expected days from 0 to 3653"),
        ({"STS_KEEP_WORDS": "some"}, "STS_KEEP_WORDS: expected 1 or 0"),
        ({"STS_REDACT": "1"}, "STS_REDACT: takes a key that stays the same"),
        ({"STS_REDACT_KEY": "hidden"}, "STS_REDACT_KEY: expected 32 or more visible"),
        (
            {"STS_RECORD": "1", "STS_KEEP_WORDS": "0"},
            "STS_RECORD: a recording has the words that STS_KEEP_WORDS=0 deletes",
        ),
        (
            {"STS_WEBHOOK_URL": "https://hidden.example/"},
            "STS_WEBHOOK_URL: takes a key to sign with: set STS_WEBHOOK_SECRET",
        ),
        (
            {
                "STS_WEBHOOK_URL": "https://hidden.example/",
                "STS_WEBHOOK_SECRET": SECRET,
                "STS_DATABASE_URL": "none",
            },
            "STS_WEBHOOK_URL: takes a database",
        ),
        (
            {"STS_WEBHOOK_URL": "https://a.example/", "STS_WEBHOOK_SECRET": "whsec_hidden"},
            "STS_WEBHOOK_SECRET: expected whsec_ and the Base64 of 24 to 64 bytes",
        ),
        (
            {"STS_WEBHOOK_URL": "https://a.example/", "STS_WEBHOOK_SECRET": SECRET[6:]},
            "STS_WEBHOOK_SECRET: expected whsec_ and the Base64 of 24 to 64 bytes",
        ),
    ],
)
def test_a_mistake_is_one_line(variables: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(variables)
    assert str(caught.value).startswith(complaint)
    assert str(caught.value).isprintable()
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "prices", ["agent_per_minute = -1", 'agent_per_minute = "much"', "coffee = 1", "currency = 1"]
)
def test_prices_that_are_none_are_a_mistake_of_one_line(tmp_path: Path, prices: str) -> None:
    (tmp_path / "sts-trio.toml").write_text(f"[prices]\n{prices}\n")
    with pytest.raises(ConfigError, match=r"sts-trio.toml: prices[.:]") as caught:
        settings(directory=tmp_path)
    assert str(caught.value).isprintable()


def test_passwords_and_keys_are_not_shown() -> None:
    config = load(
        {
            "STS_AGENT": "offline",
            "STS_DATABASE_URL": "postgresql://u:hidden-one@h/d",
            "STS_REDACT": "1",
            "STS_REDACT_KEY": "hidden-two" * 4,
            "STS_WEBHOOK_URL": "https://example.com/?key=hidden-three",
            "STS_WEBHOOK_SECRET": SECRET,
        },
        NOWHERE,
    )
    for text in (repr(config), str(config.records), repr(config.__rich_repr__())):
        assert "hidden-" not in text
        assert SECRET not in text


@pytest.mark.parametrize("none", ["none", " None "])
def test_with_none_there_is_no_database(none: str) -> None:
    assert settings({"STS_DATABASE_URL": none}).database_url is None
