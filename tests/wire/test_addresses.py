"""Who calls and who is called, in each of Twilio's forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.wire.addresses import (
    Parties,
    canonical,
    is_address,
    is_number,
    look_up,
    number_in,
)

NUMBER = "+15005550006"


@pytest.mark.parametrize(
    ("address", "number", "one_way"),
    [
        (NUMBER, NUMBER, NUMBER),
        (f" {NUMBER} ", NUMBER, NUMBER),
        (f"whatsapp:{NUMBER}", NUMBER, NUMBER),
        (f"WhatsApp:{NUMBER}", NUMBER, NUMBER),
        (f"tel:{NUMBER};phone-context=x", NUMBER, NUMBER),
        (f"sip:{NUMBER}@example.com", NUMBER, f"sip:{NUMBER}@example.com"),
        (f"sips:{NUMBER}@Example.COM:5061;transport=tls", NUMBER, f"sip:{NUMBER}@example.com"),
        ("SIP:%2B15005550006;a=b@Example.com?c=d", NUMBER, "sip:%2B15005550006;a=b@example.com"),
        (f"<sip:{NUMBER}@example.com>", NUMBER, f"sip:{NUMBER}@example.com"),
        ("sip:Ann@example.com", "", "sip:Ann@example.com"),
        ("sip:example.com:5060", "", "sip:example.com"),
        ("client:ann", "", "client:ann"),
        (f"client:{NUMBER}", "", f"client:{NUMBER}"),
        ("Client:Ann", "", "client:Ann"),
        ("whatsapp:ann", "", "whatsapp:ann"),
        ("anonymous", "", "anonymous"),
        ("+266696687", "", "+266696687"),
        ("5005550006", "", "5005550006"),
        ("", "", ""),
    ],
)
def test_each_form_has_one_way_of_writing_and_may_hold_a_number(
    address: str, number: str, one_way: str
) -> None:
    assert number_in(address) == number
    assert canonical(address) == one_way
    assert canonical(one_way) == one_way


@given(st.text() | st.from_regex(r"(sip|client|whatsapp|tel):[^ ]{0,9}@?[^ ]{0,9}"))
def test_any_text_is_some_address(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)
    assert number_in(text) == "" or is_number(number_in(text))
    assert is_address(text) in (True, False)


@pytest.mark.parametrize("text", [NUMBER, f"whatsapp:{NUMBER}", "sip:a@b", "sip:b", "client:a"])
def test_who_is_meant_can_be_written(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text", ["", "5005550006", "sip:", "sip:@", "client: ", "tel:ann", "mailto:a@b", "+1 500"]
)
def test_what_means_nobody_is_no_address(text: str) -> None:
    assert not is_address(text)


@pytest.mark.parametrize("text", ["+266696687", "+7378742833", "anonymous", "", f"sip:{NUMBER}@x"])
def test_a_number_that_cannot_be_shown_is_none(text: str) -> None:
    assert not is_number(text)
    assert is_number(NUMBER)


def test_what_is_written_out_goes_before_what_has_the_same_number() -> None:
    entries = {NUMBER: "number", f"sip:{NUMBER}@a.example": "sip", "client:ann": "client"}
    assert look_up(entries, f"sip:{NUMBER}@A.example;x=y", "?") == "sip"
    assert look_up(entries, f"sip:{NUMBER}@b.example", "?") == "number"
    assert look_up(entries, "Client:ann", "?") == "client"
    assert look_up(entries, "client:Ann", "?") == "?"
    assert look_up(entries, "", "?") == "?"


@pytest.mark.parametrize(
    ("direction", "ours"),
    [("inbound", "to"), ("", "to"), ("outbound-api", "from"), ("outbound-dial", "from")],
)
def test_ours_is_who_is_called_or_who_calls(direction: str, ours: str) -> None:
    parties = Parties.of(direction, "from", "to")
    assert {parties.ours, parties.theirs} == {"from", "to"}
    assert parties.ours == ours
