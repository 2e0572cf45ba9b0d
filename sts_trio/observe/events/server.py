"""What the server does, and who comes to it."""

from typing import Annotated

from sts_trio.observe.events.event import Event, Level, Seconds


class ServerStarted(Event, frozen=True):
    """The server takes calls."""

    NAME = "server.started"
    LEVEL = Level.INFO
    agent: Annotated[str, "`deepgram` or `offline`"]
    endpoints: Annotated[list[str], "where the agent is dialled"]
    agents: Annotated[list[str], "those that are configured"]
    functions: Annotated[list[str], "those that agents may call"]


class ServerDraining(Event, frozen=True):
    """The server takes no more calls, and is to stop."""

    NAME = "server.draining"
    LEVEL = Level.INFO
    live: Annotated[int, "calls under way"]
    signal: Annotated[str, "or `take-over`: another process has the address now"]
    seconds: Annotated[Seconds | None, "that they have at most"] = None


class ServerRelieved(Event, frozen=True):
    """Another process of this user listens in this one's place, which has but its calls left."""

    NAME = "server.relieved"
    LEVEL = Level.INFO
    live: Annotated[int, "calls under way"]


class ServerStopped(Event, frozen=True):
    """The server has no call and no connection any more."""

    NAME = "server.stopped"
    LEVEL = Level.INFO


class PageAddress(Event, frozen=True):
    """Where the page is, with the key of this run."""

    NAME = "page.address"
    LEVEL = Level.INFO
    url: str


class KeyNotPublished(Event, frozen=True):
    """The key of this run is in no file, so commands on this machine do not find it."""

    NAME = "key.not_published"
    LEVEL = Level.WARNING
    reason: str


class ConfigWarning(Event, frozen=True):
    """Something in the configuration is allowed, and yet hardly meant."""

    NAME = "config.warning"
    LEVEL = Level.WARNING
    warning: str


class RequestRefused(Event, frozen=True):
    """A request was not let in."""

    NAME = "request.refused"
    LEVEL = Level.WARNING
    path: str
    reason: str
    guesses: Annotated[int | None, "wrong tokens and keys, of late"] = None


class RequestMisdirected(Event, frozen=True):
    """A request came that no route takes, from Twilio or for a path that is nearly one of ours."""

    NAME = "request.misdirected"
    LEVEL = Level.WARNING
    path: str
    reason: Annotated[str, "the likely cause"]


class RequestNotAnswered(Event, frozen=True):
    """The application gave no answer to a request in time."""

    NAME = "request.not_answered"
    LEVEL = Level.WARNING
    client: str
    seconds: Annotated[Seconds, "that it had"]


class RequestCrashed(Event, frozen=True):
    """A bug of this package has ended a request, which is answered with 500, or a stream before it
    was a call. With its traceback."""

    NAME = "request.crashed"
    LEVEL = Level.ERROR
    method: str
    path: str
    client: str


class ConnectionNotUnderstood(Event, frozen=True):
    """What came over a connection is no request. Told once a minute of each reason."""

    NAME = "connection.not_understood"
    LEVEL = Level.WARNING
    client: str
    reason: Annotated[str, "the likely cause"]
    more: Annotated[int | None, "of the same, since the last line"] = None


class ConnectionCrashed(Event, frozen=True):
    """An exception ended a connection. With its traceback."""

    NAME = "connection.crashed"
    LEVEL = Level.ERROR
    client: str


class ConnectionsEvicted(Event, frozen=True):
    """Connections that are no calls had to make room. Told once a minute at most."""

    NAME = "connections.evicted"
    LEVEL = Level.WARNING
    reason: str
    ended: Annotated[int, "how many, since this was told last"]
    left: Annotated[int, "how many there are"]
    descriptors: Annotated[float, "how many the process may have"]


class DescriptorsTooFew(Event, frozen=True):
    """The system allows this process fewer descriptors than its calls may take."""

    NAME = "descriptors.too_few"
    LEVEL = Level.WARNING
    limit: float
    needed: int
    calls: int
    what_to_do: str


class GuardNotInstalled(Event, frozen=True):
    """This version of Hypercorn is not known here, so its connections are not guarded."""

    NAME = "guard.not_installed"
    LEVEL = Level.WARNING
    hypercorn: str
    expected: str
    unprotected: str


class FastLaneClosed(Event, frozen=True):
    """TLS streams of this version of Trio are not made as they are known here, so a stream's socket
    cannot be taken over from Hypercorn: each call takes more CPU. Have a proxy speak TLS."""

    NAME = "fast_lane.closed"
    LEVEL = Level.WARNING
    trio: Annotated[str, "its version"]


class LoopBlocked(Event, frozen=True):
    """One task has kept all others from going on, every call among them. What it does for so long
    belongs into a thread; a function of yours that is not `async` has one."""

    NAME = "loop.blocked"
    LEVEL = Level.WARNING
    seconds: Annotated[Seconds, "that everything else stood"]
    task: Annotated[str, "its name"]
    where: Annotated[str, "the code that it was in most of that time"]
    frames: Annotated[str, "of the task's stack, the innermost first"]
    function: Annotated[str | None, "the function of yours that it was in"] = None
    cpu: Annotated[
        Seconds | None,
        "of the processor that it took; much less than `seconds`: it waited, for the system, or"
        " for a thread that did not let go of the interpreter",
    ] = None
    goes_on: Annotated[bool, "it is over"] = True

    @property
    def level(self) -> Level:
        """warning; error where it is not over"""
        return Level.WARNING if self.goes_on else Level.ERROR


class GarbageCollected(Event, frozen=True):
    """Memory grew by more than calls explain, and garbage was looked for."""

    NAME = "garbage.collected"
    LEVEL = Level.WARNING
    objects: int
    seconds: Annotated[Seconds, "in which nothing else was done"]
    live: Annotated[int, "calls under way"]
    reason: str


class MetricsIncomplete(Event, frozen=True):
    """A collector of yours in Prometheus's registry has raised. Its figures are not told, nor are
    those of the registry behind it. With its traceback."""

    NAME = "metrics.incomplete"
    LEVEL = Level.ERROR
    reason: str
