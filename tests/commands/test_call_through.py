"""`sts-trio call --through`: a whole phone call at the command line."""

from pathlib import Path

import msgspec
import pytest
import trio
from click.testing import Result
from limits import HANG
from rig_commands import failure, run
from rig_site import Media, site

from sts_trio.commands import call


def test_through_a_webhook_each_step_of_the_call_is_told(tmp_path: Path) -> None:
    """All of its TwiML is followed: here a stream, and a transfer behind it."""

    async def main() -> dict[str, Result]:
        twiml = (
            '<Response><Connect action="/after"><Stream url="ws://127.0.0.1:1/"/></Connect>'
            "</Response>"
        )
        async with site() as here:
            here.reply("/nowhere", twiml)
            here.reply("/twiml", here.connect(action="/after"))
            here.reply("/after", "<Response><Dial>+1555</Dial></Response>")
            here.behaviours[0] = _greets
            places = {"told": "/twiml", "json": "/twiml", "nowhere": "/nowhere"}
            results = {}
            for name, path in places.items():
                arguments = ["call", "--through", here.base + path, "--answers", "+1555"]
                arguments += ["--seconds", "6", "--out", str(tmp_path / f"{name}.wav")]
                arguments += ["--json"] if name == "json" else []
                results[name] = await trio.to_thread.run_sync(run, *arguments)
            return results

    results = trio.run(main)
    told = results["told"]
    assert told.exit_code == 0, told.output
    assert "stream   ws://127.0.0.1:" in told.output
    assert "dialled  +1555: completed" in told.output
    assert "The call is completed" in told.output
    facts = msgspec.json.decode(results["json"].stdout)
    assert [each["number"] for each in facts["phone_call"]["connected"]] == ["+1555"]
    assert "heard" not in facts["phone_call"]["connected"][0]
    assert results["nowhere"].exit_code == 3
    assert "refused" in results["nowhere"].output


def test_what_the_carrier_says_of_a_webhook_that_fails_is_not_said_to_be_the_agents() -> None:
    async def main() -> Result:
        async with site() as here:
            here.reply("/twiml", 500)
            arguments = ("call", "--url", f"{here.base}/twiml")
            return await trio.to_thread.run_sync(run, *arguments)

    told = trio.run(main)
    assert told.exit_code == 3
    [line, _] = told.output.splitlines()[0].split("We are sorry, an application error")
    assert line.split()[2:] == ["Twilio"]
    assert "agent" not in told.output


@pytest.mark.parametrize(("patience", "times"), [(0.0, 1), (HANG, 0)])
def test_a_webhook_that_takes_its_time_is_told_of(
    monkeypatch: pytest.MonkeyPatch, patience: float, times: int
) -> None:
    monkeypatch.setattr(call, "UNANSWERED_FOR", patience)

    async def main() -> tuple[str, Result]:
        async with site() as here:
            here.reply("/twiml", "<Response><Hangup/></Response>")
            url = f"{here.base}/twiml"
            return url, await trio.to_thread.run_sync(run, "call", "--url", url, "--json")

    url, told = trio.run(main)
    expected = f"{url} has not answered yet; it has 15 s."
    assert told.stderr.splitlines().count(expected) == times
    msgspec.json.decode(told.stdout)


async def _greets(media: Media) -> None:
    await media.begin()
    await media.play(b"\x00" * 4000)
    await media.hear_for(0.5)
    await media.socket.aclose()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--through", "ws://127.0.0.1/twilio"), "expected a webhook"),
        (("--through", "http://a/twiml", "--url", "ws://b/"), "leave --url out"),
        (("--through", "http://a:99999/twiml"), "--through http://a:99999/twiml: not a URL"),
        (("--answers", "+1555"), "only dialled --through a webhook"),
        (("--through", "http://a/twiml", "--agent", "sales"), "a webhook decides who answers"),
    ],
)
def test_what_does_not_go_through_a_carrier_is_told(
    arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in failure("call", *arguments, code=2)
