"""A replay for people to read: lines of text. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from sts_trio.audio.frames import seconds
from sts_trio.flight.file import Flight
from sts_trio.flight.replay import Replayed
from sts_trio.wire import deepgram

_TO_AGENT = frozenset(each.__name__ for each in deepgram.TextToAgent.__args__)
_MACHINES = ("stream", "session", "closing")
# What goes without saying of a message.
_UNTOLD = ("type", "event", "streamSid", "sequenceNumber", "protocol", "version")
# Letters of a text within a line; and deadlines, the nearest first.
_TEXT = 40
_DEADLINES = 3


def head(flight: Flight) -> Iterator[str]:
    yield f"{flight.call_sid or 'a stream without a call'}, {flight.seconds:.1f} s"
    detail = f": {flight.detail}" if flight.detail else ""
    yield f"ended     {flight.ending} ({flight.verdict}){detail}"
    yield f"recorded  by sts_trio {flight.program or '(not installed)'}"
    for name, version in flight.agents.items():
        yield f"agent     {name}, version {version}"
    if flight.masked:
        yield f"masked    {', '.join(flight.masked)}"
    if flight.stopped is not None:
        yield f"stopped   {flight.stopped}"


def story(steps: Iterable[Replayed]) -> Iterator[str]:
    """Each step, with those in which only sound goes to and fro as one."""
    sound: list[Replayed] = []
    for step in steps:
        if _is_sound(step):
            sound.append(step)
            continue
        if step.passed or sound:
            yield from _sound(sound, step.passed)
            sound = []
        yield from _step(step)
    if sound:
        yield from _sound(sound)


def difference(step: Replayed) -> Iterator[str]:
    """What was done, and what is done now."""
    yield from _title(step)
    yield from _heard(step)
    was = _lines(step.was)
    now = _lines(step.acts, step.raised)
    yield from (f"  same    {line}" for line in now if line in was)
    yield from (f"  was     {line}" for line in was if line not in now)
    yield from (f"  is      {line}" for line in now if line not in was)
    if sorted(was) == sorted(now) and was != now:
        yield "  in another order" if len(was) > 1 else "  with something else in it"


def _is_sound(step: Replayed) -> bool:
    """Nothing but audio, and the marks that tell of it."""
    acts = step.acts is not None and all(isinstance(act, int | str) for act in step.acts)
    kinds = ("silent", "Mark")
    heard = all(isinstance(each, int) or each[0] in kinds for each in step.heard)
    return step.is_same and acts and heard and step.before == step.after


def _sound(steps: list[Replayed], passed: int = 0) -> Iterator[str]:
    heard = [each for step in steps for each in step.heard]
    caller = passed + sum(step.passed for step in steps) + sum(_sizes(heard))
    agent = -sum(each for each in heard if isinstance(each, int) and each < 0)
    agent += sum(each[1] for each in heard if isinstance(each, list) and each[0] == "silent")
    acts = [act for step in steps for act in step.acts or ()]
    told = [f"caller {_length(caller)}"] if caller else []
    told += [f"agent {_length(agent)}"] if agent else []
    told += _named_marks("sent", [act for act in acts if isinstance(act, str)])
    echoed = [each[1]["mark"]["name"] for each in heard if _is_mark(each)]
    told += _named_marks("heard", echoed)
    numbers = ""
    if steps:
        first, last = steps[0], steps[-1]
        more = "" if first is last else f"-{last.number}"
        numbers = f"{first.at:9.3f} #{first.number}{more}"
    yield ""
    yield f"{numbers:<17} sound: {', '.join(told)}"


def _sizes(heard: list[Any]) -> list[int]:
    return [each for each in heard if isinstance(each, int) and each > 0]


def _is_mark(heard: Any) -> bool:
    return isinstance(heard, list) and heard[0] == "Mark"


def _named_marks(what: str, names: list[str]) -> list[str]:
    if len(names) > 1:
        return [f"marks {what} {names[0]} to {names[-1]}"]
    return [f"mark {what} {names[0]}"] if names else []


def _title(step: Replayed) -> Iterator[str]:
    yield ""
    woke_by = f" woken by {', '.join(step.woke_by)}" if step.woke_by else ""
    yield f"{step.at:9.3f} #{step.number}{woke_by}"


def _heard(step: Replayed) -> Iterator[str]:
    for each in step.heard:
        if each != ["Tick", {}]:
            yield f"  heard   {_heard_line(each)}"


def _step(step: Replayed) -> Iterator[str]:
    if not step.is_same:
        yield from difference(step)
    else:
        yield from _title(step)
        yield from _heard(step)
        yield from (f"  does    {line}" for line in _lines(step.acts, step.raised))
    for machine, before, after in zip(_MACHINES, step.before, step.after, strict=True):
        if before is not after:
            yield f"  {machine:<8}{before.value} -> {after.value}"
    nearest = sorted(step.deadlines.items(), key=lambda each: each[1])[:_DEADLINES]
    if nearest:
        yield f"  waits   {', '.join(f'{name} until {at:.3f}' for name, at in nearest)}"


def _lines(acts: list[Any] | None, raised: str | None = None) -> list[str]:
    if acts is None:
        return [f"raises {raised}" if raised else "raised"]
    return [_act_line(act) for act in acts]


def _heard_line(heard: Any) -> str:
    if isinstance(heard, int):
        who = "caller" if heard >= 0 else "agent"
        return f"{who}: {_length(abs(heard))} of audio"
    name, *rest = heard
    if name == "silent":
        return f"agent: {_length(rest[0])} of silence"
    if name == "begin":
        return f"agent: {len(rest[0])} bytes of a WAV file, {_length(rest[1])} of audio"
    return _named(name, rest)


def _act_line(act: Any) -> str:
    if isinstance(act, int):
        return f"to {'agent' if act >= 0 else 'caller'}: {_length(abs(act))} of audio"
    if isinstance(act, str):
        return f"to caller: mark {act}"
    name, *rest = act
    if name == "Clear":
        return "to caller: clear"
    if name in _TO_AGENT:
        return f"to agent: {_named(name, rest)}"
    return f"tells {_named(name, rest)}" if "." in name else _named(name, rest)


def _named(name: str, rest: list[Any]) -> str:
    if rest and isinstance(rest[0], dict):
        fields = {
            key: value for key, value in rest[0].items() if value is not None and key not in _UNTOLD
        }
        told = " ".join(f"{key}={_value(value)}" for key, value in fields.items())
    else:
        told = " ".join(map(_value, rest))
    return f"{name} {told}".rstrip()


def _value(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= _TEXT else f"{value[: _TEXT - 1]}…")
    if isinstance(value, dict):
        return (
            "{"
            + " ".join(f"{key}={_value(each)}" for key, each in value.items() if key not in _UNTOLD)
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)


def _length(size: float) -> str:
    duration = seconds(int(size))
    return f"{duration:.2f} s" if duration >= 1 else f"{duration * 1000:.0f} ms"
