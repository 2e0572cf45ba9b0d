"""What nobody frees but the garbage collector: reference cycles, and what hangs on them.

    with cycles.uncollected() as garbage:
        ...  # the collector is off
    for cycle in cycles.find(garbage):
        print(cycle)

A cycle is told by its shortest way round, as in `Call._lines -> Lines._call ->`, so that it can be
seen which reference has to go.
"""

import collections
import contextlib
import gc
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

# Places to begin a way round at: enough to find a short one in what a whole server left.
MAX_BEGINNINGS = 200

Graph = list[list[int]]


class Cycle(msgspec.Struct, frozen=True):
    path: str
    homes: frozenset[str]  # modules of what is in it; of plain containers there are none
    objects: int  # those in it, and those that hang on it and on no cycle before

    def __str__(self) -> str:
        return f"{self.objects} objects: {self.path}"


@contextlib.contextmanager
def uncollected() -> Iterator[list[Any]]:
    """Gives a list that has, once the block is left, all objects made inside of it that reference
    counting has not freed and nobody can reach. The collector is off meanwhile."""
    garbage: list[Any] = []
    was_enabled, was_frozen = gc.isenabled(), _has_frozen()
    gc.collect()
    gc.freeze()  # what was there before is of no interest
    gc.disable()
    try:
        yield garbage
        garbage += _unreachable(gc.get_objects())
    finally:
        if not was_frozen:
            gc.unfreeze()
        if was_enabled:
            gc.enable()


def _has_frozen() -> bool:
    """Whether what there is from the beginning is no longer looked at.

    `gc.get_freeze_count` counts one by one: 50 ms where a test suite is frozen.
    """
    return all(each is not vars(sys) for each in gc.get_objects())


def _unreachable(objects: list[Any]) -> list[Any]:
    """What nobody outside refers to, be it by way of others: as the collector itself finds it.

    The collector is not asked: before it tells, it ends generators, and takes cycles apart by that.
    """
    place = {id(each): index for index, each in enumerate(objects)}
    graph = _graph(objects, place)
    outside = _references(objects)
    for successors in graph:
        for there in successors:
            outside[there] -= 1
    ours = _references([object()])[0]  # the list's, and those of counting
    roots = [index for index, count in enumerate(outside) if count > ours]
    reachable = _reach(graph, roots, set())
    return [each for index, each in enumerate(objects) if index not in reachable]


def _references(objects: list[Any]) -> list[int]:
    return [sys.getrefcount(each) for each in objects]


def _graph(objects: Sequence[Any], place: dict[int, int]) -> Graph:
    return [
        [place[id(referent)] for referent in gc.get_referents(each) if id(referent) in place]
        for each in objects
    ]


def find(garbage: Sequence[Any]) -> list[Cycle]:
    """The cycles in it: first those that nothing else in it refers to."""
    graph = _graph(garbage, {id(each): index for index, each in enumerate(garbage)})
    found = []
    seen: set[int] = set()
    for members in _tangles(graph):
        path = _way_round(graph, members)
        if path:
            hanging = _reach(graph, members, seen)
            homes = frozenset(filter(None, (home(garbage[each]) for each in members)))
            found.append(Cycle(_told([garbage[each] for each in path]), homes, len(hanging)))
            seen |= hanging
    return found


# --- in the graph: indices only -------------------------------------------------------------------


def _tangles(graph: Graph) -> list[list[int]]:
    """What can be reached from each other, together: strongly connected components by Kosaraju's
    algorithm, in topological order."""
    backwards: Graph = [[] for _ in graph]
    for here, successors in enumerate(graph):
        for there in successors:
            backwards[there].append(here)
    seen: set[int] = set()
    tangles = []
    for root in reversed(_postorder(graph)):
        members = _reach(backwards, [root], seen)
        if members:
            seen |= members
            tangles.append(sorted(members))
    return tangles


def _postorder(graph: Graph) -> list[int]:
    order: list[int] = []
    seen: set[int] = set()
    for root in range(len(graph)):
        if root in seen:
            continue
        seen.add(root)
        stack = [(root, iter(graph[root]))]
        while stack:
            here, successors = stack[-1]
            fresh = next((there for there in successors if there not in seen), None)
            if fresh is None:
                order.append(here)
                stack.pop()
            else:
                seen.add(fresh)
                stack.append((fresh, iter(graph[fresh])))
    return order


def _reach(graph: Graph, roots: Sequence[int], seen: set[int]) -> set[int]:
    """All that can be reached from there, and has not been seen."""
    reached = set(roots) - seen
    waiting = list(reached)
    while waiting:
        fresh = set(graph[waiting.pop()]) - seen - reached
        reached |= fresh
        waiting += fresh
    return reached


def _way_round(graph: Graph, members: Sequence[int]) -> list[int]:
    """The shortest way from one of them back to itself; none if there is no cycle."""
    inside = set(members)
    ways = (_way_back(graph, inside, each) for each in members[:MAX_BEGINNINGS])
    return min(filter(None, ways), key=len, default=[])


def _way_back(graph: Graph, inside: set[int], start: int) -> list[int]:
    came_from: dict[int, int] = {}
    waiting = collections.deque([start])
    while waiting:
        here = waiting.popleft()
        for there in graph[here]:
            if there == start:
                way = [here]
                while here != start:
                    here = came_from[here]
                    way.append(here)
                return way[::-1]
            if there in inside and there not in came_from:
                came_from[there] = here
                waiting.append(there)
    return []


# --- what an object is called ---------------------------------------------------------------------


def _told(path: list[Any]) -> str:
    following = path[1:] + path[:1]
    return " ".join(
        f"{_name(here)}{_link(here, there)} ->" for here, there in zip(path, following, strict=True)
    )


def _name(each: Any) -> str:
    match each:
        case (
            types.FrameType(f_code=code)
            | types.TracebackType(tb_frame=types.FrameType(f_code=code))
        ):
            return f"{type(each).__name__} of {code.co_qualname}"
        case types.MethodType():
            return f"method {each.__func__.__qualname__}"
        case types.FunctionType() | types.CoroutineType() | types.GeneratorType():
            return f"{type(each).__name__} {each.__qualname__}"
        case _:
            return type(each).__qualname__


def _link(here: Any, there: Any) -> str:
    """By which name the one has the other, where it has one: `._call`, `[3]`."""
    if isinstance(here, types.FrameType):
        named = here.f_locals
    elif isinstance(here, dict):
        return next((f"[{key!r}]" for key, value in here.items() if value is there), "")
    elif isinstance(here, types.MethodType | types.FunctionType):
        return ""
    else:
        names = list(getattr(here, "__dict__", ()))
        for kind in type(here).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            names += [slots] if isinstance(slots, str) else slots
        named = {name: getattr(here, name, None) for name in names}
    return next((f".{name}" for name, value in named.items() if value is there), "")


def home(each: Any) -> str:
    """The module that it is of; "" for what Python itself is made of."""
    match each:
        case types.FrameType():
            module = each.f_globals.get("__name__", "")
        case types.TracebackType():
            module = each.tb_frame.f_globals.get("__name__", "")
        case types.FunctionType():
            module = each.__module__
        case types.MethodType():
            module = getattr(each.__func__, "__module__", "")
        case _:
            module = type(each).__module__
    return "" if module in ("builtins", "types", "_contextvars") else str(module)
