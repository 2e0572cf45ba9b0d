"""Whether words that an agent tells back are the ones it was given. Pure.

A text is told back sentence by sentence, and as the agent's voice or ears took it: other quotation
marks, another case, "Dr." read out. An agent that answers something else shares few words with it.
"""

import re

# Letters that a sentence may have beside twice those that it was given with: more is another text,
# and is not read.
MAX_SURPLUS = 100

_WORD = re.compile(r"\w+")


def is_retold(text: str, whole: str | None) -> bool:
    """Whether `text` may be a sentence of `whole`; `None`: of whatever."""
    if whole is not None and len(text) > 2 * len(whole) + MAX_SURPLUS:
        return False
    words = _WORD.findall(text.casefold())
    if not words or whole is None:
        return bool(words)
    given = _WORD.findall(whole.casefold())
    if "".join(words) in "".join(given):
        return True
    known = set(given)
    return len(words) > 1 and 2 * sum(word in known for word in words) >= len(words)
