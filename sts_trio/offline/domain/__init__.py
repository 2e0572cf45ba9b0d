"""What the offline agent can talk about: one source file, and what is made of it.

`load` reads the source. The language model, the dictionary and the grammar lie beside it, under
its name; `python -m sts_trio.offline.domain.build` writes them, after every change.
"""

from pathlib import Path

import msgspec

SOURCE = Path(__file__).with_name("car-seller.toml")


class Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller may do at any place in a conversation."""

    cues: tuple[str, ...]
    phrases: tuple[str, ...]


class Moves(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    yes: Move
    no: Move
    cancel: Move
    repeat: Move
    proceed: Move
    help: Move


class Says(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    help: str
    lost: str
    cancelled: str
    nothing_to_cancel: str
    nothing_to_confirm: str
    failed: str


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question with its answer: `by` has another for the values of a slot.

    Where the client offers `function`, and the values of `arguments` are known, that is called, and
    `told` is said of its result: `{field}` is one of the result's. Without `told`, or such a field,
    the result itself is read out.
    """

    name: str
    cues: tuple[str, ...]
    phrases: tuple[str, ...]
    say: str
    slot: str | None = None
    by: dict[str, dict[str, str]] = {}  # {slot: {value: answer}}
    function: str | None = None
    arguments: tuple[str, ...] = ()
    told: str | None = None
    offers_form: bool = False
    small_talk: bool = False
    leaves_form: bool = False


class FormSlot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    ask: str
    phrases: tuple[str, ...]


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Values that cannot be had together."""

    when: dict[str, tuple[str, ...]]  # {slot: values}
    say: str
    forget: tuple[str, ...]


class Form(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is filled in. A client that does not offer the function of its name may offer `instead`,
    which is called before anything is asked."""

    name: str
    cues: tuple[str, ...]
    phrases: tuple[str, ...]
    slots: tuple[FormSlot, ...]
    confirm: str
    unsure: str
    done: str
    failed: str
    about: tuple[str, ...] = ()
    refuse: tuple[Refusal, ...] = ()
    instead: str | None = None


class Slot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    values: dict[str, tuple[str, ...]]  # {as it is said: as it may be heard}
    given: dict[str, str] = {}  # {as it is said: as functions are given it, if not so}
    unknown: str = ""


class Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    says: Says
    moves: Moves
    answers: tuple[Answer, ...]
    form: Form
    slots: dict[str, Slot]

    def phrases(self) -> dict[str, tuple[str, ...]]:
        """{what is meant: how it may be said}, in the order of the file."""
        moves = {name: getattr(self.moves, name).phrases for name in Moves.__struct_fields__}
        answers = {answer.name: answer.phrases for answer in self.answers}
        slots = {f"say_{slot.name}": slot.phrases for slot in self.form.slots}
        return {**moves, **answers, self.form.name: self.form.phrases, **slots}


def parse(text: str | bytes) -> Domain:
    """A domain from its source.

    Raises:
        msgspec.MsgspecError: it is no TOML, or not of the form above; the path is named.
        ValueError: it names a slot or a value that it does not define.
    """
    domain = msgspec.toml.decode(text, type=Domain)
    form = domain.form
    named = [*form.about, *(slot.name for slot in form.slots)]
    named += [slot for refusal in form.refuse for slot in (*refusal.when, *refusal.forget)]
    named += [slot for answer in domain.answers for slot in answer.by]
    named += [answer.slot for answer in domain.answers if answer.slot is not None]
    named += [slot for answer in domain.answers for slot in answer.arguments]
    for slot in named:
        if slot not in domain.slots:
            raise ValueError(f"slot {slot} is used but not defined under [slots]")
    values = [
        (slot, value) for each in form.refuse for slot in each.when for value in each.when[slot]
    ]
    values += [
        (slot, value) for each in domain.answers for slot in each.by for value in each.by[slot]
    ]
    values += [(name, value) for name, slot in domain.slots.items() for value in slot.given]
    for slot, value in values:
        if value not in domain.slots[slot].values:
            raise ValueError(f"{value!r} is no value of slot {slot}")
    return domain


def load() -> Domain:
    """The domain that this package ships."""
    return parse(SOURCE.read_bytes())
