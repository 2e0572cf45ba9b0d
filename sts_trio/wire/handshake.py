"""What is said in a websocket handshake of ours, and the answer to it, as far as it came. Pure.

The library that shakes hands for us tells what a refusal was only once it has ended, and it need
not end: its body may be cut off, without a length, or endless.
"""

import re

# Of an answer, a refusal's body among it: what is more is not read. A page for browsers is less.
MAX_ANSWER = 65536
# Letters of a refusal that are told: HTTP bodies may be long, a reason is for people.
MAX_REASON = 300

# A key, or the scheme of a credential and that.
CREDENTIAL = "(?:(?:Token|Bearer) )?[!-~]+"

BLANK_LINE = re.compile(rb"\n\r?\n")  # what h11 takes for the end of a head
_REFUSAL = re.compile(rb"HTTP/1\.[01] ([2-9][0-9][0-9])[ \r\n]")


def authorization(credential: str) -> str:
    """The header for a key of Deepgram's, or for a credential whose scheme is said."""
    return credential if " " in credential else f"Token {credential}"


def target(path: str, query: str) -> str:
    """What is asked for of a host."""
    return f"{path or '/'}?{query}" if query else path or "/"


def refusal(answer: bytes | bytearray) -> tuple[int, bytes] | None:
    """Status and body so far of an answer that is final and no websocket; None: it is not one."""
    status, blank = _REFUSAL.match(answer), BLANK_LINE.search(answer)
    if status is None or blank is None:
        return None
    return int(status[1]), bytes(answer[blank.end() :])


def reason(body: bytes) -> str:
    """The first words of a refusal."""
    # The cut may go through a letter.
    return body[: 4 * MAX_REASON].decode("utf-8", "replace").strip()[:MAX_REASON]
