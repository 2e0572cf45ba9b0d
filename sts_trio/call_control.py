"""Functions that every agent may find useful: hang up, transfer, press keys, have keys pressed.

Name them in the configuration, all or one by one: `functions = ["sts_trio.call_control:hang_up"]`.
The docstrings are read by the model, and so are the patterns. To Python their `$` lets one line end
pass, which is taken off.
"""

from typing import Annotated

import msgspec

from sts_trio.call.api import Call
from sts_trio.functions import function

# For one answer: a card's number has 19, and nobody gets more right.
MAX_DIGITS = 32
# Seconds for all of them. Patience beyond this is the agent's to show, by asking again.
LONGEST = 60.0
_A_WHILE = 5.0  # more than the caller's time, so that the caller's is what runs out


@function(defer_until_eot=True)
async def hang_up(call: Call) -> dict[str, str]:
    """End the phone call. Only when the caller wants to end it, or everything has been done and
    both of you have said so. Say goodbye in the same turn: the caller still hears it.
    """
    await call.hang_up()
    return {"status": "the call ends as soon as the caller has heard what you say"}


@function(defer_until_eot=True)
async def transfer(
    call: Call,
    number: Annotated[
        str,
        msgspec.Meta(
            description="In international form, without spaces, such as +15005550006.",
            pattern=r"^\+[1-9][0-9]{1,14}$",
        ),
    ],
) -> dict[str, str]:
    """Connect the caller with another phone number, and leave the call. Tell the caller about it
    in the same turn: what you say is still heard.
    """
    await call.transfer(number.strip())
    return {"status": "the caller is connected as soon as they have heard what you say"}


@function(defer_until_eot=True)
async def send_dtmf(
    call: Call,
    digits: Annotated[
        str,
        msgspec.Meta(
            description="The keys to press, in order: 0 to 9, * and #.", pattern="^[0-9*#]{1,32}$"
        ),
    ],
) -> dict[str, str]:
    """Press keys on the phone, for instance to choose from the menu of the machine at the other
    end. Not for a person: they hear only beeps.
    """
    await call.send_dtmf(digits.strip())
    return {"status": "pressed"}


@function(timeout=LONGEST + _A_WHILE, sensitive=True)
async def collect_digits(
    call: Call,
    most: Annotated[
        int,
        msgspec.Meta(
            description="How many digits are expected; it ends when there are that many.",
            ge=1,
            le=MAX_DIGITS,
        ),
    ],
    within: Annotated[
        float,
        msgspec.Meta(description="Seconds that the caller has for all of them.", gt=0, le=LONGEST),
    ] = 20.0,
) -> dict[str, str]:
    """Get digits that the caller types on the phone's keys, such as a customer number. Ask for
    them first, and say that # ends them. Without any digits in the answer, the caller typed none.
    """
    digits = await call.collect_digits(most=most, finish="#", within=within, between=within)
    return {"digits": digits}
