"""When a bridge does its work, and at how many calls it stops doing so. Pure.

The criterion is that of `bench/RESULTS.md`, and that of FreeSBC's published load tests beside it:
less than a call in a thousand fails.
"""

from collections.abc import Generator

from sts_trio.load.figures import Heard, Run

# A bridge does its work while this much of the audio arrives, in per cent, each way ...
LEAST_OK = 99.5
# ... the caller's within this, in ms, beyond what the bridge gathers before it forwards ...
MAX_UP_P99 = 50.0
# ... the caller can cut the agent short within this ...
MAX_CLEAR_P99 = 20.0
# ... and less than this share of the calls fails.
MOST_FAILED = 0.001

# What a generator may not be, if its figures are to mean anything: as busy, a share of a core; as
# late with what is due, in ms, in the 99th percentile; and once.
MOST_CPU = 0.8
MOST_LAG_P99 = 5.0
MOST_LAG = 100.0


def shortcomings(run: Run, gathers: float) -> list[str]:
    """Why a bridge that gathers `gathers` ms of audio does not do its work; nothing if it does.

    An agent that is not the generator's own is answerable for when it speaks: only whether calls
    were answered at all is told of it. Where no call came to the generator's own, that is told
    first, and no figure that follows from it.
    """
    found = [f"process {pid} of the bridge died" for pid in run.died]
    if run.live < run.calls:
        found.append(f"{run.calls - run.live} of {run.calls} calls were not through")
    if run.refused:
        found.append(f"{calls(run.refused)} refused")
    if run.cut_off:
        found.append(f"{calls(run.cut_off)} cut off")
    if run.placed and run.failed / run.placed >= MOST_FAILED:
        share = 100 * run.failed / run.placed
        found.append(f"{run.failed} of {run.placed} calls failed, {short(share)} %")
    if run.heard is not None:
        return found + _unheard(run.heard)
    if run.reach_ms is None:
        # All the rest follows from that.
        if run.refused < run.placed and not run.died:
            found.insert(0, "no call came to the agent of this test: point the bridge at it")
        return found
    for way, audio in (("to the agent", run.up), ("to the caller", run.down)):
        if audio.ok < LEAST_OK:
            found.append(f"{audio.ok:.2f} % of the audio arrived {way}, not {LEAST_OK:g} %")
        if audio.faults:
            found.append(f"{audio.faults} blocks came {way} that were not sent so")
    most = gathers + MAX_UP_P99
    if run.up_ms is None:
        found.append("no audio came to the agent")
    elif run.up_ms.p99 >= most:
        found.append(f"words took {run.up_ms.p99:.0f} ms to the agent (p99), not {most:g} ms")
    if run.clear_ms is None:
        found.append("no barge-in was answered by `clear`")
    elif run.clear_ms.p99 >= MAX_CLEAR_P99:
        found.append(f"barge-in took {run.clear_ms.p99:.0f} ms (p99), not {MAX_CLEAR_P99:g} ms")
    return found


def calls(count: int) -> str:
    return "1 call was" if count == 1 else f"{count} calls were"


def short(value: float) -> str:
    """Three digits, or all that are before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _unheard(heard: Heard) -> list[str]:
    told = {
        "heard nothing": heard.mute,
        "heard their own voice": heard.echoed,
        "were sent more than can be played": heard.flooded,
    }
    return [f"{count} callers {what}" for what, count in told.items() if count]


def why_void(run: Run) -> str | None:
    """Why no figure of the run means anything: the generator was the bottleneck. None if not."""
    if run.void is not None:
        return run.void
    if run.own_lag is not None and run.own_lag.p99 > MOST_LAG_P99:
        return (
            f"the generator was late by {run.own_lag.p99:.1f} ms in the 99th percentile, more than"
            f" {MOST_LAG_P99:g}"
        )
    return None


def searching(first: int, most: int) -> Generator[int, bool, int]:
    """Yields the number to try next, and is sent whether it does well. Returns the largest that
    does, to within 5 %, or `most`; 0 if not even a little does.

    Doubles until one fails, then halves the gap. Takes it that more is never easier.
    """
    good, bad = 0, 0
    number = min(first, most)
    while not bad:
        if not (yield number):
            bad = number
        elif number == most:
            return most
        else:
            good, number = number, min(2 * number, most)
    while bad - good > max(1, bad // 20):
        number = (good + bad) // 2
        if (yield number):
            good = number
        else:
            bad = number
    return good
