"""What a docstring tells a model: of the function, and of each of its parameters. Pure.

Google's, NumPy's and Sphinx's ways to write one are read by griffe. Whatever it makes nothing of
is told as it was written: a model that is told less than the docstring says calls the function
wrongly, and nobody sees why.
"""

import re
from collections.abc import Collection, Iterable
from inspect import cleandoc
from typing import Any

import griffe
import msgspec

_PARAMETERS = (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.other_parameters)
# Words that say how the rest is to be read, and nothing else.
_HEADS = {"args", "arguments", "params", "parameters", "param", "keyword", "other", "type", "rtype"}
_HEADS |= {"optional", "default", "return", "returns", "raise", "raises", "except", "exception"}


class Told(msgspec.Struct, frozen=True):
    description: str
    parameters: dict[str, str]  # {name: description}
    unknown: tuple[str, ...] = ()  # described, and not among the parameters


def read(docstring: str, known: Collection[str]) -> Told:
    """`known` are the names of the function's parameters, the call among them."""
    text = cleandoc(docstring)
    parameters: dict[str, str] = {}
    unknown: list[str] = []
    parts: list[str] = []
    types: list[str] = []  # the annotations have them already
    for section in _sections(text):
        if section.kind not in _PARAMETERS:
            parts.append(_written(section))
            continue
        for each in section.value:
            if each.name in known:
                parameters[each.name] = each.description.strip()
                types.append(str(each.annotation or ""))
            else:
                unknown.append(each.name)
    description = "\n\n".join(part.strip() for part in parts if part.strip())
    if _is_lost(text, [description, *known, *parameters.values(), *types]):
        description = text
    return Told(description, parameters, tuple(unknown))


def _sections(text: str) -> list[griffe.DocstringSection]:
    lined = griffe.Docstring("")
    # Without a line before and behind, griffe sees no section that is the first or the last thing.
    lined.value = f"\n{text}\n"
    style, _ = griffe.infer_docstring_style(lined)
    docstring = griffe.Docstring(text)
    # Of types that are missing it need not complain: the annotations have them.
    return docstring.parse(style, warnings=False) if style else docstring.parse(None)


def _written(section: griffe.DocstringSection) -> str:
    if isinstance(section.value, str):
        return section.value
    title = section.title or section.kind.value.capitalize()
    items = section.value if isinstance(section.value, list) else [section.value]
    lines = "\n".join(map(_item, items))
    return f"{title}:\n    " + lines.replace("\n", "\n    ")


def _item(item: Any) -> str:
    """An entry of a section: what is returned or raised, an example, a note."""
    if isinstance(item, tuple):
        return str(item[1])
    if isinstance(item, griffe.DocstringAdmonition):
        return item.contents
    heads = (getattr(item, "name", ""), item.annotation, item.description)
    return ": ".join(str(each).strip() for each in heads if each)


def _is_lost(text: str, told: Iterable[str]) -> bool:
    """Whether the docstring has words that are told nowhere."""
    kept = {word for each in told for word in _words(each)}
    return not _words(text) <= kept | _HEADS


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
