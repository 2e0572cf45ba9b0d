"""The question that the caller has to be asked before a function runs: `@function(confirm="…")`.

An agent is told which words to ask it with, so that it is known by them: whether it was heard, and
answered, is not a model's to say. What stands in braces is filled with the arguments, which are
data: nothing in them is a field. Pure.
"""

import inspect
import re
import string
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sts_trio.config.raw import config_error
from sts_trio.wire.printable import quoted

# To the model, behind what the function is for.
RULE = (
    "The caller has to be asked first. Call this as soon as you know the arguments: it answers with"
    " the question. Ask it word for word, wait for the caller's answer, and if that is yes, call"
    " this again with the same arguments."
)


def check(template: str, names: Collection[str], where: str) -> None:
    """`names` are the function's parameters, those that are the model's to give.

    Raises:
        ConfigError: it is no question that these can be filled into.
    """
    place = f"{where}: @function: confirm"
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise config_error(f"{place}: {exc}, in {quoted(template)}") from None
    if not re.search(r"\w", "".join(text for text, *_ in parts)):
        raise config_error(f"{place}: expected a question, got {quoted(template)}")
    for _, field, spec, _ in parts:
        if field is not None and (name := re.split(r"[.\[]", field)[0]) not in names:
            known = ", ".join(f"{{{each}}}" for each in names) or "none, it takes nothing"
            raise config_error(f"{place}: {{{name}}} is none of its parameters; known are {known}")
        if spec and "{" in spec:
            raise config_error(f"{place}: expected no braces within braces, got {quoted(template)}")


def question(template: str, run: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """As the caller is to be asked it."""
    defaults = {name: each.default for name, each in inspect.signature(run).parameters.items()}
    return template.format_map({**defaults, **arguments})


def ask_first(question: str) -> str:
    """To the model, which has called it too early."""
    return f"not done yet, the caller has to agree first. Ask, word for word: {question}"
