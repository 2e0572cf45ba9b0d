"""Whatever a docstring says, the model is told: of the function, or of the parameter."""

import re
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import any_text

from sts_trio import Call, function
from sts_trio.functions import Function, Functions
from sts_trio.functions.docstring import read


def one(run: Callable[..., Any]) -> Function:
    return next(iter(Functions([run])))


def told(docstring: str) -> tuple[str, dict[str, str]]:
    """What is told of a function, and of those of its parameters of which anything is."""

    def book(call: Call, car: str, day: date) -> None: ...

    book.__doc__ = docstring
    definition = one(book).definition()
    properties = definition["parameters"]["properties"]
    return definition.get("description", ""), {
        name: each["description"] for name, each in properties.items() if "description" in each
    }


GOOGLE = """Book a test drive.

    Ask for the day first:
      * never on Sundays

    Args:
        call: The call.
        car (str): Which car, as in
            the list of cars.
        day (date, optional): The day. Note: not Sundays.

    Returns:
        What was booked.

    Raises:
        FunctionFailed: We are closed.

    Note:
        Say the day again.

    Example:
        book("Otter")
    """

NUMPY = """Book a test drive.

    Ask for the day first:
      * never on Sundays

    Parameters
    ----------
    call
        The call.
    car : str
        Which car, as in
        the list of cars.
    day : date, optional
        The day. Note: not Sundays.

    Returns
    -------
    str
        What was booked.

    Raises
    ------
    FunctionFailed
        We are closed.

    Notes
    -----
    Say the day again.

    Examples
    --------
    book("Otter")
    """

SPHINX = """Book a test drive.

    Ask for the day first:
      * never on Sundays

    Say the day again. book("Otter")

    :param call: The call.
    :param str car: Which car, as in
        the list of cars.
    :param day: The day. Note: not Sundays.
    :type day: date
    :returns: What was booked.
    :raises FunctionFailed: We are closed."""


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_a_docstring_is_told_whole_and_each_parameter_where_it_is(docstring: str) -> None:
    description, parameters = told(docstring)
    assert parameters == {
        "car": "Which car, as in\nthe list of cars.",
        "day": "The day. Note: not Sundays.",
    }
    begin = "Book a test drive.\n\nAsk for the day first:\n* never on Sundays\n"
    assert re.sub(r"^ +", "", description, flags=re.MULTILINE).startswith(begin)
    for words in ("What was booked.", "We are closed.", "Say the day again.", 'book("Otter")'):
        assert words in description
    assert "list of cars" not in description


@pytest.mark.parametrize(
    ("docstring", "parameters"),
    [
        ("Book.\n\n    Ask first.\n\n    Never on Sundays.", {}),
        ("Book.\n\n    Important:\n        Never on Sundays.", {}),
        (
            "Book.\n\n    Note that: it is final.\n\n    Args:\n        car: Which.",
            {"car": "Which."},
        ),
        ("Book.\n\n    Args:\n        car -- Which.\n        day: When.", {"day": "When."}),
        ("Book.\n\n    Args:\n    car: Which.", {}),
        ("Book.\n\n    Args:\n        car: Which.\n\n    :param day: When.", {"day": "When."}),
        ("Book.\n\n    Arguments:\n        car: Which.\n    Then say so.", {"car": "Which."}),
        ("Book.\n\n    @param car: Which.", {}),
        (":param car: Which.", {"car": "Which."}),
        ("Book.\n    :param car: Which.\n\n    Afterwards say so.", {}),
        ("Book.\n\n    Args:\n        color: Which.", {}),
        (":", {}),
    ],
)
def test_nothing_is_cut_whatever_is_written(docstring: str, parameters: dict[str, str]) -> None:
    description, described = told(docstring)
    assert parameters.items() <= described.items()
    everything = f"{description} {described}"
    for word in docstring.replace("Args:", "").replace("Arguments:", "").split():
        assert word.strip(":") in everything or word.startswith(":param")


@given(st.text() | any_text | st.from_regex(r"(\w+:?\n( {4}:?\w+ *[:-]* *\w*\n)*)*"))
def test_any_docstring_is_told_to_its_last_word(docstring: str) -> None:
    found = read(docstring, ["car", "day"])
    everything = " ".join([found.description, *found.parameters, *found.parameters.values()])
    heads = {"args", "arguments", "params", "parameters", "other", "keyword"}
    lost = set(re.findall(r"\w+", docstring.lower())) - heads
    assert lost <= set(re.findall(r"\w+", everything.lower()))


def test_an_annotation_goes_before_the_docstring() -> None:
    def book(car: Annotated[str, msgspec.Meta(description="As in the list.")], day: date) -> None:
        """Book.

        Args:
            car: Which.
            day: When.
        """

    properties = one(book).parameters.schema["properties"]
    assert properties["car"]["description"] == "As in the list."
    assert properties["day"] == {"type": "string", "format": "date", "description": "When."}


def test_an_option_replaces_what_is_told_of_the_function_alone() -> None:
    def book(car: str) -> None:
        """For those who read the code.

        :param car: Which.
        """

    definition = one(function(description="Book a car.")(book)).definition()
    assert definition["description"] == "Book a car."
    assert definition["parameters"]["properties"]["car"]["description"] == "Which."
