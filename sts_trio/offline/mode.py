"""Whether the offline agent hears words, and what it takes to."""

import enum
import importlib.util

# As the README has it: the package is on no index.
EXTRA = "pip install -e '.[demo]'"
# {what is imported: what is installed}
NEEDED = {
    "webrtcvad": "webrtcvad-wheels",
    "pocketsphinx": "pocketsphinx",
    "espeakng_loader": "espeakng-loader",
}


class Mode(enum.Enum):
    """EARS: it recognises words, answers by a policy and speaks. SCRIPTED: it hears when somebody
    speaks but not what, and says its lines in turn."""

    EARS = "ears"
    SCRIPTED = "scripted"


def missing() -> str | None:
    """One line that says why there can be no ears here, and what to do; None if there can."""
    absent = [NEEDED[name] for name in NEEDED if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"it takes {', '.join(absent)} to recognise words: {EXTRA}"


def choose(wanted: Mode | None) -> tuple[Mode, str | None]:
    """The mode to run in, and why it is not a better one. `wanted` is had if it can be."""
    if wanted is Mode.SCRIPTED:
        return Mode.SCRIPTED, None
    reason = missing()
    return (Mode.EARS, None) if reason is None else (Mode.SCRIPTED, reason)
