"""The bridge, with a watch over its turns: while one task has its turn, nobody else is served.

    python bench/watched.py PORT

SIGUSR1 begins anew; SIGUSR2 prints the longest since, in ms of CPU time, which other programs on
the machine do not lengthen.
"""

import functools
import signal
import sys
import time

import trio

from sts_trio import config
from sts_trio.web.serve import serve


class Watch(trio.abc.Instrument):
    def __init__(self) -> None:
        self._longest = 0.0
        self._began: float | None = None  # while a task has its turn

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._note()
        self._began = None

    def _note(self) -> None:
        if self._began is not None:
            self._longest = max(self._longest, time.thread_time() - self._began)

    def begin_anew(self, *signal: object) -> None:
        self._longest = 0.0

    def tell(self, *signal: object) -> None:
        self._note()  # a signal may come in the midst of one
        print(f"longest turn: {1000 * self._longest:.3f} ms", flush=True)


def main() -> None:
    watch = Watch()
    signal.signal(signal.SIGUSR1, watch.begin_anew)
    signal.signal(signal.SIGUSR2, watch.tell)
    port = int(sys.argv[1])
    trio.run(
        functools.partial(serve, config.from_environment(STS_DATABASE_URL="none"), port=port),
        instruments=[watch],
    )


if __name__ == "__main__":
    main()
