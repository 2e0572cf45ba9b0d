"""What the car seller says: a deterministic answer to each turn, by its domain. Pure.

There is one form to fill in: a slot is asked for after the other, any can be given at any time, and
nothing is done before the caller has confirmed all of it. Questions in between are answered, and
then the form goes on where it was.
"""

import enum
from collections.abc import Container

import msgspec

from sts_trio.offline.domain import Answer, Domain
from sts_trio.offline.script import CallFunction, Line
from sts_trio.offline.understanding import Meaning, Understanding


class Stage(enum.Enum):
    """Where the form stands."""

    IDLE = enum.auto()
    OFFERED = enum.auto()
    FILLING = enum.auto()
    CONFIRMING = enum.auto()
    BEING_DONE = enum.auto()


class Policy:
    thought = "Cues and slots of a small domain; no language model."

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._form = domain.form
        self._understanding = Understanding(domain)
        self._answers = {answer.name: answer for answer in domain.answers}
        self._stage = Stage.IDLE
        self._values: dict[str, str] = {}  # {slot: value}
        self._last = ""

    def reply(self, words: str, functions: Container[str] = ()) -> Line:
        line = self._reply(self._understanding.understand(words), functions)
        if isinstance(line, str):
            self._last = line
        return line

    def go_on(self, result: str) -> str:
        """The function that the form was handed to has returned."""
        if any(slot.name not in self._values for slot in self._form.slots):
            # The caller typed on, and dropped the form meanwhile.
            self._last = self._domain.says.help
        elif _is_failure(result):
            self._stage = Stage.IDLE
            self._last = self._form.failed
        else:
            self._last = self._finish()
        return self._last

    def speak_up(self) -> str:
        """Nobody said anything: what it waits for, or what it can do."""
        return self._next() if self._is_busy else self._domain.says.help

    def _reply(self, meaning: Meaning, functions: Container[str]) -> Line:
        says = self._domain.says
        if self._stage is Stage.BEING_DONE:
            # The caller spoke before it was done, and it was called off.
            self._stage = Stage.CONFIRMING
        if "cancel" in meaning.meant:
            was_busy = self._is_busy
            self._stage = Stage.IDLE
            self._values.clear()
            return says.cancelled if was_busy else says.nothing_to_cancel
        if "repeat" in meaning.meant:
            return self._last or says.help
        if "help" in meaning.meant:
            return self._then_go_on(says.help)
        question = self._question(meaning)
        if question is not None:
            return self._answer(question, meaning)
        if self._is_busy:
            return self._fill(meaning, functions)
        return self._chat(meaning)

    @property
    def _is_busy(self) -> bool:
        return self._stage in (Stage.FILLING, Stage.CONFIRMING)

    def _question(self, meaning: Meaning) -> Answer | None:
        """The question that was asked, if that is what the turn was for."""
        for name in meaning.meant:
            if name == self._form.name and not self._is_busy:
                return None
            answer = self._answers.get(name)
            if answer is None or answer.small_talk:
                continue
            if answer.slot is None or answer.slot in meaning.values:
                return answer
        return None

    def _answer(self, answer: Answer, meaning: Meaning) -> str:
        self._note(meaning, self._form.about)
        said = answer.say
        for slot, by_value in answer.by.items():
            known = self._values.get(slot)
            if known is not None and (slot in meaning.values or slot in self._form.about):
                said = by_value.get(known, said)
        if self._is_busy and not answer.leaves_form:
            return self._then_go_on(said)
        self._stage = Stage.OFFERED if answer.offers_form and said != answer.say else Stage.IDLE
        return said

    def _chat(self, meaning: Meaning) -> str:
        """Nothing is being filled in and nothing was asked."""
        says = self._domain.says
        wants_form = self._form.name in meaning.meant
        if wants_form or (self._stage is Stage.OFFERED and "yes" in meaning.meant):
            return self._begin(meaning)
        self._stage = Stage.IDLE
        for answer in self._answers.values():
            # A slot's value alone may be a question.
            if answer.slot is not None and answer.slot in meaning.values:
                return self._answer(answer, meaning)
        for name in meaning.meant:
            if name in self._answers and self._answers[name].small_talk:
                return self._answers[name].say
        if "no" in meaning.meant:
            return says.nothing_to_cancel
        if "yes" in meaning.meant:
            return says.nothing_to_confirm
        return f"{says.lost} {says.help}"

    # --- the form ---------------------------------------------------------------------------------

    def _begin(self, meaning: Meaning) -> str:
        for slot in self._form.slots:
            self._values.pop(slot.name, None)
        self._stage = Stage.FILLING
        self._note(meaning, [*(slot.name for slot in self._form.slots), *self._form.about])
        return self._next()

    def _fill(self, meaning: Meaning, functions: Container[str]) -> Line:
        slots = [*(slot.name for slot in self._form.slots), *self._form.about]
        if self._note(meaning, slots):
            return self._next()
        if self._stage is Stage.CONFIRMING:
            # A `no` outweighs a `yes` that came with it: nothing is done on a doubt.
            if "no" in meaning.meant:
                return self._form.unsure
            if "yes" in meaning.meant:
                return self._do(functions)
        if self._form.name in meaning.meant:
            return self._next()
        return self._then_go_on(self._domain.says.lost)

    def _note(self, meaning: Meaning, slots: Container[str]) -> bool:
        """Takes over what was heard of these slots; whether there was anything."""
        heard = {slot: value for slot, value in meaning.values.items() if slot in slots}
        self._values.update(heard)
        return bool(heard)

    def _next(self) -> str:
        """Refuses what cannot be, asks for what is missing, or asks for confirmation."""
        self._stage = Stage.FILLING
        for refusal in self._form.refuse:
            if all(self._values.get(slot) in refusal.when[slot] for slot in refusal.when):
                for slot in refusal.forget:
                    del self._values[slot]
                return f"{refusal.say} {self._next()}"
        for wanted in self._form.slots:
            if wanted.name not in self._values:
                return wanted.ask
        self._stage = Stage.CONFIRMING
        return self._filled_in(self._form.confirm)

    def _then_go_on(self, said: str) -> str:
        return f"{said} {self._next()}" if self._is_busy else said

    def _do(self, functions: Container[str]) -> Line:
        if self._form.name not in functions:
            return self._finish()
        self._stage = Stage.BEING_DONE
        return CallFunction(self._form.name, dict(self._values))

    def _finish(self) -> str:
        done = self._filled_in(self._form.done)
        self._stage = Stage.IDLE
        return done

    def _filled_in(self, template: str) -> str:
        known = {name: slot.unknown for name, slot in self._domain.slots.items()}
        return template.format_map({**known, **self._values})


def _is_failure(result: str) -> bool:
    """A function's result is any text; one that is a JSON object with an `error` tells of one."""
    try:
        told = msgspec.json.decode(result)
    except msgspec.DecodeError:
        return False
    return isinstance(told, dict) and "error" in told
