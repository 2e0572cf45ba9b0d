"""The version of an agent is another one as soon as something of it is."""

from sts_trio.agents.versions import version_of
from sts_trio.functions.registry import Functions

AGENT = {"think": {"prompt": "Sell cars."}, "speak": {"model": "a"}}


def one() -> str:
    """Look it up."""
    return "one"


def other() -> str:
    """Look it up."""
    return "other"


other.__name__ = "one"


def test_it_is_the_same_whichever_way_the_same_is_written() -> None:
    turned = {"speak": {"model": "a"}, "think": {"prompt": "Sell cars."}}
    functions = [*Functions([one, test_it_is_the_same_whichever_way_the_same_is_written])]
    version = version_of(AGENT, {}, functions)
    assert version == version_of(turned, {}, functions[::-1])
    assert len(version) == 12


def test_each_thing_that_is_changed_makes_another_one() -> None:
    versions = [
        version_of(AGENT, {}, []),
        version_of({**AGENT, "greeting": "Hi"}, {}, []),
        version_of(AGENT, {"tags": ["a"]}, []),
        version_of(AGENT, {}, Functions([one])),
        version_of(AGENT, {}, Functions([other])),
        version_of("8c1f", {}, []),
    ]
    assert len(set(versions)) == len(versions)


def test_a_function_without_a_source_is_known_by_its_name() -> None:
    space: dict[str, object] = {}
    exec("def typed() -> int:\n    'Type.'\n    return 1", space)
    assert version_of(AGENT, {}, Functions([space["typed"]])) != version_of(AGENT, {}, [])  # type: ignore[list-item]
