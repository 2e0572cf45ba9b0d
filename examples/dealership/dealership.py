"""What the agents of the dealership can do. `sts-trio.toml` names this module.

A function's name, its docstring and its annotations are what the model reads. What it returns is
what the model is told.
"""

from typing import Annotated, Literal

import trio
from msgspec import Meta

from sts_trio import Call, FunctionFailed, HandOver, function, hand_over

Model = Literal["Otter", "Heron", "Bison"]
Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
Time = Annotated[
    str,
    Meta(pattern=r"^(09|1[0-7]):[03]0$", description="The hour or half past it, such as 14:30."),
]

# A dealership has a database for these.
PRICES = {"Otter": 14_000, "Heron": 23_000, "Bison": 31_000}
STOCK = {"Otter": 4, "Heron": 2, "Bison": 3}
TEST_DRIVES: dict[tuple[Day, str], str] = {}  # {(day, time): the name of who comes}
ORDERS = {
    "+15005550001": {"car": "Bison", "status": "on its way to us"},
    "": {"car": "Otter", "status": "ready to be collected"},  # the softphone has no number
}
LOOK_UP_TAKES = 3.0  # seconds: the order system is an old one


@function
def find_car(model: Model) -> dict[str, str | int]:
    """Tell the price of a car in dollars, and how many of them are in stock."""
    # A plain function runs in a thread, so that it may wait for a database.
    return {"model": model, "price": PRICES[model], "in_stock": STOCK[model]}


@function(agents="default", filler="One moment, I am looking for your order.")
async def order_status(call: Call) -> dict[str, str]:
    """Tell how far the car is that the caller has ordered. It is found by the caller's number."""
    # The filler is said after two seconds of this; a caller may speak, or hang up, all the while.
    await trio.sleep(LOOK_UP_TAKES)
    order = ORDERS.get(call.info.from_)
    if order is None:
        raise FunctionFailed("There is no order under the number that you are calling from.")
    return order


# With `shield`, a caller who hangs up does not tear it in the middle. With `defer_until_eot`, it
# does not begin before the caller has surely finished speaking.
@function(agents="sales", shield=True, defer_until_eot=True)
async def book_test_drive(
    call: Call, day: Day, time: Time, name: str, model: Model | None = None
) -> dict[str, str]:
    """Book a test drive. Ask for the day, the time and the caller's name first, and repeat them."""
    if day == "Sunday":
        raise FunctionFailed("We are closed on Sunday.")
    # Booked twice by the same person it is booked once: an agent that was lost, and is dialled
    # again, may ask again.
    if TEST_DRIVES.setdefault((day, time), name) != name:
        raise FunctionFailed(f"Somebody else comes on {day} at {time}.")
    return {"booked": f"{day} at {time}", "for": name, "car": model or "any"}


@function(agents="default")
async def hand_over_to_sales() -> HandOver:
    """Connect the caller with sales, for test drives and for buying a car."""
    return hand_over("sales")
