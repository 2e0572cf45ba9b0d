"""`sts-trio tasks`: what the tasks of a running server wait for, as a tree."""

import http.client
import json
from typing import Any
from urllib.parse import quote

import click

from sts_trio.commands.common import Command, fail, own_server, say
from sts_trio.commands.operator import Operator, Unreachable, reason_of

# It looks for half a second, and describes some ten thousand tasks a second.
ANSWER_TIMEOUT = 10.0


@click.command(cls=Command, short_help="Print what the tasks of a running server wait for.")
@click.argument("call_sid", required=False)
@click.option(
    "--url",
    default=own_server("http://{}"),
    help="The server. [default: http://127.0.0.1:PORT, with 5000 where PORT is not set]",
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON each.")
def tasks(call_sid: str | None, url: str, as_json: bool) -> None:
    """Print the tasks of a running server, or of one live call, as a tree.

    Of each what it waits for, in which code, since when, and when its scope is cancelled. A time
    with `over` is that since the server was first asked, in the last ten seconds.
    """
    path = "/tasks" if call_sid is None else f"/calls/{quote(call_sid, safe='')}/tasks"
    server = Operator(url)
    try:
        with server.ask("GET", path, None, {}, ANSWER_TIMEOUT) as asked:
            if asked.status != 200:
                fail(f"{url}: HTTP {asked.status}: {asked.text().strip()}")
            for line in asked.lines(ANSWER_TIMEOUT, ANSWER_TIMEOUT):
                if as_json:
                    say(line.decode(errors="replace").rstrip("\n"))
                else:
                    _print(json.loads(line))
    except Unreachable as exc:
        fail(f"{url}: nobody is there ({exc})")
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as exc:
        fail(f"{url}: no answer of an sts_trio server ({reason_of(exc)})")


def _print(task: dict[str, Any]) -> None:
    indent = "  " * int(task["depth"])
    call = f"  call {task['call_sid']}" if task["call_sid"] else ""
    say(f"{indent}{task['name']}{call}")
    waits, deadline = task["waits"], task["deadline"]
    if waits is None:
        state = "running"
    else:
        state = (
            f"{task['awaits'] or 'waits'} for {'over ' if task['is_longer'] else ''}{waits:.1f} s"
        )
    limit = "" if deadline is None else f", at most {max(0.0, deadline):.1f} s more"
    say(f"{indent}  {state}{limit}: {task['where']}")
