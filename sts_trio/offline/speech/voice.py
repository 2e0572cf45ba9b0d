"""The base install's voice: recorded where there is a clip of the text, else babble.

The clips are a synthesiser's (`clips/`). The extra has a voice for any text (`speech.py`).
"""

from sts_trio.offline.clips import recorded
from sts_trio.offline.speech import placeholder as babble

PITCH = babble.PITCH

APOLOGY = "I am sorry, something went wrong. Could you say that again, please?"


def say(text: str, pitch: float = PITCH) -> bytes:
    """The text as µ-law; empty for a text without a letter. Another `pitch` is another person, who
    only babbles.

    The same text and pitch give the same bytes.
    """
    clip = recorded(text.strip()) if pitch == PITCH else None
    return babble.say(text, pitch) if clip is None else clip
